package cache

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"rustmq.dev/rustmq/test/allocs"
)

const ten = "0123456789"

// TestScanLeavesWhatIsUsed fills the cache with values that are asked for again,
// and then reads many times its capacity, once each.
func TestScanLeavesWhatIsUsed(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		c := sized(t, Options[string, string]{Policy: p, Capacity: 1000})
		for range 3 {
			for i := range 80 {
				if _, ok := c.Get(fmt.Sprint("hot", i)); !ok {
					c.Put(fmt.Sprint("hot", i), ten)
				}
			}
		}
		for i := range 1000 {
			c.Put(fmt.Sprint("scan", i), ten)
		}
		left := 0
		for i := range 80 {
			if _, ok := c.Get(fmt.Sprint("hot", i)); ok {
				left++
			}
		}
		if left < 78 {
			t.Errorf("%d of 80 values that are used are left after a scan", left)
		}
	})
}

// TestLRUKeepsWhatComesBack asks for keys again after they were pushed out: the
// second time they are kept.
func TestLRUKeepsWhatComesBack(t *testing.T) {
	c := sized(t, Options[string, string]{Policy: LRU, Capacity: 1000})
	put := func(name string, n int) {
		for i := range n {
			c.Put(fmt.Sprint(name, i), ten)
		}
	}
	left := func() (n int) {
		for i := range 50 {
			if has(c, fmt.Sprint("back", i)) {
				n++
			}
		}
		return n
	}
	put("before", 100)
	put("back", 50)
	put("after", 100)
	if n := left(); n != 0 {
		t.Fatalf("%d values that nobody asked for outlived a scan", n)
	}
	put("back", 50)
	put("later", 200)
	if n := left(); n != 50 {
		t.Errorf("%d of 50 values that came back are kept", n)
	}
}

// TestLRULetsGoOfWhatIsNotUsedAnyMore: uses are not a right for ever.
func TestLRULetsGoOfWhatIsNotUsedAnyMore(t *testing.T) {
	c := sized(t, Options[string, string]{Policy: LRU, Capacity: 1000})
	use := func(name string, times int) {
		for range times {
			for i := range 90 {
				if key := fmt.Sprint(name, i); !has(c, key) {
					c.Put(key, ten)
				}
			}
		}
	}
	use("old", 100)
	use("new", 2*(mostUses+2))
	left := 0
	for i := range 90 {
		if has(c, fmt.Sprint("new", i)) {
			left++
		}
	}
	if left < 80 {
		t.Errorf("%d of 90 values that are used now are kept beside those that were used once", left)
	}
}

func has(c *Cache[string, string], key string) bool {
	_, ok := c.Get(key)
	return ok
}

// TestLRUKeepsAHeavyValueUntilTheNextComes: it is heavier than all that the trial
// has, and yet may be asked for.
func TestLRUKeepsAHeavyValueUntilTheNextComes(t *testing.T) {
	c := sized(t, Options[string, string]{Policy: LRU, Capacity: 1000})
	for i := range 200 {
		c.Put(fmt.Sprint(i%60), ten)
		c.Get(fmt.Sprint(i % 60))
	}
	for i := range 10 {
		key := fmt.Sprint("heavy", i)
		c.Put(key, strings.Repeat("x", 125))
		if !has(c, key) {
			t.Fatalf("%s went at once", key)
		}
		checkBooks(t, c)
	}
}

// TestLRURemembersNoMoreKeysThanItHeldValues holds doc.go to what it says of the
// memory of keys.
func TestLRURemembersNoMoreKeysThanItHeldValues(t *testing.T) {
	c := sized(t, Options[string, string]{Policy: LRU, Capacity: 1000})
	r := c.store.(*recency[string, string])
	for i := range 5000 {
		c.Put(fmt.Sprint(i), ten[:1+i%10])
		most := c.Len() + 1
		if n := r.gone.Len(); n > most {
			t.Fatalf("%d keys are remembered with %d values", n, c.Len())
		}
		if i%100 == 0 {
			c.Delete(fmt.Sprint(i))
		}
	}
	if r.gone.Len() < 50 {
		t.Errorf("%d keys are remembered, of 5000", r.gone.Len())
	}
}

// TestGrowingLosesNothing puts values from many sides until the tables are
// exchanged, and beyond: nothing has to go, so each is there.
func TestGrowingLosesNothing(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		for range 200 {
			c := sized(t, Options[string, string]{Policy: p, Capacity: 1000})
			start := make(chan struct{})
			var all sync.WaitGroup
			for g := range 4 {
				all.Go(func() {
					<-start
					for i := range 20 {
						key := fmt.Sprint(g, "/", i)
						c.Put(key, ten)
						if i%10 == 9 {
							c.Delete(key)
						} else if !has(c, key) {
							t.Errorf("%s is gone", key)
						}
					}
				})
			}
			close(start)
			all.Wait()
			checkBooks(t, c)
			for g := range 4 {
				for i := range 20 {
					if key := fmt.Sprint(g, "/", i); has(c, key) != (i%10 != 9) {
						t.Errorf("%s is there: %v", key, has(c, key))
					}
				}
			}
			if s := c.Stats(); s.Evicted != 0 || c.Len() != 4*18 {
				t.Fatalf("%d are kept, %d were pushed out", c.Len(), s.Evicted)
			}
			if f, ok := c.store.(*frequency[string, string]); ok && !f.grown.Load() {
				t.Fatal("the tables were not exchanged")
			}
		}
	})
}

// TestAnEmptyCacheIsSmall: however large it may become.
func TestAnEmptyCacheIsSmall(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		var c *Cache[string, string]
		n := allocs.Within(32<<10, func() {
			c = sized(t, Options[string, string]{Policy: p, Capacity: 1 << 40})
			c.Put("key", ten)
		})
		if !has(c, "key") {
			t.Fatal("a value is not kept")
		}
		if n > 32<<10 {
			t.Errorf("a cache for a TiB takes %d bytes with one value in it", n)
		}
	})
}
