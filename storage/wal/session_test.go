package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
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
