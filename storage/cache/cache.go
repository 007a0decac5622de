package cache

import (
	"fmt"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Policy names what decides which values stay.
type Policy string

// The policies.
const (
	WTinyLFU Policy = "w-tinylfu" // the default; scans do not push out what is used often
	LRU      Policy = "lru"       // keeps what was used last, of what was used twice
)

// heaviest is the largest part of the capacity, as a divisor, that one value may
// take.
const heaviest = 8

// defaultTypical is the size of the blocks that objects are cut into.
const defaultTypical = 256 << 10

// OptionError says that an option cannot be used.
type OptionError struct {
	Option string
	Value  any
	Reason string
}

// Error names the option, its value and the reason.
func (e *OptionError) Error() string {
	return fmt.Sprintf("make a cache: %s is %v: %s", e.Option, e.Value, e.Reason)
}

// Options of a cache.
type Options[K comparable, V any] struct {
	Policy   Policy // empty: WTinyLFU
	Capacity int64  // bytes, as Weigh counts them. 0: nothing is kept
	// Weigh says how many bytes of memory a value takes, its key included. It is
	// called once for each Put, and must be at least 1: what weighs nothing is not
	// kept, for nothing would bound how much of it there is.
	Weigh func(K, V) uint32
	// Typical is what values mostly weigh, in bytes; by it WTinyLFU makes room for
	// counts of how often keys were asked for. 0: 256 KiB, a block.
	Typical int64
	// TTL is how long after its Put a value is returned. 0: for ever.
	TTL time.Duration
	// OnEvict is told of each value that leaves, or that Put did not let in, once, and
	// why. It is called after the fact, on a goroutine that calls the cache, and may call the cache. nil: nobody
	// is told.
	OnEvict func(K, V, Reason)
	Now     func() time.Time // nil: time.Now
}

func (o *Options[K, V]) fill() error {
	if o.Policy == "" {
		o.Policy = WTinyLFU
	}
	if o.Policy != WTinyLFU && o.Policy != LRU {
		return &OptionError{"Policy", fmt.Sprintf("%q", o.Policy), fmt.Sprintf("want %q or %q", WTinyLFU, LRU)}
	}
	if o.Capacity < 0 {
		return &OptionError{"Capacity", o.Capacity, "want none below 0"}
	}
	if o.Weigh == nil {
		return &OptionError{"Weigh", nil, "without it nothing bounds the cache"}
	}
	if o.Typical < 0 {
		return &OptionError{"Typical", o.Typical, "want none below 0"}
	}
	if o.Typical == 0 {
		o.Typical = defaultTypical
	}
	if o.TTL < 0 {
		return &OptionError{"TTL", o.TTL, "want none below 0"}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Cache holds values by key, up to a number of bytes.
type Cache[K comparable, V any] struct {
	o      Options[K, V]
	heavy  int64     // what weighs more is not kept
	start  time.Time // entries expire so long after it: the wall clock may jump, this does not
	store  store[K, V]
	ledger ledger[K, V]
	hits   atomic.Uint64
	misses atomic.Uint64
}

// entry is a value that is kept. Once it is in a store nothing of it changes but
// what the store writes, under its own lock.
type entry[V any] struct {
	value   V
	expires time.Duration // since Cache.start; 0: never
	weight  uint32
	reason  Reason // why it is removed
	uses    uint8  // of recency
}

// New makes an empty cache. The error is an *OptionError.
func New[K comparable, V any](o Options[K, V]) (*Cache[K, V], error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{o: o, heavy: o.Capacity / heaviest, start: o.Now()}
	c.ledger.listening = o.OnEvict != nil
	if o.Policy == LRU {
		c.store = newRecency(o.Capacity, &c.ledger)
	} else {
		c.store = newFrequency(o.Capacity, o.Typical, &c.ledger)
	}
	return c, nil
}

// Get returns the value put last for the key, if it is still kept.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	e := c.store.get(key)
	if e != nil && !c.live(e, c.o.Now) {
		c.store.remove(key, e, Expired)
		e = nil
	}
	c.tell()
	if e == nil {
		c.misses.Add(1)
		var none V
		return none, false
	}
	c.hits.Add(1)
	return e.value, true
}

// Put keeps the value for the key, in place of another, if the policy lets it.
func (c *Cache[K, V]) Put(key K, value V) {
	c.keep(key, value, c.o.Weigh(key, value))
	c.tell()
}

// Delete forgets the key.
func (c *Cache[K, V]) Delete(key K) {
	c.store.remove(key, nil, Deleted)
	c.tell()
}

// Len is how many values are kept.
func (c *Cache[K, V]) Len() int { return int(c.ledger.length.Load()) }

// Weight is how many bytes the kept values weigh.
func (c *Cache[K, V]) Weight() int64 { return c.ledger.weight.Load() }

// Maintain removes what is expired as of now, and lets the policy finish what it
// put off. The cache's owner calls it every now and then; values are not returned
// beyond their TTL without it, but take memory until they are pushed out.
func (c *Cache[K, V]) Maintain(now time.Time) {
	if c.o.TTL > 0 {
		at := func() time.Time { return now }
		for key, e := range c.store.all() {
			if !c.live(e, at) {
				c.store.remove(key, e, Expired)
			}
		}
	}
	c.store.settle()
	c.tell()
}

// keep stores the value, if it is of a size to be kept, in place of another.
func (c *Cache[K, V]) keep(key K, value V, weight uint32) {
	if !guard.Check("cache.heaviest", weight > 0 && int64(weight) <= c.heavy) {
		c.store.remove(key, nil, Replaced) // it is no longer the last one put
		c.ledger.gone(key, value, Refused)
		return
	}
	e := &entry[V]{value: value, weight: weight}
	if c.o.TTL > 0 {
		e.expires = c.o.Now().Sub(c.start) + c.o.TTL
	}
	c.ledger.added(weight)
	c.store.put(key, e)
	if !guard.Check("cache.capacity", c.ledger.weight.Load() <= c.o.Capacity) {
		c.store.settle()
	}
}

// live says whether e may still be returned.
func (c *Cache[K, V]) live(e *entry[V], now func() time.Time) bool {
	return e.expires == 0 || guard.Check("cache.expired", now().Sub(c.start) < e.expires)
}

// tell calls OnEvict for what left since the last call. No lock is held.
func (c *Cache[K, V]) tell() {
	if c.o.OnEvict == nil {
		return
	}
	for _, r := range c.ledger.take() {
		c.o.OnEvict(r.key, r.value, r.reason)
	}
}
