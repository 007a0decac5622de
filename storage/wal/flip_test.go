package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/tally"
)

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

// openDamaged opens a log that was changed behind its back. It must refuse, and again
// when it is opened once more, or hold all that was acked, whole.
func openDamaged(fs disk.FS, book *ledger) (refused bool, err error) {
	s, err := start(bits(fs), book.copy(), 9)
	if err == nil {
		return false, s.w.Close()
	}
	if !damaged(err) {
		return false, err
	}
	if s, again := start(bits(fs), book.copy(), 9); again == nil {
		return true, errors.Join(fmt.Errorf("was refused (%w), and opens the second time", err), s.w.Close())
	} else if !damaged(again) {
		return true, again
	}
	return true, nil
}

func damaged(err error) bool {
	return errors.As(err, new(*wal.CorruptionError)) || errors.As(err, new(*wal.UnknownFormatError))
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
	tally.Log(t, tally.Counts{"bits_flipped": int64(refused + harmless)})
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

// TestRefusedStartLeavesTheNoteOfACleanEnd: whatever a start is refused for before it
// writes a segment, the next one knows as well as it did where the log ended, and takes
// no lost segment for the end of a log that was killed.
func TestRefusedStartLeavesTheNoteOfACleanEnd(t *testing.T) {
	mem, book := stored(t)
	names := segmentFiles(t, mem)
	newest, highest := "", uint64(0)
	if err := wal.Inspect(mem, "wal", func(i wal.Inspected) error {
		if i.Sequence > highest {
			newest, highest = i.File, i.Sequence
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, open func(fs *disk.Mem) error) (refused bool) {
		t.Helper()
		fs := mem.Clone()
		if open(fs) == nil {
			return false
		}
		if err := fs.Remove("wal/" + newest); err != nil {
			t.Fatal(err)
		}
		if no, err := openDamaged(fs, book); err != nil || !no {
			t.Errorf("%s, then %s of %q is gone: refused %v, %v", what, newest, names, no, err)
		}
		return true
	}
	for _, op := range []string{"open", "read", "create", "allocate", "remove", "syncdir"} {
		for k := int64(1); refuse(fmt.Sprintf("%s %d fails", op, k), func(fs *disk.Mem) error {
			var n atomic.Int64
			tapped := &tap{FS: fs, ask: func(is, _ string) error {
				if is == op && n.Add(1) == k {
					return unix.EIO
				}
				return nil
			}}
			if op == "create" || op == "allocate" {
				dropSpares(t, fs) // so that the start has to make one
			}
			s, err := start(bits(tapped), book.copy(), 2)
			if err == nil {
				_ = s.w.Close()
			}
			return err
		}); k++ {
		}
	}
	refuse("the owner refuses", func(fs *disk.Mem) error {
		o := bits(fs)
		o.Owner = unwilling{}
		_, err := wal.Open(t.Context(), o)
		return err
	})
	refuse("the start is called off", func(fs *disk.Mem) error {
		o := bits(fs)
		o.Owner = &owner{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := wal.Open(ctx, o)
		return err
	})
}

// unwilling takes no frame.
type unwilling struct{}

func (unwilling) Replay(wal.Header, wal.Ref, []byte) error { return errors.New("unwilling") }
func (unwilling) Relocate(context.Context, uint32) error   { return nil }

// dropSpares removes the files that were never used.
func dropSpares(t *testing.T, fs disk.FS) {
	t.Helper()
	for _, name := range segmentFiles(t, fs) {
		b, err := disk.ReadFile(fs, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(b, []byte{0}) == len(b) {
			if err := fs.Remove("wal/" + name); err != nil {
				t.Fatal(err)
			}
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
