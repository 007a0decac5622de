package cache

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// frequency is the policy WTinyLFU, by otter: a window of a hundredth of the
// capacity that takes what is new, and a main part that takes from it what was
// asked for more often than what would have to go. The sizes of both adapt to
// how well they do.
//
// otter is asked for eviction by weight only. With an expiry of its own it would
// start a goroutine in New, and with its default executor one for each round of
// housekeeping: here that is done by whoever calls.
//
// Its tables are made by the first put: a broker that reads nothing from the
// bucket has none.
type frequency[K comparable, V any] struct {
	options otter.Options[K, *entry[V]]
	first   sync.Once
	entries atomic.Pointer[otter.Cache[K, *entry[V]]] // nil before the first put
}

const (
	// remembered is for how many times the values that fit in the cache there is
	// room in the counts of how often keys were asked for. With room for once,
	// 0.02 of the optimum's hits are lost to counts that run together and are
	// halved too often; with room for three or four times, counts are halved so
	// rarely that 0.03 to 0.2 is lost while the hot set moves (BenchmarkHitRatio of
	// cachetrace, traces mixed and drift).
	remembered = 2
	// maxRemembered bounds that: 8 MiB of counts, and a table to match. They grow with the number of
	// values beyond it.
	maxRemembered = 1 << 20
)

func newFrequency[K comparable, V any](capacity, typical int64, l *ledger[K, V]) *frequency[K, V] {
	return &frequency[K, V]{options: otter.Options[K, *entry[V]]{
		MaximumWeight:   uint64(max(capacity, 1)), // with 0 the cache gives it nothing to keep
		InitialCapacity: int(min(capacity/typical*remembered, maxRemembered)),
		Weigher:         func(_ K, e *entry[V]) uint32 { return e.weight },
		Executor:        func(task func()) { task() },
		Clock:           stopped{},
		// Called once for each entry, under the lock of its place in the table.
		OnAtomicDeletion: func(e otter.DeletionEvent[K, *entry[V]]) {
			switch e.Cause {
			case otter.CauseOverflow:
				l.removed(e.Key, e.Value, Evicted)
			case otter.CauseReplacement:
				l.removed(e.Key, e.Value, Replaced)
			default:
				l.removed(e.Key, e.Value, e.Value.reason)
			}
		},
	}}
}

func (f *frequency[K, V]) get(key K) *entry[V] {
	entries := f.entries.Load()
	if entries == nil {
		return nil
	}
	e, _ := entries.GetIfPresent(key)
	return e
}

func (f *frequency[K, V]) put(key K, e *entry[V]) {
	f.first.Do(func() { f.entries.Store(otter.Must(&f.options)) })
	f.entries.Load().Set(key, e)
}

func (f *frequency[K, V]) remove(key K, e *entry[V], reason Reason) {
	entries := f.entries.Load()
	if entries == nil {
		return
	}
	entries.ComputeIfPresent(key, func(found *entry[V]) (*entry[V], otter.ComputeOp) {
		if e != nil && found != e {
			return found, otter.CancelOp
		}
		found.reason = reason
		return nil, otter.InvalidateOp
	})
}

func (f *frequency[K, V]) settle() {
	if entries := f.entries.Load(); entries != nil {
		entries.CleanUp()
	}
}

func (f *frequency[K, V]) all() iter.Seq2[K, *entry[V]] {
	if entries := f.entries.Load(); entries != nil {
		return entries.All()
	}
	return func(func(K, *entry[V]) bool) {}
}

// stopped is a clock for a cache in which no time passes: without it otter reads
// the time at every call and has no use for it.
type stopped struct{}

func (stopped) NowNano() int64                      { return 0 }
func (stopped) Tick(time.Duration) <-chan time.Time { return nil }
