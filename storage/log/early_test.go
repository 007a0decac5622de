package log

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// earlyLog makes a log whose acks come before the sync.
func earlyLog(t testing.TB, s *Store, minInSync int) *Log {
	t.Helper()
	l, err := s.Create(partition(topicA, 0), Config{EarlyAcks: true, MinInSync: minInSync})
	if err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	return l
}

func leadEarly(t testing.TB, s *Store, epoch storage.Epoch, others ...int32) *Log {
	t.Helper()
	l := earlyLog(t, s, 1+min(1, len(others)))
	l.SetReplicas(Replicas{InSync: others})
	if err := l.BecomeLeader(epoch); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestEarlyAcksComeBeforeTheDisk: acks=1 and acks=all are answered, in order, and consumers
// see what was acked, while the disk has none of it; the bucket gets nothing before it has.
func TestEarlyAcksComeBeforeTheDisk(t *testing.T) {
	fs := hooked()
	s := open(t, tiered(fs))
	l := leadEarly(t, s, 1)
	appendAll(t, l, values(t, "zero"))
	flush(t, s)
	let := fs.holdSyncs(t)
	for i, o := range []AppendOptions{anyEpoch, {Epoch: 1, LeaderOnly: true}} {
		first := storage.Offset(1 + i)
		if r := send(t, l, from(t, 7, 0, int32(i), "b"), o).wait(t); r.Err != nil || r.Base != first || r.Duplicate {
			t.Fatalf("%+v", r)
		}
		if r := send(t, l, from(t, 7, 0, int32(i), "b"), o).wait(t); r.Err != nil || r.Base != first || !r.Duplicate {
			t.Fatalf("sent again: %+v", r)
		}
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"zero", "b", "b"}) || l.HighWatermark() != 3 {
		t.Fatalf("a consumer sees %q, up to %d", got, l.HighWatermark())
	}
	point, err := l.UploadPoint(true)
	if err != nil || point.HighWatermark != 1 {
		t.Fatalf("the bucket would get what lies before %d: %v", point.HighWatermark, err)
	}
	if p := s.PendingUpload(nil); len(p) != 1 || p[0].HighWatermark != 1 {
		t.Fatalf("for the bucket there is %+v", p)
	}
	var as state
	if _, err := as.decode(point.Producers); err != nil || len(as.producers) != 0 {
		t.Fatalf("as of 1 there are %d producers: %v", len(as.producers), err)
	}
	if _, err := l.Outcome(0, 3); err == nil {
		t.Fatal("there is an outcome of what is not on disk")
	}
	let()
	flush(t, s)
	if point, err = l.UploadPoint(true); err != nil || point.HighWatermark != 3 {
		t.Fatalf("the bucket would get what lies before %d: %v", point.HighWatermark, err)
	}
}

// TestEarlyAcksWaitForEveryMemory: acks=all waits until those in sync have the batch, in
// memory, and no longer.
func TestEarlyAcksWaitForEveryMemory(t *testing.T) {
	fs := hooked()
	l := leadEarly(t, open(t, small(hooked())), 1, 2)
	f := earlyLog(t, open(t, small(fs)), 2)
	if err := f.BecomeFollower(1); err != nil {
		t.Fatal(err)
	}
	fs.holdSyncs(t)
	a := send(t, l, from(t, 7, 0, 0, "zero"), anyEpoch)
	flush(t, l.store)
	if !a.pending() || l.HighWatermark() != 0 {
		t.Fatalf("acked with one of two replicas; committed to %d", l.HighWatermark())
	}
	ship(t, l, f)
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	if h := f.History(); h.HighWatermark != 1 || h.Synced != 1 {
		t.Fatalf("the follower has %+v", h)
	}
	// Too few in sync: what waits is told, what comes is refused.
	b := send(t, l, values(t, "two"), anyEpoch)
	l.SetReplicas(Replicas{})
	wantErr(t, b.wait(t).Err, ErrNotEnoughReplicasAfterAppend)
	wantErr(t, send(t, l, values(t, "three"), anyEpoch).wait(t).Err, ErrNotEnoughReplicas)
}

// TestMarkersWaitForEveryDisk, and what lies behind them too: the coordinator forgets a
// transaction that has its markers, and one that lost it would stay open for ever.
func TestMarkersWaitForEveryDisk(t *testing.T) {
	leads, follows := hooked(), hooked()
	l := leadEarly(t, open(t, small(leads)), 1, 2)
	f := earlyLog(t, open(t, small(follows)), 2)
	if err := f.BecomeFollower(1); err != nil {
		t.Fatal(err)
	}
	let, letFollower := leads.holdSyncs(t), follows.holdSyncs(t)
	told := make(synced, 10)
	pass := func() { // what the follower has not, a message each
		t.Helper()
		r, err := l.Read(ReadRequest{Offset: f.End(), MaxBytes: 1, MinOne: true, Isolation: LogEnd})
		if err != nil {
			t.Fatal(err)
		}
		b := slices.Clone(r.Batches[0])
		r.Release()
		if err := f.store.AdmitReplica(t.Context(), len(b)); err != nil {
			t.Fatal(err)
		}
		if err := f.AppendReplicated(b, 1, told); err != nil {
			t.Fatal(err)
		}
	}
	send(t, l, from(t, 7, 0, 0, "zero"), AppendOptions{Epoch: 1, LeaderOnly: true})
	pass()
	if a := told.wait(t); a.err != nil || a.synced != 1 {
		t.Fatalf("the follower confirms %+v", a)
	}
	confirm(t, l, 2, 1)
	marked := make(answer, 1)
	l.AppendMarker(t.Context(), sentAt, Marker{ProducerID: 7, CoordinatorEpoch: 1}, MarkerOptions{Epoch: 1}, marked)
	behind := send(t, l, values(t, "two"), anyEpoch)
	pass()
	pass()
	if len(told) > 0 || f.History().Synced != 1 {
		t.Fatalf("the follower confirms a marker that its disk has not: %+v", f.History())
	}
	letFollower()
	for want := storage.Offset(2); want <= 3; want++ {
		if a := told.wait(t); a.err != nil || a.synced < want {
			t.Fatalf("the follower confirms %+v", a)
		}
	}
	confirm(t, l, 2, 3)
	if l.HighWatermark() != 1 || !marked.pending() || !behind.pending() {
		t.Fatalf("committed to %d, a marker the leader's disk has not", l.HighWatermark())
	}
	let()
	if r := marked.wait(t); r.Err != nil || r.Base != 1 {
		t.Fatalf("%+v", r)
	}
	if r := behind.wait(t); r.Err != nil || r.Base != 2 || l.HighWatermark() != 3 {
		t.Fatalf("%+v, committed to %d", r, l.HighWatermark())
	}
}

// TestPowerCutOfEarlyAcksShows: what was acked and consumed is gone after it, but under a
// new epoch, and a consumer that asks where its own ended is told (KIP-320).
func TestPowerCutOfEarlyAcksShows(t *testing.T) {
	rng := newRand(t)
	mem := disk.NewMem(disk.MemOptions{})
	fs := &hookedFS{FS: mem}
	l := leadEarly(t, open(t, small(fs)), 1)
	appendAll(t, l, values(t, "a", "b"))
	flush(t, l.store)
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	fs.holdSyncs(t)
	appendAll(t, l, values(t, "c"), values(t, "d"))
	if l.HighWatermark() != 4 {
		t.Fatalf("committed to %d", l.HighWatermark())
	}
	l = leadEarly(t, open(t, small(mem.Crash(rng))), 3)
	if epoch, end := l.EpochEnd(2); epoch != 1 || end != 2 {
		t.Fatalf("epoch 2 is said to be %d, and to end at %d", epoch, end)
	}
	appendAll(t, l, values(t, "other"))
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"a", "b", "other"}) || l.EpochAt(2) != 3 {
		t.Fatalf("a consumer sees %q, of epoch %d at the end", got, l.EpochAt(2))
	}
}

// TestWhoIsAheadOfAnEarlyLeaderBeginsAnew: a replica that has more than all who are left
// give it up, though it was committed; of a log whose acks wait for the disk it does not.
func TestWhoIsAheadOfAnEarlyLeaderBeginsAnew(t *testing.T) {
	for _, early := range []bool{true, false} {
		f, err := open(t, small(disk.NewMem(disk.MemOptions{}))).Create(partition(topicA, 0), Config{EarlyAcks: early})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.BecomeFollower(1); err != nil {
			t.Fatal(err)
		}
		b := from(t, 7, 0, 0, "a", "b", "c")
		batch.Stamp(b, 0, 1)
		replicate(t, f, 1, b)
		setHighWatermark(t, f, 3, 1)
		l := leadEarly(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 2)
		appendAll(t, l, values(t, "other"))
		state, at, err := l.ReplicaState()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.BecomeFollower(2); err != nil {
			t.Fatal(err)
		}
		err = f.Restart(at, state, 2)
		if !early {
			wantOutOfRange(t, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ship(t, l, f)
		if got := contents(t, f, 0, LogEnd); !slices.Equal(got, []string{"other"}) || f.HighWatermark() != 1 || len(f.Producers()) != 0 {
			t.Fatalf("it has %q, committed to %d, and %d producers", got, f.HighWatermark(), len(f.Producers()))
		}
	}
}
