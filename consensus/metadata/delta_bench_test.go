package metadata

import (
	"bytes"
	"fmt"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// threeBrokers is a cluster of brokers 1 to 3, all of which host every partition.
func threeBrokers(b *testing.B, topics, partitions int) *testLog {
	l := &testLog{t: b, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	for id := int32(1); id <= 3; id++ {
		l.accepted(&pb.RegisterBroker{BrokerId: id, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{byte(id)}, 16)})
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: int64(l.index)})
	}
	assignments := make([]*pb.Assignment, partitions)
	for i := range assignments {
		first := int32(i)
		assignments[i] = &pb.Assignment{Replicas: []int32{1 + first%3, 1 + (first+1)%3, 1 + (first+2)%3}}
	}
	for i := range topics {
		id := numberedID(i)
		l.accepted(&pb.CreateTopic{TopicId: id[:], Name: fmt.Sprintf("topic-%d", i), Assignments: assignments})
	}
	return l
}

// BenchmarkDelta tells what a delta costs who encodes it and who applies it, and its
// bytes: of one partition among 100,000, of an object with 1000 ranges to a broker that
// hosts all and one that hosts three, and of a whole image.
func BenchmarkDelta(b *testing.B) {
	for _, shape := range []struct{ topics, partitions int }{{1, 100_000}, {1000, 100}} {
		l := threeBrokers(b, shape.topics, shape.partitions)
		before := l.state.Image()
		after := reassigned(before, storage.PartitionID{Topic: numberedID(0), Index: 50}, 1, 2)
		name := fmt.Sprintf("topics=%d/partitions=%d/", shape.topics, shape.partitions)
		benchmarkDelta(b, name+"one-partition", before, after, 1)
		benchmarkDelta(b, name+"whole", nil, before, 1)
	}
	before, after := thousandRanges(b)
	benchmarkDelta(b, "ranges=1000/hosted=1000", before, after, 1)
	benchmarkDelta(b, "ranges=1000/hosted=3", before, after, 3)
}

func benchmarkDelta(b *testing.B, name string, before, after *Image, broker int32) {
	delta := EncodeDelta(before, after, broker)
	b.Run("encode/"+name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			EncodeDelta(before, after, broker)
		}
		b.ReportMetric(float64(len(delta)), "delta-B")
	})
	b.Run("apply/"+name, func(b *testing.B) {
		begun := NewView()
		if before != nil {
			mustApply(b, begun, EncodeDelta(nil, before, broker))
		}
		b.ReportAllocs()
		for b.Loop() {
			v := &View{begun: begun.begun, broker: begun.broker, named: map[storage.ObjectID]int{}} // no range is in the image before
			v.image.Store(begun.Image())
			mustApply(b, v, delta)
		}
	})
}
