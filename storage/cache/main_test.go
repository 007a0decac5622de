package cache

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// perPolicy runs a test once for each policy.
func perPolicy(t *testing.T, f func(*testing.T, Policy)) {
	t.Helper()
	for _, p := range []Policy{WTinyLFU, LRU} {
		t.Run(string(p), func(t *testing.T) { f(t, p) })
	}
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

// sized makes a cache of strings that weigh what they are long, 10 bytes mostly.
func sized(t testing.TB, o Options[string, string]) *Cache[string, string] {
	t.Helper()
	o.Weigh = func(_, value string) uint32 { return uint32(len(value)) }
	if o.Typical == 0 {
		o.Typical = 10
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkBooks compares the counts with what is there. No call is under way.
func checkBooks[K comparable, V any](t interface {
	Helper()
	Fatalf(string, ...any)
}, c *Cache[K, V]) {
	t.Helper()
	var weight int64
	length := 0
	for _, e := range c.store.all() {
		weight += int64(e.weight)
		length++
	}
	if c.Weight() != weight || c.Len() != length {
		t.Fatalf("%d values of %d bytes are counted, %d of %d are there", c.Len(), c.Weight(), length, weight)
	}
	if r, ok := c.store.(*recency[K, V]); ok {
		for _, e := range r.trial.Values() {
			weight -= int64(e.weight)
		}
		if kept := c.Weight() - r.trying; kept != weight {
			t.Fatalf("%d bytes are counted beside those on trial, %d are there", kept, weight)
		}
	}
	if c.Weight() > c.o.Capacity {
		t.Fatalf("%d bytes are kept in %d", c.Weight(), c.o.Capacity)
	}
}
