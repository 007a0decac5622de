package cold

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// onDisk is a partition of so many ranges of 32 MiB, in a directory.
func onDisk(b *testing.B, ranges int) (*world, Partition) {
	b.Helper()
	fs, err := disk.OpenOS(b.TempDir())
	must(b, err)
	w := newWorld(b, fs)
	id := partition(0)
	var of []metadata.Range
	next := storage.Offset(0)
	value := strings.Repeat("v", 16<<10-80)
	for range ranges {
		base := next
		var batches []batch.Batch
		for range 2048 {
			batches = append(batches, build(b, next, int64(next), value))
			next++
		}
		of = append(of, w.put(b, id, base, next, 256<<10, batches...))
	}
	return w, Partition{ID: id, Ranges: metadata.NewRanges(of...)}
}

// BenchmarkSequential reads a partition that no cache has: by a consumer that
// asks for 1 MiB at a time, and by a bare loop over the same bytes of the same
// bucket, 1 MiB at a time, without a look at them: into one buffer, which stays in
// the processor's caches, and into memory of their own, as readers need it.
func BenchmarkSequential(b *testing.B) {
	const ranges = 4
	w, p := onDisk(b, ranges)
	for _, memory := range []string{"one", "fresh"} {
		b.Run("by=loop/buffer="+memory, func(b *testing.B) {
			b.SetBytes(p.Ranges.Bytes())
			b.ReportAllocs()
			buf := make([]byte, 1<<20)
			for b.Loop() {
				for e := range p.Ranges.All() {
					at := e.IndexPosition - e.Bytes
					for at < e.IndexPosition {
						if memory == "fresh" {
							buf = make([]byte, 1<<20)
						}
						n := min(int64(len(buf)), e.IndexPosition-at)
						must(b, w.dir.ReadAt(context.Background(), objectKey(e.Object), buf[:n], at))
						at += n
					}
				}
			}
		})
	}
	for _, consumers := range []int{1, 4} {
		b.Run(fmt.Sprintf("by=reader/consumers=%d", consumers), func(b *testing.B) {
			b.SetBytes(p.Ranges.Bytes() * int64(consumers))
			b.ReportAllocs()
			pieces := uint64(0)
			for b.Loop() {
				r := open(b, Options{Bucket: w.dir, Key: objectKey, BlockCache: 1})
				errs := make(chan error)
				for range consumers {
					go func() {
						errs <- newClient(r, p).drain(Request{MaxBytes: 1 << 20, MinOne: true}, 0)
					}()
				}
				for range consumers {
					must(b, <-errs)
				}
				pieces += r.Stats().PieceLoads
				must(b, r.Close())
			}
			b.ReportMetric(float64(pieces)/float64(b.N), "pieces/op")
		})
	}
}

// BenchmarkRead is what a read costs whose piece is held.
func BenchmarkRead(b *testing.B) {
	w := newWorld(b, memory())
	p := w.fill(b, partition(0), 1, 64, 16<<10)
	r := open(b, Options{Bucket: w.dir, Key: objectKey})
	defer r.Close()
	c := newClient(r, p)
	q := Request{Reader: c, MaxBytes: 64 << 10}
	_, err := c.read(q)
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(p, q, c); err != nil {
			b.Fatal(err)
		}
	}
}
