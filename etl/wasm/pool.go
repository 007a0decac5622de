package wasm

import (
	"context"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/guard"
)

// A pool lends a module's instances to calls, one each. It makes them as they are
// needed, up to its bound; those that wait are served in order of arrival.
//
// Instances are made by goroutines of their own: a call that has no time left goes, and
// the next one finds the instance. make is called without the lock.
type pool struct {
	make  func() (*instance, *abi.Failure)
	bound int
	idle  time.Duration

	mu       sync.Mutex // guards what follows
	closed   bool
	free     []*instance // the one used last is at the end, and taken first
	total    int         // free, lent or being made
	making   int
	waiters  []chan loan
	evict    *time.Timer // set while more than one is free
	finished sync.WaitGroup
}

// A loan is what a waiter gets: one of both.
type loan struct {
	instance *instance
	failure  *abi.Failure
}

// closedFailure is what calls get that come too late.
func closedFailure() *abi.Failure { return failure(abi.Closed, "the module is being shut down") }

// take lends an instance, waiting for one until until or for as long as ctx lives.
func (p *pool) take(ctx context.Context, until time.Time) (*instance, *abi.Failure) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, closedFailure()
	}
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free[n-1] = nil
		p.free = p.free[:n-1]
		p.finished.Add(1)
		p.mu.Unlock()
		return i, nil
	}
	wait := make(chan loan, 1)
	p.waiters = append(p.waiters, wait)
	p.grow()
	p.mu.Unlock()

	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case l := <-wait:
		return l.instance, l.failure
	case <-ctx.Done():
	case <-timer.C:
	}
	p.mu.Lock()
	if n := slices.Index(p.waiters, wait); n >= 0 {
		p.waiters = slices.Delete(p.waiters, n, n+1)
		p.mu.Unlock()
		if ctx.Err() != nil {
			return nil, failure(abi.Busy, "the caller gave up while it waited for one of %d instances", p.bound)
		}
		return nil, failure(abi.Busy, "none of %d instances was free in time: give the module more instances, or a longer deadline", p.bound)
	}
	p.mu.Unlock()
	l := <-wait // it was served at the same moment, which is too late
	if l.instance != nil {
		p.put(l.instance, false)
		l.failure = failure(abi.Busy, "none of %d instances was free in time: give the module more instances, or a longer deadline", p.bound)
	}
	return nil, l.failure
}

// put takes an instance back. One that is broken is freed, and another made if
// somebody waits or none is left.
func (p *pool) put(i *instance, broken bool) {
	defer p.finished.Done()
	p.mu.Lock()
	if !guard.Check("etl.broken-instance", !broken) || p.closed {
		p.total--
		if !p.closed {
			p.grow()
		}
		p.mu.Unlock()
		i.close()
		return
	}
	p.serve(i)
	p.mu.Unlock()
}

// serve gives i to who waits longest, or keeps it. The lock is held.
func (p *pool) serve(i *instance) {
	if len(p.waiters) > 0 {
		p.finished.Add(1)
		p.waiters[0] <- loan{instance: i}
		p.waiters = slices.Delete(p.waiters, 0, 1)
		return
	}
	i.used = time.Now()
	p.free = append(p.free, i)
	if len(p.free) > 1 && p.evict == nil {
		p.evict = time.AfterFunc(p.idle, p.shrink)
	}
}

// grow makes an instance if there is room for it, and somebody who needs it. The lock is held.
func (p *pool) grow() {
	if !guard.Check("etl.pool-bound", p.total < p.bound) || p.making >= len(p.waiters) && p.total > 0 {
		return
	}
	p.total++
	p.making++
	p.finished.Go(func() {
		i, f := p.make()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.making--
		switch {
		case p.closed:
			p.total--
			if i != nil {
				i.close()
			}
		case f == nil:
			p.serve(i)
		default:
			// One waiter hears of it, and the next one's try begins; when nobody waits any more, the
			// next call tries.
			p.total--
			if len(p.waiters) > 0 {
				p.waiters[0] <- loan{failure: f}
				p.waiters = slices.Delete(p.waiters, 0, 1)
			}
			if len(p.waiters) > 0 {
				p.grow()
			}
		}
	})
}

// shrink frees what has not been used for a while, but the last.
func (p *pool) shrink() {
	p.mu.Lock()
	p.evict = nil
	var old []*instance
	now := time.Now()
	for len(p.free) > 1 && now.Sub(p.free[0].used) >= p.idle {
		old = append(old, p.free[0])
		p.free = slices.Delete(p.free, 0, 1)
		p.total--
	}
	if len(p.free) > 1 && !p.closed {
		p.evict = time.AfterFunc(p.idle-now.Sub(p.free[0].used), p.shrink)
	}
	p.mu.Unlock()
	for _, i := range old {
		i.close()
	}
}

// close frees all instances once their calls have ended, and sends away who waits.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.evict != nil {
		p.evict.Stop()
	}
	for _, w := range p.waiters {
		w <- loan{failure: closedFailure()}
	}
	free := p.free
	p.waiters, p.free, p.total = nil, nil, p.total-len(p.free)
	p.mu.Unlock()
	for _, i := range free {
		i.close()
	}
	p.finished.Wait()
}
