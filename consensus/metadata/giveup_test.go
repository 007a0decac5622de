package metadata

import (
	"fmt"
	"slices"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// threeInSync is a topic of id 7 with three replicas in service, and their registrations.
func threeInSync(t *testing.T) (l *testLog, epochs [4]int64) {
	l = &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	for id := int32(1); id <= 3; id++ {
		epochs[id] = int64(l.accepted(&pb.RegisterBroker{
			BrokerId: id, Incarnation: fmt.Appendf(nil, "%016d", l.index), Directory: fmt.Appendf(nil, "%016d", id),
		}).(BrokerEpoch))
		l.accepted(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id]})
	}
	topic := testID(7)
	l.accepted(&pb.CreateTopic{TopicId: topic[:], Name: "t", Assignments: []*pb.Assignment{{Replicas: []int32{1, 2, 3}}}})
	return l, epochs
}

// givesUp has a broker say that it lacks what it had of partition 0 of topic 7.
func (l *testLog) givesUp(id int32, brokerEpoch int64) error {
	l.t.Helper()
	return l.apply(NewGiveUpReplicas(id, brokerEpoch, []storage.PartitionID{{Topic: testID(7)}})).(PartitionResults)[0]
}

// Who lacks what it had is counted upon no more, and leads no more, while another has it.
func TestWhoGaveUpAReplicaIsNotCountedUpon(t *testing.T) {
	l, epochs := threeInSync(t)
	before := l.partition()
	if err := l.givesUp(1, epochs[1]); err != nil {
		t.Fatal(err)
	}
	p := l.partition()
	if p.Leader != 2 || !slices.Equal(p.ISR, []int32{2, 3}) || len(p.ELR) > 0 || p.LeaderEpoch != before.LeaderEpoch+1 || p.PartitionEpoch != before.PartitionEpoch+1 {
		t.Errorf("the leader gave up: %+v", p)
	}
	l.accepted(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: epochs[3], Fenced: true}) // below the minimum: eligible
	if p := l.partition(); !slices.Equal(p.ELR, []int32{3}) {
		t.Fatalf("%+v", p)
	}
	if err := l.givesUp(3, epochs[3]); err != nil {
		t.Fatal(err)
	}
	if p := l.partition(); p.Leader != 2 || !slices.Equal(p.ISR, []int32{2}) || len(p.ELR) > 0 {
		t.Errorf("who was eligible gave up: %+v", p)
	}
}

// What a replica had confirmed before it was given up lets it in no more, not even by a
// change that is on its way, and not where it was let in by none yet.
func TestWhoGaveUpIsLetInByWhatItShowsAnew(t *testing.T) {
	for _, counted := range []bool{true, false} {
		l, epochs := threeInSync(t)
		change := func(isr ...int32) error {
			p := l.partition()
			c := PartitionChange{Partition: storage.PartitionID{Topic: testID(7)}, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			for _, id := range isr {
				c.ISR = append(c.ISR, ReplicaEpoch{id, epochs[id]})
			}
			return l.apply(NewAlterPartitions(1, epochs[1], []PartitionChange{c})).(PartitionResults)[0]
		}
		if !counted {
			if err := change(1, 2); err != nil {
				t.Fatal(err)
			}
		}
		before := l.partition()
		if err := l.givesUp(3, epochs[3]); err != nil {
			t.Fatal(err)
		}
		p := l.partition()
		if p.Leader != 1 || p.LeaderEpoch != before.LeaderEpoch+1 || !slices.Equal(p.ISR, []int32{1, 2}) {
			t.Errorf("%+v", p)
		}
		late := PartitionChange{Partition: storage.PartitionID{Topic: testID(7)}, LeaderEpoch: before.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: []ReplicaEpoch{{1, epochs[1]}, {2, epochs[2]}, {3, epochs[3]}}}
		if err := l.apply(NewAlterPartitions(1, epochs[1], []PartitionChange{late})).(PartitionResults)[0]; CodeOf(err) != FencedLeaderEpoch {
			t.Errorf("under the epoch before: %v", err)
		}
	}
	l, epochs := threeInSync(t)
	l.accepted(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: epochs[3], Fenced: true})
	before := l.partition()
	if err := l.givesUp(3, epochs[3]); err != nil || l.partition() != before {
		t.Errorf("one that is not in service, and not counted upon: %v, %+v", err, l.partition())
	}
}

// The last one that is known to have had all stays what it is: nobody is elected that lacks
// more (0012).
func TestTheLastReplicaIsNotGivenUp(t *testing.T) {
	l, epochs := threeInSync(t)
	for _, id := range []int32{1, 2} {
		if err := l.givesUp(id, epochs[id]); err != nil {
			t.Fatal(err)
		}
	}
	before := l.partition()
	if err := l.givesUp(3, epochs[3]); CodeOf(err) != EligibleLeadersNotAvailable {
		t.Errorf("given up: %v", err)
	}
	if p := l.partition(); p != before || p.Leader != 3 {
		t.Errorf("%+v", p)
	}
	if err := l.apply(NewGiveUpReplicas(2, epochs[2]-1, nil)); CodeOf(err.(error)) != StaleBrokerEpoch {
		t.Errorf("an earlier registration: %v", err)
	}
}

// Of two, one of which cut its tail, the other is not given up: what the first lacks, only
// that may have.
func TestADoubtedReplicaIsNoneToGiveUpFor(t *testing.T) {
	l, epochs := doubtful(t, 2) // 1 and 2 are back, 1 is doubted, and 3 is eligible beyond doubt
	if err := l.givesUp(1, epochs[1]); err != nil {
		t.Fatalf("3 has all: %v", err)
	}
	l, epochs = doubtful(t, 2)
	if p := l.partition(); !p.Counts(3) {
		t.Fatalf("%+v", p)
	}
	if err := l.givesUp(3, epochs[3]); CodeOf(err) != EligibleLeadersNotAvailable {
		t.Errorf("%v: %+v", err, l.partition())
	}
}

// Below its feature level the command is not written.
func TestGivingUpNeedsItsFeatureLevel(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: RecoveryFeatureLevel})
	if _, err := Encode(l.state.Image(), NewGiveUpReplicas(1, 1, nil)); CodeOf(err) != UnsupportedVersion {
		t.Errorf("%v", err)
	}
}
