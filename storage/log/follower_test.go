package log

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// synced is where replicated batches are answered.
type synced chan replicatedAnswer

type replicatedAnswer struct {
	synced storage.Offset
	err    error
}

func (s synced) Replicated(end storage.Offset, err error) { s <- replicatedAnswer{end, err} }

func (s synced) wait(t testing.TB) replicatedAnswer {
	t.Helper()
	select {
	case a := <-s:
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("replicated batches were not answered within 30 s")
		return replicatedAnswer{}
	}
}

// following makes a log and has it follow an epoch.
func following(t testing.TB, s *Store, id storage.PartitionID, epoch storage.Epoch) *Log {
	t.Helper()
	l, err := s.Create(id, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeFollower(epoch); err != nil {
		t.Fatal(err)
	}
	return l
}

// stamped is a batch as a leader has it.
func stamped(b batch.Batch, base storage.Offset, epoch storage.Epoch) batch.Batch {
	batch.Stamp(b, base, epoch)
	return b
}

// replicated appends batches and does not wait.
func replicated(t testing.TB, l *Log, epoch storage.Epoch, batches ...batch.Batch) (synced, error) {
	t.Helper()
	records := slices.Concat(batches...)
	if err := l.store.AdmitReplica(context.Background(), len(records)); err != nil {
		t.Fatal(err)
	}
	done := make(synced, 1)
	return done, l.AppendReplicated(records, epoch, done)
}

// replicate appends batches and waits until they are on disk.
func replicate(t testing.TB, l *Log, epoch storage.Epoch, batches ...batch.Batch) {
	t.Helper()
	done, err := replicated(t, l, epoch, batches...)
	if err != nil {
		t.Fatal(err)
	}
	if a := done.wait(t); a.err != nil || a.synced != l.End() {
		t.Fatalf("replicated to %d: %+v", l.End(), a)
	}
}

// ship replicates all that the leader has and the follower has not, and confirms it as
// that of replica 2.
func ship(t testing.TB, leader, follower *Log) {
	t.Helper()
	epoch := leader.Progress().Epoch
	for follower.End() < leader.End() {
		r, err := leader.Read(ReadRequest{Offset: follower.End(), MaxBytes: 64 << 10, MinOne: true, Isolation: LogEnd})
		if err != nil {
			t.Fatal(err)
		}
		var batches []batch.Batch
		for _, b := range r.Batches {
			batches = append(batches, bytes.Clone(b))
		}
		r.Release()
		replicate(t, follower, epoch, batches...)
	}
	confirm(t, leader, 2, follower.History().Synced)
	setHighWatermark(t, follower, leader.HighWatermark(), epoch)
}

func confirm(t testing.TB, leader *Log, replica int32, synced storage.Offset) {
	t.Helper()
	if err := leader.Confirm(replica, synced, leader.Progress().Epoch); err != nil {
		t.Fatal(err)
	}
}

func setHighWatermark(t testing.TB, l *Log, hw storage.Offset, epoch storage.Epoch) {
	t.Helper()
	if err := l.SetHighWatermark(hw, epoch); err != nil {
		t.Fatal(err)
	}
}

// remembered is what a log remembers of its producers, but for when it heard of them.
func remembered(l *Log) []ProducerState {
	of := l.Producers()
	for i := range of {
		of[i].LastTimestamp = 0
	}
	return of
}

func wantReplicaError(t testing.TB, err error) {
	t.Helper()
	if !errors.As(err, new(*ReplicaError)) {
		t.Fatalf("got %v, want what was replicated refused", err)
	}
}

// TestFollowerTakesWhatComesNext, and nothing else: a leader that is another than it
// thinks, a stream that lost something, or memory that went bad must not change a log.
func TestFollowerTakesWhatComesNext(t *testing.T) {
	l := following(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 5)
	replicate(t, l, 5, stamped(values(t, "0", "1"), 0, 3), stamped(values(t, "2"), 2, 5))
	next := func() batch.Batch { return stamped(values(t, "3"), 3, 5) }
	spoilt := next()
	spoilt[len(spoilt)-1] ^= 1
	for name, b := range map[string]batch.Batch{
		"a gap":             stamped(values(t, "4"), 4, 5),
		"what is there":     stamped(values(t, "2"), 2, 5),
		"an older epoch":    stamped(values(t, "3"), 3, 4),
		"a newer epoch":     stamped(values(t, "3"), 3, 6),
		"no epoch":          stamped(values(t, "3"), 3, -1),
		"a flipped bit":     spoilt,
		"the half of it":    next()[:40],
		"something behind":  append(next(), 1, 2, 3),
		"nothing":           {},
		"a negative offset": stamped(values(t, "3"), -5, 5),
	} {
		_, err := replicated(t, l, 5, b)
		if !errors.As(err, new(*ReplicaError)) || l.End() != 3 {
			t.Errorf("%s: %v, the log ends at %d", name, err, l.End())
		}
	}
	for _, epoch := range []storage.Epoch{4, 6, storage.NoEpoch} {
		_, err := replicated(t, l, epoch, next())
		wantErr(t, err, ErrFenced)
		wantErr(t, l.SetHighWatermark(3, epoch), ErrFenced)
	}
	if hw := l.HighWatermark(); hw != 0 {
		t.Fatalf("the high watermark is %d", hw)
	}
	// What comes before the bad one is taken, and the end says so.
	_, err := replicated(t, l, 5, next(), stamped(values(t, "5"), 5, 5))
	wantReplicaError(t, err)
	if l.End() != 4 {
		t.Fatalf("the log ends at %d", l.End())
	}
	replicate(t, l, 5, stamped(values(t, "4"), 4, 5))
	if got := contents(t, l, 0, LogEnd); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Fatalf("%q", got)
	}
	if held := l.store.wal.Stats(); held.UnsyncedBytes != 0 {
		t.Fatalf("%+v", held)
	}
	h := l.History()
	if want := []EpochStart{{3, 0}, {5, 2}}; h.Epoch != 5 || h.Leads || !slices.Equal(h.Epochs, want) || h.End != 5 || h.Synced != 5 {
		t.Fatalf("%+v", h)
	}
}

// TestEpochsOfAFollowerAreFenced: it follows no older epoch than it knows of, leads none
// that it followed, and takes no truncation from one.
func TestEpochsOfAFollowerAreFenced(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 3)
	l.SetReplicas(Replicas{InSync: []int32{2}})
	parked := send(t, l, values(t, "0"), anyEpoch)
	flush(t, l.store)
	for _, epoch := range []storage.Epoch{2, 3, storage.NoEpoch} {
		wantErr(t, l.BecomeFollower(epoch), ErrFenced)
	}
	if !parked.pending() {
		t.Fatalf("answered %+v", parked.wait(t))
	}
	for range 2 { // again is nothing
		if err := l.BecomeFollower(5); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, parked.wait(t).Err, ErrNotLeader)
	wantErr(t, send(t, l, values(t, "x"), anyEpoch).wait(t).Err, ErrNotLeader)
	wantErr(t, l.BecomeFollower(4), ErrFenced)
	wantErr(t, l.BecomeLeader(5), ErrFenced)
	wantErr(t, l.TruncateTo(0, 4), ErrFenced)
	if l.End() != 1 {
		t.Fatalf("the log ends at %d", l.End())
	}
	if err := l.TruncateTo(0, 5); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 5, stamped(values(t, "y"), 0, 4)) // it is followed on
	// Who was told by a newer epoch to shorten its log takes nothing of the older.
	if err := l.TruncateTo(1, 6); err != nil {
		t.Fatal(err)
	}
	_, err := replicated(t, l, 5, stamped(values(t, "z"), 1, 5))
	wantErr(t, err, ErrFenced)
	s := reopen(t, l.store)
	l, _ = s.Log(l.id)
	wantErr(t, l.BecomeFollower(3), ErrFenced) // the disk has a batch of 4
	if err := l.BecomeFollower(4); err != nil {
		t.Fatal(err)
	}
}

// TestFollowerIsCommittedAsFarAsItsDisk: the leader's word counts for what is on disk
// here, and comes before it.
func TestFollowerIsCommittedAsFarAsItsDisk(t *testing.T) {
	fs := hooked()
	l := following(t, open(t, small(fs)), partition(topicA, 0), 1)
	replicate(t, l, 1, stamped(values(t, "0"), 0, 1))
	w := newSignal()
	l.Watch(1, w)
	let := fs.holdSyncs(t)
	o := &seen{}
	l.Observe(o)
	done, err := replicated(t, l, 1, stamped(values(t, "1"), 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	setHighWatermark(t, l, 9, 1)
	if hw := l.HighWatermark(); hw != 1 {
		t.Fatalf("the high watermark is %d, on disk is 1", hw)
	}
	_, err = l.Read(ReadRequest{Offset: 2})
	wantErr(t, err, ErrOffsetNotAvailable) // it is behind, perhaps
	_, err = l.Read(ReadRequest{Offset: 7})
	wantErr(t, err, ErrOffsetNotAvailable)
	let()
	if a := done.wait(t); a.err != nil || a.synced != 2 {
		t.Fatalf("%+v", a)
	}
	<-w.woken
	flush(t, l.store)
	if p := o.last.Load(); p.Synced != 2 || p.Epoch != storage.NoEpoch {
		t.Fatalf("it was told of %+v", p)
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"0", "1"}) {
		t.Fatalf("%q", got)
	}
	replicate(t, l, 1, stamped(values(t, "2"), 2, 1))
	setHighWatermark(t, l, 2, 1) // it never moves back
	if hw := l.HighWatermark(); hw != 3 {
		t.Fatalf("the high watermark is %d", hw)
	}
	// A new leader is yet to say how far it is.
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 2, stamped(values(t, "3"), 3, 2))
	if hw := l.HighWatermark(); hw != 3 {
		t.Fatalf("the high watermark is %d", hw)
	}
}

// TestFollowerIsToldOfWhatItAppendedAsALeader: what was on its way to the disk when the
// log ceased to be led counts for the next leader, unless that takes it back.
func TestFollowerIsToldOfWhatItAppendedAsALeader(t *testing.T) {
	for _, end := range []storage.Offset{3, 2} {
		fs := hooked()
		l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
		appendAll(t, l, values(t, "0"))
		let := fs.holdSyncs(t)
		answers := []answer{send(t, l, values(t, "1"), anyEpoch), send(t, l, values(t, "2"), anyEpoch)}
		if err := l.BecomeFollower(2); err != nil {
			t.Fatal(err)
		}
		if err := l.TruncateTo(end, 2); err != nil {
			t.Fatal(err)
		}
		done := make(synced, 2)
		if held := l.Held(done); held != 1 {
			t.Fatalf("on disk is %d", held)
		}
		let()
		if a := done.wait(t); a.err != nil || a.synced != end {
			t.Fatalf("it is told %+v, and holds %d", a, end)
		}
		for _, a := range answers {
			wantErr(t, a.wait(t).Err, ErrNotLeader)
		}
		flush(t, l.store)
		if held := l.Held(done); held != end || len(done) > 0 {
			t.Fatalf("on disk is %d, told %d times more", held, len(done))
		}
	}
	// Taken back later.
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	let := fs.holdSyncs(t)
	a := send(t, l, values(t, "0"), anyEpoch)
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	done := make(synced, 1)
	l.Held(done)
	if err := l.TruncateTo(0, 3); err != nil {
		t.Fatal(err)
	}
	let()
	wantErr(t, done.wait(t).err, ErrFenced)
	wantErr(t, a.wait(t).Err, ErrNotLeader)
}

// TestFollowerRemembersAsItsLeader: producers and transactions, through a truncation, a
// restart, and as it leads.
func TestFollowerRemembersAsItsLeader(t *testing.T) {
	leader := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, leader.id, 1)
	appendAll(t, leader, from(t, 7, 0, 0, "a", "b"))
	transact(t, leader, inTransaction(t, 8, 0, 0, "c"))
	appendMarker(t, leader, Marker{ProducerID: 8})
	ship(t, leader, l)
	leader.SetReplicas(Replicas{InSync: []int32{2}})
	before, stable := remembered(leader), leader.LastStable()
	mark := leader.End()
	uncommitted := AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true}
	send(t, leader, from(t, 7, 0, 2, "d"), uncommitted).wait(t)
	g := verify(t, leader, inTransaction(t, 8, 0, 1, "e"))
	uncommitted.Guard = g
	send(t, leader, inTransaction(t, 8, 0, 1, "e"), uncommitted).wait(t)
	marker := sendMarker(leader, Marker{ProducerID: 8, Commit: true})
	flush(t, leader.store)
	r, err := leader.Read(ReadRequest{Offset: mark, MaxBytes: 1 << 20, Isolation: LogEnd})
	if err != nil || len(r.Batches) != 3 || r.Epoch != 1 {
		t.Fatalf("%d batches, epoch %d, %v", len(r.Batches), r.Epoch, err)
	}
	var tail []batch.Batch
	for _, b := range r.Batches {
		tail = append(tail, bytes.Clone(b))
	}
	r.Release()
	replicate(t, l, 1, tail...)
	same := func(want []ProducerState, stable storage.Offset) {
		t.Helper()
		if got := remembered(l); !slices.Equal(got, want) {
			t.Fatalf("it remembers %+v, the leader %+v", got, want)
		}
		if got := l.LastStable(); got != stable {
			t.Fatalf("it is stable to %d, want %d", got, stable)
		}
	}
	same(remembered(leader), stable)
	aborted, _ := l.Aborted(0, l.End())
	if want := []Aborted{{8, 2, 3}}; !slices.Equal(aborted, want) {
		t.Fatalf("aborted %+v", aborted)
	}
	if err := l.TruncateTo(mark, 1); err != nil {
		t.Fatal(err)
	}
	same(before, stable)
	replicate(t, l, 1, tail...)
	same(remembered(leader), stable)
	confirm(t, leader, 2, l.End())
	if r := marker.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	setHighWatermark(t, l, leader.HighWatermark(), 1)
	same(remembered(leader), leader.LastStable())
	l, _ = reopen(t, s).Log(l.id)
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	same(remembered(leader), leader.LastStable())
	if r := send(t, l, from(t, 7, 0, 2, "d"), anyEpoch).wait(t); r.Err != nil || !r.Duplicate || r.Base != mark {
		t.Fatalf("a batch that the last leader had taken was answered %+v", r)
	}
}

// TestTruncatedReplicaIsNotConfirmed: what is on its way to the disk as it is taken back
// must not count as held.
func TestTruncatedReplicaIsNotConfirmed(t *testing.T) {
	fs := hooked()
	l := following(t, open(t, small(fs)), partition(topicA, 0), 1)
	replicate(t, l, 1, stamped(values(t, "0"), 0, 1))
	let := fs.holdSyncs(t)
	kept, err := replicated(t, l, 1, stamped(values(t, "1"), 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := replicated(t, l, 1, stamped(values(t, "2"), 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeFollower(2); err != nil {
		t.Fatal(err)
	}
	if err := l.TruncateTo(2, 2); err != nil {
		t.Fatal(err)
	}
	other, err := replicated(t, l, 2, stamped(values(t, "other"), 2, 2))
	if err != nil {
		t.Fatal(err)
	}
	let()
	if a := kept.wait(t); a.err != nil || a.synced != 2 {
		t.Fatalf("%+v", a)
	}
	wantErr(t, gone.wait(t).err, ErrFenced)
	if a := other.wait(t); a.err != nil || a.synced != 3 {
		t.Fatalf("%+v", a)
	}
}

// TestFollowerDoesNotTakeItsTailForWhatTheBucketHas: only its leader knows whether it is
// the same, and until then the controller's word waits.
func TestFollowerDoesNotTakeItsTailForWhatTheBucketHas(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, partition(topicA, 0), 3)
	replicate(t, l, 3, stamped(values(t, "0"), 0, 3), stamped(values(t, "1"), 1, 3), stamped(values(t, "2"), 2, 3))
	setHighWatermark(t, l, 1, 3)
	if err := l.BecomeFollower(4); err != nil {
		t.Fatal(err)
	}
	setUploaded(t, l, 3)
	setLogStart(t, l, 2)
	if h := l.History(); h.Uploaded != 1 || h.HighWatermark != 1 || h.LogStart != 0 || h.End != 3 {
		t.Fatalf("%+v", h)
	}
	// The leader of epoch 4 has another batch at 1.
	if err := l.TruncateTo(1, 4); err != nil {
		t.Fatal(err)
	}
	replicate(t, l, 4, stamped(values(t, "one"), 1, 4), stamped(values(t, "two"), 2, 4))
	setHighWatermark(t, l, 2, 4)
	if h := l.History(); h.Uploaded != 2 || h.LogStart != 2 || h.LocalStart != 2 {
		t.Fatalf("%+v", h)
	}
	setHighWatermark(t, l, 3, 4)
	if h := l.History(); h.Uploaded != 3 {
		t.Fatalf("%+v", h)
	}
	if got := contents(t, l, 2, HighWatermark); !slices.Equal(got, []string{"two"}) {
		t.Fatalf("%q", got)
	}
	// Beyond its end it waits too: its tail is not thrown away.
	setUploaded(t, l, 9)
	if h := l.History(); h.End != 3 || h.Uploaded != 3 {
		t.Fatalf("%+v", h)
	}
}

// TestElectedFollowerTakesTheControllersWord: what it has is the leader's from then on,
// and what it has not is in the bucket.
func TestElectedFollowerTakesTheControllersWord(t *testing.T) {
	for _, uploaded := range []storage.Offset{2, 5} {
		s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
		l := following(t, s, partition(topicA, 0), 3)
		replicate(t, l, 3, stamped(from(t, 7, 0, 0, "0"), 0, 3), stamped(values(t, "1"), 1, 3), stamped(values(t, "2"), 2, 3))
		setUploaded(t, l, uploaded)
		l.SetReplicas(Replicas{InSync: []int32{2}})
		if err := l.BecomeLeader(4); err != nil {
			t.Fatal(err)
		}
		end := max(3, uploaded)
		if h := l.History(); h.Uploaded != uploaded || h.HighWatermark != uploaded || h.End != end || !h.Leads {
			t.Fatalf("%+v", h)
		}
		// What it had not is not known of producers either.
		if known := len(l.Producers()) == 1; known != (uploaded < 3) {
			t.Fatalf("it remembers %+v", l.Producers())
		}
	}
}

// TestElectedFollowerTakesTheLogStart that it was told, and was to wait with.
func TestElectedFollowerTakesTheLogStart(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, partition(topicA, 0), 3)
	replicate(t, l, 3, stamped(values(t, "0"), 0, 2), stamped(values(t, "1"), 1, 3), stamped(values(t, "2"), 2, 3))
	setLogStart(t, l, 2)
	if at := l.LogStart(); at != 0 {
		t.Fatalf("what may not be the leader's is gone before %d", at)
	}
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if err := l.BecomeLeader(4); err != nil {
		t.Fatal(err)
	}
	if h := l.History(); h.LogStart != 2 || h.HighWatermark != 2 || h.Epochs[0] != (EpochStart{3, 2}) {
		t.Fatalf("%+v", h)
	}
}

// TestWhatIsNotLedIsNotUploaded: but as soon as it is.
func TestWhatIsNotLedIsNotUploaded(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, partition(topicA, 0), 1)
	replicate(t, l, 1, stamped(values(t, "0"), 0, 1))
	setHighWatermark(t, l, 1, 1)
	if got := s.PendingUpload(nil); len(got) != 0 || l.Backlog() == 0 {
		t.Fatalf("%+v, of %d bytes", got, l.Backlog())
	}
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.PendingUpload(nil); len(got) != 1 || got[0].HighWatermark != 1 {
			t.Fatalf("%+v", got)
		}
	}
	if err := l.BecomeFollower(3); err != nil {
		t.Fatal(err)
	}
	if got := s.PendingUpload(nil); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}

// TestFollowerHoldsNoMoreThanItsShare of the WAL of what the bucket has not.
func TestFollowerHoldsNoMoreThanItsShare(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.MaxUnuploadedShare = 0.01
	s := open(t, o)
	l := following(t, s, partition(topicA, 0), 1)
	filler := string(make([]byte, 8<<10))
	for {
		_, err := replicated(t, l, 1, stamped(values(t, filler), l.End(), 1))
		if errors.Is(err, ErrUploadLag) {
			break
		}
		if err != nil || l.Backlog() > o.WAL.Capacity/50 {
			t.Fatalf("%v; %d bytes of %d", err, l.Backlog(), o.WAL.Capacity)
		}
	}
	flush(t, s)
	setHighWatermark(t, l, l.End(), 1)
	setUploaded(t, l, l.End()-1)
	replicate(t, l, 1, stamped(values(t, filler), l.End(), 1))
}

// TestProducersOfLeadersAreBounded: each leader keeps to its own bound, and twice as many
// are remembered of all.
func TestProducersOfLeadersAreBounded(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers = 2
	s := open(t, o)
	l := following(t, s, partition(topicA, 0), 1)
	for id := range int64(4) {
		replicate(t, l, 1, stamped(from(t, id, 0, 0, "x"), storage.Offset(id), 1))
	}
	_, err := replicated(t, l, 1, stamped(from(t, 9, 0, 0, "x"), 4, 1))
	wantErr(t, err, ErrTooManyProducers)
	replicate(t, l, 1, stamped(from(t, 3, 0, 1, "x"), 4, 1)) // who is known goes on
	// The marker of one that is not ends nothing.
	replicate(t, l, 1, stamped(batch.BuildMarker(0, 9, 0, batch.Marker{}), 5, 1))
	if got := s.Stats().Producers; got != 4 {
		t.Fatalf("%d producers", got)
	}
}

// TestReplicationHasAReserve: produce that has all it may have of the disk, and of the
// index, does not hold up what comes from leaders.
func TestReplicationHasAReserve(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	filler := values(t, string(make([]byte, 30<<10)))
	for {
		err := s.Admit(context.Background(), len(filler))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		a := make(answer, 1)
		l.Append(sentAt, bytes.Clone(filler), anyEpoch, a)
		if r := a.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	// Where the reserve ends it is refused, and held up no longer.
	if err := s.AdmitReplica(context.Background(), len(filler)); err != nil {
		t.Fatal(err)
	}
	s.UnadmitReplica(len(filler))
	wantErr(t, s.AdmitReplica(context.Background(), 1<<30), ErrFull)
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}
