package metadata

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// TestAnEndedLifeTakesNothing: once a cluster is known to have another life, its old one is led
// by nobody and refuses every command, saying what happened and what to do; every
// replica of the log and every broker knows it from then on, over snapshots too.
func TestAnEndedLifeTakesNothing(t *testing.T) {
	l := newLog(t, 3)
	l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
	for _, by := range []uint64{0, 1} {
		if Refused(l.apply(NewEndLife(by))) == nil {
			t.Errorf("incarnation 1 is ended by %d", by)
		}
	}
	before := l.state.Image()
	epoch := l.partition().LeaderEpoch
	l.accepted(NewEndLife(2))
	image := l.state.Image()
	for b := range image.Brokers() {
		if !b.Fenced {
			t.Errorf("broker %d is in service", b.ID)
		}
	}
	if p := l.partition(); p.Leader != NoLeader || p.LeaderEpoch != epoch+1 || len(p.ISR) != 2 || p.AsksReplicas() {
		t.Errorf("%+v", p)
	}
	for _, c := range []proto.Message{
		&pb.CreateTopic{TopicId: bytes.Repeat([]byte{8}, 16), Name: "u", Assignments: []*pb.Assignment{{Replicas: []int32{1}}}},
		&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16), BucketNonce: testNonce},
		&pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2},
		&pb.AllocateProducerIds{BrokerId: 1, BrokerEpoch: 2, Count: 1},
		&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 1},
		NewEndLife(3),
	} {
		refused := Refused(l.apply(c))
		if refused == nil || CodeOf(refused) != PolicyViolation || !strings.Contains(refused.Error(), "incarnation 2") || !strings.Contains(refused.Error(), "docs/cluster.md") {
			t.Errorf("%T: %v", c, refused)
		}
	}
	if again := decoded(t, l.state.Image()); again.EndedBy() != 2 || !bytes.Equal(again.Snapshot(), l.state.Image().Snapshot()) {
		t.Errorf("a snapshot says %d", again.EndedBy())
	}
	v := NewView()
	for _, d := range [][]byte{EncodeDelta(nil, before, 1), EncodeDelta(before, image, 1)} {
		if err := v.Apply(d); err != nil {
			t.Fatal(err)
		}
	}
	if v.Image().EndedBy() != 2 || v.Image().Ended() == nil {
		t.Errorf("a broker is told %d", v.Image().EndedBy())
	}
	// The next life of what its bucket has is none that has ended.
	if next, _, err := Recover(before, RecoverOptions{}); err != nil || next.Ended() != nil {
		t.Error(err)
	}
}
