package replication

import (
	"context"
	"errors"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// What is led alone is not what is not led: of that, another may know better.
func TestNobodyConfirmsWhatIsNotLed(t *testing.T) {
	l := testLeader(t, 0, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{})
	if err := l.Confirm(t.Context(), id, 1); !errors.Is(err, ErrNotLed) {
		t.Errorf("of what is not led: %v", err)
	}
	is := Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1}, MinInSync: 1}
	l.Lead(time.Now(), is)
	if err := l.Confirm(t.Context(), id, 1); !errors.Is(err, ErrAlone) {
		t.Errorf("of what is led alone: %v", err)
	}
	is.PartitionEpoch, is.ISR = 2, []int32{1, 2}
	l.Lead(time.Now(), is)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Confirm(ctx, id, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("while nobody answers: %v", err)
	}
	for _, epoch := range []storage.Epoch{0, 2} {
		if err := l.Confirm(t.Context(), id, epoch); !errors.Is(err, ErrNotLed) {
			t.Errorf("of epoch %d: %v", epoch, err)
		}
	}
	l.Unlead(id)
	if err := l.Confirm(t.Context(), id, 1); !errors.Is(err, ErrNotLed) {
		t.Errorf("of what is led no more: %v", err)
	}
}

// Who waits for a follower's answer has it sent one message, however often others answer meanwhile.
func TestAFollowerIsAskedOnce(t *testing.T) {
	lane, feeds, _ := noticing(t, 1)
	f, since := feeds[0], time.Now()
	asks := func(since time.Time) bool {
		t.Helper()
		if f.answeredSince(since) {
			t.Fatal("it has answered")
		}
		return lane.takeAsked()
	}
	if first, second := asks(since), asks(since); !first || !second {
		t.Error("it is not asked")
	}
	sent := since.Add(time.Millisecond)
	if lane.compose(sent, true) == nil || asks(since) {
		t.Error("it is asked again while its answer is on its way")
	}
	if !asks(sent.Add(time.Millisecond)) {
		t.Error("who came later is answered by what was sent before")
	}
	lane.heard = sent
	if !f.answeredSince(since) {
		t.Error("it has answered")
	}
	if f.answeredSince(sent) {
		t.Error("who came as it was sent is answered by it")
	}
	if f.state = feedOpening; f.answeredSince(since) {
		t.Error("who does not follow the partition answers for it")
	}
	f.state = feedStreams
	lane.down()
	f.state = feedStreams // on a stream that begins
	if !asks(since) {
		t.Error("what was sent on a stream that has ended is waited for")
	}
}

// Nor does an answer count of all but one who may have been added to those in sync: it may lead already.
func TestWhoMayHaveJoinedConfirms(t *testing.T) {
	l := testLeader(t, time.Hour, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	l.SetPeers(map[int32]Peer{2: {Incarnation: rpc.Incarnation{Broker: 2, Epoch: 5}, Address: "two"}, 3: {Incarnation: rpc.Incarnation{Broker: 3, Epoch: 6}, Address: "three"}})
	l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2}, MinInSync: 1})
	p, since := l.led[id], time.Now()
	answers := func(f *feed) {
		f.link.mu.Lock()
		f.state, f.lane.heard = feedStreams, since.Add(time.Second)
		f.link.mu.Unlock()
	}
	feeds := *p.feeds.Load()
	answers(feeds[0])
	if is, err := l.confirmed(id, 1, since); !is || err != nil {
		t.Fatalf("all in sync have answered: %v, %v", is, err)
	}
	p.mu.Lock()
	p.isr.proposed = []int32{3}
	p.mu.Unlock()
	if is, err := l.confirmed(id, 1, since); is || err != nil {
		t.Errorf("without one that is proposed: %v, %v", is, err)
	}
	answers(feeds[1])
	if is, err := l.confirmed(id, 1, since); !is || err != nil {
		t.Errorf("all have answered: %v, %v", is, err)
	}
}
