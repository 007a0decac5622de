package quota

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Kind is what is counted.
type Kind uint8

const (
	Produce  Kind = iota // bytes of produce requests
	Consume              // bytes of records in fetch responses
	Request              // hundredths of a second of a core
	Mutation             // partitions made and deleted
	Kinds    = 4
)

// maxClients bounds the clients, and the buckets, that are remembered: about 200
// bytes each.
const maxClients = 50_000

// sweepEvery keeps clients that invent names from making us look for buckets
// that nobody needs all the time.
const sweepEvery = time.Second

// Scope says whom one half of a rule means.
type Scope uint8

const (
	Any     Scope = iota // it is not looked at
	Default              // each that has no rule by its name
	Named
)

// Half is one half of a rule.
type Half struct {
	Scope Scope
	Name  string // of Named
}

// Rule holds clients to rates, in units a second; 0: not.
type Rule struct {
	User, ClientID Half
	Rates          [Kinds]float64
}

// Quotas are the rules and the clients that they meet. The zero value has none.
type Quotas struct{ table atomic.Pointer[table] }

type halves struct{ user, clientID Half }

type names struct{ user, clientID string }

// table is one set of rules with its buckets.
type table struct {
	rules map[halves]*Rule

	mu      sync.RWMutex
	clients map[names]*Client     // guarded by mu
	buckets map[bucketKey]*bucket // guarded by mu
	swept   time.Time             // guarded by mu
}

// bucketKey tells whose a bucket is: a rule, and the names that tell apart those
// who meet it.
type bucketKey struct {
	rule halves
	names
	kind Kind
}

// Set takes the place of all rules. What clients owe by a rule whose rate stays
// they go on owing.
func (q *Quotas) Set(rules []Rule) {
	if len(rules) == 0 {
		q.table.Store(nil)
		return
	}
	t := &table{rules: make(map[halves]*Rule, len(rules)), clients: map[names]*Client{}, buckets: map[bucketKey]*bucket{}}
	for _, r := range rules {
		t.rules[halves{r.User, r.ClientID}] = &r
	}
	if was := q.table.Load(); was != nil {
		was.mu.RLock()
		for key, b := range was.buckets {
			if r := t.rules[key.rule]; r != nil && r.Rates[key.kind] == b.rate {
				t.buckets[key] = b
			}
		}
		was.mu.RUnlock()
	}
	q.table.Store(t)
}

// Empty reports whether there are no rules.
func (q *Quotas) Empty() bool { return q.table.Load() == nil }

// Client is what a client is held to. A nil one is held to nothing.
type Client struct{ buckets [Kinds]*bucket }

// Of returns what the client is held to, nil for nothing. It allocates for a
// client that is new only.
func (q *Quotas) Of(user, clientID string, now time.Time) *Client {
	t := q.table.Load()
	if t == nil {
		return nil
	}
	key := names{user, clientID}
	t.mu.RLock()
	c, known := t.clients[key]
	t.mu.RUnlock()
	if known {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, known = t.clients[key]; known {
		return c
	}
	if !guard.Check("quota.clients", len(t.clients) < maxClients) {
		clear(t.clients) // they are met anew
	}
	if len(t.buckets)+Kinds > maxClients && now.Sub(t.swept) >= sweepEvery {
		t.sweep(now)
	}
	c = t.meet(key, now)
	t.clients[key] = c
	return c
}

// sweep forgets the buckets that are as new, and the clients, which may use them.
// mu is held.
func (t *table) sweep(now time.Time) {
	t.swept = now
	clear(t.clients)
	for key, b := range t.buckets {
		if b.idle(now) {
			delete(t.buckets, key)
		}
	}
}

// meet finds the rules that a client meets. mu is held.
func (t *table) meet(n names, now time.Time) *Client {
	user, clientID := Half{Named, n.user}, Half{Named, n.clientID}
	some := Half{Scope: Default}
	var c *Client
	for _, h := range [...]halves{
		{user, clientID}, {user, some}, {user, Half{}},
		{some, clientID}, {some, some}, {some, Half{}},
		{Half{}, clientID}, {Half{}, some},
	} {
		r := t.rules[h]
		if r == nil {
			continue
		}
		if c == nil {
			c = new(Client)
		}
		for kind, rate := range r.Rates {
			if rate > 0 && c.buckets[kind] == nil {
				c.buckets[kind] = t.bucket(bucketKey{h, sharing(h, n), Kind(kind)}, rate, now)
			}
		}
	}
	return c
}

// sharing returns the names that tell apart those who meet a rule.
func sharing(h halves, n names) names {
	if h.user.Scope == Any {
		n.user = ""
	}
	if h.clientID.Scope == Any {
		n.clientID = ""
	}
	return n
}

// bucket returns the one of that key, made if need be. mu is held.
func (t *table) bucket(key bucketKey, rate float64, now time.Time) *bucket {
	if b, ok := t.buckets[key]; ok {
		return b
	}
	if !guard.Check("quota.buckets", len(t.buckets) < maxClients) {
		key.names = names{} // one for all of the rule
		if b, ok := t.buckets[key]; ok {
			return b
		}
	}
	b := newBucket(key.kind, rate, now)
	t.buckets[key] = b
	return b
}

// Take counts units that the client has taken, and returns how long it has to
// wait for having done so; 0 units ask how long it has to wait anyway.
func (c *Client) Take(kind Kind, now time.Time, units float64) time.Duration {
	if c == nil || c.buckets[kind] == nil {
		return 0
	}
	return c.buckets[kind].take(now, units)
}

// Try counts units that the client asks for, or refuses them when it has to wait.
func (c *Client) Try(kind Kind, now time.Time, units float64) (wait time.Duration, ok bool) {
	if c == nil || c.buckets[kind] == nil {
		return 0, true
	}
	return c.buckets[kind].try(now, units)
}

// Give takes back units that were counted and came to nothing.
func (c *Client) Give(kind Kind, units float64) {
	if c != nil && c.buckets[kind] != nil {
		c.buckets[kind].give(units)
	}
}

// Holds reports whether the client is held to a rate of that kind.
func (c *Client) Holds(kind Kind) bool { return c != nil && c.buckets[kind] != nil }

// AtOnce returns how many units come together in [Window] at most: what a client
// should be given in one go. Who is held to nothing has no bound.
func (c *Client) AtOnce(kind Kind) int {
	if c == nil || c.buckets[kind] == nil || c.buckets[kind].most > math.MaxInt32 {
		return math.MaxInt32
	}
	return max(1, int(c.buckets[kind].most))
}
