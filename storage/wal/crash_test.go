package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestCrashAtEveryWriteAndSync stops a script before each of its writes, syncs
// and changes of names, also those of recovery, and lets the power go there.
func TestCrashAtEveryWriteAndSync(t *testing.T) {
	rng := newRand(t)
	script := rng.Uint64()
	points := map[string]int{} // by what the crash came before
	for k := 1; ; k++ {
		c := crashAt(t, disk.NewMem(disk.MemOptions{}), &ledger{acked: map[int64][]byte{}}, script, 1, k, false)
		if c == nil {
			break
		}
		op, _, _ := strings.Cut(c.op, " ")
		points[op]++
		for range 3 {
			c.powerCut(t, rng, "power cut")
		}
		// kill -9, and another crash at some change of the life that follows:
		// the first dozen are those of recovery.
		later := []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 20 + rng.IntN(40)}
		if raceEnabled {
			later = later[rng.IntN(len(later)):][:1]
		}
		for _, again := range later {
			book := c.book.copy()
			second := crashAt(t, c.fs.Clone(), book, script+1, 2, again, false)
			if second == nil {
				break
			}
			for range 2 {
				second.powerCut(t, rng, fmt.Sprintf("kill before %s, power cut", c.op))
			}
		}
	}
	// How many there are depends on how appends group, and that on the machine:
	// only that some are of each kind can be held against it.
	for _, op := range []string{"create", "write", "sync", "syncdir"} {
		if points[op] == 0 {
			t.Errorf("no crash came before a %s: the script is too short to prove anything", op)
		}
	}
	t.Logf("crash points: %v", points)
}

// TestKillLosesNothingOfIntervalSync: with SyncInterval a power cut may lose what
// was appended last, but kill -9 may not.
func TestKillLosesNothingOfIntervalSync(t *testing.T) {
	rng := newRand(t)
	script := rng.Uint64()
	for k := 1; ; k += 3 {
		c := crashAt(t, disk.NewMem(disk.MemOptions{}), &ledger{acked: map[int64][]byte{}}, script, 1, k, true)
		if c == nil {
			break
		}
		for _, again := range []int{1, 3, 5, 7} { // kill during recovery too
			book := c.book.copy()
			second := crashAt(t, c.fs.Clone(), book, script+1, 2, again, true)
			if second == nil {
				break
			}
			s, err := start(tiny(second.fs.Clone()), second.book, 3)
			if err != nil {
				t.Fatalf("killed before %s and before %s: %v", c.op, second.op, err)
			}
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// After a power cut the log opens, and has no hole.
		after := c.fs.Clone().Crash(rng)
		s, err := start(tiny(after), &ledger{acked: map[int64][]byte{}, trimmed: c.book.trimmed}, 3)
		if err != nil {
			t.Fatalf("power cut before %s: %v", c.op, err)
		}
		if err := s.w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPageCacheServed: kill -9 between write and sync, a restart that reads the
// frame from the page cache and delivers it, then a power cut. What was delivered
// must still be there.
func TestPageCacheServed(t *testing.T) {
	for _, fresh := range []bool{false, true} { // fresh: the write is the first of a segment
		frames, atSync, book := killBeforeSync(t, fresh)
		for seed := range uint64(20) {
			delivered := book.copy()
			served := atSync.Clone()
			r, err := start(tiny(served), delivered, 2)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(r.own.frames); got != frames {
				t.Fatalf("%d frames are in the page cache, %d were delivered", frames, got)
			}
			cut := served.Crash(rand.New(rand.NewPCG(seed, 1)))
			_ = r.w.Close()
			r, err = start(tiny(cut), delivered, 3)
			if err != nil {
				t.Fatalf("fresh %v, power cut after the restart: %v", fresh, err)
			}
			if err := r.w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRewrittenTailSupersedesTheOldOne: a frame above the mark is in the old
// segment and, rewritten, in the fresh one; only the second counts from then on.
func TestRewrittenTailSupersedesTheOldOne(t *testing.T) {
	_, mem, book := killBeforeSync(t, false)
	for life := range int64(3) {
		s, err := start(tiny(mem), book, life+2)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.append(500); err != nil {
				t.Fatal(err)
			}
			if err := s.wait(t); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killBeforeSync returns a disk whose last frame, of so many, is written and not
// synced.
func killBeforeSync(t *testing.T, fresh bool) (frames int, atSync *disk.Mem, book *ledger) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { frames, atSync, book = killedBeforeSync(t, fresh) })
	return frames, atSync, book
}

func killedBeforeSync(t *testing.T, fresh bool) (frames int, atSync *disk.Mem, book *ledger) {
	t.Helper()
	mem := disk.NewMem(disk.MemOptions{})
	var mu sync.Mutex
	armed := false
	made := map[string]bool{} // spares that are filled after armed
	fs := &tap{FS: mem}
	fs.ask = func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "create" && armed {
			made[name] = true
		}
		if op == "sync" && armed && !made[name] {
			atSync, armed = mem.Clone(), false
			return unix.EIO
		}
		return nil
	}
	s, err := start(tiny(fs), &ledger{acked: map[int64][]byte{}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.w.Close()
	add := func(size int) wal.Ref {
		if err := s.append(size); err != nil {
			t.Fatal(err)
		}
		if err := s.wait(t); err != nil {
			t.Fatal(err)
		}
		return s.live[len(s.live)-1].ref
	}
	for ref := add(3000); fresh && ref.Offset < 20<<10; ref = add(3000) { // until an 8 KiB frame does not fit
	}
	// No other sync may come: the spares are ready, and the mark is written.
	time.Sleep(time.Second)
	if n := s.w.Stats().Spares; n < 3 {
		t.Fatalf("%d spares are ready", n)
	}
	mu.Lock()
	armed = true
	mu.Unlock()
	size := 100
	if fresh {
		size = 8 << 10
	}
	if err := s.append(size); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(t); !errors.Is(err, wal.ErrDead) {
		t.Fatalf("append whose sync failed: %v", err)
	}
	if ref := s.live[len(s.live)-1].ref; fresh && ref.Segment != 2 {
		t.Fatalf("the frame is in segment %d", ref.Segment)
	}
	return len(s.live), atSync, s.book.copy()
}

// TestReorderWithinGroup: of one commit of many blocks any subset of sectors may
// be on disk. The log keeps a prefix of its frames, and nothing that was not
// whole.
func TestReorderWithinGroup(t *testing.T) {
	rng := newRand(t)
	var atSync *disk.Mem
	var book *ledger
	synctest.Test(t, func(t *testing.T) { atSync, book = killedWithinGroup(t) })
	lengths := map[int]int{}
	for range 300 {
		r, err := start(tiny(atSync.Clone().Crash(rng)), book.copy(), 2)
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(r.own.frames)]++
		if err := r.w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("frames kept, of 2 that were acked and 8 that were not: %v", lengths)
	if len(lengths) < 3 {
		t.Error("the power cuts did not tear the commit")
	}
}

// killedWithinGroup returns a disk on which two commits of one frame were synced,
// and one of eight frames is written.
func killedWithinGroup(t *testing.T) (atSync *disk.Mem, book *ledger) {
	mem := disk.NewMem(disk.MemOptions{})
	const active = "wal/segment-000001"
	var mu sync.Mutex
	syncs := -1 // of the log's own commits since armed
	writing, hold := make(chan struct{}), make(chan struct{})
	fs := &tap{FS: mem}
	fs.ask = func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if syncs < 0 || name != active {
			return nil
		}
		if op == "write" && syncs == 0 {
			mu.Unlock()
			close(writing)
			<-hold
			mu.Lock()
		}
		if op == "sync" {
			if syncs++; syncs == 2 {
				atSync = mem.Clone()
				return unix.EIO
			}
		}
		return nil
	}
	s, err := start(tiny(fs), &ledger{acked: map[int64][]byte{}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.append(100), s.wait(t)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the mark is written
	mu.Lock()
	syncs = 0
	mu.Unlock()
	if err := s.append(100); err != nil {
		t.Fatal(err)
	}
	<-writing
	for range 8 { // all in the one commit that follows
		if err := s.append(1500); err != nil {
			t.Fatal(err)
		}
	}
	close(hold)
	if err := s.wait(t); !errors.Is(err, wal.ErrDead) {
		t.Fatalf("append whose sync failed: %v", err)
	}
	_ = s.w.Close()
	return atSync, s.book.copy()
}

// TestRestartsDoNotGrowTheLog: each restart takes a fresh segment; those that
// stayed empty go.
func TestRestartsDoNotGrowTheLog(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	book := &ledger{acked: map[int64][]byte{}}
	s, err := start(tiny(mem), book, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if err := s.append(2000); err != nil {
			t.Fatal(err)
		}
		s.last.wait(t)
	}
	for life := range int64(30) {
		mem = mem.Clone() // kill -9
		_ = s.w.Close()
		if s, err = start(tiny(mem), book, life+2); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.w.Stats().Segments; n > 8 {
		t.Errorf("%d segments after 30 restarts of a log of 3", n)
	}
	_ = s.w.Close()
}

// TestCleanNoteDoesNotComeBack: the note of a clean end is gone for good before
// the next life writes anything.
func TestCleanNoteDoesNotComeBack(t *testing.T) {
	rng := newRand(t)
	mem, book := stored(t)
	for range 3 { // the note is durable after the first
		if err := mem.SyncDir("wal"); err != nil {
			t.Fatal(err)
		}
		o := bits(mem)
		o.Capacity *= 2 // each life takes a segment
		s, err := start(o, book, 5)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			names, err := mem.Clone().Crash(rng).List("wal")
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(names, "clean") {
				t.Fatal("after a power cut the note of the last clean end is back")
			}
		}
		// A segment with a frame is not removed by the next start, and so that
		// does not sync the directory for another reason.
		if err := errors.Join(s.append(100), s.wait(t), s.w.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
