package bucket

import "time"

// Circuit is the state of the circuit breaker.
type Circuit uint8

// The states of a circuit.
const (
	Closed   Circuit = iota // requests pass
	Open                    // none passes
	HalfOpen                // one at a time passes, to see
)

func (c Circuit) String() string {
	switch c {
	case Closed:
		return "closed"
	case Open:
		return "open"
	}
	return "half-open"
}

// breaker decides which attempts may be made. It reads no clock.
type breaker struct {
	o       *ResilientOptions
	circuit Circuit
	since   time.Time // it was closed, or was opened: a probe that fails is the same outage
	lives   int       // changes of the circuit: what began before one says nothing after it

	failures  int // in a row
	now, last counts
	nowSince  time.Time

	openFor time.Duration
	until   time.Time // open until then
	probing bool
}

type counts struct{ good, bad int }

// turn is the permission for one attempt.
type turn struct {
	life  int
	probe bool
}

// ask reports whether an attempt may be made.
func (b *breaker) ask(now time.Time) (turn, bool) {
	if b.circuit == Open && !now.Before(b.until) {
		b.change(HalfOpen, now)
	}
	switch {
	case b.circuit == Closed:
		return turn{life: b.lives}, true
	case b.circuit == HalfOpen && !b.probing:
		b.probing = true
		return turn{life: b.lives, probe: true}, true
	}
	return turn{}, false
}

// verdict is what an attempt says of the store.
type verdict uint8

const (
	says    verdict = iota // nothing: the caller gave up, or was wrong
	answers                // the store works
	fails
)

// tell takes note of how an attempt ended. jitter is in [0, 1).
func (b *breaker) tell(t turn, v verdict, now time.Time, jitter float64) {
	if t.life != b.lives {
		return
	}
	if t.probe {
		b.probing = false
		switch v {
		case answers:
			b.openFor = 0
			b.change(Closed, now)
		case fails:
			b.open(now, jitter)
		}
		return
	}
	if now.Sub(b.nowSince) >= b.o.OpenWindow/2 {
		b.last, b.now, b.nowSince = b.now, counts{}, now
	}
	switch v {
	case answers:
		b.failures = 0
		b.now.good++
	case fails:
		b.failures++
		b.now.bad++
	}
	bad := b.now.bad + b.last.bad
	all := bad + b.now.good + b.last.good
	if b.failures >= b.o.OpenAfter || all >= b.o.OpenMin && float64(bad) >= b.o.OpenShare*float64(all) {
		b.open(now, jitter)
	}
}

// open lets nothing pass for a while: twice as long as the last time, give or
// take a quarter, so that brokers do not come back all at once.
func (b *breaker) open(now time.Time, jitter float64) {
	b.openFor = min(max(2*b.openFor, b.o.OpenFor), b.o.MaxOpenFor)
	b.until = now.Add(time.Duration(float64(b.openFor) * (0.75 + jitter/2)))
	b.change(Open, now)
}

func (b *breaker) change(to Circuit, now time.Time) {
	if to == Closed || b.circuit == Closed {
		b.since = now
	}
	b.circuit, b.nowSince = to, now
	b.failures, b.now, b.last = 0, counts{}, counts{}
	b.probing = false
	b.lives++
}

// budget bounds retries to a share of the calls. It begins empty, so that at no
// moment more than that share was ever made.
type budget struct {
	share, most, left float64
}

func (b *budget) earn() { b.left = min(b.left+b.share, b.most) }

func (b *budget) spend() bool {
	const rounding = 1e-9 // five fifths are one
	if b.left < 1-rounding {
		return false
	}
	b.left = max(0, b.left-1)
	return true
}
