package cachetrace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Trace is the numbers of the blocks that are asked for, in order.
type Trace []uint64

// Options of a mixed trace: readers that come back to the blocks of a hot set,
// some often and most rarely, and scans that read long stretches of cold blocks in
// order, each block once.
type Options struct {
	Seed     uint64
	Requests int // 0: 400,000

	Hot int // blocks in the hot set. 0: 8192, which is 2 GiB
	// Skew is the exponent of the hot set's popularity: the block of rank r is
	// asked for in proportion to 1/r^Skew. 0: 1.
	Skew float64
	// Drift adds a block to the hot set every so many requests: it is the most
	// popular, the others fall by a rank each and the last one out, as blocks do
	// that grow old. 0: all stay as they are.
	Drift int

	ScanShare  float64 // of all requests that belong to scans, below 1. 0: 0.3; below 0: none
	Scans      int     // under way at the same time. 0: 4
	ScanLength int     // blocks in each. 0: 16,384, which is 4 GiB
}

func (o *Options) fill() error {
	if o.Requests == 0 {
		o.Requests = 400_000
	}
	if o.Hot == 0 {
		o.Hot = 8192
	}
	if o.Skew == 0 {
		o.Skew = 1
	}
	switch {
	case o.ScanShare == 0:
		o.ScanShare = 0.3
	case o.ScanShare < 0:
		o.ScanShare = 0
	}
	if o.Scans == 0 {
		o.Scans = 4
	}
	if o.ScanLength == 0 {
		o.ScanLength = 16_384
	}
	if o.Requests < 0 || o.Hot < 0 || o.Skew < 0 || o.Drift < 0 || o.ScanShare >= 1 || o.Scans < 0 || o.ScanLength < 0 {
		return fmt.Errorf("make a trace: %+v: want none below 0 and fewer scans than requests", *o)
	}
	return nil
}

// coldBlocks is where the blocks of scans begin: no hot set reaches it.
const coldBlocks = 1 << 40

// Mixed makes a trace. The same options make the same trace.
func Mixed(o Options) (Trace, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(o.Seed, 4))
	popularity := zipf(o.Hot, o.Skew)
	scans := make([]scan, o.Scans)
	fresh := uint64(coldBlocks)
	trace := make(Trace, o.Requests)
	for i := range trace {
		if rng.Float64() < o.ScanShare {
			s := &scans[rng.IntN(len(scans))]
			if s.left == 0 {
				*s = scan{next: fresh, left: o.ScanLength}
				fresh += uint64(o.ScanLength)
			}
			trace[i] = s.next
			s.next++
			s.left--
			continue
		}
		rank, _ := slices.BinarySearch(popularity, rng.Float64()*popularity[len(popularity)-1])
		newest := o.Hot - 1
		if o.Drift > 0 {
			newest += i / o.Drift
		}
		trace[i] = uint64(newest - rank)
	}
	return trace, nil
}

type scan struct {
	next uint64
	left int
}

// zipf returns the running sums of 1/r^skew: a number drawn evenly below the last
// falls to the rank whose sum is the first that is not below it. (The generator
// of math/rand takes no exponent of 1 or below, where measured popularity lies.)
func zipf(n int, skew float64) []float64 {
	sums := make([]float64, n)
	sum := 0.0
	for r := range sums {
		sum += math.Pow(float64(r+1), -skew)
		sums[r] = sum
	}
	return sums
}
