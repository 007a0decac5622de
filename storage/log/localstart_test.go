package log

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// tiered is a small store whose batches are uploaded.
func tiered(fs disk.FS) Options {
	o := small(fs)
	o.Tiered = true
	return o
}

func wantNotLocal(t testing.TB, err error, at, localStart storage.Offset) {
	t.Helper()
	e, ok := errors.AsType[*NotLocalError](err)
	if !ok || e.Offset != at || e.LocalStart != localStart {
		t.Fatalf("got %v, want that %d lies before the local start %d", err, at, localStart)
	}
}

func setUploaded(t testing.TB, l *Log, end storage.Offset) {
	t.Helper()
	if err := l.SetUploaded(end); err != nil {
		t.Fatal(err)
	}
}

func setLogStart(t testing.TB, l *Log, offset storage.Offset) {
	t.Helper()
	if err := l.SetLogStart(offset); err != nil {
		t.Fatal(err)
	}
}

// giveUpTo uploads a log to an offset, and has it given up.
func giveUpTo(t testing.TB, l *Log, to storage.Offset) {
	t.Helper()
	setUploaded(t, l, to)
	if err := l.store.Evict(context.Background()); err != nil {
		t.Fatal(err)
	}
	if l.LocalStart() != to {
		t.Fatalf("the local start is %d, want %d", l.LocalStart(), to)
	}
}

// appendPaced appends like a producer that is never to wait long.
func appendPaced(t testing.TB, l *Log, b batch.Batch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.store.Admit(ctx, len(b)); err != nil {
		t.Fatalf("at %d: %v; %+v", l.End(), err, l.store.Stats())
	}
	a := make(answer, 1)
	l.Append(time.Now(), b, anyEpoch, a)
	if r := a.wait(t); r.Err != nil {
		t.Fatalf("at %d: %v", l.End(), r.Err)
	}
}

// TestUploadedBatchesMakeRoom: what the bucket has stays in the WAL while there
// is room, and then goes before a producer is refused. What it has not stays,
// also in segments that were full of the other.
func TestUploadedBatchesMakeRoom(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l, stuck := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	filler := strings.Repeat("x", 15<<10)
	capacity := s.Stats().Capacity
	var kept []string
	for i := range int32(3 * capacity / (16 << 10)) {
		if i%64 == 0 {
			kept = append(kept, fmt.Sprint(i))
			appendPaced(t, stuck, from(t, 7, 0, i/64, kept[len(kept)-1]))
		}
		appendPaced(t, l, from(t, 9, 0, i, filler))
		setUploaded(t, l, max(l.HighWatermark()-5, 0))
		if int64(i) == capacity/2/(16<<10) && l.LocalStart() != 0 {
			t.Fatalf("half full, and what lies below %d was given up", l.LocalStart())
		}
		if l.LocalStart() > l.Uploaded() {
			t.Fatalf("given up to %d, uploaded to %d", l.LocalStart(), l.Uploaded())
		}
	}
	st := s.Stats()
	if st.WAL.Recycled == 0 || l.LocalStart() == 0 {
		t.Fatal("nothing was given up: the test shows nothing")
	}
	if local := int64(l.End()-l.LocalStart()) * (15 << 10); local < capacity/2 {
		t.Fatalf("%d bytes are left in a WAL of %d: more was given up than room was wanted", local, capacity)
	}
	if st.Fullness > 0.5 {
		t.Fatalf("fullness %.2f, and nearly all could be given up: %+v", st.Fullness, st.WAL)
	}
	end := l.End()
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	stuck, _ = s.Log(stuck.id)
	if err := errors.Join(l.Err(), stuck.Err()); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, stuck, 0, LogEnd); !slices.Equal(got, kept) {
		t.Fatalf("of what was never uploaded there is %q, want %q", got, kept)
	}
	if l.End() != end || l.Producers()[0].LastSequence != int32(end-1) {
		t.Fatalf("it ends at %d with %+v, want %d", l.End(), l.Producers(), end)
	}
}

// TestALogThatIsKeptLocalGivesNothingUp (RULES 4.4): all of it is in the bucket, the
// WAL wants room again and again, and it is there to be read, also after a restart.
// Its log start lets go of it.
func TestALogThatIsKeptLocalGivesNothingUp(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l, busy := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	l.SetConfig(Config{KeepLocal: true})
	var kept []string
	for i := range 20 {
		kept = append(kept, fmt.Sprint(i))
		appendPaced(t, l, values(t, kept[i]))
		setUploaded(t, l, l.HighWatermark())
	}
	filler := strings.Repeat("x", 15<<10)
	for range 3 * s.Stats().Capacity / (16 << 10) {
		appendPaced(t, busy, values(t, filler))
		setUploaded(t, busy, busy.HighWatermark())
	}
	if err := s.Evict(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.WAL.Recycled == 0 || busy.LocalStart() == 0 {
		t.Fatal("nothing was given up: the test shows nothing")
	}
	if l.LocalStart() != 0 || l.Uploaded() != 20 {
		t.Fatalf("it was given up to %d; uploaded to %d", l.LocalStart(), l.Uploaded())
	}
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if got := contents(t, l, 0, LogEnd); !slices.Equal(got, kept) {
		t.Fatalf("there is %q, want %q", got, kept)
	}
	l.SetConfig(Config{KeepLocal: true})
	setLogStart(t, l, 15)
	if got := contents(t, l, 15, LogEnd); l.LocalStart() != 15 || !slices.Equal(got, kept[15:]) {
		t.Fatalf("it begins at %d with %q", l.LocalStart(), got)
	}
}

// TestShortLivesDoNotKeepTheLogFull: each life was killed behind a batch and left a segment
// that is hardly filled, more of them than the log has room for. That comes back by itself:
// who sees how full the log is asks for none.
func TestShortLivesDoNotKeepTheLogFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiered(disk.NewMem(disk.MemOptions{}))
		o.WAL.Capacity = 16 * int64(o.WAL.SegmentSize)
		s := open(t, o)
		id := partition(topicA, 0)
		for epoch := storage.Epoch(1); epoch < 50 && s.Stats().Fullness < 0.99; epoch++ {
			appendPaced(t, lead(t, s, id, epoch), values(t, "x"))
			s = kill(t, s)
			synctest.Wait()
		}
		l, _ := s.Log(id)
		setUploaded(t, l, l.End())
		synctest.Wait()
		if st := s.Stats(); st.Fullness > 0.9 { // a few segments are always room for copies
			t.Errorf("fullness %.2f, and all is uploaded: %+v", st.Fullness, st.WAL)
		}
	})
}

// TestUploadThatComesLateMakesRoom: a WAL that is full, because nothing was
// uploaded, takes batches again once that is made good.
func TestUploadThatComesLateMakesRoom(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.MaxUnuploadedShare = 1
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	filler := strings.Repeat("x", 15<<10)
	var err error
	for err == nil {
		b := values(t, filler)
		if err = s.Admit(context.Background(), len(b)); err == nil {
			a := make(answer, 1)
			l.Append(time.Now(), b, anyEpoch, a)
			err = a.wait(t).Err
		}
	}
	wantErr(t, err, ErrFull)
	if got := s.Stats().Fullness; got < 0.99 {
		t.Fatalf("fullness %.2f where produce is refused", got)
	}
	setUploaded(t, l, l.HighWatermark())
	if got := s.Stats().Fullness; got > 0.25 { // of padding, and what Produce leaves
		t.Fatalf("fullness %.2f, and all is uploaded", got)
	}
	for range 100 {
		appendPaced(t, l, values(t, filler))
	}
}

// TestReadsBelowTheLocalStart: the log start alone is out of range; between the
// two starts the bucket is to be asked.
func TestReadsBelowTheLocalStart(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0", "1"), values(t, "2"), values(t, "3", "4"), values(t, "5"))
	giveUpTo(t, l, 3)
	setLogStart(t, l, 1)
	for at := range storage.Offset(9) {
		r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 1 << 20})
		switch {
		case at < 1 || at > 6:
			wantOutOfRange(t, err)
		case at < 3:
			wantNotLocal(t, err, at, 3)
		case err != nil:
			t.Fatal(err)
		case r.LogStart != 1:
			t.Fatalf("read at %d says that the log starts at %d", at, r.LogStart)
		}
		r.Release()
	}
	if got := contents(t, l, 3, HighWatermark); !slices.Equal(got, []string{"3", "4", "5"}) {
		t.Fatalf("read %q", got)
	}
}

// TestDeleteRecordsSurvivesRestart: the controller's log start holds, whether it
// lies in the bucket's part or the WAL's, and is not taken back.
func TestDeleteRecordsSurvivesRestart(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0", "1"), values(t, "2"))
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, values(t, "3", "4"), values(t, "5"))
	giveUpTo(t, l, 5)
	frames := s.wal.Stats().Appends
	setLogStart(t, l, 2)
	if got := s.wal.Stats().Appends; got != frames {
		t.Fatal("a log start in the bucket's part was written to the WAL")
	}
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if l.LogStart() != 5 || l.LocalStart() != 5 || l.Uploaded() != 5 || l.End() != 6 {
		t.Fatalf("log start %d, local start %d, uploaded %d, end %d", l.LogStart(), l.LocalStart(), l.Uploaded(), l.End())
	}
	setLogStart(t, l, 2)
	for range 2 {
		if l.LogStart() != 2 || l.LocalStart() != 5 {
			t.Fatalf("log start %d, local start %d", l.LogStart(), l.LocalStart())
		}
		_, err := l.Read(ReadRequest{Offset: 1})
		wantOutOfRange(t, err)
		_, err = l.Read(ReadRequest{Offset: 2})
		wantNotLocal(t, err, 2, 5)
		for offset, want := range map[storage.Offset]storage.Epoch{2: 1, 3: 2, 5: 2} {
			if got := l.EpochAt(offset); got != want {
				t.Fatalf("epoch at %d: %d, want %d", offset, got, want)
			}
		}
		if epoch, end := l.EpochEnd(1); epoch != 1 || end != 3 {
			t.Fatalf("epoch %d ended at %d, want 1 at 3", epoch, end)
		}
		setLogStart(t, l, 1) // never back, once it was given
	}
	if err := l.BecomeLeader(3); err != nil {
		t.Fatal(err)
	}
	setLogStart(t, l, 6)
	if l.LogStart() != 6 || l.LocalStart() != 6 || l.Uploaded() != 6 {
		t.Fatalf("log start %d, local start %d, uploaded %d", l.LogStart(), l.LocalStart(), l.Uploaded())
	}
	l = lead(t, reopen(t, s), l.id, 4) // without a word from the controller
	setLogStart(t, l, 2)
	if l.LogStart() != 6 {
		t.Fatalf("the log start went back to %d under a leader", l.LogStart())
	}
}

// TestLogStartOfAnUntieredStoreNeverMovesBack: below its local start there is
// nothing.
func TestLogStartOfAnUntieredStoreNeverMovesBack(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0"), values(t, "1"))
	setLogStart(t, l, 1)
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	setLogStart(t, l, 0)
	if l.LogStart() != 1 {
		t.Fatalf("the log start is %d", l.LogStart())
	}
}

// TestEvictionKeepsProducersAndEpochs: what batches that are gone said of them
// is found again after a restart.
func TestEvictionKeepsProducersAndEpochs(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "0"), from(t, 8, 0, 0, "1"))
	if err := l.BecomeLeader(3); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, from(t, 7, 0, 1, "2"), values(t, "3"))
	want, history := l.Producers(), slices.Clone(l.epochs)
	giveUpTo(t, l, 4)
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if got := l.Producers(); !slices.Equal(got, want) {
		t.Fatalf("producers %+v, want %+v", got, want)
	}
	setLogStart(t, l, 0)
	if !slices.Equal(l.epochs, history) {
		t.Fatalf("epochs %v, want %v", l.epochs, history)
	}
	l = lead(t, s, l.id, 4)
	if r := send(t, l, from(t, 7, 0, 1, "2"), anyEpoch).wait(t); r.Err != nil || r.Base != 2 {
		t.Fatalf("a duplicate of what is in the bucket was answered %+v", r)
	}
}

// TestLogGoesOnFromTheCommittedEnd: a disk that lacks what the bucket has does
// not give its offsets again.
func TestLogGoesOnFromTheCommittedEnd(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l, err := s.Create(partition(topicA, 0), Config{})
	if err != nil {
		t.Fatal(err)
	}
	setUploaded(t, l, 100)
	setLogStart(t, l, 20)
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	setLogStart(t, l, 20)
	setUploaded(t, l, 100)
	if l.LogStart() != 20 || l.LocalStart() != 100 || l.End() != 100 || l.HighWatermark() != 100 {
		t.Fatalf("log start %d, local start %d, high watermark %d, end %d", l.LogStart(), l.LocalStart(), l.HighWatermark(), l.End())
	}
	l = lead(t, s, l.id, 3)
	appendAll(t, l, values(t, "100"))
	if got := contents(t, l, 100, HighWatermark); !slices.Equal(got, []string{"100"}) {
		t.Fatalf("read %q", got)
	}
	_, err = l.Read(ReadRequest{Offset: 99})
	wantNotLocal(t, err, 99, 100)
}

// TestTruncationStopsAtWhatIsUploaded, and the local start bounds the log also
// when it lies within a batch.
func TestTruncationStopsAtWhatIsUploaded(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0", "1"), values(t, "2", "3"))
	giveUpTo(t, l, 2)
	s = reopen(t, s) // it knows of the high watermark only what its state says
	l, _ = s.Log(l.id)
	setUploaded(t, l, 4)
	wantOutOfRange(t, l.TruncateTo(3, 2))
	if err := l.TruncateTo(4, 2); err != nil {
		t.Fatal(err)
	}
	if l.LocalStart() != 2 || l.Uploaded() != 4 || l.End() != 4 {
		t.Fatalf("local start %d, uploaded %d, end %d", l.LocalStart(), l.Uploaded(), l.End())
	}

	l = lead(t, s, partition(topicA, 1), 1)
	appendAll(t, l, values(t, "0", "1", "2"))
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	setLogStart(t, l, 1)
	if err := l.TruncateTo(1, 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if l.LocalStart() != 1 || l.End() != 1 {
			t.Fatalf("local start %d, end %d", l.LocalStart(), l.End())
		}
		s = reopen(t, s)
		l, _ = s.Log(l.id)
	}
}

// TestFindByTimeInTheLocalPart: what was given up is not searched, and does not
// hide the rest.
func TestFindByTimeInTheLocalPart(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	const first = 1_700_000_000_000
	appendAll(t, l, values(t, "0", "1", "2"), values(t, "3", "4"))
	giveUpTo(t, l, 3)
	if o, at, ok, err := l.OffsetForTime(first); err != nil || !ok || o != 3 || at != first {
		t.Fatalf("offset %d at %d, %v, %v", o, at, ok, err)
	}
	if o, at, ok, err := l.MaxTimestampOffset(); err != nil || !ok || o != 4 || at != first+1000 {
		t.Fatalf("offset %d at %d, %v, %v", o, at, ok, err)
	}
	giveUpTo(t, l, 5)
	if o, _, ok, err := l.OffsetForTime(first); err != nil || ok {
		t.Fatalf("found %d, %v", o, err)
	}
	if o, _, ok, err := l.MaxTimestampOffset(); err != nil || ok {
		t.Fatalf("found %d, %v", o, err)
	}
}

// TestReadersMeetEviction: a read that finds what is being given up gets it, or
// is told where the WAL's part begins; never a hole.
func TestReadersMeetEviction(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			at := storage.Offset(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 1 << 20})
				if gone, ok := errors.AsType[*NotLocalError](err); ok {
					if at = gone.LocalStart; at > l.Uploaded() {
						t.Errorf("given up to %d, uploaded to %d", at, l.Uploaded())
					}
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, raw := range r.Batches {
					b := batch.Batch(raw)
					if b.BaseOffset() != at {
						t.Errorf("read %d where %d was due", b.BaseOffset(), at)
					}
					at = b.NextOffset()
				}
				if len(r.Batches) == 0 {
					at = 0
				}
				r.Release()
			}
		})
	}
	for i := range 300 {
		appendPaced(t, l, values(t, strings.Repeat("x", 3000)))
		if i%10 == 9 {
			giveUpTo(t, l, l.HighWatermark()-3)
		}
	}
	close(stop)
	readers.Wait()
}

// TestSegmentsAreFoundInTheIndex compares the search by segment with a look at
// every entry, also after entries have moved.
func TestSegmentsAreFoundInTheIndex(t *testing.T) {
	rng := newRand(t)
	for range 30 {
		var x index
		for base := range storage.Offset(rng.IntN(2000)) {
			x.append(base, 1, 0, wal.Ref{Segment: uint32(base)/300 + uint32(rng.IntN(2))})
		}
		for range rng.IntN(20) {
			if len(x.blocks) > 0 {
				b := x.blocks[rng.IntN(len(x.blocks))]
				b.move(&b.entries[rng.IntN(len(b.entries))], wal.Ref{Segment: uint32(rng.IntN(20))})
			}
		}
		for segment := range uint32(20) {
			var want, got []storage.Offset
			for _, b := range x.blocks {
				for i, e := range b.entries {
					if e.ref.Segment == segment {
						want = append(want, b.baseOf(i))
					}
				}
			}
			for p := (place{}); x.valid(p); {
				var looked int
				if p, looked = x.nextIn(segment, p, 1+rng.IntN(50)); looked == 0 {
					t.Fatal("the search stands still")
				}
				if !x.valid(p) {
					break
				}
				if b, e := x.at(p); e.ref.Segment == segment {
					got = append(got, b.baseOf(p.entry))
					p = x.following(p)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("segment %d: found %v, want %v", segment, got, want)
			}
			if len(want) > 0 && !x.mayLieIn(segment) {
				t.Fatalf("segment %d: is said to hold nothing", segment)
			}
		}
	}
}

// TestTimestampIsThatOfTheBatchAtAnOffset: of what is committed and in the WAL, and
// of nothing else.
func TestTimestampIsThatOfTheBatchAtAnOffset(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	var stamps []int64
	for _, texts := range [][]string{{"a", "b"}, {"c"}, {"d", "e"}} {
		b := values(t, texts...)
		stamps = append(stamps, b.MaxTimestamp())
		appendAll(t, l, b)
	}
	if stamps[0] == stamps[1] {
		t.Fatalf("all batches are as old, %d: the test shows nothing", stamps[0])
	}
	want := func(offset storage.Offset, millis int64, ok bool) {
		t.Helper()
		if got, found := l.TimestampAt(offset); got != millis || found != ok {
			t.Errorf("at %d: %d, %t, want %d, %t", offset, got, found, millis, ok)
		}
	}
	want(0, stamps[0], true)
	want(1, stamps[0], true)
	want(2, stamps[1], true)
	want(4, stamps[2], true)
	want(5, batch.NoTimestamp, false)
	giveUpTo(t, l, 2)
	want(1, batch.NoTimestamp, false)
	want(2, stamps[1], true)
}

// TestHeldUntilReleased: what the bucket has stays in the WAL, and counts as in use,
// until it is released; never what the bucket has not.
func TestHeldUntilReleased(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.Hold = true
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	for range 10 {
		appendAll(t, l, values(t, "value"))
	}
	evicted := func(want storage.Offset) {
		t.Helper()
		if err := s.Evict(t.Context()); err != nil {
			t.Fatal(err)
		}
		if is := l.LocalStart(); is != want {
			t.Fatalf("the local start is %d, want %d", is, want)
		}
	}
	setUploaded(t, l, 6)
	evicted(0)
	if n := s.Stats().WAL.ReclaimableBytes; n != 0 {
		t.Fatalf("%d bytes could be released", n)
	}
	if p := s.PendingUpload(nil); len(p) != 1 || p[0].First != 6 {
		t.Fatalf("%+v", p)
	}
	l.Release(4)
	evicted(4)
	l.Release(8)
	l.Release(2)
	evicted(6)
	setUploaded(t, l, 8)
	evicted(6)
	setLogStart(t, l, 9)
	l.Release(7)
	setUploaded(t, l, 10)
	evicted(9)
	l.Release(10)
	evicted(10)
	if n := s.Stats().WAL.ReclaimableBytes; n != 0 {
		t.Fatalf("%d bytes could be released, and nothing is there", n)
	}
	s = reopen(t, s)
	l = lead(t, s, partition(topicA, 0), 2)
	if l.LocalStart() != 10 {
		t.Fatalf("the local start is %d", l.LocalStart())
	}
}
