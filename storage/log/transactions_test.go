package log

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// inTransaction builds a batch of a transaction.
func inTransaction(t testing.TB, id int64, epoch int16, sequence int32, texts ...string) batch.Batch {
	t.Helper()
	return build(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: id, Epoch: epoch, BaseSequence: sequence}}, texts...)
}

// transact appends a batch as after a verification that was confirmed.
func transact(t testing.TB, l *Log, b batch.Batch) {
	t.Helper()
	if r := sendVerified(t, l, b).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func sendVerified(t testing.TB, l *Log, b batch.Batch) answer {
	t.Helper()
	return send(t, l, b, AppendOptions{Epoch: storage.NoEpoch, Guard: verify(t, l, b)})
}

func verify(t testing.TB, l *Log, b batch.Batch) Guard {
	t.Helper()
	g, _, err := l.BeginVerification(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sendMarker(l *Log, m Marker) answer {
	a := make(answer, 1)
	l.AppendMarker(context.Background(), time.Now(), m, MarkerOptions{Epoch: storage.NoEpoch}, a)
	return a
}

func appendMarker(t testing.TB, l *Log, m Marker) {
	t.Helper()
	if r := sendMarker(l, m).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func wantStable(t testing.TB, l *Log, want storage.Offset) {
	t.Helper()
	if got := l.LastStable(); got != want {
		t.Fatalf("the last stable offset is %d, want %d", got, want)
	}
}

// TestReadCommittedStopsAtTheFirstOpenTransaction, and is told which of the
// transactions before were aborted.
func TestReadCommittedStopsAtTheFirstOpenTransaction(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0"))
	transact(t, l, inTransaction(t, 7, 0, 0, "1", "2")) // until 5
	transact(t, l, inTransaction(t, 8, 0, 0, "3"))      // until 7
	appendAll(t, l, values(t, "4"))
	wantStable(t, l, 1)
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true}) // 5
	wantStable(t, l, 3)
	transact(t, l, inTransaction(t, 7, 0, 2, "6")) // open
	appendMarker(t, l, Marker{ProducerID: 8})      // 7
	wantStable(t, l, 6)
	if hw := l.HighWatermark(); hw != 8 {
		t.Fatalf("the high watermark is %d", hw)
	}
	for _, from := range []string{"memory", "file"} {
		if from == "file" {
			evict(t, s)
		}
		r, err := l.Read(ReadRequest{MaxBytes: 1 << 20, Isolation: LastStable})
		if err != nil {
			t.Fatal(err)
		}
		last := batch.Batch(r.Batches[len(r.Batches)-1])
		if want := []Aborted{{8, 3, 7}}; last.LastOffset() != 5 || r.LastStable != 6 || !slices.Equal(r.Aborted, want) {
			t.Fatalf("from %s: read to %d, stable to %d, aborted %v, want %v", from, last.LastOffset(), r.LastStable, r.Aborted, want)
		}
		r.Release()
		// Beyond it there is nothing, and that is no error.
		if r, err = l.Read(ReadRequest{Offset: 7, MaxBytes: 1 << 20, MinOne: true, Isolation: LastStable}); err != nil || len(r.Batches) > 0 {
			t.Fatalf("from %s: beyond the last stable offset: %d batches, %v", from, len(r.Batches), err)
		}
	}
	// Who asks for what is committed without regard to transactions gets all, and
	// need not know.
	r, err := l.Read(ReadRequest{MaxBytes: 1 << 20})
	if err != nil || len(r.Batches) != 7 || r.Aborted != nil {
		t.Fatalf("%d batches, aborted %v, %v", len(r.Batches), r.Aborted, err)
	}
	r.Release()
}

// TestUncommittedMarkerHoldsTheLastStableOffset: a transaction is decided once its
// marker is committed.
func TestUncommittedMarkerHoldsTheLastStableOffset(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	let := fs.holdSyncs(t)
	marker := Marker{ProducerID: 7, ProducerEpoch: 1, Commit: true, TransactionVersion: 2}
	first, again := sendMarker(l, marker), sendMarker(l, marker)
	next := sendVerified(t, l, inTransaction(t, 7, 1, 0, "2"))
	wantStable(t, l, 0)
	if !first.pending() || !again.pending() || l.End() != 3 {
		t.Fatalf("answered before the sync: %v, %v; the log ends at %d", !first.pending(), !again.pending(), l.End())
	}
	let()
	if a, b := first.wait(t), again.wait(t); a.Err != nil || b.Err != nil || a.Base != 1 || b.Base != 1 {
		t.Fatalf("answered %+v and %+v", a, b)
	}
	if r := next.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	wantStable(t, l, 2)
}

// TestMarkersAreFenced: of a producer with a newer epoch, and by a newer
// coordinator.
func TestMarkersAreFenced(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 3, 0, "0"))
	wantErr(t, sendMarker(l, Marker{ProducerID: 7, ProducerEpoch: 2, Commit: true}).wait(t).Err, ErrInvalidProducerEpoch)
	appendMarker(t, l, Marker{ProducerID: 7, ProducerEpoch: 3, CoordinatorEpoch: 5})
	transact(t, l, inTransaction(t, 7, 3, 1, "2"))
	wantErr(t, sendMarker(l, Marker{ProducerID: 7, ProducerEpoch: 3, CoordinatorEpoch: 4, Commit: true}).wait(t).Err, ErrCoordinatorFenced)
	wantStable(t, l, 2)
	if p := l.Producers()[0]; p.CurrentTransactionStart != 2 || p.CoordinatorEpoch != 5 || p.Epoch != 3 || p.LastSequence != 1 {
		t.Fatalf("%+v", p)
	}
	wantErr(t, send(t, l, inTransaction(t, 7, 2, 2, "zombie"), anyEpoch).wait(t).Err, ErrInvalidProducerEpoch)
	for _, m := range []Marker{{ProducerID: -1}, {ProducerEpoch: -1}, {CoordinatorEpoch: -1}} {
		wantCode(t, sendMarker(l, m).wait(t).Err, batch.InvalidRecord)
	}
	a := make(answer, 1)
	l.AppendMarker(context.Background(), time.Now(), Marker{ProducerID: 7, ProducerEpoch: 4}, MarkerOptions{Epoch: 9}, a)
	wantErr(t, a.wait(t).Err, ErrNotLeader)
}

// TestLateMarkerDoesNotTouchTheNextTransaction: the marker of a transaction is
// repeated when the next one is open, or about to be (KIP-890).
func TestLateMarkerDoesNotTouchTheNextTransaction(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	marker := Marker{ProducerID: 7, ProducerEpoch: 1, CoordinatorEpoch: 2, TransactionVersion: 2}
	appendMarker(t, l, marker)
	next := inTransaction(t, 7, 1, 0, "2")
	guard := verify(t, l, next)
	appendMarker(t, l, marker) // says nothing new
	if r := send(t, l, next, AppendOptions{Epoch: storage.NoEpoch, Guard: guard}).wait(t); r.Err != nil || r.Base != 2 {
		t.Fatalf("the next transaction's first batch was answered %+v", r)
	}
	marker.Commit = true
	wantErr(t, sendMarker(l, marker).wait(t).Err, ErrInvalidProducerEpoch)
	wantStable(t, l, 2)
	marker.ProducerEpoch = 2
	appendMarker(t, l, marker)
	wantStable(t, l, 4)
	if aborted, _ := l.Aborted(0, 4); !slices.Equal(aborted, []Aborted{{7, 0, 1}}) {
		t.Fatalf("aborted are %v", aborted)
	}
}

// TestUnverifiedBatchIsRefused: only the coordinator's word, given after it was
// asked for, and not outdated since, lets a transaction begin.
func TestUnverifiedBatchIsRefused(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	first := func() batch.Batch { return inTransaction(t, 7, 0, 0, "0") }
	with := func(g Guard, b batch.Batch) error {
		t.Helper()
		return send(t, l, b, AppendOptions{Epoch: storage.NoEpoch, Guard: g}).wait(t).Err
	}
	wantErr(t, with(Guard{}, first()), ErrUnverified)
	guard := verify(t, l, first())
	wantErr(t, with(Guard{}, first()), ErrUnverified)
	wantErr(t, with(Guard{guard.id + 1}, first()), ErrUnverified)
	wantErr(t, with(guard, inTransaction(t, 7, 1, 0, "of another epoch")), ErrUnverified)
	if again := verify(t, l, first()); again != guard {
		t.Fatal("who waits for the same answer got another guard")
	}
	// The coordinator said yes, and then aborted: its answer comes last.
	appendMarker(t, l, Marker{ProducerID: 7})
	wantErr(t, with(guard, first()), ErrUnverified)
	// So too where the marker says nothing that was not known.
	guard = verify(t, l, first())
	appendMarker(t, l, Marker{ProducerID: 7})
	if l.End() != 1 {
		t.Fatalf("the log ends at %d", l.End())
	}
	wantErr(t, with(guard, first()), ErrUnverified)
	// Another leader in between: what it appended is not known here.
	guard = verify(t, l, first())
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	wantErr(t, with(guard, first()), ErrUnverified)

	if err := with(verify(t, l, first()), first()); err != nil {
		t.Fatal(err)
	}
	if _, open, err := l.BeginVerification(7, 0, 1); !open || err != nil {
		t.Fatalf("after the first batch: open %v, %v", open, err)
	}
	if err := with(Guard{}, inTransaction(t, 7, 0, 1, "1")); err != nil {
		t.Fatal(err)
	}
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true})
	wantErr(t, with(Guard{}, inTransaction(t, 7, 0, 2, "2")), ErrUnverified)
}

// TestRefusedEpochDoesNotBlockTheProducersOwn: somebody has asked for an epoch that
// the coordinator has not given out.
func TestRefusedEpochDoesNotBlockTheProducersOwn(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	own, other := inTransaction(t, 7, 1, 0, "own"), inTransaction(t, 7, 5, 3, "other")
	verify(t, l, other)
	wantErr(t, sendVerified(t, l, own).wait(t).Err, ErrUnverified)
	l.RefuseVerification(7, 4) // of another question
	wantErr(t, sendVerified(t, l, own).wait(t).Err, ErrUnverified)
	l.RefuseVerification(7, 5)
	transact(t, l, own)
}

// TestSecondBatchDoesNotGoBeforeTheFirst: the first batch's verification failed,
// the second's did not, and nothing is known of the producer that would tell.
func TestSecondBatchDoesNotGoBeforeTheFirst(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	first, second := inTransaction(t, 7, 0, 0, "0"), inTransaction(t, 7, 0, 1, "1")
	verify(t, l, first)
	wantErr(t, sendVerified(t, l, second).wait(t).Err, ErrOutOfOrderSequence)
	transact(t, l, first)
	transact(t, l, second)
	// A newer epoch begins anew.
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true})
	verify(t, l, inTransaction(t, 7, 0, 2, "of the old epoch"))
	transact(t, l, inTransaction(t, 7, 1, 0, "2"))
}

// TestLateCopyOfABatchDoesNotPutTheNextOutOfOrder: one of the transaction before comes
// once more, over a connection that is broken, and nobody verifies it. What comes next
// is known without that.
func TestLateCopyOfABatchDoesNotPutTheNextOutOfOrder(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	sent := inTransaction(t, 7, 0, 0, "0")
	transact(t, l, sent)
	transact(t, l, inTransaction(t, 7, 0, 1, "1"))
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true})
	verify(t, l, sent)
	wantErr(t, sendVerified(t, l, inTransaction(t, 7, 0, 3, "x")).wait(t).Err, ErrOutOfOrderSequence)
	transact(t, l, inTransaction(t, 7, 0, 2, "3"))
}

// TestBatchOutsideOfAnOpenTransactionIsRefused for its producer, not for others.
func TestBatchOutsideOfAnOpenTransactionIsRefused(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	wantErr(t, send(t, l, from(t, 7, 0, 1, "1"), anyEpoch).wait(t).Err, ErrNotTransactional)
	appendAll(t, l, from(t, 8, 0, 0, "1"))
	appendMarker(t, l, Marker{ProducerID: 7})
	appendAll(t, l, from(t, 7, 0, 1, "3"))
}

// TestProducerIsNotOutOfOrderAfterAMarkerAlone: what it had sent before was
// forgotten, and a transaction without a batch here does not make it known.
func TestProducerIsNotOutOfOrderAfterAMarkerAlone(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendMarker(t, l, Marker{ProducerID: 7, ProducerEpoch: 3})
	transact(t, l, inTransaction(t, 7, 3, 57, "1"))
	wantErr(t, send(t, l, inTransaction(t, 7, 3, 59, "x"), anyEpoch).wait(t).Err, ErrOutOfOrderSequence)
	// A marker with an epoch of its own: the producer begins at 0 again.
	appendMarker(t, l, Marker{ProducerID: 7, ProducerEpoch: 4, TransactionVersion: 2})
	if p := l.Producers()[0]; p.Epoch != 4 || p.LastSequence != -1 || p.LastTimestamp < 1_700_000_000_000 {
		t.Fatalf("%+v", p)
	}
	wantErr(t, sendVerified(t, l, inTransaction(t, 7, 4, 58, "x")).wait(t).Err, ErrOutOfOrderSequence)
	transact(t, l, inTransaction(t, 7, 4, 0, "3"))
}

// TestOpenTransactionIsNotForgotten: its producer is kept, however long it is
// silent, and with it the last stable offset; a verification is not.
func TestOpenTransactionIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.ProducerExpiry, o.MaxProducers = time.Hour, 2
		o.Now = func() time.Time { return time.Now().AddDate(24, 0, 0) } // later than what the batches say
		s := open(t, o)
		l := lead(t, s, partition(topicA, 0), 1)
		transact(t, l, inTransaction(t, 7, 0, 0, "0"))
		verify(t, l, inTransaction(t, 8, 0, 0, "1"))
		if _, _, err := l.BeginVerification(9, 0, 0); !errors.Is(err, ErrTooManyProducers) || s.Stats().Producers != 2 {
			t.Fatalf("with %d producers: %v", s.Stats().Producers, err)
		}
		time.Sleep(49*time.Hour + time.Second) // not when producers are being forgotten
		if got := s.Stats().Producers; got != 1 || len(l.verifying) != 0 {
			t.Fatalf("%d producers are left, %d verifications", got, len(l.verifying))
		}
		wantStable(t, l, 0)
		appendMarker(t, l, Marker{ProducerID: 7})
		// Beyond the most producers there may be, too: it must not fail for that, nor
		// take more memory.
		verify(t, l, inTransaction(t, 8, 0, 0, "1"))
		for id := range int64(10) {
			appendMarker(t, l, Marker{ProducerID: 9 + id})
		}
		wantStable(t, l, 12)
		if got := s.Stats().Producers; got != 2 || len(l.Producers()) != 1 {
			t.Fatalf("%d producers are counted, %d remembered", got, len(l.Producers()))
		}
		appendMarker(t, l, Marker{ProducerID: 7, ProducerEpoch: 1})
		if len(l.Producers()) != 1 || l.Producers()[0].Epoch != 1 {
			t.Fatalf("%+v", l.Producers())
		}
		time.Sleep(49 * time.Hour)
		if got := s.Stats().Producers; got != 0 || len(l.Producers()) != 0 {
			t.Fatalf("%d producers are left", got)
		}
		s = reopen(t, s) // all that they sent is in the WAL still
		time.Sleep(o.ProducerExpiry / 15)
		if l, _ = s.Log(l.id); len(l.Producers()) != 0 {
			t.Fatalf("after a restart: %+v", l.Producers())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestKnownProducerBeginsThoughThereAreNoMore: as many producers are remembered as may
// be. New ones are refused, those that are remembered go on.
func TestKnownProducerBeginsThoughThereAreNoMore(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers = 3
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	for id := range int64(2) {
		transact(t, l, inTransaction(t, id, 0, 0, "a"))
		appendMarker(t, l, Marker{ProducerID: id, Commit: true})
	}
	appendAll(t, l, from(t, 2, 0, 0, "a"))
	if _, _, err := l.BeginVerification(3, 0, 0); !errors.Is(err, ErrTooManyProducers) {
		t.Fatalf("a new one: %v", err)
	}
	for id := range int64(2) {
		transact(t, l, inTransaction(t, id, 0, 1, "b"))
		appendMarker(t, l, Marker{ProducerID: id, Commit: true})
		verify(t, l, inTransaction(t, id, 0, 2, "of which nothing comes"))
		appendMarker(t, l, Marker{ProducerID: id, CoordinatorEpoch: 1})
	}
	if got := s.Stats().Producers; got != 3 {
		t.Fatalf("%d producers are counted", got)
	}
}

// TestOffsetsAreOfOneMoment: a reader that compares them must find them in order,
// whatever is committed meanwhile.
func TestOffsetsAreOfOneMoment(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int32(300) {
			transact(t, l, inTransaction(t, 7, 0, i, "a"))
			appendMarker(t, l, Marker{ProducerID: 7, CoordinatorEpoch: i, Commit: true})
		}
	}()
	for {
		if o := l.Offsets(); o.LogStart > o.LastStable || o.LastStable > o.HighWatermark {
			t.Fatalf("%+v", o)
		}
		select {
		case <-done:
			if o := l.Offsets(); o != (Offsets{0, 600, 600}) {
				t.Fatalf("at the end: %+v", o)
			}
			return
		default:
		}
	}
}

// TestVerificationKeepsThePlaceOfItsProducer: who began while there was room for one
// more is not refused for having taken it.
func TestVerificationKeepsThePlaceOfItsProducer(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers = 2
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	wantCounted := func(want int64) {
		t.Helper()
		if got := s.Stats().Producers; got != want {
			t.Fatalf("%d producers are counted, want %d", got, want)
		}
	}
	verify(t, l, inTransaction(t, 8, 0, 0, "of which nothing comes yet"))
	transact(t, l, inTransaction(t, 7, 0, 0, "a"))
	wantCounted(2)
	// Of 8 a marker comes, which is of the transaction before: it stays one producer.
	appendMarker(t, l, Marker{ProducerID: 8, Commit: true, TransactionVersion: 2})
	wantCounted(2)
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true})
	s.expire(time.Now().Add(time.Hour).UnixMilli())
	l.mu.Lock()
	l.endVerifications(math.MaxInt64)
	l.mu.Unlock()
	wantCounted(0)
}

// TestTransactionsSurviveRestart wherever their first batch and their marker lie:
// in what was trimmed, in what was copied forward, behind the last state.
func TestTransactionsSurviveRestart(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 1, 0, 0, "0")) // aborted at 5
	transact(t, l, inTransaction(t, 2, 0, 0, "1")) // open
	transact(t, l, inTransaction(t, 3, 0, 0, "2")) // committed at 4
	transact(t, l, inTransaction(t, 4, 0, 0, "3")) // aborted at 6
	appendMarker(t, l, Marker{ProducerID: 3, ProducerEpoch: 1, CoordinatorEpoch: 9, Commit: true, TransactionVersion: 2})
	appendMarker(t, l, Marker{ProducerID: 1})
	appendMarker(t, l, Marker{ProducerID: 4})
	giveUpTo(t, l, 4) // their first batches; a state is written
	appendAll(t, l, values(t, "7"))
	transact(t, l, inTransaction(t, 1, 0, 1, "8")) // aborted at 9, behind the state
	appendMarker(t, l, Marker{ProducerID: 1, CoordinatorEpoch: 1})
	check := func(when string, l *Log, local storage.Offset) {
		t.Helper()
		if err := l.Err(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		want := slices.DeleteFunc([]Aborted{{1, 0, 5}, {4, 3, 6}, {1, 8, 9}}, func(a Aborted) bool { return a.Last < local })
		if got, at := l.Aborted(0, 100); !slices.Equal(got, want) || at != local {
			t.Fatalf("%s: aborted from %d on are %v, want %v from %d on", when, at, got, want, local)
		}
		if got, err := l.Outcome(4, 5); local == 4 && (err != nil || got.LastStable != 0 || len(got.Aborted) != 0) {
			t.Fatalf("%s: of [4, 5): %+v, %v", when, got, err)
		}
		wantStable(t, l, 1)
		var states []ProducerState
		for _, p := range l.Producers() {
			p.LastTimestamp = 0
			states = append(states, p)
		}
		if want := []ProducerState{{1, 0, 1, 0, 1, -1}, {2, 0, 0, 0, -1, 1}, {3, 1, -1, 0, 9, -1}, {4, 0, 0, 0, 0, -1}}; !slices.Equal(states, want) {
			t.Fatalf("%s: the producers are %+v, want %+v", when, states, want)
		}
		if got, want := l.store.indexBytes.Load(), l.index.bytes+l.transactions.bytes(); got != want {
			t.Fatalf("%s: %d bytes are accounted for, there are %d", when, got, want)
		}
	}
	check("before", l, 4)
	again := func(when string, local storage.Offset) {
		t.Helper()
		s = reopen(t, s)
		l, _ = s.Log(l.id)
		if err := errors.Join(l.SetLogStart(0), l.BecomeLeader(l.epochs.latest()+1)); err != nil {
			t.Fatal(err)
		}
		check(when, l, local)
	}
	again("after a restart", 4)
	l.mu.Lock()
	oldest := l.stateRefs[0].Segment
	for _, ref := range l.everything(nil) {
		oldest = min(oldest, ref.Segment)
	}
	l.mu.Unlock()
	if err := (owner{s}).Relocate(context.Background(), oldest); err != nil {
		t.Fatal(err)
	}
	again("after what is live was copied forward", 4)
	setUploaded(t, l, 6)
	if n := len(l.transactions.committed); n != 0 {
		t.Fatalf("%d committed transactions are remembered, the bucket has their markers", n)
	}
	giveUpTo(t, l, 6)
	again("after more was given up", 6)
	if err := s.Drop(topicA); err != nil {
		t.Fatal(err)
	}
	if got := s.indexBytes.Load(); got != 0 {
		t.Fatalf("%d bytes are accounted for without a log", got)
	}
}

// TestAbortIsRememberedWithoutItsProducer: the producer is forgotten before the
// first batch of the transaction is given up, and so nothing but the list says
// where it began.
func TestAbortIsRememberedWithoutItsProducer(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	appendAll(t, l, values(t, "1"))
	appendMarker(t, l, Marker{ProducerID: 7})
	s.expire(math.MaxInt64)
	if len(l.producers) != 0 {
		t.Fatal("the producer is remembered: the test shows nothing")
	}
	giveUpTo(t, l, 1)
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if got, _ := l.Aborted(1, 2); !slices.Equal(got, []Aborted{{7, 0, 2}}) {
		t.Fatalf("aborted are %v", got)
	}
}

// TestDeletedRecordsHoldNothingUp: the log start may pass the first batch of an
// open transaction.
func TestDeletedRecordsHoldNothingUp(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	appendAll(t, l, values(t, "1", "2"))
	setLogStart(t, l, 2)
	wantStable(t, l, 2)
}

// TestOutcomeIsThatOfTheRange: what is uploaded says what was stable at its end,
// whatever came after.
func TestOutcomeIsThatOfTheRange(t *testing.T) {
	l := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	appendAll(t, l, values(t, "1"))
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true}) // 2
	transact(t, l, inTransaction(t, 7, 0, 1, "3"))
	appendMarker(t, l, Marker{ProducerID: 7}) // 4
	transact(t, l, inTransaction(t, 7, 0, 2, "5"))
	for _, c := range []struct {
		from, end, stable storage.Offset
		aborted           []Aborted
	}{
		{0, 1, 0, nil},
		{0, 2, 0, nil},
		{0, 3, 3, nil},
		{0, 4, 3, nil},
		{0, 5, 5, []Aborted{{7, 3, 4}}},
		{4, 5, 5, []Aborted{{7, 3, 4}}},
		{0, 6, 5, []Aborted{{7, 3, 4}}},
		{5, 6, 5, nil},
	} {
		if got, err := l.Outcome(c.from, c.end); err != nil || got.LastStable != c.stable || !slices.Equal(got.Aborted, c.aborted) {
			t.Errorf("[%d, %d): %+v, %v, want stable to %d, aborted %v", c.from, c.end, got, err, c.stable, c.aborted)
		}
	}
	if _, err := l.Outcome(0, 7); err == nil {
		t.Error("something was said of what is not committed")
	}
	setUploaded(t, l, 4)
	if got, err := l.Outcome(4, 6); err != nil || got.LastStable != 5 || len(got.Aborted) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := l.Outcome(0, 5); err == nil {
		t.Error("something was said of what is uploaded, of which not all is known")
	}
}

// TestWatchStableWaitsForTheTransaction to be decided, and not for the records
// that come meanwhile.
func TestWatchStableWaitsForTheTransaction(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "0"))
	stable, committed := newSignal(), newSignal()
	l.WatchStable(0, stable)
	l.Watch(1, committed)
	appendAll(t, l, values(t, "1"))
	<-committed.woken
	if len(stable.woken) != 0 {
		t.Fatal("woken by a record that cannot be read")
	}
	appendMarker(t, l, Marker{ProducerID: 7})
	<-stable.woken
	l.WatchStable(2, stable)
	if len(stable.woken) != 1 {
		t.Fatal("not woken at once, though it is stable")
	}
}

// TestCoordinatorWritesWithoutSequence: what the group coordinator writes in a
// producer's transaction has no sequence numbers. Each batch is appended, whatever
// came before, and fenced by epoch and marker as any other; of a producer it is
// refused.
func TestCoordinatorWritesWithoutSequence(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	own := func(epoch int16, o AppendOptions) error {
		b := inTransaction(t, 7, epoch, -1, "offset")
		o.Epoch = storage.NoEpoch
		if o.Guard == (Guard{}) && o.Internal {
			o.Guard = verify(t, l, b)
		}
		return send(t, l, b, o).wait(t).Err
	}
	if err := own(0, AppendOptions{Guard: verify(t, l, inTransaction(t, 7, 0, -1, "offset"))}); err == nil {
		t.Error("a producer sends a batch without a sequence number")
	}
	appendMarker(t, l, Marker{ProducerID: 7, Commit: true})
	for range 3 {
		if err := own(0, AppendOptions{Internal: true}); err != nil {
			t.Fatal(err)
		}
	}
	if end := l.HighWatermark(); end != 4 {
		t.Fatalf("the log ends at %d", end)
	}
	wantStable(t, l, 1)
	if err := own(1, AppendOptions{Internal: true, Guard: Guard{99}}); !errors.Is(err, ErrUnverified) {
		t.Errorf("an epoch that nobody has verified: %v", err)
	}
	appendMarker(t, l, Marker{ProducerID: 7, ProducerEpoch: 1, Commit: true, TransactionVersion: 2})
	wantStable(t, l, 5)
	if err := own(0, AppendOptions{Internal: true}); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Errorf("an epoch that is over: %v", err)
	}
	if err := own(1, AppendOptions{Internal: true}); err != nil {
		t.Fatal(err)
	}
	wantStable(t, l, 5)
}

// A marker that was admitted is appended without more room, also when others have taken
// all that there is, and gives back what it held, whatever becomes of it.
func TestAdmittedMarkerNeedsNoMoreRoom(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	budget := int(o.WAL.Memory / 2)
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "a"))
	// Segments stand ready for more than the budget: that alone is the bound from now on.
	if err := s.AdmitCoordinator(t.Context(), 2*budget); err != nil {
		t.Fatal(err)
	}
	s.Unadmit(2 * budget)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	admit := func(n int) bool { return s.AdmitCoordinator(over, n) == nil }
	if !admit(batch.MarkerSize) {
		t.Fatal("no room in an empty log")
	}
	fill := func() (taken int) {
		for n := 64 << 10; n > 0; n /= 2 {
			for admit(n) {
				taken += n + frameOverhead
			}
		}
		return taken
	}
	others := fill()
	if admit(batch.MarkerSize) {
		t.Fatal("there is room left")
	}
	mark := func(m Marker) AppendResult {
		a := make(answer, 1)
		l.AppendMarker(over, time.Now(), m, MarkerOptions{Epoch: storage.NoEpoch, Admitted: true}, a)
		return a.wait(t)
	}
	if r := mark(Marker{ProducerID: 7, Commit: true}); r.Err != nil {
		t.Error(r.Err)
	}
	s.Unadmit(others - frameOverhead)
	for range 5000 {
		if !admit(batch.MarkerSize) {
			t.Fatal("refused markers hold what they were admitted")
		}
		if r := mark(Marker{ProducerID: -1}); r.Err == nil {
			t.Fatal("a marker of no producer is taken")
		}
	}
	again := fill()
	if again > budget {
		t.Errorf("refused markers gave back %d bytes more than they held", again-budget)
	}
	s.Unadmit(again - frameOverhead)
}
