package wasm

import (
	"sync"
	"sync/atomic"
	"time"
)

// idleTicks is how many ticks without a call the ticker goes on before it sleeps: so
// that it is not woken by every call.
const idleTicks = 200

// A ticker calls advance once a tick while calls run, and sleeps when none has for a
// while. It follows the clock: ticks that were late are made up for.
type ticker struct {
	advance func()
	calls   atomic.Int64
	asleep  atomic.Bool
	wake    chan struct{}
	stop    chan struct{}
	stopped sync.WaitGroup
}

func newTicker(advance func()) *ticker {
	t := &ticker{advance: advance, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	t.stopped.Go(t.run)
	return t
}

// enter says that a call begins; leave, that it has ended.
func (t *ticker) enter() {
	t.calls.Add(1)
	// run sets asleep before it looks at calls, which were counted before asleep is looked at.
	if t.asleep.Load() && t.asleep.CompareAndSwap(true, false) {
		t.wake <- struct{}{}
	}
}

func (t *ticker) leave() { t.calls.Add(-1) }

// run blocks on the clock, or asleep on wake; and always on stop.
func (t *ticker) run() {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	last, idle := time.Now(), 0
	for {
		select {
		case <-t.stop:
			return
		case <-clock.C:
		}
		for now := time.Now(); now.Sub(last) >= tick; last = last.Add(tick) {
			t.advance()
		}
		if idle++; t.calls.Load() > 0 {
			idle = 0
		}
		if idle < idleTicks {
			continue
		}
		t.asleep.Store(true)
		if t.calls.Load() > 0 && t.asleep.CompareAndSwap(true, false) {
			continue
		}
		clock.Stop()
		select {
		case <-t.stop:
			return
		case <-t.wake:
		}
		clock.Reset(tick)
		last, idle = time.Now(), 0
	}
}

func (t *ticker) close() {
	close(t.stop)
	t.stopped.Wait()
}

// ticksFor is the number of ticks after which a call that begins now has had d: the
// tick under way may end at once.
func ticksFor(d time.Duration) uint64 {
	return uint64((d+tick-1)/tick) + 1
}
