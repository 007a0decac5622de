package log

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// TestStateOfALostLeaderIsNotGoneOnWith: producers as of what a leader had that is lost,
// for another was elected without it, are not kept: a batch would be taken for a
// duplicate of one that is nowhere. A follower that has not come as far says so to the
// next leader, also after a restart, and begins anew though it gives up what is committed.
func TestStateOfALostLeaderIsNotGoneOnWith(t *testing.T) {
	lost := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, lost, values(t, "0"), values(t, "1"), from(t, 7, 0, 0, "gone"))
	setUploaded(t, lost, 1)
	state, at, err := lost.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, lost.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 1, stamped(values(t, "1"), 1, 1))
	setHighWatermark(t, l, 3, 1)
	if h := l.History(); h.HighWatermark != 2 {
		t.Fatalf("under the epoch that it began anew in it says %+v", h)
	}
	flush(t, s)
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if err := l.BecomeFollower(1); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.HighWatermark >= 3 {
		t.Fatalf("after a restart in the same epoch it says %+v", h)
	}
	setHighWatermark(t, l, 3, 1)

	unclean := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), lost.id, 0)
	appendAll(t, unclean, values(t, "0"))
	setUploaded(t, unclean, 1)
	if err := unclean.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	appendAll(t, unclean, values(t, "other"), values(t, "other"), values(t, "other"))
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.HighWatermark != 3 {
		t.Fatalf("under another epoch it says %+v", h)
	}
	if state, at, err = unclean.ReplicaState(); err != nil {
		t.Fatal(err)
	}
	wantOutOfRange(t, l.Restart(at, state, 2))
	if err := l.RestartDiscarding(at, state, 2); err != nil {
		t.Fatal(err)
	}
	ship(t, unclean, l)
	if got := l.Producers(); len(got) != 0 || l.End() != 4 || l.HighWatermark() != 4 {
		t.Fatalf("%+v, committed to %d of %d", got, l.HighWatermark(), l.End())
	}
}

// cutReplica is a follower at epoch 1 that began anew with what its leader knew, and whose
// tail was cut before it had come as far: it is committed to 2, and its producers are as of 4.
// The leader has one more batch.
func cutReplica(t *testing.T) (leader, follower *Log) {
	t.Helper()
	leader = lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, values(t, "0"), from(t, 7, 0, 0, "1"), from(t, 7, 0, 1, "2"), from(t, 8, 0, 0, "3"))
	setUploaded(t, leader, 1)
	state, at, err := leader.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 1, stamped(from(t, 7, 0, 0, "1"), 1, 1))
	setHighWatermark(t, l, 4, 1)
	flush(t, s)
	if err := l.advanceLocalStart(storage.NoOffset, true); err != nil { // as of 2: the segment of the one before goes
		t.Fatal(err)
	}
	s = reopen(t, s)
	l, _ = s.Log(leader.id)
	appendAll(t, leader, from(t, 7, 0, 2, "4"))
	return leader, l
}

// TestWhoCutItsTailGoesOnWithItsNextLeader: what its producers are as of, that leader has,
// for it was elected among those that do. To begin anew would give up what is committed,
// which nobody may who is counted upon: it would be out of sync for good.
func TestWhoCutItsTailGoesOnWithItsNextLeader(t *testing.T) {
	leader, l := cutReplica(t)
	if err := leader.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	appendAll(t, leader, from(t, 8, 0, 1, "5"))
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.HighWatermark != 4 || h.End != 2 {
		t.Fatalf("it says %+v: the test shows nothing", h)
	}
	state, at, err := leader.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	wantOutOfRange(t, l.Restart(at, state, 2))
	l.Believe(1) // which is over
	if h := l.History(); h.HighWatermark != 4 {
		t.Fatalf("a leader of old is believed: it says %+v", h)
	}
	l.Believe(2)
	if h := l.History(); h.HighWatermark != 2 {
		t.Fatalf("it says %+v", h)
	}
	ship(t, leader, l)
	if want, got := remembered(leader), remembered(l); !slices.Equal(got, want) || l.HighWatermark() != 6 {
		t.Fatalf("it remembers %+v, the leader %+v; committed to %d", got, want, l.HighWatermark())
	}
	s := reopen(t, l.store)
	if l, _ = s.Log(l.id); !slices.Equal(remembered(l), remembered(leader)) {
		t.Fatalf("after a restart it remembers %+v", remembered(l))
	}
	// The next leader is believed only when that is said anew.
	if err := l.BecomeFollower(3); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.HighWatermark > h.End {
		t.Fatalf("it says %+v", h)
	}
}

// TestWhoShowsAnotherHistoryIsNotBelieved: a leader that had lost what the producers are as
// of, and wrote something else there, is found out by the epochs of its batches.
func TestWhoShowsAnotherHistoryIsNotBelieved(t *testing.T) {
	_, l := cutReplica(t)
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	l.Believe(2)
	_, err := replicated(t, l, 2, stamped(from(t, 7, 0, 1, "other"), 2, 2))
	wantReplicaError(t, err)
	for range 2 {
		if h := l.History(); h.HighWatermark != 4 || h.End != 2 {
			t.Fatalf("it says %+v", h)
		}
		l.Believe(2)
	}
}

// TestAnotherHistoryMayReachBeyondTheProducers: what the producers are as of ends between two
// batches of its leader. One of a later leader that begins before and ends behind shows that
// this one had lost what lay there.
func TestAnotherHistoryMayReachBeyondTheProducers(t *testing.T) {
	_, l := cutReplica(t)
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	l.Believe(2)
	_, err := replicated(t, l, 2, stamped(from(t, 7, 0, 1, "other", "other", "other"), 2, 2))
	wantReplicaError(t, err)
	if h := l.History(); h.HighWatermark != 4 || h.End != 2 {
		t.Fatalf("it says %+v", h)
	}
}

// TestNobodyIsBelievedWithEarlyAcks: what was committed may be lost with the memory of all.
func TestNobodyIsBelievedWithEarlyAcks(t *testing.T) {
	_, l := cutReplica(t)
	l.SetConfig(Config{EarlyAcks: true})
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	l.Believe(2)
	if h := l.History(); h.HighWatermark != 4 {
		t.Fatalf("it says %+v", h)
	}
}

// A transaction whose marker a follower knows by its leader's state alone, and does not have yet,
// holds the last stable offset there: the next leader may lack the marker.
func TestAMarkerThatIsNotHereYetHoldsTheLastStableOffset(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, values(t, "0"))
	transact(t, leader, inTransaction(t, 9, 0, 0, "1"))
	appendAll(t, leader, values(t, "2"))
	setUploaded(t, leader, 3)
	appendMarker(t, leader, Marker{ProducerID: 9, Commit: true}) // 3
	state, at, err := leader.ReplicaState()
	if err != nil || at != 3 {
		t.Fatalf("at %d, %v", at, err)
	}
	l := following(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	wantStable(t, l, 1)
	ship(t, leader, l)
	wantStable(t, l, 4)
}
