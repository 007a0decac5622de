package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
)

// refuses reports whether the log of these options is refused as damaged.
func refuses(o wal.Options) (bool, error) {
	o.Owner = &owner{}
	w, err := wal.Open(context.Background(), o)
	if err == nil {
		return false, w.Close()
	}
	return errors.As(err, new(*wal.CorruptionError)), err
}

// TestLogAgainstItsTwin runs random operations on a log, and on a map that does
// the same without a disk: appends, reads from memory and file, trims, copies
// forward, clean restarts, kills and power cuts.
func TestLogAgainstItsTwin(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		mem := disk.NewMem(disk.MemOptions{})
		book := &ledger{acked: map[int64][]byte{}}
		life := int64(1)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		s, err := start(tiny(mem), book, life)
		if err != nil {
			t.Fatal(err)
		}
		restart := func(what string, next *disk.Mem) {
			life++
			kept := book.copy()
			if next != mem {
				_ = s.w.Close()
			}
			mem, book = next, kept
			if s, err = start(tiny(mem), book, life); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(t, "frames") {
					err := s.append(rapid.IntRange(16, 4000).Draw(t, "size"))
					if errors.Is(err, wal.ErrFull) {
						s.trim(2)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			},
			"wait": func(t *rapid.T) {
				if s.last != nil {
					<-s.last.ch
					if s.last.err != nil {
						t.Fatal(s.last.err)
					}
				}
			},
			"flush": func(t *rapid.T) {
				if err := s.w.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			"trim": func(t *rapid.T) { s.trim(rapid.IntRange(0, 40).Draw(t, "keep")) },
			"read": func(t *rapid.T) {
				if err := s.w.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				s.own.mu.Lock() // as a partition's lock: refs do not move meanwhile
				defer s.own.mu.Unlock()
				var refs []wal.Ref
				for _, f := range s.own.frames {
					refs = append(refs, f.ref)
				}
				payloads, _, err := s.w.Read(header(0, 0).Partition, wal.KindData, refs, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, f := range s.own.frames {
					if string(payloads[i]) != f.payload {
						t.Fatalf("frame %d from the file: %.20q", f.header.Offset, payloads[i])
					}
					if b, pin, ok := s.w.Pin(f.ref); ok {
						if string(b) != f.payload {
							t.Fatalf("frame %d from memory: %.20q", f.header.Offset, b)
						}
						pin.Release()
					}
				}
			},
			"close": func(t *rapid.T) {
				if err := s.w.Close(); err != nil {
					t.Fatal(err)
				}
				restart("clean restart", mem)
			},
			"kill": func(*rapid.T) { c := book.copy(); m := mem.Clone(); book = mergeTrim(c, book); restart("kill -9", m) },
			"power cut": func(*rapid.T) {
				c := book.copy()
				m := mem.Clone().Crash(rng)
				book = mergeTrim(c, book)
				restart("power cut", m)
			},
		})
		if err := s.w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// mergeTrim keeps what was acked before a crash, and what was trimmed since.
func mergeTrim(before, now *ledger) *ledger {
	before.trimmed = now.copy().trimmed
	return before
}

// TestConcurrentUse appends, reads, pins and releases from many goroutines.
func TestConcurrentUse(t *testing.T) { onEveryDisk(t, concurrentUse) }

func concurrentUse(t *testing.T, fs disk.FS) {
	o := small(fs)
	o.Capacity = 8 << 20
	w, _ := open(t, o)
	var all sync.WaitGroup
	for p := range int32(8) {
		all.Go(func() {
			var live []held
			order := int64(0) // of completions: set by the committer's goroutine alone
			rng := rand.New(rand.NewPCG(uint64(p), 3))
			for i := range int64(1500) {
				payload := fmt.Appendf(make([]byte, rng.IntN(1500)), "%d/%d", p, i)
				err := w.Admit(context.Background(), wal.Produce, len(payload)+64)
				for ; errors.Is(err, wal.ErrFull); err = w.Admit(context.Background(), wal.Produce, len(payload)+64) {
					for _, f := range live { // the oldest segment may be kept by us
						w.Release(f.ref)
					}
					live = nil
				}
				if err != nil {
					t.Error(err)
					return
				}
				d := newDone()
				ref, err := w.Append(header(p, i), payload, completion(func(err error) {
					if order != i {
						t.Errorf("partition %d: completion %d came when %d was due", p, i, order)
					}
					order++
					d.Committed(err)
				}))
				w.Unadmit(len(payload) + 64)
				if err != nil {
					t.Error(err)
					return
				}
				live = append(live, held{header(p, i), ref, string(payload)})
				if rng.IntN(8) == 0 {
					<-d.ch
					f := live[rng.IntN(len(live))]
					if got, _, err := w.Read(f.header.Partition, wal.KindData, []wal.Ref{f.ref}, nil); err != nil || string(got[0]) != f.payload {
						t.Errorf("read: %v", err)
						return
					}
				}
				if b, pin, ok := w.Pin(live[rng.IntN(len(live))].ref); ok {
					if len(b) == 0 {
						t.Error("pinned nothing")
					}
					pin.Release()
				}
				for len(live) > 40 {
					w.Release(live[0].ref)
					live = live[1:]
				}
			}
			for _, f := range live {
				w.Release(f.ref)
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
