package cache

import (
	"context"
	"errors"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// errNoResult answers those who wait for a load that ended its goroutine.
var errNoResult = errors.New("the load ended without a result")

// flight is one load and those who wait for it.
type flight[V any] struct {
	waiters int           // guarded by Cache.mu
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

// Load returns the key's value, which load reads if it is not kept. Who asks
// while the key is being loaded waits for that load, whoever began it. An error
// reaches all who waited and is not kept.
//
// The context of load carries the values of the first asker's ctx, but not its
// end: it ends when nobody waits any more, at Options.LoadTimeout, or at Close.
// An asker whose ctx ends gets its error at once; the others wait on.
func (c *Cache[K, V]) Load(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	if value, ok := c.Get(key); ok {
		return value, nil
	}
	var none V
	if err := ctx.Err(); err != nil {
		return none, err
	}
	c.mu.Lock()
	f := c.flights[key]
	if f != nil {
		c.loads.shared.Add(1)
	} else {
		// A load may have ended since Get: its value was kept before it left flights.
		if e := c.store.peek(key); e != nil && c.live(e, c.o.Now) {
			c.mu.Unlock()
			return e.value, nil
		}
		if c.closed {
			c.mu.Unlock()
			return none, ErrClosed
		}
		f = c.depart(ctx, key, load)
	}
	f.waiters++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.leave(key, f)
		return none, ctx.Err()
	}
}

// depart starts a load. Cache.mu is held.
func (c *Cache[K, V]) depart(ctx context.Context, key K, load func(context.Context) (V, error)) *flight[V] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[V]{done: make(chan struct{}), err: errNoResult}
	if c.flights == nil {
		c.flights = make(map[K]*flight[V])
		c.running = make(map[*flight[V]]func())
	}
	c.flights[key] = f
	c.running[f] = cancel
	c.loads.started.Add(1)
	c.landed.Add(1)
	// Blocks on nothing but load.
	go func() {
		defer c.landed.Done()
		defer cancel()
		defer c.land(key, f, c.o.Now())
		if c.o.LoadTimeout > 0 {
			var stop func()
			ctx, stop = context.WithTimeout(ctx, c.o.LoadTimeout)
			defer stop()
		}
		f.value, f.err = load(ctx)
	}()
	return f
}

// land ends a load: what it read is kept, unless its key was put or deleted
// meanwhile or nobody waits, and given to those who wait.
func (c *Cache[K, V]) land(key K, f *flight[V], departed time.Time) {
	c.loads.nanos.Add(int64(c.o.Now().Sub(departed)))
	var weight uint32
	if f.err != nil {
		c.loads.failed.Add(1)
	} else {
		weight = c.o.Weigh(key, f.value)
	}
	c.mu.Lock()
	current := c.flights[key] == f
	if f.err == nil && guard.Check("cache.stale-load", current) {
		c.keep(key, f.value, weight)
	}
	if current {
		delete(c.flights, key)
	}
	delete(c.running, f)
	c.mu.Unlock()
	close(f.done)
	c.tell()
}

// leave takes a waiter away; the last one ends the load.
func (c *Cache[K, V]) leave(key K, f *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters > 0 {
		return
	}
	if c.flights[key] == f {
		delete(c.flights, key) // who asks from now on wants a load that is not cancelled
	}
	if cancel := c.running[f]; cancel != nil {
		cancel()
	}
}
