package floor

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
)

type counter struct{ n atomic.Int64 }

func (c *counter) Committed(err error) {
	if err == nil {
		c.n.Add(1)
	}
}

func TestLoopCommitsAndWraps(t *testing.T) {
	l, err := Open(disk.NewMem(disk.MemOptions{}), "log", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var c counter
	payload := make([]byte, 10_000)
	for range 1000 {
		if err := l.Append(payload, &c); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c.n.Load() != 1000 {
		t.Fatalf("%d of 1000 appends were committed", c.n.Load())
	}
}

// BenchmarkAppend drives the loop and the log in turn, and reports the log's
// share of the loop's rate (figure F4).
func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	loop, err := OpenLoop(dir, 256<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer loop.Close()
	ours, err := OpenWAL(dir, 256<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer ours.Close()
	for _, s := range Shapes {
		b.Run(fmt.Sprintf("size=%dKiB/inflight=%d", s.Size>>10, s.InFlight), func(b *testing.B) {
			for _, a := range []Appender{ours, loop} { // every segment has been written once
				if _, err := Drive(a, s, s.Appends()); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(2 * s.Size * s.Appends()))
			var ratios []float64
			var last [2]Result
			for b.Loop() {
				for i, a := range []Appender{ours, loop} {
					if last[i], err = Drive(a, s, s.Appends()); err != nil {
						b.Fatal(err)
					}
				}
				ratios = append(ratios, last[0].Rate()/last[1].Rate())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-floor")
			b.ReportMetric(last[0].Rate(), "appends/s")
			b.ReportMetric(last[1].Rate(), "floor-appends/s")
			b.ReportMetric(float64(last[0].P50.Microseconds()), "p50-us")
			b.ReportMetric(float64(last[1].P50.Microseconds()), "floor-p50-us")
			b.ReportMetric(float64(last[0].P99.Microseconds()), "p99-us")
			b.ReportMetric(float64(last[1].P99.Microseconds()), "floor-p99-us")
		})
	}
}
