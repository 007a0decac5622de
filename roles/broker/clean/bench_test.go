package clean

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// BenchmarkClean compacts a partition in which each key has two records of 64 bytes,
// the second of them as late as can be, out of a bucket in memory, or, with many keys,
// in a directory: by all rounds that it takes with that memory for keys. MB/s are bytes of the partition as
// it was; peak-MiB is what the heap grew by at most, live-MiB without what the garbage
// collector had not got to; MB/cpu-s counts the time of processors, on a busy machine.
func BenchmarkClean(b *testing.B) {
	const mib = 1 << 20
	for _, c := range []struct {
		keys   int
		memory int64
	}{{100_000, 128 * mib}, {1_000_000, 1 * mib}, {10_000_000, 128 * mib}} {
		for _, codec := range []batch.Codec{batch.None, batch.LZ4} {
			b.Run(fmt.Sprintf("keys=%d/memory=%dMiB/codec=%s", c.keys, c.memory/mib, codec), func(b *testing.B) { benchmarkClean(b, c.keys, c.memory, codec) })
		}
	}
}

func benchmarkClean(b *testing.B, keys int, memory int64, codec batch.Codec) {
	var rounds, written, read int64
	var peak, live uint64
	var bytes int64
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		if keys >= 1_000_000 { // more than belongs into memory
			dir, err := disk.OpenOS(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			if w.memory, err = bucket.NewDir(dir, "."); err != nil {
				b.Fatal(err)
			}
			w.bucket = bucket.NewFaulty(w.memory)
		}
		w.fill(2*keys, keys, codec)
		size := w.partition().Ranges().Bytes()
		b.SetBytes(size)
		c := cleaning(b, w, func(o *Options) { o.Limits = DefaultLimits(); o.KeyMemory, o.Patience = memory, 0 })
		debug.FreeOSMemory()
		stop := watchHeap(&peak, &live)
		begun := processorTime(b)
		b.StartTimer()
		for oneRound(c) { // without the world's own look at what came of it, which would be timed too
		}
		b.StopTimer()
		cpu += processorTime(b) - begun
		bytes += size
		stop()
		if s := c.Stats(); s.Failures > 0 || s.Removed != int64(keys) {
			b.Fatalf("%+v", s)
		} else {
			rounds, written, read = s.Rounds, s.WrittenBytes, s.ReadBytes
		}
		b.ReportMetric(float64(read)/float64(size), "read/B")
		b.ReportMetric(float64(written)/float64(size), "written/B")
		b.StartTimer()
	}
	b.ReportMetric(float64(bytes)/1e6/cpu.Seconds(), "MB/cpu-s")
	b.ReportMetric(float64(rounds), "rounds")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(live)/(1<<20), "live-MiB")
}

// processorTime is what this process has used of it.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill uploads records of keys in turn, in batches of 16 KiB and ranges of 64 MiB.
func (w *world) fill(records, keys int, codec batch.Codec) {
	value := bytes.Repeat([]byte("value "), 8)
	held := 0
	for i := 0; i < records; {
		b := batch.NewBuilder(batch.BuilderOptions{Codec: codec, BaseOffset: w.next})
		for ; i < records && b.Size() < 16<<10; i++ {
			b.Add(w.now.UnixMilli(), binary.BigEndian.AppendUint64(nil, uint64(i%keys)), value)
		}
		built, err := b.Build()
		if err != nil {
			w.t.Fatal(err)
		}
		w.next = built.NextOffset()
		w.batches = append(w.batches, built)
		if held += len(built); held >= 64<<20 || i == records {
			w.upload(len(w.batches))
			w.batches, held = nil, 0
		}
	}
}

// watchHeap notes the most that the heap grows to, and what of it the last collection
// found in use, until it is stopped.
func watchHeap(peak, live *uint64) (stop func()) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	runtime.GC()
	metrics.Read(samples)
	base := [2]uint64{samples[0].Value.Uint64(), samples[1].Value.Uint64()}
	ticker, done, ended := time.NewTicker(5*time.Millisecond), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				metrics.Read(samples)
				for i, most := range []*uint64{peak, live} {
					if now := samples[i].Value.Uint64(); now > base[i] {
						*most = max(*most, now-base[i])
					}
				}
			}
		}
	}()
	return func() { ticker.Stop(); close(done); <-ended }
}
