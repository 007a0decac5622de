package cache

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestNewStartsNoGoroutine(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		before := goleak.IgnoreCurrent()
		c := sized(t, Options[string, string]{Policy: p, Capacity: 100, TTL: time.Hour})
		goleak.VerifyNone(t, before)
		for i := range 1000 {
			c.Put(fmt.Sprint(i%100), "value")
			c.Get(fmt.Sprint(i % 50))
			c.Delete(fmt.Sprint(i % 7))
		}
		c.Maintain(time.Now())
		goleak.VerifyNone(t, before)
	})
}

func TestOptionsAreChecked(t *testing.T) {
	weigh := func(string, string) uint32 { return 1 }
	for _, o := range []Options[string, string]{
		{Capacity: 1},
		{Capacity: -1, Weigh: weigh},
		{Policy: "random", Weigh: weigh},
		{Typical: -1, Weigh: weigh},
		{TTL: -1, Weigh: weigh},
	} {
		if _, err := New(o); !errors.As(err, new(*OptionError)) {
			t.Errorf("%+v: %v, want an *OptionError", o, err)
		}
	}
	c, err := New(Options[string, string]{Weigh: weigh})
	if err != nil || c.o.Policy != WTinyLFU {
		t.Errorf("the default is %q (%v)", c.o.Policy, err)
	}
}

func TestPutReplacesAndDeleteForgets(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		c := sized(t, Options[string, string]{Policy: p, Capacity: 800})
		c.Delete("a")
		if _, ok := c.Get("a"); ok {
			t.Fatal("a value that nobody put")
		}
		c.Put("a", "one")
		c.Put("a", "three")
		if v, ok := c.Get("a"); !ok || v != "three" || c.Weight() != 5 || c.Len() != 1 {
			t.Fatalf("got %q %v, %d bytes of %d values", v, ok, c.Weight(), c.Len())
		}
		c.Delete("a")
		if _, ok := c.Get("a"); ok || c.Weight() != 0 || c.Len() != 0 {
			t.Fatalf("deleted, still there: %v, %d bytes of %d values", ok, c.Weight(), c.Len())
		}
		if s := c.Stats(); s.Hits != 1 || s.Misses != 2 || s.Replaced != 1 || s.Deleted != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestWeightStaysWithinCapacity(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		c := sized(t, Options[string, string]{Policy: p, Capacity: 1000})
		for i := range 500 {
			c.Put(fmt.Sprint(i), strings.Repeat("x", 1+i%125))
			checkBooks(t, c)
		}
		if c.Weight() < 800 {
			t.Fatalf("of 1000 bytes only %d are used", c.Weight())
		}
		if s := c.Stats(); s.Evicted != uint64(500-c.Len()) {
			t.Fatalf("%d of 500 are left, %d were evicted", c.Len(), s.Evicted)
		}
	})
}

func TestHeavyValuesAreNotKept(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		var told []string
		c := sized(t, Options[string, string]{Policy: p, Capacity: 80,
			OnEvict: func(key, value string, why Reason) { told = append(told, fmt.Sprint(key, len(value), why)) }})
		c.Put("a", strings.Repeat("x", 10))
		if _, ok := c.Get("a"); !ok {
			t.Fatal("an eighth of the capacity is not kept")
		}
		c.Put("a", strings.Repeat("x", 11))
		if v, ok := c.Get("a"); ok {
			t.Fatalf("more than an eighth is kept, or what it replaced: %q", v)
		}
		c.Put("b", "")
		if _, ok := c.Get("b"); ok {
			t.Fatal("what weighs nothing is kept")
		}
		if s := c.Stats(); s.Refused != 2 {
			t.Fatalf("%+v", s)
		}
		if want := []string{"a10 replaced", "a11 refused", "b0 refused"}; !slices.Equal(told, want) {
			t.Fatalf("told of %q, want %q", told, want)
		}
		checkBooks(t, c)
	})
}

func TestWithoutCapacityNothingIsKept(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		c := sized(t, Options[string, string]{Policy: p})
		c.Put("a", "x")
		if _, ok := c.Get("a"); ok || c.Weight() != 0 {
			t.Fatal("a value is kept in 0 bytes")
		}
	})
}

func TestExpiredIsNeverReturned(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		now := newClock()
		c := sized(t, Options[string, string]{Policy: p, Capacity: 800, TTL: time.Hour, Now: now.Now})
		c.Put("a", "x")
		now.advance(time.Hour - 1)
		if _, ok := c.Get("a"); !ok {
			t.Fatal("gone before its time")
		}
		now.advance(1) // reading does not make it younger
		if _, ok := c.Get("a"); ok {
			t.Fatal("returned after an hour")
		}
		if s := c.Stats(); c.Len() != 0 || s.Expired != 1 {
			t.Fatalf("%d kept, %+v", c.Len(), s)
		}
		c.Put("a", "y")
		now.advance(time.Hour - 1)
		c.Put("a", "z") // a new value lives anew
		now.advance(time.Hour - 1)
		if v, ok := c.Get("a"); !ok || v != "z" {
			t.Fatalf("got %q %v, want z", v, ok)
		}
	})
}

func TestMaintainRemovesWhatIsExpired(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		now := newClock()
		var told []string
		c := sized(t, Options[string, string]{Policy: p, Capacity: 800, TTL: time.Minute, Now: now.Now,
			OnEvict: func(key, value string, why Reason) { told = append(told, fmt.Sprint(key, value, why)) }})
		c.Put("a", "x")
		now.advance(30 * time.Second)
		c.Put("b", "y")
		c.Maintain(now.now.Add(30 * time.Second))
		if c.Len() != 1 || len(told) != 1 || told[0] != "ax"+"expired" {
			t.Fatalf("%d kept, told %q", c.Len(), told)
		}
	})
}

func TestWhoListensHearsOfEachValueThatLeaves(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		now := newClock()
		told := map[Reason]int{}
		var c *Cache[string, string]
		c = sized(t, Options[string, string]{Policy: p, Capacity: 800, TTL: time.Minute, Now: now.Now,
			OnEvict: func(key, value string, why Reason) {
				told[why]++
				c.Get(key) // no lock is held
				c.Delete(key + "?")
			}})
		c.Put("a", "x")
		c.Put("a", "y")
		c.Delete("a")
		c.Put("b", "x")
		now.advance(time.Minute)
		c.Get("b")
		for i := range 200 {
			c.Put(fmt.Sprint(i), "0123456789")
		}
		now.advance(time.Minute)
		c.Maintain(now.now)
		s := c.Stats()
		want := map[Reason]int{Evicted: int(s.Evicted), Expired: int(s.Expired), Replaced: int(s.Replaced), Deleted: int(s.Deleted)}
		if c.Len() != 0 || !maps.Equal(told, want) || s.Evicted < 120 || s.Replaced != 1 || s.Deleted != 1 ||
			s.Evicted+s.Expired+s.Replaced+s.Deleted != 203 {
			t.Fatalf("%d kept, told %v of %+v", c.Len(), told, s)
		}
	})
}

// TestBooksBalanceAfterConcurrentUse also shows the race detector what runs
// together.
func TestBooksBalanceAfterConcurrentUse(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		var left sync.Map
		c := sized(t, Options[string, string]{Policy: p, Capacity: 4000, TTL: time.Minute,
			OnEvict: func(key, value string, _ Reason) { left.Store(key, value) }})
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(g), 1))
				for range 3000 {
					key := fmt.Sprint(rng.IntN(300))
					switch rng.IntN(8) {
					case 0:
						c.Delete(key)
					case 1, 2, 3:
						c.Put(key, key+strings.Repeat(".", rng.IntN(200)))
					default:
						if v, ok := c.Get(key); ok && !strings.HasPrefix(v, key) {
							t.Errorf("key %s has %q", key, v)
						}
					}
				}
				c.Maintain(time.Now())
			})
		}
		all.Wait()
		checkBooks(t, c)
	})
}

func TestHitsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("counts allocations of the race detector")
	}
	perPolicy(t, func(t *testing.T, p Policy) {
		c := sized(t, Options[string, string]{Policy: p, Capacity: 800, TTL: time.Hour})
		c.Put("a", "x")
		if n := testing.AllocsPerRun(100, func() { c.Get("a") }); n > 0 {
			t.Fatalf("a hit allocates %v times", n)
		}
	})
}

// TestValuesLiveWhileTheyAreRead holds doc.go to what it says of memory.
func TestValuesLiveWhileTheyAreRead(t *testing.T) {
	perPolicy(t, func(t *testing.T, p Policy) {
		c, err := New(Options[int, []byte]{Policy: p, Capacity: 8 << 10,
			Weigh: func(_ int, v []byte) uint32 { return uint32(len(v)) }})
		if err != nil {
			t.Fatal(err)
		}
		c.Put(0, []byte(strings.Repeat("a", 1<<10)))
		held, ok := c.Get(0)
		c.Delete(0)
		for i := range 100 {
			c.Put(i+1, make([]byte, 1<<10))
		}
		runtime.GC()
		if !ok || string(held) != strings.Repeat("a", 1<<10) {
			t.Fatal("a value changed under its reader")
		}
	})
}
