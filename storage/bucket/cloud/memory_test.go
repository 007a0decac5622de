//go:build !race

package cloud

import (
	"io"
	"runtime"
	"testing"
)

// TestMemoryIsUsedAgain: an object is packed into the memory of the one before it, though it
// has more bytes. (The race detector has a sync.Pool forget things.)
func TestMemoryIsUsedAgain(t *testing.T) {
	s := &partStore{discards: true}
	b := bucketOf(s.answer)
	put := func(size int) {
		piece := make([]byte, 64<<10)
		if err := b.Put(t.Context(), "k", sized{writes(func(w io.Writer) error {
			for at := 0; at < size; at += len(piece) {
				if _, err := w.Write(piece[:min(len(piece), size-at)]); err != nil {
					return err
				}
			}
			return nil
		}), int64(size)}); err != nil {
			t.Fatal(err)
		}
	}
	put(5 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 20 {
		put(5<<20 + i<<10)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 40<<20 { // as many collections may come between
		t.Errorf("twenty objects of 5 MiB took %d MiB of memory", took>>20)
	}
}
