package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// produce appends one frame of 3064 bytes, if it is admitted.
func produce(t *testing.T, w *wal.WAL, i int64) error {
	t.Helper()
	if err := w.Admit(t.Context(), wal.Produce, 3064); err != nil {
		return err
	}
	defer w.Unadmit(3064)
	if _, err := w.Append(header(0, i), make([]byte, 3000), nil); err != nil {
		t.Fatalf("admitted, and refused: %v", err)
	}
	return nil
}

// TestFullDiskGivesUpWhatItCan: something else has filled the disk before the log
// has its capacity. What the owner can do without makes room, again and again, as
// it would in a log of that size.
func TestFullDiskGivesUpWhatItCan(t *testing.T) {
	const segments = 12
	o := small(disk.NewMem(disk.MemOptions{Capacity: segments * 128 << 10}))
	own := &reclaimer{}
	o.Owner = own
	w, err := wal.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	own.w = w
	payload := string(make([]byte, 3000))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := int64(0); i < 3*segments*(128<<10)/3064; {
		switch err := w.Admit(ctx, wal.Produce, len(payload)+72); {
		case errors.Is(err, wal.ErrFull) && ctx.Err() == nil:
			continue
		case err != nil:
			t.Fatalf("after %d frames: %v; %+v", i, err, w.Stats())
		}
		own.mu.Lock()
		h := header(1, i)
		ref, err := w.Append(h, []byte(payload), nil)
		if err != nil {
			t.Fatal(err)
		}
		own.frames = append(own.frames, held{h, ref, payload})
		w.Reclaimable(ref.Segment, frameBytes(own.frames[len(own.frames)-1]))
		own.mu.Unlock()
		w.Unadmit(len(payload) + 72)
		i++
	}
	if full := w.Fullness(); full > 0.5 {
		t.Errorf("fullness %.2f, and all of it can be given up", full)
	}
}

// TestFullDiskLeavesRoomForWhatMakesIt: where Produce is refused because the disk
// has no more, coordinators go on for a while, and what makes room for longer; what
// is left then is enough to copy a segment forward. That the disk is full shows.
func TestFullDiskLeavesRoomForWhatMakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{Capacity: 12 * 128 << 10})
		w, _ := open(t, small(mem))
		defer w.Close()
		var refs []wal.Ref
		fill := func(class wal.Class, n int) (appended int) {
			t.Helper()
			for ; appended < 10_000; appended++ {
				if err := w.Admit(t.Context(), class, n); err != nil {
					if !errors.Is(err, wal.ErrFull) || !errors.Is(err, unix.ENOSPC) {
						t.Fatal(err)
					}
					return appended
				}
				h := header(0, int64(len(refs)))
				if class == wal.Internal {
					h.Kind = wal.KindTrim
				}
				d := newDone()
				ref, err := w.Append(h, make([]byte, n-64), d)
				if err != nil {
					t.Fatalf("admitted, and refused: %v; class %d, %+v", err, class, w.Stats())
				}
				w.Unadmit(n)
				if err := d.wait(t); err != nil { // so that each has a block of its own
					t.Fatal(err)
				}
				if class != wal.Internal {
					refs = append(refs, ref)
				}
			}
			t.Fatal("nothing bounds what the log takes")
			return 0
		}
		synctest.Wait()
		if err := w.Stats().Short; err != nil || w.Fullness() > 0.1 {
			t.Errorf("before the disk is full: %v, fullness %.2f", err, w.Fullness())
		}
		fill(wal.Produce, 4032) // fills a block with its group: nothing is won by copying it
		if err := w.Stats().Short; !errors.Is(err, unix.ENOSPC) {
			t.Errorf("where the disk is full the log is short of room by %v", err)
		}
		if full := w.Fullness(); full < 0.99 {
			t.Errorf("fullness %.2f where produce is refused", full)
		}
		if n := fill(wal.Coordinator, 200); n < 5 {
			t.Errorf("%d commits of coordinators find room", n)
		}
		if n := fill(wal.Audit, 200); n < 3 {
			t.Errorf("%d records of the account of who did what find room", n)
		}
		if n := fill(wal.Internal, 72); n < 5 {
			t.Errorf("%d trims find room", n)
		}
		if s := w.Stats(); int64(s.Spares)*128<<10 < 128<<10 {
			t.Errorf("nothing is left to copy forward with: %+v", s)
		}
		w.ReleaseAll(refs)
		synctest.Wait()
		if err := w.Admit(t.Context(), wal.Produce, 3064); err != nil {
			t.Fatalf("after everything was released: %v", err)
		}
		w.Unadmit(3064)
	})
}

// TestFullDiskIsNotFilledOverAndOver: finding out that the disk is full takes all of
// it from everybody else for a moment, so it is not tried while the disk says so, and
// not again and again where it does not (a quota).
func TestFullDiskIsNotFilledOverAndOver(t *testing.T) {
	for name, capacity := range map[string]int64{"disk": 12*128<<10 + 64<<10, "quota": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := disk.NewMem(disk.MemOptions{Capacity: capacity})
				var full atomic.Bool
				var made atomic.Int64
				fs := &tap{FS: mem}
				fs.ask = func(op, name string) error {
					if op == "create" {
						made.Add(1)
					}
					if op == "sync" && full.Load() && strings.HasSuffix(name, fmt.Sprintf("segment-%06d", made.Load())) {
						return &iofs.PathError{Op: "fdatasync", Path: name, Err: unix.EDQUOT}
					}
					return nil
				}
				w, _ := open(t, small(fs))
				defer w.Close()
				synctest.Wait()
				full.Store(capacity == 0)
				var err error
				for i := int64(0); err == nil && i < 10_000; i++ {
					err = produce(t, w, i)
				}
				if !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
				before := made.Load()
				for range 100 {
					if err := w.Admit(t.Context(), wal.Produce, 3064); !errors.Is(err, wal.ErrFull) {
						t.Fatal(err)
					}
				}
				time.Sleep(500 * time.Millisecond)
				if n := made.Load() - before; n > 0 {
					t.Errorf("100 refusals have filled the disk %d times", n)
				}
				full.Store(false)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if n := made.Load() - before; capacity > 0 && n > 0 {
					t.Errorf("a disk that says it is full was filled %d times", n)
				}
				err = w.Stats().Short
				if capacity > 0 && err == nil || capacity == 0 && err != nil {
					t.Errorf("ten seconds later: %v", err)
				}
			})
		})
	}
}

// TestWhyTheLogIsShortIsToldOnce: that no segment can be made is told when it begins,
// when the reason becomes another, and when it ends.
func TestWhyTheLogIsShortIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Pointer[error]
		fs := &tap{FS: disk.NewMem(disk.MemOptions{})}
		fs.ask = func(op, name string) error {
			if err := failing.Load(); err != nil && op == "create" && strings.Contains(name, "segment") {
				return *err
			}
			return nil
		}
		reader, writer := io.Pipe()
		lines := make(chan string, 100)
		go func() {
			raw, _ := io.ReadAll(reader)
			lines <- string(raw)
		}()
		o := small(fs)
		o.Log = slog.New(slog.NewTextHandler(writer, nil))
		w, _ := open(t, o)
		fail := func(err error) {
			failing.Store(&err)
			if err == nil {
				failing.Store(nil)
			}
			for i := range int64(1000) {
				if produce(t, w, i) != nil {
					break
				}
			}
			time.Sleep(5 * time.Second)
		}
		fail(unix.EMFILE)
		fail(unix.EIO)
		if err := w.Stats().Short; !errors.Is(err, wal.ErrNoSegment) {
			t.Errorf("on an ill disk: %v", err)
		}
		fail(nil)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		said := <-lines
		at := 0
		for _, words := range []string{"level=WARN msg=\"no room for another WAL segment\"", "level=ERROR msg=\"the disk failed", "level=INFO msg=\"WAL segments can be made again\""} {
			n := strings.Index(said[at:], words)
			if n < 0 || strings.Count(said, words) != 1 {
				t.Fatalf("want once, in this order, %q in\n%s", words, said)
			}
			at += n
		}
	})
}

// TestStartOnAFullDiskSaysWhatToDo: a log that was killed needs one segment to start. If
// the disk has not got it, the error says so, and how much; then the log starts.
func TestStartOnAFullDiskSaysWhatToDo(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	s, err := start(tiny(mem), &ledger{acked: map[int64][]byte{}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.append(3000), s.wait(t)); err != nil {
		t.Fatal(err)
	}
	killed, book := mem.Clone(), s.book.copy()
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
	for op, refusals := range map[string]int{"create": 2, "allocate": 1} { // the note of what is retired, and the segment
		for k := 1; k <= refusals; k++ {
			n := 0
			o := tiny(&tap{FS: killed.Clone(), ask: func(is, _ string) error {
				if is == op {
					if n++; n == k {
						return unix.ENOSPC
					}
				}
				return nil
			}})
			_, err := start(o, book, 2)
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("%s %d finds a full disk: %v", op, k, err)
			}
			for _, words := range []string{"the disk is full", "32768 bytes, in wal", "make room for it", "start again"} {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%s %d finds a full disk: %q lacks %q", op, k, err, words)
				}
			}
		}
	}
	if s, err = start(tiny(killed), book, 2); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := s.w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLogThatCannotBeShortenedEndsSomewhere: a log goes beyond its capacity by what
// copying forward takes. If that wins nothing, it is full in the end, for all.
func TestLogThatCannotBeShortenedEndsSomewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny(disk.NewMem(disk.MemOptions{}))
		own := &leaky{}
		o.Owner = own
		w, err := wal.Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		own.w.Store(w)
		defer w.Close()
		for i := range int64(200) {
			if w.Admit(t.Context(), wal.Produce, 3064) == nil {
				ref, err := w.Append(header(0, i), make([]byte, 3000), nil)
				w.Unadmit(3064)
				if err == nil && i%2 == 0 { // so that copying forward seems worth it
					w.Release(ref)
				}
			}
			synctest.Wait()
			if s := w.Stats(); s.AllocatedBytes > o.Capacity+3*int64(o.SegmentSize) {
				t.Fatalf("%d KiB of segments, capacity %d KiB", s.AllocatedBytes>>10, o.Capacity>>10)
			}
		}
		if own.copies.Load() == 0 {
			t.Error("nothing was copied forward: the test shows nothing")
		}
	})
}

// leaky copies forward, gives the copies up, and not what it has copied.
type leaky struct {
	w      atomic.Pointer[wal.WAL]
	copies atomic.Int64
}

func (*leaky) Replay(wal.Header, wal.Ref, []byte) error { return nil }

func (l *leaky) Relocate(ctx context.Context, _ uint32) error {
	w := l.w.Load()
	if s := w.Stats(); s.AllocatedBytes > 4*s.CapacityBytes {
		return errors.New("it grows without an end")
	}
	for range 12 {
		h := header(0, 0)
		h.Copy = true
		if err := w.Admit(ctx, wal.Internal, 3064); err != nil {
			return err
		}
		ref, err := w.Append(h, make([]byte, 3000), nil)
		w.Unadmit(3064)
		if err != nil {
			return err
		}
		w.Release(ref) // the copy; the oldest segment stays, and so do all behind it
		l.copies.Add(1)
	}
	return nil
}
