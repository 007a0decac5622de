package cache

import (
	"sync"
	"sync/atomic"
)

// Reason says why a value left the cache, or did not get in.
type Reason uint8

// The reasons.
const (
	Evicted  Reason = iota // to keep within the capacity; also a value that the policy turned away
	Expired                // it was older than the TTL
	Replaced               // another was put for its key
	Deleted                // by Delete
	Refused                // it never was in: too heavy, or without weight
	reasons
)

// String is the reason as metrics label it.
func (r Reason) String() string {
	return [reasons]string{"evicted", "expired", "replaced", "deleted", "refused"}[r]
}

// Stats counts what happened since New.
type Stats struct {
	Hits, Misses uint64 // of Get
	// Refused values were not kept because they are too heavy, or weigh nothing.
	Refused uint64
	// Values that left, by reason.
	Evicted, Expired, Replaced, Deleted uint64
}

// Stats returns the counts.
func (c *Cache[K, V]) Stats() Stats {
	l := &c.ledger
	return Stats{
		Hits:     c.hits.Load(),
		Misses:   c.misses.Load(),
		Refused:  l.removals[Refused].Load(),
		Evicted:  l.removals[Evicted].Load(),
		Expired:  l.removals[Expired].Load(),
		Replaced: l.removals[Replaced].Load(),
		Deleted:  l.removals[Deleted].Load(),
	}
}

// ledger counts what a store keeps, exactly: each entry once when it is added,
// once when it is removed, by whatever removed it. It also remembers removals
// until OnEvict can be told of them, for stores remove under locks.
type ledger[K comparable, V any] struct {
	weight, length atomic.Int64
	removals       [reasons]atomic.Uint64

	listening bool
	waiting   atomic.Bool // len(untold) > 0
	mu        sync.Mutex  // guards untold
	untold    []removal[K, V]
}

type removal[K comparable, V any] struct {
	key    K
	value  V
	reason Reason
}

// added is called before the entry is in the store, so that the ledger never
// counts less than there is.
func (l *ledger[K, V]) added(weight uint32) {
	l.weight.Add(int64(weight))
	l.length.Add(1)
}

// removed is called by the store, under its lock, when an entry left it.
func (l *ledger[K, V]) removed(key K, e *entry[V], reason Reason) {
	l.weight.Add(-int64(e.weight))
	l.length.Add(-1)
	l.gone(key, e.value, reason)
}

// gone counts a value that is not, or no longer, in the store.
func (l *ledger[K, V]) gone(key K, value V, reason Reason) {
	l.removals[reason].Add(1)
	if !l.listening {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.untold = append(l.untold, removal[K, V]{key, value, reason})
	l.waiting.Store(true)
}

// take returns the removals nobody was told of yet.
func (l *ledger[K, V]) take() []removal[K, V] {
	if !l.waiting.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	untold := l.untold
	l.untold = nil
	l.waiting.Store(false)
	return untold
}
