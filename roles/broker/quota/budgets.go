package quota

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

const (
	// maxBudgets bounds the clients that have buckets of their own: about 500 bytes
	// each, and their names.
	maxBudgets = 50_000

	// maxName is how much of a name tells apart who meets a default: who invents
	// names may send 32 KB of them. Together they take 25 MB at most.
	maxName = 256

	// sweepEvery is how often budgets that nobody needs are looked for, when there is
	// no room, and sweepIdle when there is. Only a client that is new looks.
	sweepEvery = time.Second
	sweepIdle  = time.Minute

	// budgetShards keep clients from waiting for each other's look-up.
	budgetShards = 64
)

// budgets are those of the clients that a rule tells apart by a name.
type budgets struct {
	seed   maphash.Seed
	kept   atomic.Int64 // in all shards
	swept  atomic.Int64 // when, in nanoseconds since 1970
	shards [budgetShards]budgetShard
}

type budgetShard struct {
	mu sync.Mutex
	of map[budgetKey]*Client // guarded by mu
}

// budgetKey tells whose a budget is: a rule, and the names that tell apart those who
// meet it; the others are empty.
type budgetKey struct {
	rule           *rule
	user, clientID string
}

func (b *budgets) open() {
	b.seed = maphash.MakeSeed()
	for i := range b.shards {
		b.shards[i].of = map[budgetKey]*Client{}
	}
}

func (b *budgets) shard(key budgetKey) *budgetShard {
	hash := maphash.String(b.seed, key.user) ^ bits.RotateLeft64(maphash.String(b.seed, key.clientID), 1)
	return &b.shards[hash%budgetShards]
}

// of returns the budget of who meets r, made if need be; the common one when there
// is no room.
func (b *budgets) of(r *rule, user, clientID string, now time.Time) *Client {
	key := budgetKey{rule: r}
	if r.user.Scope == Default {
		key.user = user[:min(len(user), maxName)]
	}
	if r.clientID.Scope == Default {
		key.clientID = clientID[:min(len(clientID), maxName)]
	}
	s := b.shard(key)
	s.mu.Lock()
	found := s.of[key]
	s.mu.Unlock()
	if found != nil {
		return found
	}
	b.sweep(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if found = s.of[key]; found != nil {
		return found
	}
	if !guard.Check("quota.budgets", b.kept.Add(1) <= maxBudgets) {
		b.kept.Add(-1)
		return r.common
	}
	key.user, key.clientID = strings.Clone(key.user), strings.Clone(key.clientID) // not the whole of a request
	found = newBudget(r.rates, nil)
	s.of[key] = found
	return found
}

// sweep forgets the budgets that are as new, if it is time to.
func (b *budgets) sweep(now time.Time) {
	every := sweepIdle
	if b.kept.Load() >= maxBudgets {
		every = sweepEvery
	}
	swept, at := b.swept.Load(), now.UnixNano()
	if at-swept < int64(every) || !b.swept.CompareAndSwap(swept, at) {
		return
	}
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for key, c := range s.of {
			if c.idle(now) {
				delete(s.of, key)
				b.kept.Add(-1)
			}
		}
		s.mu.Unlock()
	}
}

// inherit takes over what clients owe by rules whose rates stay. b is to's, which
// nobody uses yet.
func (b *budgets) inherit(was *budgets, to *table) {
	for i := range was.shards {
		s := &was.shards[i]
		s.mu.Lock()
		for key, old := range s.of {
			r := to.rule(key.rule.halves)
			if r == nil || r.rates == [Kinds]float64{} {
				continue
			}
			key.rule = r
			b.shard(key).of[key] = newBudget(r.rates, old)
			b.kept.Add(1)
		}
		s.mu.Unlock()
	}
}
