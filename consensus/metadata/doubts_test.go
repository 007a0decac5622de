package metadata

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// doubtful is a topic of three replicas, of which one was out of sync when all lost power.
// Brokers 1 and 2 are back, and have cut their tail. epochs are those of the registrations.
func doubtful(t *testing.T, outOfSync int32) (l *testLog, epochs [4]int64) {
	l = &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	start := func(id int32, cut bool) {
		epochs[id] = int64(l.accepted(&pb.RegisterBroker{
			BrokerId: id, Incarnation: fmt.Appendf(nil, "%016d", l.index), Directory: fmt.Appendf(nil, "%016d", id), UncleanEnd: cut, CutTail: cut,
		}).(BrokerEpoch))
	}
	topic := testID(7)
	for id := int32(1); id <= 3; id++ {
		start(id, false)
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id]})
	}
	l.accepted(&pb.CreateTopic{TopicId: topic[:], Name: "t", Assignments: []*pb.Assignment{{Replicas: []int32{1, 2, 3}}}})
	for _, id := range []int32{outOfSync, 1, 2, 3} {
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id], Fenced: true})
	}
	for id := int32(1); id <= 2; id++ {
		start(id, true)
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id]})
	}
	if p := l.partition(); p.Leader != NoLeader || len(p.ELR) != 2 || slices.Contains(p.ELR, outOfSync) || !p.AsksReplicas() {
		t.Fatalf("%+v, doubts %+v", p, p.doubts)
	}
	return l, epochs
}

func (l *testLog) saysOf(id int32, brokerEpoch int64, leader, epoch storage.Epoch, end storage.Offset) error {
	l.t.Helper()
	c := NewReportEnds(id, brokerEpoch, []PartitionEnd{{Partition: storage.PartitionID{Topic: testID(7)}, Epoch: epoch, End: end, LeaderEpoch: leader}})
	return l.apply(c).(PartitionResults)[0]
}

// Who cut its tail leads by what it has, once min.insync.replicas have said what that is:
// the highest epoch, and of that the longest (RULES 3.2).
func TestTheLongestOfThoseThatCutTheirTailLeads(t *testing.T) {
	for _, c := range []struct {
		first, second ReplicaEnd
		leads         int32
	}{
		{ReplicaEnd{1, 0, 10}, ReplicaEnd{2, 0, 12}, 2},
		{ReplicaEnd{2, 0, 10}, ReplicaEnd{1, 0, 10}, 1}, // of equals the preferred one
		{ReplicaEnd{1, 1, 10}, ReplicaEnd{2, 0, 12}, 1},
	} {
		l, epochs := doubtful(t, 3)
		at := l.partition().LeaderEpoch
		if err := l.saysOf(c.first.Broker, epochs[c.first.Broker], at, c.first.Epoch, c.first.End); err != nil {
			t.Fatal(err)
		}
		if p := l.partition(); p.Leader != NoLeader {
			t.Fatalf("broker %d leads, and one was heard", p.Leader)
		}
		restored := NewState()
		if err := restored.Restore(l.state.Image().Snapshot()); err != nil || !slices.Equal(restored.Image().Snapshot(), l.state.Image().Snapshot()) {
			t.Fatalf("a snapshot does not give back what was said: %v", err)
		}
		if err := l.saysOf(c.second.Broker, epochs[c.second.Broker], at, c.second.Epoch, c.second.End); err != nil {
			t.Fatal(err)
		}
		if p := l.partition(); p.Leader != c.leads || !slices.Equal(p.ISR, []int32{c.leads}) || p.doubts.has(c.leads) {
			t.Errorf("%+v and %+v: %+v, doubts %+v", c.first, c.second, p, p.doubts)
		}
	}
}

// One that is beyond doubt leads at once.
func TestWhoDidNotCutLeadsBeforeThoseWhoDid(t *testing.T) {
	l, epochs := doubtful(t, 2)
	if err := l.saysOf(1, epochs[1], l.partition().LeaderEpoch, 5, 100); err != nil {
		t.Fatal(err)
	}
	l.accepted(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: epochs[3]})
	if p := l.partition(); p.Leader != 3 {
		t.Errorf("%+v", p)
	}
}

// Where loss is asked for, the least is lost: who is eligible leads before who was out of
// sync, and of those that have said what they have the longest.
func TestUncleanElectionLosesTheLeast(t *testing.T) {
	topic := testID(7)
	unclean := &pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: topic[:], Leader: NoLeader, Unclean: true}}}
	leads := func(what string, l *testLog) {
		t.Helper()
		if p := l.partition(); p.Leader != 2 || !slices.Equal(p.ISR, []int32{2}) {
			t.Errorf("%s: %+v", what, p)
		}
	}
	l, _ := doubtful(t, 1)
	l.accepted(unclean)
	leads("an operator asks, and nobody was heard", l)

	l, epochs := doubtful(t, 3)
	if err := l.saysOf(2, epochs[2], l.partition().LeaderEpoch, 0, 10); err != nil {
		t.Fatal(err)
	}
	l.accepted(unclean)
	leads("an operator asks, and one was heard", l)

	l, _ = doubtful(t, 1)
	l.accepted(&pb.AlterConfigs{ResourceType: int32(TopicResource), Name: "t", Version: l.configVersion(), Set: []*pb.ConfigEntry{{Key: uncleanElection, Value: "true"}}})
	leads("the topic asks", l)
}

// Who was out of sync is not eligible for having nobody beside it that is, whatever it has
// said: the records of a topic that is acked before the sync are gone with who held them.
func TestWhoWasOutOfSyncIsNotTheLastThatHeldAll(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	start := func(id int32, directory byte, unclean, cut bool) int64 {
		return int64(l.accepted(&pb.RegisterBroker{
			BrokerId: id, Incarnation: fmt.Appendf(nil, "%016d", l.index), Directory: bytes.Repeat([]byte{directory}, 16), UncleanEnd: unclean, CutTail: cut,
		}).(BrokerEpoch))
	}
	fall := func(id int32, epoch int64) {
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epoch, Fenced: true})
	}
	one, two, three := start(1, 1, false, false), start(2, 2, false, false), start(3, 3, false, false)
	l.serve(1, one)
	l.serve(2, two)
	l.serve(3, three)
	topic := testID(7)
	l.accepted(&pb.CreateTopic{
		TopicId: topic[:], Name: "t", Assignments: []*pb.Assignment{{Replicas: []int32{1, 2, 3}}},
		Configs: []*pb.ConfigEntry{{Key: durability, Value: memoryDurability}},
	})
	// Broker 2 cuts its tail while it is eligible, and is out of sync then.
	fall(3, three)
	fall(2, two)
	two = start(2, 2, false, true)
	l.serve(3, three)
	p := l.partition()
	if !p.doubts.has(2) {
		t.Fatalf("%+v, doubts %+v", p, p.doubts)
	}
	l.accepted(NewAlterPartitions(1, one, []PartitionChange{{
		Partition: storage.PartitionID{Topic: topic}, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: []ReplicaEpoch{{1, one}, {3, three}},
	}}))
	// The others lose their disks.
	fall(3, three)
	start(3, 8, false, false)
	fall(1, one)
	start(1, 9, false, false)
	p = l.partition()
	if p.Leader != NoLeader || len(p.ISR)+len(p.ELR) != 0 {
		t.Fatalf("%+v", p)
	}
	_ = l.saysOf(2, two, p.LeaderEpoch, 0, 10) // whether that is taken or not
	two = start(2, 2, true, false)
	l.serve(2, two)
	_ = l.saysOf(2, two, l.partition().LeaderEpoch, 0, 10)
	if p := l.partition(); p.Leader != NoLeader || len(p.ELR) != 0 {
		t.Errorf("%+v, doubts %+v", p, p.doubts)
	}
}

// What a broker had when another leader was missed is not what it has.
func TestWhatADoubtedReplicaHadIsNotWhatItHas(t *testing.T) {
	l, epochs := doubtful(t, 3)
	at := l.partition().LeaderEpoch
	if err := l.saysOf(1, epochs[1], at-1, 0, 10); CodeOf(err) != FencedLeaderEpoch {
		t.Errorf("as of another leader epoch: %v", err)
	}
	if l.partition().doubts.said(1) {
		t.Error("it counts")
	}
}
