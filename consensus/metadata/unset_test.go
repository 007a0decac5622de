package metadata

import (
	"bytes"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// TestReplicasThatWereNotAskedFor: a topic says so until it is reassigned to fewer; what
// makes it say so needs a feature level that knows it.
func TestReplicasThatWereNotAskedFor(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: ClusterFeatureLevel - 1})
	for id := range int32(3) {
		epoch := int64(l.index + 1)
		l.accepted(&pb.RegisterBroker{BrokerId: id + 1, Incarnation: bytes.Repeat([]byte{byte(id + 1)}, 16), Directory: bytes.Repeat([]byte{byte(id + 1)}, 16), Listeners: []*pb.Listener{{Name: "kafka", Host: "h", Port: 1}}})
		l.accepted(&pb.FenceBroker{BrokerId: id + 1, BrokerEpoch: epoch})
	}
	topic := testID(7)
	create := &pb.CreateTopic{TopicId: topic[:], Name: "t", ReplicasUnset: true, Assignments: []*pb.Assignment{{Replicas: []int32{1}}}}
	l.index++
	result, err := l.state.Apply(l.index, mustCommand(t, create))
	if err != nil {
		t.Fatal(err)
	}
	if refused := Refused(result); CodeOf(refused) != UnsupportedVersion {
		t.Fatalf("at level %d: %v", ClusterFeatureLevel-1, refused)
	}
	l.accepted(&pb.SetFeatureLevel{Level: ClusterFeatureLevel})
	l.accepted(create)
	unset := func(want bool, when string) {
		t.Helper()
		if got, _ := l.state.Image().Topic("t"); got.ReplicasUnset != want {
			t.Errorf("%s: unset is %v", when, got.ReplicasUnset)
		}
	}
	move := func(replicas ...int32) {
		l.accepted(&pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{{TopicId: topic[:], Replicas: replicas}}})
	}
	unset(true, "created")
	move(1, 2, 3)
	unset(true, "given more")
	move()
	unset(true, "as it was")
	p := func() *Partition { is, _ := l.state.Image().Topic("t"); return is.Partition(0) }
	move(1, 2)
	broker, _ := l.state.Image().Broker(1)
	var isr []ReplicaEpoch
	for b := range l.state.Image().Brokers() {
		if b.ID < 3 {
			isr = append(isr, ReplicaEpoch{Broker: b.ID, Epoch: b.Epoch})
		}
	}
	l.accepted(NewAlterPartitions(1, broker.Epoch, []PartitionChange{{Partition: storage.PartitionID{Topic: topic}, LeaderEpoch: p().LeaderEpoch, PartitionEpoch: p().PartitionEpoch, ISR: isr}}))
	if got := p(); len(got.Replicas) != 2 || len(got.Adding) != 0 {
		t.Fatalf("replicas %v, adding %v", got.Replicas, got.Adding)
	}
	unset(true, "with two")
	move(1)
	unset(false, "given fewer")
}
