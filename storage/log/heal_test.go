package log

import (
	"bytes"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

const rotten = "the one that rots"

// ailing is a log that nobody else has: the bucket has what lies below 5, as the state says;
// the batch at 2 rots when spoil is called with what it holds.
type ailing struct {
	log   *Log
	holds []string                       // from 5 on
	state func(at storage.Offset) []byte // what the bucket knows as of there
}

func newAiling(t *testing.T) *ailing {
	t.Helper()
	return newAilingOf(t, tiered(disk.NewMem(disk.MemOptions{})), 0)
}

// newAilingOf is newAiling with so many batches of one producer more behind 9.
func newAilingOf(t *testing.T, o Options, more int) *ailing {
	t.Helper()
	o.Heal = true
	rng := newRand(t)
	l := lead(t, open(t, o), partition(randomTopic(rng), 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "0"))
	transact(t, l, inTransaction(t, 8, 0, 0, "1")) // stays open
	appendAll(t, l, from(t, 7, 0, 1, rotten), values(t, "3"), from(t, 6, 0, 0, "4"))
	flush(t, l.store)
	setUploaded(t, l, 5)
	appendAll(t, l, from(t, 7, 0, 2, "5"))
	transact(t, l, inTransaction(t, 9, 0, 0, "6"))
	appendMarker(t, l, Marker{ProducerID: 9}) // 7: an abort
	appendAll(t, l, values(t, "the last but one"))
	for i := 0; i < more; i += 500 {
		var batches []batch.Batch
		for j := range 500 {
			batches = append(batches, from(t, 6, 0, int32(1+i+j), "more"))
		}
		appendAll(t, l, batches...)
	}
	flush(t, l.store)
	appendAll(t, l, values(t, "its end"))
	flush(t, l.store)
	other := lead(t, l.store, partition(randomTopic(rng), 0), 1)
	appendAll(t, other, values(t, "another's")) // of the last group nobody can tell that it was there
	flush(t, l.store)
	a := &ailing{log: l, holds: contents(t, l, 5, LogEnd)}
	all, err := l.Read(ReadRequest{MaxBytes: 1 << 20, Isolation: LogEnd})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Release()
	var batches []batch.Batch
	for _, raw := range all.Batches {
		batches = append(batches, bytes.Clone(raw))
	}
	a.state = func(at storage.Offset) []byte {
		var r Rebuild
		r.Epoch(EpochStart{Epoch: 1})
		for _, b := range batches {
			if b.BaseOffset() < at {
				r.Batch(b, sentAt.UnixMilli())
			}
		}
		return r.Encode(0, at)
	}
	return a
}

// rot has a record rot, and kills the store: what is left of the log.
func (a *ailing) rot(t *testing.T, what string) *Log {
	t.Helper()
	spoil(t, a.log.store.o.FS, what)
	l, _ := kill(t, a.log.store).Log(a.log.id)
	wantCorrupt(t, l.Err())
	return l
}

func leadOn(t *testing.T, l *Log, epoch storage.Epoch) {
	t.Helper()
	setLogStart(t, l, 0) // the image's word
	l.SetReplicas(Replicas{})
	if err := l.BecomeLeader(epoch); err != nil {
		t.Fatal(err)
	}
}

// TestALogAloneGoesOnFromTheBucket: a batch that the bucket has cannot be read back, and
// nobody else has the log. It goes on from the committed end with all that it has behind, and
// with what is to be known of what lies before; so does the next start, also of who was killed
// before the loss was settled.
func TestALogAloneGoesOnFromTheBucket(t *testing.T) {
	a := newAiling(t)
	want, stable := remembered(a.log), a.log.LastStable()
	aborted, _ := a.log.Aborted(5, 10)
	l := a.rot(t, rotten)
	if below, known := l.Missing(); !known || below != 3 {
		t.Fatalf("it may lack what lies below %d, known %v", below, known)
	}
	if err := l.Heal(5, a.state(5)); err != nil {
		t.Fatal(err)
	}
	for i, when := range []string{"as it is", "started again", "settled, and started again", "and again"} {
		if err := l.Err(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		leadOn(t, l, storage.Epoch(2+i))
		if h := l.History(); h.LocalStart != 5 || h.End != 10 || h.HighWatermark != 10 {
			t.Fatalf("%s: %+v", when, h)
		}
		wantNotLocal(t, readAt(l, 4), 4, 5)
		if got := contents(t, l, 5, LogEnd); !slices.Equal(got, a.holds) {
			t.Fatalf("%s: it holds %q", when, got)
		}
		if got := remembered(l); !slices.Equal(got, want) || l.LastStable() != stable {
			t.Fatalf("%s: it remembers %+v, want %+v; stable to %d, want %d", when, got, want, l.LastStable(), stable)
		}
		if got, _ := l.Aborted(5, 10); !slices.Equal(got, aborted) {
			t.Fatalf("%s: aborted %+v", when, got)
		}
		if r := send(t, l, from(t, 7, 0, 2, "5"), anyEpoch).wait(t); r.Err != nil || !r.Duplicate || r.Base != 5 {
			t.Fatalf("%s: what is sent again is answered %+v", when, r)
		}
		if got := l.Unuploaded(); got <= 0 {
			t.Fatalf("%s: nothing of it waits for the bucket", when)
		}
		if i == 1 {
			if err := l.store.SettleLosses(); err != nil {
				t.Fatal(err)
			}
		}
		l, _ = kill(t, l.store).Log(l.id)
	}
}

func readAt(l *Log, offset storage.Offset) error {
	r, err := l.Read(ReadRequest{Offset: offset, MaxBytes: 1 << 20, Isolation: LogEnd})
	r.Release()
	return err
}

// TestALongTailIsHealed: what is written of it is as of the committed end, however many batches
// of producers lie behind that, in a WAL that has no room to write of each.
func TestALongTailIsHealed(t *testing.T) {
	a := newAilingOf(t, tiered(disk.NewMem(disk.MemOptions{})), 6000)
	files, err := a.log.store.o.FS.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	a.log.store.o.WAL.Capacity = int64(len(files)+7) * 128 << 10 // of the start to come
	want := remembered(a.log)
	l := a.rot(t, rotten)
	if err := l.Heal(5, a.state(5)); err != nil {
		t.Fatal(err)
	}
	leadOn(t, l, 2)
	if got := contents(t, l, 5, LogEnd); !slices.Equal(got, a.holds) {
		t.Errorf("it holds %d records, it had %d", len(got), len(a.holds))
	}
	if got := remembered(l); !slices.Equal(got, want) {
		t.Errorf("it remembers %v, want %v", got, want)
	}
}

// TestWhatTheBucketHasNotIsNotHealed: a log that lacks something behind the committed end is
// refused as before.
func TestWhatTheBucketHasNotIsNotHealed(t *testing.T) {
	a := newAiling(t)
	l := a.rot(t, rotten)
	wantCorrupt(t, l.Heal(2, a.state(2))) // the batch that rotted begins there
	wantReplicaError(t, l.Heal(5, a.state(4)))
	l.SetConfig(Config{KeepLocal: true})
	wantCorrupt(t, l.Heal(5, a.state(5)))
	l.SetConfig(Config{})
	l.mu.Lock()
	for p := (place{}); l.index.valid(p); p = l.index.following(p) {
		if b, e := l.index.at(p); b.baseOf(p.entry) == 6 {
			l.forget(wanted{6, e.ref})
			break
		}
	}
	l.mu.Unlock()
	wantCorrupt(t, l.Heal(5, a.state(5)))
	wantCorrupt(t, l.Err())

	for _, what := range []string{"the last but one", "its end"} {
		a = newAiling(t)
		l = a.rot(t, what)
		if below, known := l.Missing(); known && below <= 5 {
			t.Fatalf("it may lack what lies below %d", below)
		}
		wantCorrupt(t, l.Heal(5, a.state(5)))
	}
}

// TestWhatALogLosesWhileItIsRefused: what a log that is refused cannot read back as it is
// copied forward is not there any more, and nothing behind it need be: it is missing too,
// also at the next start.
func TestWhatALogLosesWhileItIsRefused(t *testing.T) {
	a := newAiling(t)
	l := a.rot(t, rotten)
	var last wanted
	for p := (place{}); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		last = wanted{b.baseOf(p.entry), e.ref}
	}
	if err := l.lose(last, &wal.CorruptionError{}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"as it is", "started again"} {
		if below, known := l.Missing(); !known || below != 10 {
			t.Fatalf("%s: it may lack what lies below %d, known %v", when, below, known)
		}
		wantCorrupt(t, l.Heal(5, a.state(5)))
		wantCorrupt(t, l.Err())
		l, _ = kill(t, l.store).Log(l.id)
	}
}

// TestHealingIsWholeOrNot: whatever a power cut leaves of it, the log is refused, or whole.
func TestHealingIsWholeOrNot(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		a := newAiling(t)
		l := a.rot(t, rotten)
		if err := l.Heal(5, a.state(5)); err != nil {
			t.Fatal(err)
		}
		o := l.store.o
		o.FS = o.FS.(*disk.Mem).Crash(rng)
		l, _ = open(t, o).Log(l.id)
		if l.Err() != nil {
			wantCorrupt(t, l.Err())
			if err := l.Heal(5, a.state(5)); err != nil {
				t.Fatal(err)
			}
		}
		leadOn(t, l, 2)
		if got := contents(t, l, 5, LogEnd); !slices.Equal(got, a.holds) {
			t.Fatalf("it holds %q", got)
		}
	}
}

// TestWhatMayBeMissing is bounded by what was appended behind a loss, and by what the frame
// was; what was found by an earlier start is not forgotten for what this one finds.
func TestWhatMayBeMissing(t *testing.T) {
	id := partition(topicA, 0)
	data := func(rec *recovery, at storage.Offset) {
		b := values(t, "x")
		batch.Stamp(b, at, 1)
		rec.replay(wal.Header{Kind: wal.KindData, Partition: id, Epoch: 1, Offset: at}, wal.Ref{}, b)
	}
	lose := func(rec *recovery) { rec.lose(wal.Loss{Why: &wal.CorruptionError{}}) }
	loseBatch := func(rec *recovery, at storage.Offset) {
		b := values(t, "x")
		batch.Stamp(b, at, 1)
		b[len(b)-1] ^= 1
		rec.lose(wal.Loss{Why: &wal.CorruptionError{}, Frame: &wal.Header{Kind: wal.KindData, Partition: id, Offset: at}, Payload: b})
	}
	note := func(rec *recovery, missing storage.Offset) {
		raw := encodeDamage(&CorruptionError{Partition: id, Reason: "found before", Missing: missing}, true)
		rec.replay(wal.Header{Kind: wal.KindState, Partition: id}, wal.Ref{}, raw)
	}
	for what, c := range map[string]struct {
		behind func(rec *recovery)
		want   storage.Offset
		noted  bool
	}{
		"nothing follows":                {func(rec *recovery) { lose(rec) }, 0, false},
		"a batch does":                   {func(rec *recovery) { lose(rec); data(rec, 4) }, 4, false},
		"several losses":                 {func(rec *recovery) { lose(rec); data(rec, 4); lose(rec); data(rec, 9) }, 9, false},
		"the last is open":               {func(rec *recovery) { lose(rec); data(rec, 4); lose(rec) }, 0, false},
		"it was this batch":              {func(rec *recovery) { loseBatch(rec, 1) }, 2, false},
		"noted, and found again":         {func(rec *recovery) { lose(rec); data(rec, 4); note(rec, 4) }, 4, true},
		"noted, and another is lost":     {func(rec *recovery) { note(rec, 4); lose(rec) }, 0, false},
		"noted, and another batch is":    {func(rec *recovery) { note(rec, 4); loseBatch(rec, 6) }, 7, false},
		"noted twice":                    {func(rec *recovery) { note(rec, 4); note(rec, 9) }, 9, true},
		"noted as what cannot be healed": {func(rec *recovery) { note(rec, 0); lose(rec); data(rec, 4) }, 0, true},
	} {
		rec := newRecovery()
		s := state{}
		rec.replay(wal.Header{Kind: wal.KindState, Partition: id}, wal.Ref{}, s.encode(maxStatePart)[0])
		data(rec, 0)
		c.behind(rec)
		rec.suspect()
		if r := rec.partitions[id]; r.damage == nil || r.damage.Missing != c.want || r.noted != c.noted {
			t.Errorf("%s: %+v, noted %v", what, r.damage, r.noted)
		}
	}
}

// TestHealingWaitsForTheLevel: while older versions may come to read the log, nothing is written
// that they would refuse it for; it is refused as they refuse it.
func TestHealingWaitsForTheLevel(t *testing.T) {
	raised := false
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.Heals = func() bool { return raised }
	a := newAilingOf(t, o, 0)
	l := a.rot(t, rotten)
	if below, known := l.Missing(); known {
		t.Errorf("it may lack what lies below %d", below)
	}
	wantCorrupt(t, l.Heal(5, a.state(5)))
	raised = true
	if _, known := l.Missing(); !known {
		t.Error("nothing is known of what it may lack")
	}
	raised = false
	if err := l.store.SettleLosses(); err != nil {
		t.Fatal(err)
	}
	l, _ = kill(t, l.store).Log(l.id)
	wantCorrupt(t, l.Err())
	raised = true
	if below, known := l.Missing(); known {
		t.Errorf("it was written that it may lack what lies below %d", below)
	}
}
