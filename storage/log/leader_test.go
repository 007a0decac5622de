package log

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// leadWith makes a log and leads it with others in sync.
func leadWith(t testing.TB, s *Store, epoch storage.Epoch, others ...int32) *Log {
	t.Helper()
	l, err := s.Create(partition(topicA, 0), Config{MinInSync: 2})
	if err != nil {
		t.Fatal(err)
	}
	l.SetReplicas(Replicas{InSync: others})
	if err := l.BecomeLeader(epoch); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestDuplicateBeforeCommitOfReplicas: it is answered as the first would be, once those
// in sync have it; acks=1 is answered before, and is not visible.
func TestDuplicateBeforeCommitOfReplicas(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2, 3)
	first := send(t, l, from(t, 7, 0, 0, "a", "b"), anyEpoch)
	flush(t, l.store)
	again := send(t, l, from(t, 7, 0, 0, "a", "b"), AppendOptions{Epoch: 1, LeaderOnly: true})
	if r := send(t, l, values(t, "c"), AppendOptions{Epoch: 1, LeaderOnly: true}).wait(t); r.Err != nil || r.Base != 2 {
		t.Fatalf("%+v", r)
	}
	confirm(t, l, 2, 3)
	if !first.pending() || !again.pending() || l.HighWatermark() != 0 || len(contents(t, l, 0, HighWatermark)) != 0 {
		t.Fatalf("answered %v and %v with one of two followers; committed to %d", !first.pending(), !again.pending(), l.HighWatermark())
	}
	confirm(t, l, 3, 2)
	if a, b := first.wait(t), again.wait(t); a.Err != nil || b.Err != nil || a.Base != 0 || b.Base != 0 || !b.Duplicate {
		t.Fatalf("answered %+v and %+v", a, b)
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("a consumer sees %q", got)
	}
}

// TestConfirmationsAreOfOneEpoch, and of one stream: what is said under another counts
// for nothing, nor what was said before the follower was forgotten.
func TestConfirmationsAreOfOneEpoch(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	a := send(t, l, values(t, "0"), anyEpoch)
	flush(t, l.store)
	for _, epoch := range []storage.Epoch{0, 2, storage.NoEpoch} {
		wantErr(t, l.Confirm(2, 1, epoch), ErrFenced)
	}
	confirm(t, l, 2, 1)
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	a = send(t, l, values(t, "1"), anyEpoch)
	confirm(t, l, 2, 2)
	l.Forget(2)
	flush(t, l.store)
	b := send(t, l, values(t, "2"), anyEpoch)
	flush(t, l.store)
	confirm(t, l, 2, 2)
	if r := a.wait(t); r.Err != nil || !b.pending() {
		t.Fatalf("%+v", r)
	}
	confirm(t, l, 2, 3)
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	send(t, l, values(t, "3"), AppendOptions{Epoch: 2, LeaderOnly: true}).wait(t)
	if hw := l.HighWatermark(); hw != 3 {
		t.Fatalf("the high watermark is %d", hw)
	}
	if err := l.BecomeFollower(3); err != nil {
		t.Fatal(err)
	}
	wantErr(t, l.Confirm(2, 4, 3), ErrFenced)
	if hw := l.HighWatermark(); hw != 3 {
		t.Fatalf("the high watermark is %d", hw)
	}
}

// TestISRShrinksWhileAppendsWait: they are told that it was after the append, and may be
// committed yet; those that come are refused before; acks=1 goes on.
func TestISRShrinksWhileAppendsWait(t *testing.T) {
	fs := hooked()
	l := leadWith(t, open(t, small(fs)), 1, 2)
	parked := send(t, l, from(t, 7, 0, 0, "0"), anyEpoch)
	flush(t, l.store)
	let := fs.holdSyncs(t)
	inFlight := send(t, l, from(t, 7, 0, 1, "1"), anyEpoch)
	l.SetReplicas(Replicas{Pending: []int32{2}}) // which is not counted
	wantErr(t, parked.wait(t).Err, ErrNotEnoughReplicasAfterAppend)
	wantErr(t, send(t, l, from(t, 7, 0, 2, "2"), anyEpoch).wait(t).Err, ErrNotEnoughReplicas)
	let()
	wantErr(t, inFlight.wait(t).Err, ErrNotEnoughReplicasAfterAppend)
	again := send(t, l, from(t, 7, 0, 0, "0"), AppendOptions{Epoch: 1, LeaderOnly: true})
	if r := send(t, l, from(t, 7, 0, 2, "2"), AppendOptions{Epoch: 1, LeaderOnly: true}).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	confirm(t, l, 2, 3)
	if hw := l.HighWatermark(); hw != 0 || !again.pending() {
		t.Fatalf("the high watermark is %d with too few in sync", hw)
	}
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if r := again.wait(t); r.Err != nil || r.Base != 0 || l.HighWatermark() != 3 {
		t.Fatalf("%+v; the high watermark is %d", r, l.HighWatermark())
	}
	// What more are wanted of does the same.
	parked = send(t, l, values(t, "3"), anyEpoch)
	flush(t, l.store)
	l.SetConfig(Config{MinInSync: 3})
	wantErr(t, parked.wait(t).Err, ErrNotEnoughReplicasAfterAppend)
}

// TestGrowthWaitsForTheUnion: who was proposed is waited for, until that is settled.
func TestGrowthWaitsForTheUnion(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	l.SetReplicas(Replicas{InSync: []int32{2}, Pending: []int32{3}})
	a := send(t, l, values(t, "0"), anyEpoch)
	flush(t, l.store)
	confirm(t, l, 2, 1)
	if !a.pending() {
		t.Fatalf("answered %+v without the one that is pending", a.wait(t))
	}
	l.SetReplicas(Replicas{InSync: []int32{2}}) // refused
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// TestLatestGoesBackAfterFailover: a leader that was elected knows less of what is
// committed than the last one, and says so, rather than let consumers see the end go back.
func TestLatestGoesBackAfterFailover(t *testing.T) {
	old := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	l := following(t, open(t, small(disk.NewMem(disk.MemOptions{}))), old.id, 1)
	first := send(t, old, values(t, "0", "1"), anyEpoch)
	flush(t, old.store)
	ship(t, old, l)
	first.wait(t)
	if o, err := old.Latest(); err != nil || o.HighWatermark != 2 {
		t.Fatalf("%+v, %v", o, err)
	}
	if _, err := l.Latest(); !errors.Is(err, ErrNotLeader) {
		t.Fatal(err)
	}
	// It has not heard that 0 and 1 are committed; 2 is of acks=1.
	l, _ = reopen(t, l.store).Log(l.id)
	if err := l.BecomeFollower(1); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 1, stamped(values(t, "2"), 2, 1))
	l.SetReplicas(Replicas{InSync: []int32{3}})
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	if hw := l.HighWatermark(); hw != 0 {
		t.Fatalf("the high watermark is %d", hw)
	}
	_, err := l.Latest()
	wantErr(t, err, ErrOffsetNotAvailable)
	_, err = l.Read(ReadRequest{Offset: 2, MinOne: true})
	wantErr(t, err, ErrOffsetNotAvailable)
	_, err = l.Read(ReadRequest{Offset: 9})
	wantOutOfRange(t, err)
	if got := contents(t, l, 0, HighWatermark); len(got) != 0 {
		t.Fatalf("a consumer sees %q, which no follower has confirmed", got)
	}
	confirm(t, l, 3, 2)
	_, err = l.Latest()
	wantErr(t, err, ErrOffsetNotAvailable)
	confirm(t, l, 3, 3)
	if o, err := l.Latest(); err != nil || o.HighWatermark != 3 {
		t.Fatalf("%+v, %v", o, err)
	}
}

// seen counts how often a log has moved, and where it was then.
type seen struct {
	times atomic.Int64
	last  atomic.Pointer[Progress]
}

func (s *seen) LogMoved(l *Log) {
	p := l.Progress() // without locks
	s.last.Store(&p)
	s.times.Add(1)
}

// TestObserverIsToldOfWhatToSend: the end before it is on disk, the high watermark, and
// what could not be read for want of memory.
func TestObserverIsToldOfWhatToSend(t *testing.T) {
	fs := hooked()
	l := leadWith(t, open(t, small(fs)), 1, 2)
	o := &seen{}
	l.Observe(o)
	let := fs.holdSyncs(t)
	a := send(t, l, values(t, "0"), anyEpoch)
	if p := o.last.Load(); p == nil || p.End != 1 || p.Synced != 0 || p.Epoch != 1 {
		t.Fatalf("told %+v", p)
	}
	r, err := l.Read(ReadRequest{MaxBytes: 1 << 20, Isolation: LogEnd})
	if err != nil || len(r.Batches) != 1 || r.Epoch != 1 {
		t.Fatalf("%d batches before they are on disk, %v", len(r.Batches), err)
	}
	// While readers hold their share of the memory it is not to be had before that.
	let()
	big := values(t, string(make([]byte, 30<<10)))
	var held []ReadResult
	for range 4 {
		send(t, l, bytes.Clone(big), AppendOptions{Epoch: 1, LeaderOnly: true}).wait(t)
		r, err := l.Read(ReadRequest{Offset: l.End() - 1, MaxBytes: 1 << 20, Isolation: LogEnd})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	let = fs.holdSyncs(t)
	last := send(t, l, bytes.Clone(big), AppendOptions{Epoch: 1, LeaderOnly: true})
	early, err := l.Read(ReadRequest{Offset: l.End() - 1, MaxBytes: 1 << 20, Isolation: LogEnd})
	if err != nil || len(early.Batches) != 0 {
		t.Fatalf("%d batches are read, %v: the test shows nothing", len(early.Batches), err)
	}
	before := o.times.Load()
	let()
	last.wait(t)
	flush(t, l.store)
	if o.times.Load() == before {
		t.Fatal("nobody was told that it is on disk")
	}
	for i := range held {
		held[i].Release()
	}
	early.Release()
	r.Release()
	before = o.times.Load()
	confirm(t, l, 2, 1)
	if p := o.last.Load(); o.times.Load() == before || p.HighWatermark != 1 {
		t.Fatalf("told %+v", p)
	}
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	l.Observe(nil)
	before = o.times.Load()
	confirm(t, l, 2, 2)
	if o.times.Load() != before {
		t.Fatal("told after it asked not to be")
	}
}

// TestFollowerResetKeepsDedupe: a follower that begins at the committed end knows who
// sent what, and which transactions are open, and leads with that, though no object was
// read.
func TestFollowerResetKeepsDedupe(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	leader := lead(t, open(t, o), partition(topicA, 0), 1)
	appendAll(t, leader, from(t, 7, 0, 0, "0"))                 // 0
	transact(t, leader, inTransaction(t, 8, 0, 0, "1"))         // stays open
	transact(t, leader, inTransaction(t, 9, 0, 0, "2"))         // until 5
	appendAll(t, leader, from(t, 7, 0, 1, "3"), values(t, "4")) //
	setUploaded(t, leader, 4)
	if err := leader.store.Evict(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendMarker(t, leader, Marker{ProducerID: 9}) // 5: an abort
	appendAll(t, leader, from(t, 7, 0, 2, "6"))
	transact(t, leader, inTransaction(t, 6, 0, 0, "7"))
	appendMarker(t, leader, Marker{ProducerID: 6}) // 8: an abort
	state, at, err := leader.ReplicaState()
	if err != nil || at != 4 {
		t.Fatalf("at %d, %v", at, err)
	}
	for _, when := range []string{"as it is", "after a restart", "killed before it has reached the leader"} {
		s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
		l := following(t, s, leader.id, 1)
		replicate(t, l, 1, stamped(from(t, 5, 0, 0, "of another life"), 0, 0)) // nobody knows of it any more
		if err := l.Restart(at, state, 1); err != nil {
			t.Fatal(err)
		}
		if h := l.History(); h.End != 4 || h.LocalStart != 4 || h.HighWatermark != 4 || h.LogStart != 0 || h.Uploaded != 4 {
			t.Fatalf("%s: %+v", when, h)
		}
		if when != "as it is" {
			flush(t, s)
			s = reopen(t, s)
			l, _ = s.Log(l.id)
			if l.asOf <= l.End() {
				t.Fatalf("%s: as of %d", when, l.asOf)
			}
			if err := l.BecomeFollower(1); err != nil {
				t.Fatal(err)
			}
			setLogStart(t, l, 0) // the image's word
		}
		wantStable(t, l, 1) // the first that is open, wherever that is
		ship(t, leader, l)
		if when == "after a restart" {
			s = reopen(t, s)
			l, _ = s.Log(l.id)
			setLogStart(t, l, 0)
		}
		if want, got := remembered(leader), remembered(l); !slices.Equal(got, want) {
			t.Fatalf("%s: it remembers %+v, the leader %+v", when, got, want)
		}
		if err := l.BecomeLeader(2); err != nil {
			t.Fatal(err)
		}
		for sequence, base := range []storage.Offset{0, 3, 6} {
			if r := send(t, l, from(t, 7, 0, int32(sequence), "x"), anyEpoch).wait(t); r.Err != nil || !r.Duplicate || r.Base != base {
				t.Fatalf("%s: sequence %d was answered %+v", when, sequence, r)
			}
		}
		wantErr(t, send(t, l, from(t, 7, 0, 5, "x"), anyEpoch).wait(t).Err, ErrOutOfOrderSequence)
		wantStable(t, l, 1)
		if got, _ := l.Aborted(4, 9); !slices.Equal(got, []Aborted{{9, 2, 5}, {6, 7, 8}}) {
			t.Fatalf("%s: aborted %+v", when, got)
		}
		appendMarker(t, l, Marker{ProducerID: 8, Commit: true})
		wantStable(t, l, l.End())
		if err := s.Drop(topicA); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats(); got.IndexBytes != 0 || got.Producers != 0 {
			t.Fatalf("%s: %+v is left", when, got)
		}
	}
}

// TestStateOfTheFutureIsNotLedWith: a log that has not reached what its producers are as
// of, and is led all the same, knows none, rather than wrong ones.
func TestStateOfTheFutureIsNotLedWith(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, from(t, 7, 0, 0, "0"), from(t, 7, 0, 1, "1"))
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
	if len(l.Producers()) != 1 || l.End() != 1 {
		t.Fatalf("%+v, to %d", l.Producers(), l.End())
	}
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	if r := send(t, l, from(t, 7, 0, 1, "1"), anyEpoch).wait(t); r.Err != nil || r.Duplicate || r.Base != 1 {
		t.Fatalf("%+v", r)
	}
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if got := l.Producers(); len(got) != 1 || got[0].LastSequence != 1 {
		t.Fatalf("%+v", got)
	}
}

// TestWhatIsForgottenStaysForgotten: who leads without knowing producers does not learn at
// the next start what some of them had sent by the time that they were forgotten, nor of a
// transaction whose end is lost.
func TestWhatIsForgottenStaysForgotten(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, values(t, "0"), from(t, 7, 0, 0, "1"))
	transact(t, leader, inTransaction(t, 8, 0, 0, "2"))
	appendAll(t, leader, from(t, 7, 0, 1, "3"))
	appendMarker(t, leader, Marker{ProducerID: 8, Commit: true})
	setUploaded(t, leader, 1)
	state, at, err := leader.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	fs := disk.NewMem(disk.MemOptions{})
	s := open(t, tiered(fs))
	l := following(t, s, leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 1, stamped(from(t, 7, 0, 0, "1"), 1, 1), stamped(inTransaction(t, 8, 0, 0, "2"), 2, 1))
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	if got := l.Producers(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	_, e := l.index.at(l.index.find(1))
	if err := (owner{s}).Relocate(t.Context(), e.ref.Segment); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	s = open(t, tiered(fs.Clone())) // killed: what was copied lies behind all states
	l, _ = s.Log(l.id)
	setLogStart(t, l, 0)
	if err := l.BecomeLeader(3); err != nil {
		t.Fatal(err)
	}
	if got := l.Producers(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	wantStable(t, l, 3)
	if p := s.PendingUpload(nil); len(p) != 1 || p[0].Bytes == 0 {
		t.Fatalf("to upload: %+v", p)
	}
}

// TestWhatComesInPlaceOfWhatWasForgottenIsKnown: what a leader that knew no producers had
// goes, and its successor's batches there are remembered, also after a start.
func TestWhatComesInPlaceOfWhatWasForgottenIsKnown(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, values(t, "0"), from(t, 7, 0, 0, "1"), values(t, "2"), values(t, "3"))
	setUploaded(t, leader, 1)
	state, at, err := leader.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	fs := disk.NewMem(disk.MemOptions{})
	s := open(t, tiered(fs))
	l := following(t, s, leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 1, stamped(from(t, 7, 0, 0, "1"), 1, 1), stamped(values(t, "2"), 2, 1))
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeFollower(3); err != nil {
		t.Fatal(err)
	}
	if err := l.TruncateTo(1, 3); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 3, stamped(from(t, 9, 0, 0, "one"), 1, 3))
	for range 2 {
		if got := l.Producers(); len(got) != 1 || got[0].ID != 9 {
			t.Fatalf("%+v", got)
		}
		flush(t, s)
		s = open(t, tiered(fs.Clone()))
		l, _ = s.Log(l.id)
	}
}

// TestRestartIsFenced: under another epoch, and where it would give up what is committed,
// nothing is given up; nor for a state that does not hold together.
func TestRestartIsFenced(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, from(t, 7, 0, 0, "0"), values(t, "1"), values(t, "2"))
	setUploaded(t, leader, 2)
	state, at, err := leader.ReplicaState()
	if err != nil {
		t.Fatal(err)
	}
	l := following(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), leader.id, 1)
	ship(t, leader, l)
	wantOutOfRange(t, l.Restart(at, state, 1))
	for _, epoch := range []storage.Epoch{0, 2, storage.NoEpoch} {
		wantErr(t, l.Restart(at, state, epoch), ErrFenced)
	}
	other := following(t, l.store, partition(topicA, 1), 1)
	wantReplicaError(t, other.Restart(at+1, state, 1))
	for i := range state {
		spoilt := bytes.Clone(state)
		spoilt[i] ^= 4
		wantReplicaError(t, other.Restart(at, spoilt, 1))
		wantReplicaError(t, other.Restart(at, state[:i], 1))
	}
	if other.End() != 0 || l.End() != 3 {
		t.Fatalf("%d, %d", other.End(), l.End())
	}
	_, _, err = l.ReplicaState()
	wantErr(t, err, ErrNotLeader)
	// Whoever was dropped and made anew has nothing committed.
	if err := l.store.DropPartition(l.id); err != nil {
		t.Fatal(err)
	}
	wantErr(t, l.Err(), ErrDropped)
	if other.Err() != nil {
		t.Fatal("a neighbour was dropped too")
	}
	l = following(t, l.store, leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, l.store)
	if l, _ = s.Log(l.id); l.LocalStart() != 2 || l.End() != 2 || len(l.Producers()) != 1 {
		t.Fatalf("%+v", l.History())
	}
}

// TestRestartWithinABatch: a log start that lies within the first batch of the leader's
// WAL lies within the follower's too.
func TestRestartWithinABatch(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, values(t, "0", "1", "2"), values(t, "3"))
	setLogStart(t, leader, 1)
	state, at, err := leader.ReplicaState()
	if err != nil || at != 1 {
		t.Fatalf("%d, %v", at, err)
	}
	l := following(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	ship(t, leader, l)
	if got := contents(t, l, 1, HighWatermark); !slices.Equal(got, []string{"1", "2", "3"}) || l.LogStart() != 1 {
		t.Fatalf("%q", got)
	}
	l, _ = reopen(t, l.store).Log(l.id)
	if err := l.Err(); err != nil || l.End() != 4 {
		t.Fatalf("%v; it ends at %d", err, l.End())
	}
}

// TestTornRestartIsNoLog: who is killed with a part of the state on disk has no log, and
// is not refused as corrupt.
func TestTornRestartIsNoLog(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	var mu sync.Mutex // guards recording and left
	var left []*disk.Mem
	recording := false
	fs := &watchedFS{FS: mem, before: func() {
		mu.Lock()
		defer mu.Unlock()
		if recording {
			left = append(left, mem.Clone())
		}
	}}
	o := tiered(fs)
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 16<<20, 1<<20, 256<<10, 8<<20
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	const n = 8000 // whose state is in two segments
	s := state{localStart: 10, highWatermark: 10, asOf: 10_000, producers: producers{}}
	for id := range int64(n) {
		p := &producer{open: storage.NoOffset, millis: sentAt.UnixMilli()}
		for i := range storage.Offset(dedupeBatches) {
			p.sent = append(p.sent, sentBatch{last: storage.Offset(id) + i, first: int32(i)})
		}
		s.producers[id] = p
	}
	if parts := len(s.encode(maxStatePart)); parts < 2 {
		t.Fatalf("%d parts: the test shows nothing", parts)
	}
	store := open(t, o)
	l := following(t, store, leader.id, 1)
	neighbour := following(t, store, partition(topicA, 1), 1)
	replicate(t, l, 1, stamped(values(t, "before"), 0, 1))
	replicate(t, neighbour, 1, stamped(values(t, "stays"), 0, 1))
	record := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		recording = on
	}
	record(true)
	if err := l.Restart(10, encodeReplicaState(3, &s), 1); err != nil {
		t.Fatal(err)
	}
	flush(t, store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	record(false)
	rng := newRand(t)
	met := map[storage.Offset]int{}
	for _, mem := range left {
		for _, fs := range []*disk.Mem{mem.Clone(), mem.Crash(rng)} {
			o.FS = fs
			s := open(t, o)
			end := storage.NoOffset
			if l, ok := s.Log(leader.id); ok {
				if err := l.Err(); err != nil {
					t.Fatal(err)
				}
				if end = l.End(); end == 10 && (len(l.Producers()) != n || l.asOf != 10_000) {
					t.Fatalf("%d producers as of %d", len(l.Producers()), l.asOf)
				}
			}
			met[end]++
			if l, _ := s.Log(neighbour.id); l.End() != 1 {
				t.Fatalf("the neighbour ends at %d", l.End())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("of %d: %v", 2*len(left), met)
	if met[1] == 0 || met[10] == 0 || met[storage.NoOffset] == 0 {
		t.Fatalf("met %v: the test shows nothing", met)
	}
}

// FuzzReplicaState: whatever a leader sends, it is taken whole or refused.
func FuzzReplicaState(f *testing.F) {
	s := goldenAhead()
	f.Add(encodeReplicaState(2, s))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		logStart, s, err := decodeReplicaState(in)
		if err != nil {
			return
		}
		again, t2, err := decodeReplicaState(encodeReplicaState(logStart, &s))
		if err != nil || again != logStart || t2.knows() != s.knows() || len(t2.producers) != len(s.producers) {
			t.Fatalf("what was written is refused, or another: %v", err)
		}
	})
}

// TestLedEpochWithoutBatches gives way to what a newer leader has there.
func TestLedEpochWithoutBatches(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0"))
	if err := l.BecomeLeader(5); err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeFollower(6); err != nil {
		t.Fatal(err)
	}
	if got := l.History().Epochs; !slices.Equal(got, []EpochStart{{1, 0}}) {
		t.Fatalf("%+v", got)
	}
	replicate(t, l, 6, stamped(values(t, "1"), 1, 4))
	if got := l.History().Epochs; !slices.Equal(got, []EpochStart{{1, 0}, {4, 1}}) {
		t.Fatalf("%+v", got)
	}
}

// TestReelectedLeaderTakesTheControllersWord: who led on while others did, and is elected
// again, takes from the image what was committed meanwhile, which it has.
func TestReelectedLeaderTakesTheControllersWord(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadWith(t, s, 2, 2)
	parked := send(t, l, values(t, "0"), anyEpoch)
	flush(t, s)
	wantOutOfRange(t, l.SetUploaded(1))
	l.Resign()
	wantErr(t, parked.wait(t).Err, ErrNotLeader)
	setUploaded(t, l, 1)
	l.SetReplicas(Replicas{InSync: []int32{2}})
	wantErr(t, l.BecomeLeader(2), ErrFenced)
	if err := l.BecomeLeader(8); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.HighWatermark != 1 || h.Uploaded != 1 {
		t.Fatalf("%+v", h)
	}
}

// TestCoordinatorsLogIsReplicatedWhole: it is read whole by who leads next, also what the
// bucket has.
func TestCoordinatorsLogIsReplicatedWhole(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Tiered = true
	l := leadWith(t, open(t, o), 1, 2)
	l.SetConfig(Config{MinInSync: 2, KeepLocal: true})
	for _, v := range []string{"0", "1", "2"} {
		send(t, l, values(t, v), anyEpoch)
	}
	flush(t, l.store)
	confirm(t, l, 2, 3)
	if err := l.SetUploaded(2); err != nil {
		t.Fatal(err)
	}
	_, at, err := l.ReplicaState()
	if err != nil || at != 0 {
		t.Fatalf("a follower begins at %d: %v", at, err)
	}
}
