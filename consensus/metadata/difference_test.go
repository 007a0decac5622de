package metadata

import (
	"bytes"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// TestADifferenceHasADeltaOfItsOwnForEachBroker: a commit tells those that host the
// partition of its range, and of the others nothing but counts; the same heads go to all.
func TestADifferenceHasADeltaOfItsOwnForEachBroker(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	epochs := map[int32]int64{}
	for id := int32(1); id <= 3; id++ {
		l.accepted(&pb.RegisterBroker{BrokerId: id, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{byte(id)}, 16)})
		epochs[id] = int64(l.index)
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id]})
	}
	topic := numberedID(0)
	l.accepted(&pb.CreateTopic{TopicId: topic[:], Name: "events", Assignments: []*pb.Assignment{{Replicas: []int32{1, 2}}, {Replicas: []int32{2, 3}}}})
	before := l.state.Image()
	views := map[int32]*View{}
	for id := int32(1); id <= 3; id++ {
		views[id] = NewView()
		if err := views[id].Apply(Compare(nil, before).Delta(id)); err != nil {
			t.Fatal(err)
		}
	}
	l.accepted(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: epochs[1], Count: 1})
	l.accepted(NewCommitObject(1, epochs[1], l.state.Image().NextObjectID()-1, 1000, []PartitionRange{{
		Partition: storage.PartitionID{Topic: topic}, Range: Range{Base: 0, End: 10, Bytes: 100},
	}}))
	l.accepted(&pb.FenceBroker{BrokerId: 2, BrokerEpoch: epochs[2], Fenced: true})
	between := Compare(before, l.state.Image())
	for id, ranges := range map[int32]int{1: 1, 2: 1, 3: 0} {
		delta := between.Delta(id)
		if !bytes.Equal(delta, EncodeDelta(before, l.state.Image(), id)) || !bytes.Equal(delta, between.Delta(id)) {
			t.Errorf("broker %d: deltas of one difference are not the same", id)
		}
		if err := views[id].Apply(delta); err != nil {
			t.Fatalf("broker %d: %v", id, err)
		}
		is, _ := views[id].Image().TopicByID(topic)
		if got := is.Partition(0).Ranges().Len(); got != ranges {
			t.Errorf("broker %d sees %d ranges, want %d", id, got, ranges)
		}
		if got := is.Partition(1).Leader; got != 3 {
			t.Errorf("broker %d sees leader %d, want 3", id, got)
		}
	}
}
