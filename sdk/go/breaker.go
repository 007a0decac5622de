package rustmq

import (
	"fmt"
	"sync"
	"time"
)

// BreakerState is what a circuit breaker does with records.
type BreakerState int

// States of a breaker.
const (
	BreakerClosed   BreakerState = iota // records pass
	BreakerOpen                         // records are refused with ErrBreakerOpen
	BreakerHalfOpen                     // one record passes, and decides
)

func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("BreakerState(%d)", int(s))
}

// Breaker configures a circuit breaker: what cannot be delivered fails at once, and
// not each record after the whole delivery time-out.
type Breaker struct {
	// Failures is how many deliveries in a row have to fail before it opens; ≥ 1.
	Failures int
	// Cooldown is how long it stays open before one record may try; default 5 s.
	Cooldown time.Duration
	// Changed is told each change of state, in order; nil: nobody is. It must not block.
	Changed func(from, to BreakerState)
}

const defaultCooldown = 5 * time.Second

// outcome of a delivery, as a breaker sees it.
type outcome int

const (
	delivered outcome = iota
	undelivered
	neither // refused for what the record is, or taken back: it says nothing of brokers
)

// breaker decides. It starts no goroutine: what is due is done by the next call.
type breaker struct {
	o   Breaker
	now func() time.Time

	telling sync.Mutex // keeps calls of Changed in order; taken before mu
	mu      sync.Mutex
	state   BreakerState
	failed  int       // deliveries in a row
	until   time.Time // of an open one
	probing bool      // a half-open one has let its record pass
}

func newBreaker(o Breaker, now func() time.Time) (*breaker, error) {
	if o.Failures < 1 {
		return nil, fmt.Errorf("rustmq: circuit breaker: %d failures: want 1 or more", o.Failures)
	}
	if o.Cooldown <= 0 {
		o.Cooldown = defaultCooldown
	}
	return &breaker{o: o, now: now}, nil
}

// allow reports whether a record may be produced now.
func (b *breaker) allow() bool {
	b.mu.Lock()
	if b.state == BreakerClosed {
		b.mu.Unlock()
		return true
	}
	b.mu.Unlock()
	allowed := false
	b.change(func() {
		switch {
		case b.state == BreakerClosed:
			allowed = true
		case b.state == BreakerOpen && b.now().Before(b.until), b.state == BreakerHalfOpen && b.probing:
		default:
			b.state, b.probing, allowed = BreakerHalfOpen, true, true
		}
	})
	return allowed
}

// done notes the outcome of a delivery.
func (b *breaker) done(o outcome) {
	b.mu.Lock()
	if b.state == BreakerClosed && (o != undelivered || b.failed+1 < b.o.Failures) {
		switch o {
		case delivered:
			b.failed = 0
		case undelivered:
			b.failed++
		}
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.change(func() {
		switch o {
		case delivered:
			b.state, b.failed, b.probing = BreakerClosed, 0, false
		case undelivered:
			b.failed++
			if b.failed >= b.o.Failures {
				b.state, b.probing, b.until = BreakerOpen, false, b.now().Add(b.o.Cooldown)
			}
		case neither:
			b.probing = false
		}
	})
}

// change runs f under the lock and tells of the state that it has set, in order.
func (b *breaker) change(f func()) {
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	before := b.state
	f()
	after := b.state
	b.mu.Unlock()
	if before != after && b.o.Changed != nil {
		b.o.Changed(before, after)
	}
}

// view is what health shows.
func (b *breaker) view() (state BreakerState, failed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == BreakerOpen && !b.now().Before(b.until) {
		return BreakerHalfOpen, b.failed // the next record tries
	}
	return b.state, b.failed
}
