package log

import (
	"testing"

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
