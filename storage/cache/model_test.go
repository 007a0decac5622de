package cache

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// twin is a cache that keeps everything: what the real one returns must be in it.
type twin struct {
	value   map[string]string
	expires map[string]time.Time
}

// TestCacheAgainstTwin runs random calls one after another.
func TestCacheAgainstTwin(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		seeded.Check(t, func(t *rapid.T) {
			const ttl = time.Minute
			now := newClock()
			capacity := rapid.Int64Range(0, 400).Draw(t, "capacity")
			var told uint64
			c, err := New(Options[string, string]{
				Policy: p, Capacity: capacity, TTL: ttl, Now: now.Now,
				Typical: rapid.Int64Range(1, 100).Draw(t, "typical"),
				Weigh:   func(_, value string) uint32 { return uint32(len(value)) },
				OnEvict: func(string, string, Reason) { told++ },
			})
			if err != nil {
				t.Fatal(err)
			}
			model := twin{map[string]string{}, map[string]time.Time{}}
			key := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "key")) })
			puts, fresh := 0, 0
			value := func(t *rapid.T) string {
				fresh++
				return fmt.Sprint(fresh, ":") + strings.Repeat("x", rapid.IntRange(0, 60).Draw(t, "length"))
			}
			put := func(key, value string) {
				model.value[key], model.expires[key] = value, now.now.Add(ttl)
				puts++
			}
			check := func(t *rapid.T, key, got string) {
				if want, ok := model.value[key]; !ok || got != want {
					t.Fatalf("key %s has %q, was put last as %q (%v)", key, got, want, ok)
				}
				if !now.now.Before(model.expires[key]) {
					t.Fatalf("key %s expired at %v, returned at %v", key, model.expires[key], now.now)
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"put": func(t *rapid.T) {
					k, v := key.Draw(t, "key"), value(t)
					c.Put(k, v)
					put(k, v)
				},
				"get": func(t *rapid.T) {
					k := key.Draw(t, "key")
					if v, ok := c.Get(k); ok {
						check(t, k, v)
					}
				},
				"delete": func(t *rapid.T) {
					k := key.Draw(t, "key")
					c.Delete(k)
					delete(model.value, k)
				},
				"time passes": func(t *rapid.T) {
					now.advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
				},
				"maintain": func(t *rapid.T) {
					c.Maintain(now.now)
					for k, e := range c.store.all() {
						check(t, k, e.value)
					}
				},
				"": func(t *rapid.T) {
					checkBooks(t, c)
					s := c.Stats()
					gone := s.Evicted + s.Expired + s.Replaced + s.Deleted + s.Refused
					if gone != told || uint64(puts) != gone+uint64(c.Len()) {
						t.Fatalf("%d kept of %d that were put, told of %d: %+v", c.Len(), puts, told, s)
					}
				},
			})
		})
	})
}
