package wal_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestSmallerCapacityGivesFilesBack: what a log has beyond a capacity that was made
// smaller goes back to the disk as it comes free, in the life that frees it and by the
// next start.
func TestSmallerCapacityGivesFilesBack(t *testing.T) {
	for name, late := range map[string]bool{"free before the restart": false, "free after it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := tiny(disk.NewMem(disk.MemOptions{}))
				smaller := o.Capacity
				o.Capacity *= 4
				w, _ := open(t, o)
				var refs []wal.Ref
				for i := range int64(150) {
					refs = append(refs, add(t, w, header(0, i), make([]byte, 3960), nil))
					synctest.Wait()
				}
				if s := w.Stats(); s.AllocatedBytes < 2*smaller {
					t.Fatalf("%d bytes are no more than twice %d", s.AllocatedBytes, smaller)
				}
				if !late {
					w.ReleaseAll(refs)
					synctest.Wait()
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				o.Capacity = smaller
				w, own := open(t, o)
				defer w.Close()
				if late {
					for _, f := range own.frames {
						w.Release(f.ref)
					}
				}
				synctest.Wait()
				if s := w.Stats(); s.AllocatedBytes > smaller {
					t.Errorf("the log takes %d bytes, capacity %d; %+v", s.AllocatedBytes, smaller, s)
				}
				if n := len(segmentFiles(t, o.FS)); n > int(smaller)/o.SegmentSize {
					t.Errorf("%d files are there", n)
				}
			})
		})
	}
}

// TestKilledBeyondItsCapacity: a log that was killed when it was beyond its capacity,
// with an oldest segment that is all live, has the spares to copy that forward, and so
// comes down to where it takes records again.
func TestKilledBeyondItsCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		o := tiny(mem)
		o.MaxPayload = 12 << 10
		smaller := 12 * int64(o.SegmentSize)
		o.Capacity *= 4
		w, _ := open(t, o)
		for i := range int64(100) {
			add(t, w, header(0, i), make([]byte, 3960), nil)
			synctest.Wait()
		}
		killed := mem.Clone()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		o.FS, o.Capacity = killed, smaller
		w, own := open(t, o)
		defer w.Close()
		own.mu.Lock()
		kept := own.frames[:0]
		for i, f := range own.frames {
			if i < 8 { // a segment and more
				kept = append(kept, f)
			} else {
				w.Release(f.ref)
			}
		}
		own.frames = kept
		own.mu.Unlock()
		for range 10 {
			if err := w.Admit(t.Context(), wal.Produce, 4096); err == nil {
				return
			} else if !errors.Is(err, wal.ErrFull) {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		t.Errorf("the log stays full: %+v", w.Stats())
	})
}

// TestSparseCopiesAreCopiedTogether: where each life was killed behind a few copies, and
// left a segment that is hardly filled, copying them together wins nearly all of it.
func TestSparseCopiesAreCopiedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		o := small(mem)
		o.Capacity, o.MaxPayload = 8*int64(128<<10), 8<<10
		for life := range int64(12) {
			o.FS = mem
			w, _ := open(t, o)
			h := header(0, life)
			h.Copy = true
			if _, err := w.Append(h, make([]byte, 3000), nil); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			mem = mem.Clone()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		o.FS = mem
		w, _ := open(t, o)
		defer w.Close()
		for range 10 {
			if w.Admit(t.Context(), wal.Produce, 4096) == nil {
				return
			}
			synctest.Wait()
		}
		t.Errorf("the log stays full: %+v", w.Stats())
	})
}
