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
// otter makes its tables once, for as many values as it is told of. A cache that
// is empty needs none of that size, and many a broker's stays so; it begins with
// small ones. They are exchanged when half of the capacity is taken: before that
// nothing is pushed out, so that no count of who asked is missed.
type frequency[K comparable, V any] struct {
	options otter.Options[K, *entry[V]]
	full    int   // options.InitialCapacity of the large tables
	half    int64 // bytes; the small tables never hold as many
	ledger  *ledger[K, V]

	// changing is shared by who changes entries; who exchanges the tables has it
	// alone. Readers go without: what they find in tables that were just exchanged
	// was there when they began.
	changing sync.RWMutex
	entries  atomic.Pointer[otter.Cache[K, *entry[V]]]
	grown    atomic.Bool
}

const (
	// rememberedQuarters is for how many quarters of the values that fit in the
	// cache there is room in the counts of how often keys were asked for. otter makes
	// room for the next power of two and halves the counts by what it was asked for:
	// a little more than twice, and the counts of a number of values that is itself a
	// power of two have twice the room. With room for once, 0.02 to 0.03 of the
	// optimum's hits are lost to counts that run together and are halved too often;
	// with room for three or four times, counts are halved so rarely that 0.03 to 0.2
	// is lost while the hot set moves (BenchmarkHitRatio of cachetrace, traces mixed
	// and drift).
	rememberedQuarters = 9
	// maxRemembered bounds that: 8 MiB of counts, and a table to match. They grow
	// with the number of values beyond it.
	maxRemembered = 1 << 20
	// remembersAtFirst is the same for the small tables.
	remembersAtFirst = 16
)

func newFrequency[K comparable, V any](capacity, typical int64, l *ledger[K, V]) *frequency[K, V] {
	f := &frequency[K, V]{
		full:   int(min(capacity/typical*rememberedQuarters/4, maxRemembered)),
		half:   capacity / 2,
		ledger: l,
		options: otter.Options[K, *entry[V]]{
			MaximumWeight:   uint64(max(capacity, 1)), // with 0 the cache gives it nothing to keep
			InitialCapacity: remembersAtFirst,
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
		},
	}
	f.grown.Store(f.full <= remembersAtFirst)
	f.entries.Store(otter.Must(&f.options))
	return f
}

func (f *frequency[K, V]) get(key K) *entry[V] {
	e, _ := f.entries.Load().GetIfPresent(key)
	return e
}

func (f *frequency[K, V]) put(key K, e *entry[V]) {
	// The ledger has counted this entry, and each that came here before it: those
	// that found less than half, together, are less than half.
	if !f.grown.Load() && f.ledger.weight.Load() >= f.half {
		f.grow()
	}
	f.changing.RLock()
	defer f.changing.RUnlock()
	f.entries.Load().Set(key, e)
}

// grow exchanges the tables. They have pushed out nothing, and the new ones have
// no reason to: what is kept stays.
func (f *frequency[K, V]) grow() {
	f.changing.Lock()
	defer f.changing.Unlock()
	if f.grown.Load() {
		return
	}
	f.options.InitialCapacity = f.full
	entries := otter.Must(&f.options)
	for key, e := range f.entries.Load().All() {
		entries.Set(key, e)
	}
	f.entries.Store(entries)
	f.grown.Store(true)
}

func (f *frequency[K, V]) remove(key K, e *entry[V], reason Reason) {
	f.changing.RLock()
	defer f.changing.RUnlock()
	f.entries.Load().ComputeIfPresent(key, func(found *entry[V]) (*entry[V], otter.ComputeOp) {
		if e != nil && found != e {
			return found, otter.CancelOp
		}
		found.reason = reason
		return nil, otter.InvalidateOp
	})
}

func (f *frequency[K, V]) settle() { f.entries.Load().CleanUp() }

func (f *frequency[K, V]) all() iter.Seq2[K, *entry[V]] { return f.entries.Load().All() }

// stopped is a clock for a cache in which no time passes: without it otter reads
// the time at every call and has no use for it.
type stopped struct{}

func (stopped) NowNano() int64                      { return 0 }
func (stopped) Tick(time.Duration) <-chan time.Time { return nil }
