package cache

import (
	"iter"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// recency is the policy LRU. The list and the table are golang-lru's; that counts
// entries where we count bytes, so it is told of no bound and asked to remove the
// oldest until the weight fits.
type recency[K comparable, V any] struct {
	capacity int64
	ledger   *ledger[K, V]

	mu      sync.Mutex // guards entries
	entries *simplelru.LRU[K, *entry[V]]
}

func newRecency[K comparable, V any](capacity int64, l *ledger[K, V]) *recency[K, V] {
	entries, err := simplelru.NewLRU[K, *entry[V]](math.MaxInt, nil)
	if err != nil {
		panic(err) // only for sizes below 1
	}
	return &recency[K, V]{capacity: capacity, ledger: l, entries: entries}
}

func (r *recency[K, V]) get(key K) *entry[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, _ := r.entries.Get(key)
	return e
}

func (r *recency[K, V]) peek(key K) *entry[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, _ := r.entries.Peek(key)
	return e
}

func (r *recency[K, V]) put(key K, e *entry[V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.entries.Peek(key); ok {
		r.ledger.removed(key, old, Replaced)
	}
	r.entries.Add(key, e)
}

func (r *recency[K, V]) remove(key K, e *entry[V], reason Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.entries.Peek(key); ok && (e == nil || found == e) {
		r.entries.Remove(key)
		r.ledger.removed(key, found, reason)
	}
}

func (r *recency[K, V]) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ledger.weight.Load() > r.capacity {
		key, e, ok := r.entries.RemoveOldest()
		if !ok {
			return // the rest is being put by others
		}
		r.ledger.removed(key, e, Evicted)
	}
}

// all takes the lock for each entry, so that a walk holds nobody up for long.
func (r *recency[K, V]) all() iter.Seq2[K, *entry[V]] {
	return func(yield func(K, *entry[V]) bool) {
		r.mu.Lock()
		keys := r.entries.Keys()
		r.mu.Unlock()
		for _, key := range keys {
			if e := r.peek(key); e != nil && !yield(key, e) {
				return
			}
		}
	}
}
