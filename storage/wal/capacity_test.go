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
				w, own := open(t, o)
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
				w, own = open(t, o)
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

// TestFullLogDoesNotGrowOverRestarts: however often a full log is killed, and begins to
// copy forward anew, it takes no more beyond its capacity.
func TestFullLogDoesNotGrowOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		o := tiny(mem)
		most := int64(0)
		for life := range int64(30) {
			w, own := open(t, o)
			for i, f := range own.frames { // half of it goes, in each segment
				if i%2 == int(life%2) {
					w.Release(f.ref)
				}
			}
			own.mu.Lock()
			kept := own.frames[:0]
			for i, f := range own.frames {
				if i%2 != int(life%2) {
					kept = append(kept, f)
				}
			}
			own.frames = kept
			own.mu.Unlock()
			for i := range int64(100) {
				if err := w.Admit(t.Context(), wal.Produce, 4096); err != nil {
					break
				}
				own.mu.Lock()
				h, payload := header(0, life*1000+i), make([]byte, 3960)
				ref, err := w.Append(h, payload, nil)
				own.frames = append(own.frames, held{h, ref, string(payload)})
				own.mu.Unlock()
				w.Unadmit(4096)
				if err != nil {
					t.Error(err)
					break
				}
				synctest.Wait()
			}
			most = max(most, w.Stats().AllocatedBytes)
			o.FS = mem.Clone()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			mem = o.FS.(*disk.Mem)
		}
		if most > o.Capacity+4*int64(o.SegmentSize) {
			t.Errorf("the log took %d KiB, capacity %d KiB", most>>10, o.Capacity>>10)
		}
	})
}
