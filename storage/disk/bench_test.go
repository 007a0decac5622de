package disk_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

var (
	benchDir   = flag.String("bench-dir", "", "where the files of benchmarks lie; default the temporary directory")
	benchTurns = flag.Int("bench-turns", 5, "how often each way of writing has its turn")
	benchTime  = flag.Duration("bench-turn", 250*time.Millisecond, "how long a turn takes")
)

// way is one way to write durably.
type way struct {
	name string
	open func(b *testing.B, dir, name string) durable
}

type durable interface {
	WriteSync(bufs [][]byte, off int64) error
	Close() error
}

func ways(b *testing.B) []way {
	b.Helper()
	byOS := func(mode disk.IOMode) func(*testing.B, string, string) durable {
		return func(b *testing.B, dir, name string) durable {
			b.Helper()
			fsys, err := disk.OpenOSWith(dir, disk.OSOptions{IO: mode})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := fsys.IO(); err != nil {
				b.Skip(err)
			}
			f, err := fsys.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			return f
		}
	}
	raw := func(flags, rwf int) func(*testing.B, string, string) durable {
		return func(b *testing.B, dir, name string) durable {
			b.Helper()
			fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDWR|unix.O_CLOEXEC|flags, 0)
			if err != nil {
				b.Fatal(err)
			}
			return rawFile{fd, rwf}
		}
	}
	return []way{
		{"pwrite", byOS(disk.Pwrite)},
		{"rwf-dsync", raw(0, unix.RWF_DSYNC)},
		{"direct", raw(unix.O_DIRECT|unix.O_DSYNC, 0)},
		{"io_uring", byOS(disk.IOUring)},
	}
}

// rawFile writes with pwritev2 and its flags.
type rawFile struct{ fd, flags int }

func (f rawFile) WriteSync(bufs [][]byte, off int64) error {
	want := 0
	for _, buf := range bufs {
		want += len(buf)
	}
	n, err := unix.Pwritev2(f.fd, bufs, off, f.flags)
	if err == nil && n < want {
		err = fmt.Errorf("%d of %d bytes", n, want)
	}
	return err
}

func (f rawFile) Close() error { return unix.Close(f.fd) }

// BenchmarkWays compares the ways in turns (A B C D A B C D …), because the
// same way differs by a factor of two from one minute to the next here. For
// each it reports the median over the turns of its p50, rate and CPU a write, and
// the median of the ratios of its p50 to that of pwrite in the same turn.
func BenchmarkWays(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, files := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("size=%dKiB/files=%d", size>>10, files), func(b *testing.B) {
				compareWays(b, size, files)
			})
		}
	}
}

const benchFile = 32 << 20

func compareWays(b *testing.B, size, files int) {
	dir, err := os.MkdirTemp(*benchDir, "disk-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	all := ways(b)
	open := make([][]durable, len(all))
	for i, w := range all {
		for n := range files {
			name := fmt.Sprintf("%s-%d", w.name, n)
			zeroFilled(b, dir, name)
			f := w.open(b, dir, name)
			b.Cleanup(func() { _ = f.Close() })
			open[i] = append(open[i], f)
		}
	}
	p50 := make([][]float64, len(all))
	ratio := make([][]float64, len(all))
	rate := make([][]float64, len(all))
	cpu := make([][]float64, len(all))
	for turn := 0; b.Loop(); turn++ {
		if turn >= *benchTurns {
			continue
		}
		for i := range all {
			before := cpuTime(b)
			lat, mbs, writes := oneTurn(b, open[i], size)
			cpu[i] = append(cpu[i], float64((cpuTime(b)-before).Microseconds())/float64(writes))
			p50[i] = append(p50[i], lat)
			rate[i] = append(rate[i], mbs)
			ratio[i] = append(ratio[i], lat/p50[0][turn])
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, w := range all {
		b.ReportMetric(median(p50[i]), w.name+"-p50-µs")
		b.ReportMetric(median(rate[i]), w.name+"-MB/s")
		b.ReportMetric(median(ratio[i]), w.name+"-ratio")
		b.ReportMetric(median(cpu[i]), w.name+"-cpu-µs")
	}
}

func zeroFilled(b *testing.B, dir, name string) {
	b.Helper()
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		b.Fatal(err)
	}
	f, err := fsys.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < benchFile; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// oneTurn writes to all files at once, each from a goroutine of its own.
func oneTurn(b *testing.B, files []durable, size int) (p50µs, mbs float64, writes int) {
	b.Helper()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		each  []float64
		start = time.Now()
	)
	for _, f := range files {
		wg.Go(func() {
			buf := aligned(size)
			for i := range buf {
				buf[i] = byte(i * 31 >> 3)
			}
			var mine []float64
			for off := int64(0); time.Since(start) < *benchTime; off += int64(size) {
				for i := 0; i < len(buf); i += 512 {
					buf[i]++
				}
				at := time.Now()
				if err := f.WriteSync([][]byte{buf}, off%benchFile); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, float64(time.Since(at).Nanoseconds())/1e3)
			}
			mu.Lock()
			each = append(each, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return median(each), float64(len(each)*size) / 1e6 / time.Since(start).Seconds(), max(1, len(each))
}

// cpuTime is what this process has used, and the kernel on its behalf.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// aligned returns memory as O_DIRECT wants it.
func aligned(size int) []byte {
	const page = 4096
	buf := make([]byte, size+page)
	skip := (page - int(uintptr(unsafe.Pointer(&buf[0]))%page)) % page
	return buf[skip : skip+size]
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkReadBack reads what each way has just written, as a consumer that
// fell behind the memory of the log would: from the page cache, unless the way
// went past it.
func BenchmarkReadBack(b *testing.B) {
	dir, err := os.MkdirTemp(*benchDir, "disk-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		b.Fatal(err)
	}
	all := ways(b)
	rate := make([][]float64, len(all))
	buf := aligned(64 << 10)
	for i, w := range all {
		zeroFilled(b, dir, w.name)
		f := w.open(b, dir, w.name)
		b.Cleanup(func() { _ = f.Close() })
		all[i].open = func(*testing.B, string, string) durable { return f }
	}
	for turn := 0; b.Loop(); turn++ {
		if turn >= *benchTurns {
			continue
		}
		for i, w := range all {
			f := w.open(b, dir, w.name)
			for off := int64(0); off < benchFile; off += int64(len(buf)) {
				if err := f.WriteSync([][]byte{buf}, off); err != nil {
					b.Fatal(err)
				}
			}
			r, err := fsys.Open(w.name)
			if err != nil {
				b.Fatal(err)
			}
			at := time.Now()
			for off := int64(0); off < benchFile; off += int64(len(buf)) {
				if _, err := r.ReadAt(buf, off); err != nil {
					b.Fatal(err)
				}
			}
			rate[i] = append(rate[i], benchFile/1e6/time.Since(at).Seconds())
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, w := range all {
		b.ReportMetric(median(rate[i]), w.name+"-read-MB/s")
	}
}
