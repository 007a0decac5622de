package log

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// damagedBy opens a store that holds a good partition, and one that the frames
// of damage write.
func damagedBy(t *testing.T, damage func(append func(h wal.Header, payload []byte))) (good, bad *Log) {
	t.Helper()
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.WAL.Capacity = 3 << 20 // goes round quickly
	s := open(t, o)
	appendAll(t, lead(t, s, partition(topicA, 0), 1), values(t, "good"))
	damage(func(h wal.Header, payload []byte) {
		h.Partition = partition(topicA, 1)
		if _, err := s.wal.Append(h, payload, nil); err != nil {
			t.Fatal(err)
		}
	})
	s = reopen(t, s)
	good, _ = s.Log(partition(topicA, 0))
	bad, ok := s.Log(partition(topicA, 1))
	if !ok {
		t.Fatal("the damaged partition is not there at all")
	}
	if err := good.Err(); err != nil {
		t.Fatalf("the good partition: %v", err)
	}
	if got := contents(t, good, 0, LogEnd); !slices.Equal(got, []string{"good"}) {
		t.Fatalf("the good partition has %q", got)
	}
	return good, bad
}

type appender = func(h wal.Header, payload []byte)

// damages are all that may be wrong with a partition, as what writes it.
func damages(t *testing.T) map[string]func(add appender) {
	stateAt := func(localStart, highWatermark storage.Offset) []byte {
		s := state{localStart: localStart, highWatermark: highWatermark}
		return s.encode(maxStatePart)[0]
	}
	data := func(add appender, at storage.Offset, texts ...string) {
		b := values(t, texts...)
		batch.Stamp(b, at, 1)
		add(wal.Header{Kind: wal.KindData, Epoch: 1, Offset: at}, b)
	}
	return map[string]func(add appender){
		"no state": func(add appender) { data(add, 0, "x") },
		"a gap": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			data(add, 0, "x")
			data(add, 2, "x")
		},
		"a gap at the start": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			data(add, 2, "x")
		},
		"a gap at the local start": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(5, 5))
			data(add, 7, "x")
		},
		"a gap behind what was given up": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			data(add, 0, "x", "y")
			add(wal.Header{Kind: wal.KindTrim, Offset: 5}, nil)
			data(add, 7, "x")
		},
		"given up, and an end before the high watermark": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 5))
			add(wal.Header{Kind: wal.KindTrim, Offset: 3}, nil)
			data(add, 3, "x")
		},
		"an end before the high watermark": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 2))
			data(add, 0, "x")
		},
		"an offset twice": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			data(add, 0, "x")
			data(add, 0, "y")
		},
		"another batch than the frame says": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			add(wal.Header{Kind: wal.KindData, Offset: 7}, values(t, "x"))
		},
		"no batch": func(add appender) {
			add(wal.Header{Kind: wal.KindState}, stateAt(0, 0))
			add(wal.Header{Kind: wal.KindData}, []byte("no batch"))
		},
		"a malformed state": func(add appender) { add(wal.Header{Kind: wal.KindState}, []byte{9, 9}) },
	}
}

// TestDamageIsRefusedForItsPartitionAlone: whatever does not hold together is
// refused, and stays so until it is dropped.
func TestDamageIsRefusedForItsPartitionAlone(t *testing.T) {
	for name, damage := range damages(t) {
		t.Run(name, func(t *testing.T) {
			good, bad := damagedBy(t, damage)
			wantCorrupt(t, bad.Err())
			wantCorrupt(t, bad.BecomeLeader(7))
			_, err := bad.Read(ReadRequest{})
			wantCorrupt(t, err)
			wantCorrupt(t, bad.SetLogStart(1))
			s := reopen(t, good.store)
			bad, _ = s.Log(bad.id)
			wantCorrupt(t, bad.Err())
			if err := s.Drop(topicA); err != nil {
				t.Fatal(err)
			}
			if got := reopen(t, s).Partitions(); len(got) != 0 {
				t.Fatalf("after the drop: %v", got)
			}
		})
	}
}

// FuzzDamage: frames are input.
func FuzzDamage(f *testing.F) {
	f.Add(encodeDamage(&CorruptionError{Offset: 7, Reason: "a gap"}, true))
	f.Add([]byte{stateVersion, damageFlag})
	f.Fuzz(func(t *testing.T, in []byte) {
		var s state
		_, err := s.decode(in)
		why, is := decodeDamage(partition(topicA, 0), in)
		if is && err == nil {
			t.Fatalf("%x is both a state and damage", in)
		}
		if is {
			if again, is := decodeDamage(why.Partition, encodeDamage(why, true)); !is || len(why.Reason) <= maxReason && *again != *why {
				t.Fatalf("read %v, and then %v", why, again)
			}
		}
	})
}

// TestCorruptPartitionDoesNotPinTheWAL: what is left of it is moved forward like all
// else, for as long as it takes until it is dropped, and it stays refused, by the same
// words.
func TestCorruptPartitionDoesNotPinTheWAL(t *testing.T) {
	for name, damage := range damages(t) {
		t.Run(name, func(t *testing.T) {
			good, bad := damagedBy(t, damage)
			why := bad.Err().Error()
			s := good.store
			epoch := storage.Epoch(1)
			for range 2 {
				epoch++
				if err := good.BecomeLeader(epoch); err != nil {
					t.Fatal(err)
				}
				filler := strings.Repeat("x", 15<<10)
				recycled := s.Stats().WAL.Recycled
				for range 3 * s.Stats().Capacity / 2 / (16 << 10) {
					setUploaded(t, good, good.HighWatermark())
					appendPaced(t, good, values(t, filler))
				}
				if n := int64(s.Stats().WAL.Recycled - recycled); n < s.Stats().Capacity/2/int64(s.o.WAL.SegmentSize) {
					t.Fatalf("%d segments were recycled", n)
				}
				s = reopen(t, s)
				good, _ = s.Log(good.id)
				bad, ok := s.Log(bad.id)
				if !ok || bad.Err() == nil || bad.Err().Error() != why {
					t.Fatalf("there %v, %v; it was %s", ok, bad.Err(), why)
				}
			}
			if err := s.Drop(topicA); err != nil {
				t.Fatal(err)
			}
			if got := reopen(t, s).Partitions(); len(got) != 0 {
				t.Fatalf("after the drop: %v", got)
			}
		})
	}
}

// spoil changes a byte of the text in the first segment.
func spoil(t *testing.T, fs disk.FS, text string) {
	t.Helper()
	raw, err := disk.ReadFile(fs, "wal/segment-000001")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte(text))
	if at < 0 {
		t.Fatalf("%q is not there", text)
	}
	f, err := fs.Open("wal/segment-000001")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{text[0] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWhatTheBucketHasIsLeftToIt: of a batch that cannot be read from the disk any more,
// because it has gone bad or the disk fails, and that the bucket has, nothing is lost:
// who reads it is told to look there, it holds up no segment, and the next start finds
// nothing missing; also before it is released, and in a log that is kept local.
func TestWhatTheBucketHasIsLeftToIt(t *testing.T) {
	for name, c := range map[string]struct{ hold, keep, eio, read bool }{
		"read":                      {read: true},
		"read, held":                {read: true, hold: true},
		"read, kept local":          {read: true, keep: true},
		"read fails":                {read: true, eio: true},
		"copied, held":              {hold: true},
		"copied, kept local":        {keep: true},
		"copied, held, fails":       {hold: true, eio: true},
		"copied, kept local, fails": {keep: true, eio: true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := disk.NewMem(disk.MemOptions{})
			fs := disk.NewFaulty(mem)
			o := tiered(fs)
			o.Hold = c.hold
			s := open(t, o)
			l, good := lead(t, s, partition(topicA, 1), 1), lead(t, s, partition(topicA, 0), 1)
			l.SetConfig(Config{KeepLocal: c.keep})
			const rotten = "this one goes bad"
			for _, text := range []string{"before", rotten, "behind"} {
				appendAll(t, l, values(t, text))
			}
			filler := values(t, strings.Repeat("x", 15<<10))
			add := func() {
				appendPaced(t, good, slices.Clone(filler))
				setUploaded(t, good, good.HighWatermark())
				good.Release(good.HighWatermark())
			}
			for range 64 { // out of memory
				add()
			}
			setUploaded(t, l, 2)
			behind := []string{"behind"}
			if c.eio {
				if !c.read { // all that lies there goes
					setUploaded(t, l, 3)
					behind = nil
				}
				fs.Set(disk.Rule{Op: disk.OpRead, Name: "wal/segment-000001", Err: unix.EIO})
			} else {
				spoil(t, mem, rotten)
			}
			if c.hold && !c.eio { // what lies before is whole, and kept
				_, err := l.Read(ReadRequest{Offset: 1, MaxBytes: 1 << 20, Isolation: LogEnd})
				if !isDamage(err) || l.LocalStart() != 0 {
					t.Fatalf("it begins at %d: %v", l.LocalStart(), err)
				}
				l.Release(1)
			}
			if c.read {
				_, err := l.Read(ReadRequest{Offset: 1, MaxBytes: 1 << 20, Isolation: LogEnd})
				wantNotLocal(t, err, 1, 2)
				fs.Set()
			} else {
				recycled := s.Stats().WAL.Recycled
				for range 3 * s.Stats().Capacity / 2 / (16 << 10) {
					add()
				}
				if n := int64(s.Stats().WAL.Recycled - recycled); n < s.Stats().Capacity/2/int64(s.o.WAL.SegmentSize) {
					t.Fatalf("%d segments were recycled", n)
				}
			}
			check := func() {
				t.Helper()
				if err := l.Err(); err != nil || l.LocalStart() != 3-storage.Offset(len(behind)) {
					t.Fatalf("it begins at %d, %v", l.LocalStart(), err)
				}
				if got := contents(t, l, l.LocalStart(), LogEnd); !slices.Equal(got, behind) {
					t.Fatalf("there is %q, want %q", got, behind)
				}
			}
			check()
			if !c.read {
				fs.Set()
				s = reopen(t, s)
				l, _ = s.Log(l.id)
				check()
			}
		})
	}
}

// TestRottenFrameDoesNotPinTheWAL: a frame that has gone bad on the disk, and is to be
// copied forward, ends its partition and no other; the WAL goes round, opens again, and
// the partition stays refused, by the same words, until it is dropped.
func TestRottenFrameDoesNotPinTheWAL(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	o := small(mem)
	o.Tiered = true
	s := open(t, o)
	bad, good := lead(t, s, partition(topicA, 1), 1), lead(t, s, partition(topicA, 0), 1)
	rest := lead(t, s, partition(topicA, 2), 1)
	const rotten = "this one goes bad"
	for _, text := range []string{"before", rotten, "behind"} {
		appendAll(t, bad, values(t, text))
	}
	appendAll(t, rest, values(t, "kept"))
	filler := values(t, strings.Repeat("x", 15<<10))
	for range 64 { // out of memory
		appendPaced(t, good, slices.Clone(filler))
	}
	spoil(t, mem, rotten)
	round := func() {
		t.Helper()
		recycled := s.Stats().WAL.Recycled
		for range 3 * s.Stats().Capacity / 2 / (16 << 10) {
			setUploaded(t, good, good.HighWatermark())
			appendPaced(t, good, slices.Clone(filler))
		}
		if n := int64(s.Stats().WAL.Recycled - recycled); n < s.Stats().Capacity/2/int64(s.o.WAL.SegmentSize) {
			t.Fatalf("%d segments were recycled", n)
		}
	}
	round()
	wantCorrupt(t, bad.Err())
	why := bad.Err().Error()
	if !strings.Contains(why, "segment-000001") {
		t.Errorf("%q names no file", why)
	}
	for range 2 {
		s = reopen(t, s)
		bad, _ = s.Log(bad.id)
		if bad.Err() == nil || bad.Err().Error() != why {
			t.Fatalf("%v; it was %s", bad.Err(), why)
		}
		rest, _ = s.Log(rest.id)
		if got := contents(t, rest, 0, LogEnd); !slices.Equal(got, []string{"kept"}) {
			t.Fatalf("beside it there is %q", got)
		}
		good, _ = s.Log(good.id)
		if err := good.BecomeLeader(good.epochs.latest() + 1); err != nil {
			t.Fatal(err)
		}
		round()
	}
	if err := s.Drop(topicA); err != nil {
		t.Fatal(err)
	}
	if got := reopen(t, s).Partitions(); len(got) != 0 {
		t.Fatalf("after the drop: %v", got)
	}
}
