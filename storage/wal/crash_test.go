package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// tiny segments are crossed, recycled and copied forward within a short script.
func tiny(fs disk.FS) wal.Options {
	return wal.Options{FS: fs, Dir: "wal", Capacity: 8 * 32 << 10, Reserve: 32 << 10, SegmentSize: 32 << 10, ChunkSize: 16 << 10, Memory: 128 << 10}
}

// payloadOf is what frame offset of a life holds: whoever finds another payload
// under the offset has found a half frame, or one of another life.
func payloadOf(life, offset int64, size int) []byte {
	b := fmt.Appendf(nil, "%d/%d/", life, offset)
	rng := rand.New(rand.NewPCG(uint64(life), uint64(offset)))
	for len(b) < size {
		b = append(b, byte(rng.Uint32()))
	}
	return b
}

// ledger is what a client was told.
type ledger struct {
	mu       sync.Mutex
	acked    map[int64][]byte
	trimmed  int64 // frames below it were released
	appended int64
}

func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{acked: map[int64][]byte{}, trimmed: l.trimmed, appended: l.appended}
	for k, v := range l.acked {
		c.acked[k] = v
	}
	return c
}

func (l *ledger) ack(offset int64, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[offset] = payload
}

// session is one life of a log under a random script.
type session struct {
	w    *wal.WAL
	own  *owner
	book *ledger
	life int64
	next int64
	live []held // appended in this life or replayed, not released
	last *done
}

// start opens the log and checks what it replays against the book: every acked
// frame that was not released is there, once, in order and whole.
func start(o wal.Options, book *ledger, life int64) (*session, error) {
	own := &owner{}
	o.Owner = own
	w, err := wal.Open(context.Background(), o)
	if err != nil {
		return nil, err
	}
	own.opened(w)
	s := &session{w: w, own: own, book: book, life: life}
	if err := s.check(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return s, nil
}

func (s *session) check() error {
	frames := slices.Clone(s.own.frames)
	slices.SortStableFunc(frames, func(a, b held) int { return int(a.header.Offset - b.header.Offset) })
	seen := map[int64]bool{}
	for i, f := range frames {
		offset := int64(f.header.Offset)
		if seen[offset] {
			return fmt.Errorf("frame %d was replayed twice", offset)
		}
		seen[offset] = true
		if i > 0 && offset != int64(frames[i-1].header.Offset)+1 && offset > s.book.trimmed {
			return fmt.Errorf("frame %d is followed by frame %d", frames[i-1].header.Offset, offset)
		}
		var life, at int64
		if _, err := fmt.Sscanf(f.payload, "%d/%d/", &life, &at); err != nil || at != offset || string(payloadOf(life, at, len(f.payload))) != f.payload {
			return fmt.Errorf("frame %d holds %.30q", offset, f.payload)
		}
	}
	for offset, payload := range s.book.acked {
		if offset >= s.book.trimmed && !seen[offset] {
			return fmt.Errorf("acked frame %d is lost; %d frames were replayed", offset, len(frames))
		}
		for _, f := range frames {
			if int64(f.header.Offset) == offset && f.payload != string(payload) {
				return fmt.Errorf("acked frame %d is %.30q, was %.30q", offset, f.payload, payload)
			}
		}
	}
	s.live = slices.Clone(frames)
	s.next = s.book.trimmed
	if len(frames) > 0 {
		s.next = max(s.next, int64(frames[len(frames)-1].header.Offset)+1)
	}
	for _, f := range frames { // what was delivered is as good as acked
		s.book.ack(int64(f.header.Offset), []byte(f.payload))
	}
	for _, f := range frames {
		if int64(f.header.Offset) < s.book.trimmed {
			s.release(f)
		}
	}
	return nil
}

func (s *session) release(f held) {
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	i := slices.IndexFunc(s.own.frames, func(g held) bool { return g.header.Offset == f.header.Offset })
	s.w.Release(s.own.frames[i].ref)
	s.own.frames = slices.Delete(s.own.frames, i, i+1)
	s.live = slices.DeleteFunc(s.live, func(g held) bool { return g.header.Offset == f.header.Offset })
}

// append adds one frame; the owner knows it before the log can copy it.
func (s *session) append(size int) error {
	offset := s.next
	payload := payloadOf(s.life, offset, size)
	d := newDone()
	if err := s.w.Admit(context.Background(), wal.Internal, size+64); err != nil {
		return err
	}
	defer s.w.Unadmit(size + 64)
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	ref, err := s.w.Append(header(0, offset), payload, completion(func(err error) {
		if err == nil {
			s.book.ack(offset, payload)
		}
		d.Committed(err)
	}))
	if err != nil {
		return err
	}
	h := held{header(0, offset), ref, string(payload)}
	s.own.frames = append(s.own.frames, h)
	s.live = append(s.live, h)
	s.next++
	s.last = d
	return nil
}

// trim releases the oldest frames but keep, durably: as an owner that wrote a
// trim frame would.
func (s *session) trim(keep int) {
	for len(s.live) > keep && len(s.live) > 0 {
		f := s.live[0]
		if _, ok := s.book.copy().acked[int64(f.header.Offset)]; !ok {
			return
		}
		s.book.mu.Lock()
		s.book.trimmed = int64(f.header.Offset) + 1
		s.book.mu.Unlock()
		s.release(f)
	}
}

// script appends, waits and trims as rng says, until it fails or is done.
func (s *session) script(t testing.TB, rng *rand.Rand, steps int) {
	for range steps {
		size := 16 + rng.IntN(600)
		if rng.IntN(6) == 0 {
			size = rng.IntN(8 << 10)
		}
		if err := s.append(size); err != nil {
			if !errors.Is(err, wal.ErrDead) && !errors.Is(err, wal.ErrFull) && !errors.Is(err, wal.ErrNoSegment) {
				t.Fatalf("append: %v", err)
			}
			s.trim(4)
			continue
		}
		switch rng.IntN(4) {
		case 0:
			if s.wait(t) != nil {
				return
			}
		case 1:
			s.trim(rng.IntN(60))
		}
	}
	s.wait(t)
}

// wait returns what the last append came to.
func (s *session) wait(t testing.TB) error {
	t.Helper()
	if s.last == nil {
		return nil
	}
	return s.last.wait(t)
}

// crash is a disk at the moment of a fault, and what had been acked by then.
type crash struct {
	fs   *disk.Mem
	book *ledger
	op   string
}

// crashAt runs the script on a disk that stops before its k-th change. It is nil
// when there were fewer.
func crashAt(t testing.TB, from *disk.Mem, book *ledger, seed uint64, life int64, k int, interval bool) *crash {
	t.Helper()
	var mu sync.Mutex
	var at *crash
	n := 0
	fs := &tap{FS: from}
	fs.ask = func(op, name string) error {
		if !changes(op) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if at != nil {
			return unix.EIO
		}
		if n++; n == k {
			at = &crash{book: book.copy(), op: op + " " + name}
			at.fs = from.Clone()
			return unix.EIO
		}
		return nil
	}
	o := tiny(fs)
	if interval {
		o.Sync, o.SyncInterval = wal.SyncInterval, time.Millisecond
	}
	s, err := start(o, book, life)
	if err == nil {
		s.script(t, rand.New(rand.NewPCG(seed, 7)), 90)
		err = s.w.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if at == nil && err != nil {
		t.Fatalf("life %d, without a fault: %v", life, err)
	}
	return at
}

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

// powerCut opens what a power cut leaves, and once more what a second leaves
// after recovery has delivered frames.
func (c *crash) powerCut(t *testing.T, rng *rand.Rand, what string) {
	t.Helper()
	after := c.fs.Clone().Crash(rng)
	book := c.book.copy()
	s, err := start(tiny(after), book, 3)
	if err != nil {
		t.Fatalf("%s before %s: %v", what, c.op, err)
	}
	delivered := s.book.copy()
	next := after.Clone().Crash(rng)
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = start(tiny(next), delivered, 4)
	if err != nil {
		t.Fatalf("%s before %s, power cut again after recovery: %v", what, c.op, err)
	}
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
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

// TestEIORestartPowerCut: a write or a sync fails and leaves clean pages in the
// cache that are not on disk. The log dies at once, tries nothing again, and
// after a restart over the same cache never writes to that file; then the power
// is cut.
func TestEIORestartPowerCut(t *testing.T) {
	rng := newRand(t)
	script := rng.Uint64()
	for _, op := range []string{"write", "sync"} {
		for k := 1; ; k++ {
			cache := newPageCache(disk.NewMem(disk.MemOptions{}))
			n, failed, late := 0, "", 0
			fail := func(name string) bool {
				if name == failed {
					late++
				} else if failed != "" {
					return false
				} else if n++; n == k {
					failed = name
					return true
				}
				return false
			}
			count := func(name string) bool {
				if name == failed {
					late++
				}
				return false
			}
			if op == "write" {
				cache.failWrite, cache.failSync = fail, count
			} else {
				cache.failSync, cache.failWrite = fail, count
			}
			book := &ledger{acked: map[int64][]byte{}}
			deaths := 0
			o := tiny(cache)
			o.OnDead = func(err error) {
				deaths++
				if !errors.Is(err, wal.ErrDead) || !errors.Is(err, unix.EIO) {
					t.Errorf("OnDead: %v", err)
				}
			}
			s, err := start(o, book, 1)
			var dead bool
			if err == nil {
				s.script(t, rand.New(rand.NewPCG(script, 7)), 50)
				dead = s.w.Flush(context.Background()) != nil
				if dead {
					_, appendErr := s.w.Append(header(0, 0), nil, nil)
					for what, err := range map[string]error{"Append": appendErr, "Flush": s.w.Flush(context.Background()),
						"Admit": s.w.Admit(context.Background(), wal.Internal, 1)} {
						if !errors.Is(err, wal.ErrDead) {
							t.Errorf("%s after the failure: %v", what, err)
						}
					}
				}
				_ = s.w.Close()
			}
			if failed == "" {
				break
			}
			if dead && deaths != 1 {
				t.Fatalf("OnDead was called %d times", deaths)
			}
			if dead && late > 0 {
				t.Fatalf("%s %d of %s failed, and %d calls for the file followed", op, k, failed, late)
			}
			none := func(string) bool { return false }
			cache.failSync, cache.failWrite = none, none
			cache.writes = nil
			acked := book.copy()
			s, err = start(tiny(cache), acked, 2)
			if err != nil {
				t.Fatalf("%s %d of %s failed, restart: %v", op, k, failed, err)
			}
			s.script(t, rand.New(rand.NewPCG(script+1, 7)), 40)
			for range 50 { // once round: what was recycled is used again
				if err := s.append(4000); err != nil && !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
				if err := s.wait(t); err != nil {
					t.Fatal(err)
				}
				s.trim(1)
			}
			acked = s.book.copy()
			_ = s.w.Close()
			if dead && slices.Contains(cache.writes, failed) {
				t.Fatalf("%s failed a %s, and was written to after the restart", failed, op)
			}
			s, err = start(tiny(cache.powerCut()), acked, 3)
			if err != nil {
				t.Fatalf("%s %d of %s failed, restart, power cut: %v", op, k, failed, err)
			}
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
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

// TestFullDiskRefusesAndRecovers: without room for another segment appends are
// refused in a way that passes, nothing is damaged, and room brings it back.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	for _, cause := range []error{unix.ENOSPC, unix.EMFILE} {
		t.Run(cause.Error(), func(t *testing.T) {
			var mu sync.Mutex
			full := false
			fs := &tap{FS: disk.NewMem(disk.MemOptions{})}
			fs.ask = func(op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				if full && op == "create" && strings.Contains(name, "segment") {
					return cause
				}
				return nil
			}
			s, err := start(tiny(fs), &ledger{acked: map[int64][]byte{}}, 1)
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			full = true
			mu.Unlock()
			refused := false
			for range 200 {
				if err = s.append(2000); err != nil {
					refused = true
					break
				}
				s.last.wait(t)
			}
			if !refused || !errors.Is(err, wal.ErrFull) {
				t.Fatalf("on a full disk: %v", err)
			}
			for _, f := range s.live {
				payloads, _, err := s.w.Read(f.header.Partition, wal.KindData, []wal.Ref{f.ref}, nil)
				if err != nil || string(payloads[0]) != f.payload {
					t.Fatalf("read on a full disk: %v", err)
				}
			}
			mu.Lock()
			full = false
			mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			for err = s.append(2000); err != nil; err = s.append(2000) {
				if !errors.Is(err, wal.ErrFull) || ctx.Err() != nil {
					t.Fatalf("after the disk has room again: %v", err)
				}
			}
			s.last.wait(t)
			book := s.book.copy()
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = start(tiny(fs), book, 2); err != nil {
				t.Fatal(err)
			}
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFailingDiskIsNotFull: a segment that could not be made for another reason
// than a lack of space is called what it is; what is there is read and kept, and
// a disk that works again goes on.
func TestFailingDiskIsNotFull(t *testing.T) {
	for _, op := range []string{"create", "write", "sync"} {
		t.Run(op, func(t *testing.T) {
			var mu sync.Mutex
			failing, spare := false, ""
			fs := &tap{FS: disk.NewMem(disk.MemOptions{})}
			fs.ask = func(is, name string) error {
				mu.Lock()
				defer mu.Unlock()
				if failing && is == "create" {
					spare = name
				}
				if failing && is == op && name == spare {
					return &iofs.PathError{Op: op, Path: name, Err: unix.EIO}
				}
				return nil
			}
			s, err := start(tiny(fs), &ledger{acked: map[int64][]byte{}}, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer s.w.Close()
			mu.Lock()
			failing = true
			mu.Unlock()
			for range 200 {
				if err = s.append(2000); err != nil {
					break
				}
				s.last.wait(t)
			}
			if !errors.Is(err, wal.ErrNoSegment) || !errors.Is(err, unix.EIO) || errors.Is(err, wal.ErrFull) {
				t.Fatalf("on a disk that fails: %v", err)
			}
			for _, f := range s.live {
				payloads, _, err := s.w.Read(f.header.Partition, wal.KindData, []wal.Ref{f.ref}, nil)
				if err != nil || string(payloads[0]) != f.payload {
					t.Fatalf("read on a disk that fails: %v", err)
				}
			}
			mu.Lock()
			failing = false
			mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			for err = s.append(2000); err != nil; err = s.append(2000) {
				if !errors.Is(err, wal.ErrNoSegment) && !errors.Is(err, wal.ErrFull) || ctx.Err() != nil {
					t.Fatalf("after the disk works again: %v", err)
				}
			}
			s.last.wait(t)
		})
	}
}

// TestTooFewFilesRefusesToOpen: recovery that cannot open every segment is an
// error, never a shorter log.
func TestTooFewFilesRefusesToOpen(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	s, err := start(tiny(mem), &ledger{acked: map[int64][]byte{}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.script(t, rand.New(rand.NewPCG(1, 1)), 80)
	book := s.book.copy()
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, failing := range []string{"open", "read", "create", "sync", "write"} {
		for k := 1; ; k++ {
			n, hit := 0, false
			fs := &tap{FS: mem.Clone()}
			var mu sync.Mutex
			fs.ask = func(op, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if op == failing && !hit {
					if n++; n == k {
						hit = true
						return unix.EMFILE
					}
				}
				return nil
			}
			o := tiny(fs)
			own := &owner{}
			o.Owner = own
			w, err := wal.Open(context.Background(), o)
			if err != nil {
				if !errors.Is(err, unix.EMFILE) {
					t.Fatalf("%s %d fails: %v", failing, k, err)
				}
				continue
			}
			_ = w.Close()
			if len(own.frames) < len(s.own.frames) {
				t.Fatalf("%s %d fails, and %d of %d frames are there", failing, k, len(own.frames), len(s.own.frames))
			}
			break
		}
	}
	// Afterwards it opens as ever.
	if s, err = start(tiny(mem), book, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
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

// TestLostOnlySegment: a log whose only segment is gone, or has lost its header,
// is not an empty one.
func TestLostOnlySegment(t *testing.T) {
	for _, test := range []struct {
		what  string
		clean bool // the note of a clean end is there
		lose  int  // bytes at the start of the file; -1: the file
	}{
		{"clean end, file removed", true, -1},
		{"clean end, file zeroed", true, 24 << 10},
		{"clean end, header zeroed", true, page},
		{"unclean end, header zeroed", false, page},
	} {
		mem := disk.NewMem(disk.MemOptions{})
		s, err := start(bits(mem), &ledger{acked: map[int64][]byte{}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second says that the first was synced
			if err := s.append(100); err != nil {
				t.Fatal(err)
			}
			if err := s.wait(t); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.w.Close(); err != nil {
			t.Fatal(err)
		}
		if !test.clean {
			if err := mem.Remove("wal/clean"); err != nil {
				t.Fatal(err)
			}
		}
		const name = "wal/segment-000001"
		if test.lose < 0 {
			err = mem.Remove(name)
		} else {
			var f disk.File
			if f, err = mem.Open(name); err == nil {
				err = errors.Join(f.WriteSync([][]byte{make([]byte, test.lose)}, 0), f.Close())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if refused, err := refuses(bits(mem)); !refused {
			t.Errorf("%s: the log opens as an empty one (%v)", test.what, err)
		}
	}
}

// segmentFiles returns the names of the segment files.
func segmentFiles(t testing.TB, fs disk.FS) []string {
	t.Helper()
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "segment-") })
}

// stored is a small closed log of three segments, and what it holds.
func stored(t testing.TB) (*disk.Mem, *ledger) {
	t.Helper()
	mem := disk.NewMem(disk.MemOptions{})
	book := &ledger{acked: map[int64][]byte{}}
	s, err := start(bits(mem), book, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if err := s.append(10 + 8*i); err != nil {
			t.Fatal(err)
		}
		if i%3 != 1 {
			s.last.wait(t)
		}
	}
	s.last.wait(t)
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, s.book.copy()
}

func bits(fs disk.FS) wal.Options {
	return wal.Options{FS: fs, Dir: "wal", Capacity: 6 * 24 << 10, Reserve: 24 << 10, SegmentSize: 24 << 10, ChunkSize: 8 << 10, Memory: 64 << 10}
}

// openDamaged opens a log that was changed behind its back. It must refuse, or
// hold all that was acked, whole.
func openDamaged(fs disk.FS, book *ledger) (refused bool, err error) {
	s, err := start(bits(fs), book.copy(), 9)
	if err == nil {
		return false, s.w.Close()
	}
	if errors.As(err, new(*wal.CorruptionError)) || errors.As(err, new(*wal.UnknownFormatError)) {
		return true, nil
	}
	return false, err
}

// TestEveryFlippedBitIsDetectedOrHarmless flips bits of a small store, one at a
// time: all of the bytes that are in use, and with -exhaustive those of the
// padding too.
func TestEveryFlippedBitIsDetectedOrHarmless(t *testing.T) {
	mem, book := stored(t)
	refused, harmless := 0, 0
	for _, name := range segmentFiles(t, mem) {
		content, err := disk.ReadFile(mem, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for at, c := range content {
			bit := at & 7
			for b := range 8 {
				inUse := c != 0 || at%page < 64
				if raceEnabled {
					inUse = inUse && at%7 == b // every byte class is met; the plain run does all
				}
				if !*exhaustive && !inUse && (b != bit || at%16 != 0) {
					continue
				}
				fs := mem.Clone()
				f, err := fs.Open("wal/" + name)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.WriteSync([][]byte{{c ^ 1<<b}}, int64(at)); err != nil {
					t.Fatal(err)
				}
				f.Close()
				no, err := openDamaged(fs, book)
				if err != nil {
					t.Fatalf("%s, byte %d, bit %d: %v", name, at, b, err)
				}
				if no {
					refused++
				} else {
					harmless++
				}
			}
		}
	}
	t.Logf("%d flips refused, %d harmless", refused, harmless)
	if refused == 0 || harmless == 0 {
		t.Fatal("nothing was flipped")
	}
}

// TestDamagedBlocksAndFilesAreNotAbsence zeroes each block, cuts each file, and
// puts an older state in the place of each block and file.
func TestDamagedBlocksAndFilesAreNotAbsence(t *testing.T) {
	mem, book := stored(t)
	names := segmentFiles(t, mem)
	damage := func(what string, do func(fs *disk.Mem) error) {
		t.Helper()
		fs := mem.Clone()
		if err := do(fs); err != nil {
			t.Fatal(err)
		}
		if _, err := openDamaged(fs, book); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range names {
		content, err := disk.ReadFile(mem, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		used := bytes.Contains(content[page:], []byte("RMQG"))
		damage(name+" zeroed whole", func(fs *disk.Mem) error {
			f, err := fs.Open("wal/" + name)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.WriteSync([][]byte{make([]byte, len(content))}, 0)
		})
		damage(name+" removed", func(fs *disk.Mem) error { return fs.Remove("wal/" + name) })
		for at := 0; at < len(content); at += page {
			damage(fmt.Sprintf("block %d of %s zeroed", at/page, name), func(fs *disk.Mem) error {
				f, err := fs.Open("wal/" + name)
				if err != nil {
					return err
				}
				defer f.Close()
				return f.WriteSync([][]byte{make([]byte, page)}, int64(at))
			})
			damage(fmt.Sprintf("%s cut at block %d", name, at/page), func(fs *disk.Mem) error {
				f, err := fs.Open("wal/" + name)
				if err != nil {
					return err
				}
				defer f.Close()
				return f.Truncate(int64(at))
			})
		}
		for _, other := range names {
			if other == name || !used {
				continue
			}
			damage(fmt.Sprintf("%s in the place of %s", other, name), func(fs *disk.Mem) error {
				b, err := disk.ReadFile(fs, "wal/"+other)
				if err != nil {
					return err
				}
				f, err := fs.Open("wal/" + name)
				if err != nil {
					return err
				}
				defer f.Close()
				return f.WriteSync([][]byte{b}, 0)
			})
		}
	}
}

// TestSupersededSegmentStaysGone: a segment that a restart found empty, and
// removed, does not come back with a power cut when those around it were recycled
// and no other name was made meanwhile.
func TestSupersededSegmentStaysGone(t *testing.T) {
	rng := newRand(t)
	mem := disk.NewMem(disk.MemOptions{})
	var full atomic.Bool
	fs := &tap{FS: mem, ask: func(op, _ string) error {
		if op == "create" && full.Load() {
			return unix.ENOSPC
		}
		return nil
	}}
	book := &ledger{acked: map[int64][]byte{}}
	synctest.Test(t, func(t *testing.T) {
		for life := int64(1); life <= 2; life++ {
			s, err := start(tiny(fs), book, life)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()             // the spares are there
			for range 16 * (2 - life) { // some segments full
				if err := errors.Join(s.append(4000), s.wait(t)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		full.Store(true)
		s, err := start(tiny(fs), book, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.w.Close() }()
		s.trim(0)
		synctest.Wait()
		for range 8 { // more than a segment
			if err := errors.Join(s.append(4000), s.wait(t)); err != nil {
				t.Fatal(err)
			}
			s.trim(1)
			synctest.Wait()
		}
		if n := s.w.Stats().Recycled; n < 5 {
			t.Fatalf("%d segments were recycled", n)
		}
		for range 20 {
			after, err := start(tiny(mem.Clone().Crash(rng)), book.copy(), 4)
			if err != nil {
				t.Fatal(err)
			}
			if err := after.w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestFailedFileStaysRetired: a file that failed a sync is never written again,
// however often the log is started, and ended cleanly, before its frames are let go.
func TestFailedFileStaysRetired(t *testing.T) {
	for name, damage := range map[string]bool{"noted": false, "the note is damaged": true} {
		t.Run(name, func(t *testing.T) {
			mem := disk.NewMem(disk.MemOptions{})
			fs := disk.NewFaulty(mem)
			book := &ledger{acked: map[int64][]byte{}}
			s, err := start(tiny(fs), book, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.append(500), s.wait(t)); err != nil {
				t.Fatal(err)
			}
			const failed = "wal/segment-000001"
			fs.Set(disk.Rule{Op: disk.OpSync, Name: failed, Err: unix.EIO})
			if err := s.append(500); err != nil {
				t.Fatal(err)
			}
			if err := s.wait(t); !errors.Is(err, wal.ErrDead) {
				t.Fatal(err)
			}
			_ = s.w.Close()
			fs.Set()
			for life := range int64(3) { // ended cleanly, with the frame still needed
				if s, err = start(tiny(fs), book, life+2); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(s.append(500), s.wait(t), s.w.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if damage {
				raw, err := disk.ReadFile(mem, "wal/retired")
				if err != nil {
					t.Fatal(err)
				}
				raw[9]++
				if err := disk.WriteFileAtomic(mem, "wal/retired", raw); err != nil {
					t.Fatal(err)
				}
			}
			if s, err = start(tiny(fs), book, 5); err != nil {
				t.Fatal(err)
			}
			written := atomic.Int64{}
			fs.Set(disk.Rule{Op: disk.OpWrite, Name: failed, Hook: func(disk.Op, string) { written.Add(1) }})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			there := func() bool {
				_, err := mem.Stat(failed)
				return !errors.Is(err, iofs.ErrNotExist)
			}
			for there() && written.Load() == 0 && ctx.Err() == nil { // round and round
				if err := s.append(4000); err != nil && !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
				if err := s.wait(t); err != nil {
					t.Fatal(err)
				}
				s.trim(1)
			}
			if err := s.w.Close(); err != nil {
				t.Fatal(err)
			}
			if there() || written.Load() > 0 {
				t.Errorf("%s was written %d times; it is there: %v", failed, written.Load(), there())
			}
		})
	}
}
