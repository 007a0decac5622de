package log

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestReadGivesWholeBatchesVerbatim reads from memory and, evicted, from files.
func TestReadGivesWholeBatchesVerbatim(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 4)
	var sent []batch.Batch
	for i := range 20 {
		b := values(t, fmt.Sprint(i), strings.Repeat("x", 1000))
		appendAll(t, l, b)
		sent = append(sent, b) // stamped in place
	}
	size := len(sent[10])
	for _, where := range []string{"memory", "files"} {
		for _, tc := range []struct {
			name        string
			q           ReadRequest
			first, want int
		}{
			{"from a base offset", ReadRequest{Offset: 20, MaxBytes: 3 * size}, 10, 3},
			{"from within a batch", ReadRequest{Offset: 21, MaxBytes: 3 * size}, 10, 3},
			{"no part of a batch", ReadRequest{Offset: 20, MaxBytes: 3*size - 1}, 10, 2},
			{"nothing fits", ReadRequest{Offset: 20, MaxBytes: size - 1}, 10, 0},
			{"the first though it does not fit", ReadRequest{Offset: 20, MaxBytes: 1, MinOne: true}, 10, 1},
			{"no second that does not fit", ReadRequest{Offset: 20, MaxBytes: size + 1, MinOne: true}, 10, 1},
			{"up to the end", ReadRequest{Offset: 36, MaxBytes: 100 * size}, 18, 2},
			{"at the end", ReadRequest{Offset: 40, MaxBytes: 100 * size, MinOne: true}, 20, 0},
		} {
			t.Run(where+"/"+tc.name, func(t *testing.T) {
				r, err := l.Read(tc.q)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Release()
				if len(r.Batches) != tc.want || r.HighWatermark != 40 || r.LastStable != 40 || r.LogStart != 0 {
					t.Fatalf("%d batches, want %d; %+v", len(r.Batches), tc.want, r)
				}
				bytesRead := 0
				for i, b := range r.Batches {
					bytesRead += len(b)
					if !bytes.Equal(b, sent[tc.first+i]) {
						t.Fatalf("batch %d is not what was sent", i)
					}
				}
				if bytesRead != r.Bytes {
					t.Fatalf("%d bytes, it says %d", bytesRead, r.Bytes)
				}
			})
		}
		evict(t, s)
		if _, pin, ok := s.wal.Pin(l.index.blocks[0].entries[10].ref); ok {
			pin.Release()
			t.Fatal("the batches are still in memory")
		}
	}
	for _, offset := range []storage.Offset{-1, 41} {
		_, err := l.Read(ReadRequest{Offset: offset, MaxBytes: 100})
		wantOutOfRange(t, err)
	}
}

// TestNotFoundIsNotOutOfRange: while a reader has looked up where its batches
// lie, they move elsewhere and their old place is gone. It finds them.
func TestNotFoundIsNotOutOfRange(t *testing.T) {
	fs := hooked()
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"), values(t, "one"))
	evict(t, s)
	before := l.index.blocks[0].entries[0].ref
	reads := 0
	hook := func() error {
		reads++
		if reads > 1 {
			return nil // the relocation reads, and whoever looks again
		}
		if err := (owner{s}).Relocate(context.Background(), before.Segment); err != nil {
			t.Error(err)
		}
		appendAll(t, l, values(t, "two")) // the copy is on disk before it
		return syscall.EBADF
	}
	fs.beforeRead.Store(&hook)
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"zero", "one", "two"}) {
		t.Fatalf("read %q", got)
	}
	if l.index.blocks[0].entries[0].ref == before || reads < 2 {
		t.Fatal("nothing moved: the test shows nothing")
	}
}

func TestReadErrorOfABatchThatDidNotMoveIsAnError(t *testing.T) {
	fs := hooked()
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"))
	evict(t, s)
	hook := func() error { return syscall.EIO }
	fs.beforeRead.Store(&hook)
	_, err := l.Read(ReadRequest{MaxBytes: 1000})
	wantErr(t, err, syscall.EIO)
}

// TestAnotherBatchIsNotServed: an index that points at another batch of the same
// partition is found out when that is read from a file.
func TestAnotherBatchIsNotServed(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"), values(t, "one."))
	evict(t, s)
	e := l.index.blocks[0].entries
	e[0].ref = e[1].ref
	_, err := l.Read(ReadRequest{MaxBytes: 1000})
	wantCorrupt(t, err)
}

func TestReleasedTwiceIsReleasedOnce(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"))
	r, err := l.Read(ReadRequest{MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if s.Stats().WAL.PinnedBytes == 0 {
		t.Fatal("nothing is pinned")
	}
	r.Release()
	r.Release()
	if got := s.Stats().WAL.PinnedBytes; got != 0 {
		t.Fatalf("%d bytes are pinned", got)
	}
}

// TestFindByTime compares with a search through all records.
func TestFindByTime(t *testing.T) {
	rng := newRand(t)
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	for round := range int32(20) {
		l := lead(t, s, partition(topicA, round), 1)
		type record struct{ offset, at int64 }
		var all []record
		for range rng.IntN(30) {
			w := batch.NewBuilder(batch.BuilderOptions{Codec: batch.Codec(rng.IntN(5))})
			for range 1 + rng.IntN(5) {
				at := rng.Int64N(200)
				w.Add(at, nil, nil)
				all = append(all, record{int64(len(all)), at})
			}
			b, err := w.Build()
			if err != nil {
				t.Fatal(err)
			}
			appendAll(t, l, b)
		}
		if len(all) > 0 {
			start := rng.IntN(len(all))
			if err := l.SetLogStart(storage.Offset(start)); err != nil {
				t.Fatal(err)
			}
			all = all[start:]
		}
		for at := range int64(201) {
			want := record{-1, -1}
			for _, r := range all {
				if r.at >= at {
					want = r
					break
				}
			}
			offset, timestamp, ok, err := l.OffsetForTime(at)
			if err != nil || ok != (want.offset >= 0) || int64(offset) != want.offset || timestamp != want.at {
				t.Fatalf("time %d: %d at %d, %v, %v; want %+v", at, offset, timestamp, ok, err, want)
			}
		}
		want := record{-1, -1}
		for _, r := range all {
			if r.at > want.at {
				want = r
			}
		}
		offset, timestamp, ok, err := l.MaxTimestampOffset()
		if err != nil || ok != (want.offset >= 0) || int64(offset) != want.offset || timestamp != want.at {
			t.Fatalf("largest: %d at %d, %v, %v; want %+v", offset, timestamp, ok, err, want)
		}
	}
}

// TestBatchOfGarbageDoesNotHideTheRest: its CRC is right and its records are not.
func TestBatchOfGarbageDoesNotHideTheRest(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	garbage := values(t, "one", "two")
	garbage[batch.HeaderSize+4] = 0x7e                   // a key that is longer than its record
	batch.StampLogAppendTime(garbage, 1_700_000_000_000) // renews the CRC
	garbage[22] &^= 1 << 3
	garbage = crcOf(garbage)
	appendAll(t, l, garbage, values(t, "three"))
	offset, _, ok, err := l.OffsetForTime(1_700_000_000_000)
	if err != nil || !ok || offset != 0 {
		t.Fatalf("offset %d, %v, %v", offset, ok, err)
	}
}

// crcOf renews the CRC of b.
func crcOf(b batch.Batch) batch.Batch {
	crc := b.ComputeCRC()
	b[17], b[18], b[19], b[20] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
	return b
}

func TestLargestTimeIgnoresWhatIsNotCommitted(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	appendAll(t, l, values(t, "a"))
	let := fs.holdSyncs(t)
	a := send(t, l, values(t, "b", "c"), anyEpoch)
	if offset, _, ok, err := l.MaxTimestampOffset(); offset != 0 || !ok || err != nil {
		t.Fatalf("offset %d, %v, %v", offset, ok, err)
	}
	if _, _, ok, err := l.OffsetForTime(1_700_000_000_001); ok || err != nil {
		t.Fatalf("found what is not committed: %v, %v", ok, err)
	}
	let()
	a.wait(t)
	if offset, _, ok, err := l.MaxTimestampOffset(); offset != 2 || !ok || err != nil {
		t.Fatalf("offset %d, %v, %v", offset, ok, err)
	}
}

func TestWaiterIsWokenWhenItsRecordCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, small(disk.NewMem(disk.MemOptions{})))
		defer s.Close()
		l := lead(t, s, partition(topicA, 0), 1)
		first, third := newSignal(), newSignal()
		l.Watch(0, first)
		l.Watch(2, third)
		synctest.Wait()
		if len(first.woken) != 0 {
			t.Fatal("woken by nothing")
		}
		add := func() {
			b := values(t, "x")
			if err := s.Admit(context.Background(), len(b)); err != nil {
				t.Fatal(err)
			}
			a := make(answer, 1)
			l.Append(time.Now(), b, anyEpoch, a)
			if r := <-a; r.Err != nil {
				t.Fatal(r.Err)
			}
			synctest.Wait()
		}
		add()
		if len(first.woken) != 1 || len(third.woken) != 0 {
			t.Fatalf("after the first record: %d and %d wakes", len(first.woken), len(third.woken))
		}
		<-first.woken
		add()
		add()
		if len(first.woken) != 0 || len(third.woken) != 1 {
			t.Fatalf("after the third: %d and %d wakes", len(first.woken), len(third.woken))
		}
		l.Watch(2, first)
		if len(first.woken) != 1 {
			t.Fatal("not woken at once, though the record is there")
		}
	})
}

func TestUnwatchedIsNotWoken(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	a, b := newSignal(), newSignal()
	at := l.Watch(0, a)
	l.Watch(0, b)
	l.Unwatch(at)
	appendAll(t, l, values(t, "x"))
	<-b.woken
	if len(a.woken) != 0 {
		t.Fatal("woken though it had left")
	}
}

// TestManyWaitersLeaveInTime: each looks for its own place, and not at all that wait, in
// any order; those that stay are woken.
func TestManyWaitersLeaveInTime(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	const waiters = 60_000
	gone, stays := newSignal(), newSignal()
	places := make([]Watching, waiters)
	for i := range places {
		if places[i] = l.Watch(0, gone); i == waiters/2 {
			l.Watch(0, stays)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(waiters, func(i, j int) { places[i], places[j] = places[j], places[i] })
	worked := func() time.Duration { // of this process: a clock tells of others, too
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := worked()
	for _, at := range places {
		l.Unwatch(at)
		l.Unwatch(at) // has gone
	}
	if took := worked() - before; took > 5*time.Second {
		t.Errorf("that %d waiters leave is %v of work", waiters, took)
	}
	if left := len(l.waiters) - l.unwatched; left != 1 {
		t.Errorf("%d waiters are left, want one", left)
	}
	appendAll(t, l, values(t, "x"))
	<-stays.woken
	if len(gone.woken) != 0 {
		t.Error("woken though it had left")
	}
}

func TestEveryEndWakesWaiters(t *testing.T) {
	for name, end := range map[string]func(*Store, *Log) error{
		"close":      func(s *Store, _ *Log) error { return s.Close() },
		"drop":       func(s *Store, _ *Log) error { return s.Drop(topicA) },
		"wake all":   func(_ *Store, l *Log) error { l.WakeAll(); return nil },
		"log start":  func(_ *Store, l *Log) error { return l.SetLogStart(1) },
		"truncation": func(_ *Store, l *Log) error { return l.TruncateTo(1, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, small(disk.NewMem(disk.MemOptions{})))
			l := lead(t, s, partition(topicA, 0), 1)
			appendAll(t, l, values(t, "x"))
			w := newSignal()
			l.Watch(1, w)
			if err := end(s, l); err != nil {
				t.Fatal(err)
			}
			<-w.woken
		})
	}
}

func TestWatchOfAnEndedLogWakesAtOnce(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	if err := s.Drop(topicA); err != nil {
		t.Fatal(err)
	}
	w := newSignal()
	l.Watch(0, w)
	<-w.woken
	_, err := l.Read(ReadRequest{})
	wantErr(t, err, ErrDropped)
	wantErr(t, send(t, l, values(t, "x"), anyEpoch).wait(t).Err, ErrDropped)
	wantErr(t, l.SetLogStart(0), ErrDropped)
	wantErr(t, l.BecomeLeader(9), ErrDropped)
}

func TestIndexFindsWhatASearchFinds(t *testing.T) {
	rng := newRand(t)
	for range 200 {
		var x index
		var bases []storage.Offset
		next := storage.Offset(rng.IntN(10))
		if rng.IntN(4) == 0 {
			next += 1 << 40
		}
		for range rng.IntN(1500) {
			n := 1 + rng.IntN(9)
			if rng.IntN(300) == 0 {
				next += 1 << 33 // what compaction may leave: further than a block spans
			}
			x.append(next, uint32(n), rng.Int64N(100), ref(next))
			bases = append(bases, next)
			next += storage.Offset(n)
		}
		if len(bases) > 0 {
			from, to := rng.IntN(len(bases)), rng.IntN(len(bases)+1)
			x.trim(bases[from], nil)
			bases = bases[from:]
			if to = max(0, to-from); to < len(bases) {
				x.truncate(bases[to], nil)
				bases = bases[:to]
			}
		}
		var seen []storage.Offset
		for p := x.find(-1); x.valid(p); p = x.following(p) {
			b, e := x.at(p)
			if e.ref != ref(b.baseOf(p.entry)) || b.maxTimestamp < e.maxTimestamp {
				t.Fatalf("entry at %d is %+v", b.baseOf(p.entry), e)
			}
			if got := x.find(b.baseOf(p.entry)); got != p {
				t.Fatalf("%d is found at %v, it is at %v", b.baseOf(p.entry), got, p)
			}
			if got := x.find(b.nextOf(p.entry) - 1); got != p {
				t.Fatalf("%d is found at %v, it is at %v", b.nextOf(p.entry)-1, got, p)
			}
			seen = append(seen, b.baseOf(p.entry))
		}
		if !slices.Equal(seen, bases) {
			t.Fatalf("%d entries, want %d", len(seen), len(bases))
		}
		if len(bases) == 0 && x.bytes != 0 {
			t.Fatalf("%d bytes are counted for nothing", x.bytes)
		}
	}
}

func TestEpochHistory(t *testing.T) {
	var e epochs
	for _, begin := range []epochStart{{2, 0}, {4, 10}, {5, 20}, {6, 20}, {6, 25}, {3, 30}, {9, 30}} {
		e = e.begin(begin.epoch, begin.start)
	}
	// 5 had no record before 6 began; 6 began once; 3 is older than what is.
	if want := (epochs{{2, 0}, {4, 10}, {6, 20}, {9, 30}}); !slices.Equal(e, want) {
		t.Fatalf("history %v, want %v", e, want)
	}
	const end = 35
	for _, tc := range []struct {
		asked, epoch storage.Epoch
		at           storage.Offset
	}{{-1, -1, -1}, {0, 0, 0}, {2, 2, 10}, {3, 2, 10}, {4, 4, 20}, {5, 4, 20}, {6, 6, 30}, {8, 6, 30}, {9, 9, 35}, {10, -1, -1}} {
		if epoch, at := e.endOf(tc.asked, end); epoch != tc.epoch || at != tc.at {
			t.Errorf("end of %d: %d at %d, want %d at %d", tc.asked, epoch, at, tc.epoch, tc.at)
		}
	}
	for offset, want := range map[storage.Offset]storage.Epoch{0: 2, 9: 2, 10: 4, 19: 4, 20: 6, 30: 9, 1000: 9} {
		if got := e.at(offset); got != want {
			t.Errorf("epoch at %d: %d, want %d", offset, got, want)
		}
	}
	trimmed := slices.Clone(e).trim(15)
	if want := (epochs{{4, 15}, {6, 20}, {9, 30}}); !slices.Equal(trimmed, want) {
		t.Errorf("trimmed to 15: %v", trimmed)
	}
	if got := slices.Clone(e).truncate(20); !slices.Equal(got, epochs{{2, 0}, {4, 10}}) {
		t.Errorf("truncated to 20: %v", got)
	}
}

func TestEpochsOverBothLives(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "a", "b"))
	if err := l.BecomeLeader(3); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, values(t, "c"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, small(fs))
	l = lead(t, s, partition(topicA, 0), 5)
	for _, tc := range []struct {
		asked, epoch storage.Epoch
		at           storage.Offset
	}{{1, 1, 2}, {2, 1, 2}, {3, 3, 3}, {5, 5, 3}, {6, -1, -1}} {
		if epoch, at := l.EpochEnd(tc.asked); epoch != tc.epoch || at != tc.at {
			t.Errorf("end of %d: %d at %d, want %d at %d", tc.asked, epoch, at, tc.epoch, tc.at)
		}
	}
}

func ref(base storage.Offset) (r wal.Ref) {
	g := rand.New(rand.NewPCG(uint64(base), 0))
	r.Segment, r.Offset, r.Length = g.Uint32(), g.Uint32(), g.Uint32()
	return r
}

// TestWhatIsOnlyInMemoryIsNotReadFromAFile: a replica may read what is not
// synced, but when readers hold their share of the memory it must wait.
func TestWhatIsOnlyInMemoryIsNotReadFromAFile(t *testing.T) {
	fs := hooked()
	s := open(t, small(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "synced"))
	// Hold as many chunks as readers may.
	var held []ReadResult
	filler := strings.Repeat("x", 30<<10)
	for at := l.End(); ; at = l.End() {
		appendAll(t, l, values(t, filler))
		r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
		if len(r.lease.pins) == 0 {
			break // from the file: the share is used up
		}
	}
	let := fs.holdSyncs(t)
	end := l.End()
	a := send(t, l, values(t, filler), anyEpoch)
	r, err := l.Read(ReadRequest{Offset: end, MaxBytes: 100_000, Isolation: LogEnd})
	if err != nil || len(r.Batches) != 0 {
		t.Fatalf("%d batches, %v", len(r.Batches), err)
	}
	r.Release()
	let()
	a.wait(t)
	if r, err = l.Read(ReadRequest{Offset: end, MaxBytes: 100_000, Isolation: LogEnd}); err != nil || len(r.Batches) != 1 {
		t.Fatalf("once synced: %d batches, %v", len(r.Batches), err)
	}
	r.Release()
	for i := range held {
		held[i].Release()
	}
}

// TestSmallReadHoldsLittle: who reads a little from the files and keeps it does
// not keep the buffer of a large read before, which nobody would count.
func TestSmallReadHoldsLittle(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	const size = 8 << 10
	for range 128 { // the first of them leave the memory
		appendAll(t, l, build(t, batch.BuilderOptions{}, string(make([]byte, size))))
	}
	large, err := l.Read(ReadRequest{MaxBytes: 60 * size})
	if err != nil {
		t.Fatal(err)
	}
	if cap(large.lease.buf) < 50*size {
		t.Fatalf("the large read took %d bytes of a buffer: it was to come from the files", cap(large.lease.buf))
	}
	large.Release()
	little, err := l.Read(ReadRequest{MaxBytes: size, MinOne: true})
	if err != nil {
		t.Fatal(err)
	}
	defer little.Release()
	if held := cap(little.lease.buf); held > 8*size {
		t.Errorf("%d bytes are held for %d", held, little.Bytes)
	}
}
