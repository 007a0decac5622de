package wal_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

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
