package quota

import (
	"math"
	"sync"
	"time"
)

const (
	// Window is how long an idle client saves up what it may take at once; Kafka's
	// quota.window.num less one, of quota.window.size.seconds.
	Window = 10 * time.Second

	// longestWait is told to a client at most: what is told more looks dead to it,
	// and it comes back by another connection.
	longestWait = time.Minute

	// longestShortWait is the same for the time of the broker, and for connections, as
	// in Kafka.
	longestShortWait = time.Second
)

// bucket counts what clients that share it take.
type bucket struct {
	rate float64 // units a second
	most float64 // units that are saved up
	wait time.Duration

	mu   sync.Mutex
	left float64   // units; below zero is a debt. Guarded by mu
	at   time.Time // when left was reckoned; zero: it was never taken from. Guarded by mu
}

func newBucket(kind Kind, rate float64) *bucket {
	most := rate * Window.Seconds()
	wait := longestWait
	if kind == Request || kind == Connection {
		wait = longestShortWait
	}
	if kind == Connection {
		most = max(1, most) // one comes whole
	}
	return &bucket{rate: rate, most: most, wait: wait, left: most}
}

// One returns a client that is held to one rate, in units a second; 0: to nothing.
func One(kind Kind, rate float64) Client {
	var rates [Kinds]float64
	rates[kind] = rate
	return *newBudget(rates, nil)
}

// fill adds what came since the last look. mu is held.
func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(b.most, b.left+b.rate*passed.Seconds())
		b.at = now
	}
}

// debt is how long it takes until nothing is owed. mu is held.
func (b *bucket) debt() time.Duration {
	if b.left >= 0 {
		return 0
	}
	seconds := -b.left / b.rate
	if seconds >= b.wait.Seconds() {
		return b.wait
	}
	return time.Duration(math.Ceil(seconds*1000)) * time.Millisecond
}

// take takes units, there or not, and returns how long to wait for it. Taking
// nothing asks.
func (b *bucket) take(now time.Time, units float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.left -= units
	return b.debt()
}

// try takes units unless something is owed already.
func (b *bucket) try(now time.Time, units float64) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	if b.left < 0 {
		return b.debt(), false
	}
	b.left -= units
	return b.debt(), true
}

// give gives back what was taken and not used.
func (b *bucket) give(units float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.most, b.left+units)
}

// half reports whether half is taken or more.
func (b *bucket) half(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	return b.left <= b.most/2
}

// idle reports whether b is as a new one would be.
func (b *bucket) idle(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	return b.left >= b.most
}
