package figures

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/seeded"
)

// A percentile of whatever times is within an eighth of the true one.
func TestPercentilesAreNear(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	for range 200 {
		var l Latencies
		var all []float64
		center := math.Exp(random.Float64() * 18) // µs: up to a minute
		for range 1 + random.IntN(3000) {
			took := time.Duration(center * math.Exp(random.NormFloat64()/2) * 1e3)
			took = min(took, time.Minute)
			l.Observe(took)
			all = append(all, took.Seconds())
		}
		slices.Sort(all)
		for _, share := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
			got := l.Total().Quantile(share)
			at := int(math.Ceil(share*float64(len(all)))) - 1
			low, high := all[max(at, 0)], all[min(at+1, len(all)-1)]
			if got < low*0.8-16e-6 || got > high*1.25+16.4e-6 {
				t.Fatalf("%d times around %v µs: the %v percentile is %v, which is not near %v to %v", len(all), center, share, got, low, high)
			}
		}
	}
}

// Each time belongs to one part, whose bounds it lies between.
func TestATimeLiesWithinItsBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 2))
	for i := range 10_000 {
		took := time.Duration(random.Uint64() >> (1 + random.IntN(63)))
		if i == 0 {
			took = -1
		}
		size := sizeOf(took)
		from, to := bounds(size)
		if s := max(took, 0).Seconds(); s < from*0.999999 || s > to*1.000001 && size != sizes-1 {
			t.Fatalf("%v: part %d, from %v to %v", took, size, from, to)
		}
	}
}

func sample(at int, of map[int32]Counts) *Sample {
	return &Sample{Time: time.Unix(int64(at), 0), Brokers: of}
}

func TestRatesOfAClusterAreSums(t *testing.T) {
	began, again := time.Unix(1, 0), time.Unix(50, 0)
	p := Between(
		sample(100, map[int32]Counts{1: {Started: began, ProducedBytes: 10, Produce: Distribution{0, 1}}, 2: {Started: began, ProducedBytes: 100, LogBytes: 1}, 3: {Started: began, ProducedBytes: 5}}),
		sample(105, map[int32]Counts{1: {Started: began, ProducedBytes: 60, Produce: Distribution{0, 1, 4}}, 2: {Started: again, ProducedBytes: 1000, LogBytes: 7}, 4: {Started: began, ProducedBytes: 5000, LogBytes: 1}}),
	)
	if p.ProducedBytes != 10 { // of 1 alone: 2 began anew, 3 is silent, 4 is new
		t.Errorf("%v bytes a second", p.ProducedBytes)
	}
	if p.LogBytes != 8 || p.Brokers != 3 {
		t.Errorf("%v bytes of log on %d brokers", p.LogBytes, p.Brokers)
	}
	if from, to := bounds(2); p.ProduceP50 < from || p.ProduceP50 > to || !math.IsNaN(p.FetchP99) {
		t.Errorf("%+v", p)
	}
}

// What nobody says is not known, which is not 0; nor is a rate of what went back.
func TestWhatIsNotKnownIsNoZero(t *testing.T) {
	began := time.Unix(1, 0)
	p := Between(sample(1, nil), sample(6, nil))
	for _, v := range []float64{p.ProducedBytes, p.Requests, p.LogBytes, p.ProduceP99} {
		if !math.IsNaN(v) {
			t.Errorf("%+v", p)
		}
	}
	for _, now := range []Counts{{Started: began, Requests: 1}, {Started: began, Requests: 5, Fetch: Distribution{1}}, {Started: began, Requests: 5, Fetch: make(Distribution, 10_000)}} {
		p = Between(sample(1, map[int32]Counts{1: {Started: began, Requests: 5, Fetch: Distribution{2}}}), sample(6, map[int32]Counts{1: now}))
		if !math.IsNaN(p.Requests) {
			t.Errorf("%+v: %v", now, p.Requests)
		}
	}
	if p = Between(sample(6, map[int32]Counts{1: {Started: began}}), sample(6, map[int32]Counts{1: {Started: began}})); !math.IsNaN(p.Requests) {
		t.Errorf("of no time: %v", p.Requests)
	}
}

func TestAnHourIsBounded(t *testing.T) {
	var h Hour
	for i := range 3*Points + 7 {
		h.Add(Point{Time: time.Unix(int64(i), 0)})
		if i == 3 && len(h.After(time.Unix(1, 0))) != 2 {
			t.Error("of a part of an hour")
		}
	}
	all := h.After(time.Time{})
	if len(all) != Points || all[0].Time.Unix() != int64(2*Points+7) || all[Points-1].Time.Unix() != int64(3*Points+6) {
		t.Errorf("%d points, from %v to %v", len(all), all[0].Time, all[len(all)-1].Time)
	}
	if !slices.IsSortedFunc(all, func(a, b Point) int { return a.Time.Compare(b.Time) }) {
		t.Error("they are out of order")
	}
	if size := int(reflect.TypeFor[Point]().Size()) * Points; size > 160<<10 {
		t.Errorf("an hour takes %d bytes: docs/console.md says about 150 KB", size)
	}
}

// Counting costs no allocation.
func TestObservingAllocatesNothing(t *testing.T) {
	var l Latencies
	if n := testing.AllocsPerRun(100, func() { l.Observe(time.Millisecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What others have counted keeps its size, to within a part.
func TestCountsBetweenBounds(t *testing.T) {
	d := Bounded([]int64{3, 0, 5, 1}, func(i int) time.Duration { return 100 * time.Microsecond << i })
	if p := d.Quantile(0.3); p > 115e-6 || p < 80e-6 {
		t.Errorf("%v", p)
	}
	if p := d.Quantile(0.8); p > 459e-6 || p < 320e-6 {
		t.Errorf("%v", p)
	}
	if p := d.Quantile(1); p < 60 {
		t.Errorf("of the last: %v", p)
	}
	if len(Bounded([]int64{0, 0}, func(int) time.Duration { return 1 })) != 0 {
		t.Error("of nothing")
	}
}
