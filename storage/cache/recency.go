package cache

import (
	"iter"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// recency is the policy LRU, in three lists of golang-lru. A new value is on
// trial, in order of arrival. When room is needed and trial holds more than its
// share, the value that came first leaves it: asked for meanwhile, it moves to
// kept, otherwise it goes, and its key to gone. A key that comes back while gone
// has it goes to kept at once. So a scan, which asks for nothing twice, passes
// through the trial alone.
//
// kept is in order of last use. When room is needed there, the value used longest
// ago goes, unless it was used several times: each of those (up to mostUses) lets
// it start over once as if it were used just now. Without that, values that are
// wanted often but seldom in a row are pushed out by those wanted twice: 0.03 to
// 0.04 of the optimum's hits (cachetrace, trace mixed, as all figures here).
//
// A list counts entries where we count bytes, so each is told of no bound and
// asked for its oldest.
type recency[K comparable, V any] struct {
	capacity int64
	ledger   *ledger[K, V]

	mu     sync.Mutex // guards what follows, and uses and reason of entries
	trial  *simplelru.LRU[K, *entry[V]]
	kept   *simplelru.LRU[K, *entry[V]]
	gone   *simplelru.LRU[K, struct{}] // never longer than both were together when a value last went
	trying int64                       // weight of trial
}

const (
	// trialPart is the share of the capacity, as a divisor, that values on trial
	// have while the cache is full. A larger one costs the hot set its room (at a
	// tenth, 0.01 of the optimum's hits), a smaller one loses values before a second
	// reader who follows the first comes by. Shares from a fiftieth to a tenth do
	// nearly as well.
	trialPart = 24
	// mostUses is what a value's uses are counted up to, and so how often settle
	// passes by it at most. With 3, 0.004 of the optimum's hits are lost; with 15,
	// half as many while the hot set moves.
	mostUses = 7
)

func newRecency[K comparable, V any](capacity int64, l *ledger[K, V]) *recency[K, V] {
	return &recency[K, V]{
		capacity: capacity, ledger: l,
		trial: list[K, *entry[V]](), kept: list[K, *entry[V]](), gone: list[K, struct{}](),
	}
}

// list makes a list without a bound.
func list[K comparable, E any]() *simplelru.LRU[K, E] {
	l, err := simplelru.NewLRU[K, E](math.MaxInt, nil)
	if err != nil {
		panic(err) // only for sizes below 1
	}
	return l
}

func (r *recency[K, V]) get(key K) *entry[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.kept.Get(key)
	if !ok {
		if e, ok = r.trial.Peek(key); !ok {
			return nil
		}
	}
	e.uses = min(e.uses+1, mostUses)
	return e
}

func (r *recency[K, V]) put(key K, e *entry[V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.kept.Peek(key); ok {
		e.uses = old.uses
		r.kept.Add(key, e)
		r.ledger.removed(key, old, Replaced)
		return
	}
	if old, ok := r.trial.Peek(key); ok {
		e.uses = old.uses
		r.trying -= int64(old.weight)
		r.ledger.removed(key, old, Replaced)
	} else if r.gone.Remove(key) {
		r.kept.Add(key, e)
		return
	}
	r.trial.Add(key, e)
	r.trying += int64(e.weight)
}

func (r *recency[K, V]) remove(key K, e *entry[V], reason Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.kept.Peek(key); ok && (e == nil || found == e) {
		r.kept.Remove(key)
		r.ledger.removed(key, found, reason)
	} else if found, ok := r.trial.Peek(key); ok && (e == nil || found == e) {
		r.trial.Remove(key)
		r.trying -= int64(found.weight)
		r.ledger.removed(key, found, reason)
	}
}

func (r *recency[K, V]) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ledger.weight.Load() > r.capacity {
		switch {
		// The last one to come stays, however heavy: its reader may be about to ask.
		case r.trial.Len() > 1 && r.trying > r.capacity/trialPart, r.kept.Len() == 0 && r.trial.Len() > 0:
			r.judge()
		case r.kept.Len() > 0:
			r.relieve()
		default:
			return // the rest is being put by others
		}
	}
}

// judge ends the trial of the value that came first. r.mu is held.
func (r *recency[K, V]) judge() {
	key, e, _ := r.trial.RemoveOldest()
	r.trying -= int64(e.weight)
	if e.uses == 0 {
		r.evict(key, e)
		return
	}
	e.uses = 0
	r.kept.Add(key, e)
}

// relieve takes from kept the value used longest ago, or one of its uses.
// r.mu is held.
func (r *recency[K, V]) relieve() {
	key, e, _ := r.kept.GetOldest()
	if e.uses > 0 {
		e.uses--
		r.kept.Get(key) // is the newest now
		return
	}
	r.kept.Remove(key)
	r.evict(key, e)
}

// evict lets go of a value that is in no list any more. r.mu is held.
func (r *recency[K, V]) evict(key K, e *entry[V]) {
	r.ledger.removed(key, e, Evicted)
	r.gone.Add(key, struct{}{})
	for r.gone.Len() > r.kept.Len()+r.trial.Len() {
		r.gone.RemoveOldest()
	}
}

// all takes the lock for each entry, so that a walk holds nobody up for long.
func (r *recency[K, V]) all() iter.Seq2[K, *entry[V]] {
	return func(yield func(K, *entry[V]) bool) {
		r.mu.Lock()
		keys := append(r.trial.Keys(), r.kept.Keys()...)
		r.mu.Unlock()
		for _, key := range keys {
			if e := r.peek(key); e != nil && !yield(key, e) {
				return
			}
		}
	}
}

func (r *recency[K, V]) peek(key K) *entry[V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.kept.Peek(key)
	if !ok {
		e, _ = r.trial.Peek(key)
	}
	return e
}
