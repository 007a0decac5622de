package figures

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Times are counted by their size: each doubling in four parts, so that a percentile is right to
// within an eighth. The first part has all up to 1<<shift ns.
const (
	shift   = 14 // 16 µs
	octaves = 22 // up to 69 s, and the last part has what is longer
	parts   = 4
	sizes   = octaves*parts + 1
)

// Latencies counts how long things take. The zero value has counted none.
type Latencies struct{ counts [sizes]atomic.Uint64 }

// Observe counts one.
func (l *Latencies) Observe(took time.Duration) { l.counts[sizeOf(took)].Add(1) }

// sizeOf is the part that a time belongs to.
func sizeOf(took time.Duration) int {
	n := uint64(max(took, 0)) >> shift
	if n == 0 {
		return 0
	}
	octave := bits.Len64(n) - 1
	if octave >= octaves {
		return sizes - 1
	}
	part := uint64(took) >> (shift + octave - 2) & (parts - 1) // the two bits below the highest
	return 1 + octave*parts + int(part)
}

// bounds are those of a part, in seconds.
func bounds(size int) (from, to float64) {
	if size == 0 {
		return 0, float64(uint64(1)<<shift) / 1e9
	}
	octave, part := (size-1)/parts, (size-1)%parts
	whole := float64(uint64(1)<<(shift+octave)) / 1e9
	return whole * (1 + float64(part)/parts), whole * (1 + float64(part+1)/parts)
}

// Total is what was counted so far.
func (l *Latencies) Total() Distribution {
	d := make(Distribution, sizes)
	last := 0
	for i := range d {
		if d[i] = l.counts[i].Load(); d[i] > 0 {
			last = i + 1
		}
	}
	return d[:last]
}

// Bounded are counts that were made between bounds of others, the last without a bound: each is
// held to be of the size of its bound.
func Bounded(counts []int64, bound func(int) time.Duration) Distribution {
	d := make(Distribution, sizes)
	last := 0
	for i, n := range counts {
		size := sizes - 1
		if i < len(counts)-1 {
			size = sizeOf(bound(i) - 1)
		}
		if d[size] += uint64(n); n > 0 {
			last = max(last, size+1)
		}
	}
	return d[:last]
}

// Distribution is how many there are of each size, without the zeros behind the last.
type Distribution []uint64

// plus adds others.
func (d Distribution) plus(other Distribution) Distribution {
	sum := make(Distribution, max(len(d), len(other)))
	copy(sum, d)
	for i, n := range other {
		sum[i] += n
	}
	return sum
}

// since is what came after before; ok: nothing went back.
func (d Distribution) since(before Distribution) (came Distribution, ok bool) {
	if len(d) > sizes || len(before) > len(d) {
		return nil, false
	}
	came = make(Distribution, len(d))
	copy(came, d)
	for i, n := range before {
		if n > came[i] {
			return nil, false
		}
		came[i] -= n
	}
	return came, true
}

// Quantile is the time in seconds that a share of them, 0 to 1, took at most; NaN: there are
// none.
func (d Distribution) Quantile(share float64) float64 {
	all := uint64(0)
	for _, n := range d {
		all += n
	}
	if all == 0 {
		return math.NaN()
	}
	rank, before := share*float64(all), 0.0
	for i, n := range d {
		if n == 0 {
			continue
		}
		if before+float64(n) >= rank {
			from, to := bounds(i)
			return from + (to-from)*(rank-before)/float64(n)
		}
		before += float64(n)
	}
	_, to := bounds(len(d) - 1)
	return to
}
