package quota

import (
	"math"
	"sync/atomic"
	"time"
)

// Kind is what is counted.
type Kind uint8

const (
	Produce    Kind = iota // bytes of produce requests
	Consume                // bytes of records in fetch responses
	Request                // hundredths of a second of a core
	Mutation               // partitions made and deleted
	Connection             // connections that come
	Kinds      = 5
)

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

// order is that in which rules count, the most specific first.
var order = [...]struct{ user, clientID Scope }{
	{Named, Named}, {Named, Default}, {Named, Any},
	{Default, Named}, {Default, Default}, {Default, Any},
	{Any, Named}, {Any, Default},
}

// table is one set of rules. All but its budgets stays as it was made.
type table struct {
	places  [len(order)]place
	budgets budgets
}

// place holds the rules of one place in order.
type place struct {
	one    *rule           // the only one there can be where no name counts
	byName map[named]*rule // where one does; nil: there are none
}

// named are the names of a rule; that of a half that is not [Named] is empty.
type named struct{ user, clientID string }

// placeOf returns the place of a rule in order and its names there; false: it means
// nobody, for it looks at neither half.
func placeOf(h halves) (at int, names named, ok bool) {
	for i, scopes := range order {
		if scopes.user == h.user.Scope && scopes.clientID == h.clientID.Scope {
			return i, named{h.user.Name, h.clientID.Name}, true
		}
	}
	return 0, named{}, false
}

// rule returns the one of those halves; nil: there is none.
func (t *table) rule(h halves) *rule {
	at, names, ok := placeOf(h)
	if !ok {
		return nil
	}
	if p := &t.places[at]; p.byName != nil {
		return p.byName[names]
	}
	return t.places[at].one
}

func (t *table) add(r *rule) {
	at, names, ok := placeOf(r.halves)
	switch p := &t.places[at]; {
	case !ok:
	case r.user.Scope != Named && r.clientID.Scope != Named:
		p.one = r
	case p.byName == nil:
		p.byName = map[named]*rule{names: r}
	default:
		p.byName[names] = r
	}
}

// rule is a rule with the buckets of all that meet it. Where it tells them apart by
// a name, they have budgets of their own, and common is of those that found no room.
type rule struct {
	halves
	rates  [Kinds]float64
	common *Client
}

// apart reports whether who meets r by different names is counted apart.
func (r *rule) apart() bool { return r.user.Scope == Default || r.clientID.Scope == Default }

// Set takes the place of all rules. What clients owe by a rule whose rate stays
// they go on owing.
func (q *Quotas) Set(rules []Rule) {
	if len(rules) == 0 {
		q.table.Store(nil)
		return
	}
	was, t := q.table.Load(), new(table)
	t.budgets.open()
	for _, given := range rules {
		r := &rule{halves: halves{given.User, given.ClientID}, rates: given.Rates}
		var before *Client
		if was != nil {
			if same := was.rule(r.halves); same != nil {
				before = same.common
			}
		}
		r.common = newBudget(r.rates, before)
		t.add(r)
	}
	if was != nil {
		t.budgets.inherit(&was.budgets, t)
	}
	q.table.Store(t)
}

// Empty reports whether there are no rules.
func (q *Quotas) Empty() bool { return q.table.Load() == nil }

// Client is what a client is held to. The zero value is held to nothing.
type Client struct{ buckets [Kinds]*bucket }

// newBudget makes buckets for what there are rates for; those of was, which may be
// nil, go on where the rate stays.
func newBudget(rates [Kinds]float64, was *Client) *Client {
	c := new(Client)
	for kind, rate := range rates {
		switch {
		case rate <= 0:
		case was != nil && was.buckets[kind] != nil && was.buckets[kind].rate == rate:
			c.buckets[kind] = was.buckets[kind]
		default:
			c.buckets[kind] = newBucket(Kind(kind), rate)
		}
	}
	return c
}

// Of returns what the client is held to. It allocates for one that is new and meets
// a default only.
func (q *Quotas) Of(user, clientID string, now time.Time) Client {
	var c Client
	t := q.table.Load()
	if t == nil {
		return c
	}
	for i := range t.places {
		p := &t.places[i]
		r := p.one
		if p.byName != nil {
			var names named
			if order[i].user == Named {
				names.user = user
			}
			if order[i].clientID == Named {
				names.clientID = clientID
			}
			r = p.byName[names]
		}
		if r == nil || !c.lacks(r.common) {
			continue
		}
		b := r.common
		if r.apart() {
			b = t.budgets.of(r, user, clientID, now)
		}
		for kind := range c.buckets {
			if c.buckets[kind] == nil {
				c.buckets[kind] = b.buckets[kind]
			}
		}
	}
	return c
}

// lacks reports whether other is held to a kind that c is not.
func (c *Client) lacks(other *Client) bool {
	for kind := range c.buckets {
		if c.buckets[kind] == nil && other.buckets[kind] != nil {
			return true
		}
	}
	return false
}

// idle reports whether c is as a new client would be.
func (c *Client) idle(now time.Time) bool {
	for _, b := range c.buckets {
		if b != nil && !b.idle(now) {
			return false
		}
	}
	return true
}

// Take counts units that the client has taken, and returns how long it has to
// wait for having done so; 0 units ask how long it has to wait anyway.
func (c Client) Take(kind Kind, now time.Time, units float64) time.Duration {
	if c.buckets[kind] == nil {
		return 0
	}
	return c.buckets[kind].take(now, units)
}

// Try counts units that the client asks for, or refuses them when it has to wait.
func (c Client) Try(kind Kind, now time.Time, units float64) (wait time.Duration, ok bool) {
	if c.buckets[kind] == nil {
		return 0, true
	}
	return c.buckets[kind].try(now, units)
}

// Give takes back units that were counted and came to nothing.
func (c Client) Give(kind Kind, units float64) {
	if c.buckets[kind] != nil {
		c.buckets[kind].give(units)
	}
}

// Half reports whether the client has taken half or more of what it may at once.
func (c Client) Half(kind Kind, now time.Time) bool {
	return c.buckets[kind] != nil && c.buckets[kind].half(now)
}

// Holds reports whether the client is held to a rate of that kind.
func (c Client) Holds(kind Kind) bool { return c.buckets[kind] != nil }

// AtOnce returns how many units come together in [Window] at most: what a client
// should be given in one go. Who is held to nothing has no bound.
func (c Client) AtOnce(kind Kind) int {
	if c.buckets[kind] == nil || c.buckets[kind].most > math.MaxInt32 {
		return math.MaxInt32
	}
	return max(1, int(c.buckets[kind].most))
}
