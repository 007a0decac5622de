package relay

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// segment is how many bytes of TCP share a fate.
	segment = 1400
	// queued is how long the queue of a line may be.
	queued = 50 * time.Millisecond
)

// line is one direction of the way, which all connections share.
type line struct {
	delay time.Duration
	rate  int64 // bytes a second; 0: no bound
	loss  float64

	mu   sync.Mutex
	free time.Time  // when what was sent so far has gone; guarded by mu
	dice *rand.Rand // guarded by mu
}

func newLine(o Options, stream uint64) *line {
	return &line{delay: o.Delay, rate: o.Rate, loss: o.Loss, dice: rand.New(rand.NewPCG(o.Seed, stream))}
}

// datagram returns when one arrives, and false if it does not.
func (l *line) datagram(now time.Time, bytes int) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Sub(now) > queued || l.loss > 0 && l.dice.Float64() < l.loss {
		return time.Time{}, false
	}
	return l.gone(now, bytes).Add(l.delay), true
}

// stretch returns when bytes of a TCP connection arrive, and how long their sender is to
// wait before more.
func (l *line) stretch(now time.Time, bytes int) (due time.Time, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due = l.gone(now, bytes).Add(l.delay)
	for range (bytes + segment - 1) / segment {
		if l.loss > 0 && l.dice.Float64() < l.loss {
			due = due.Add(2 * l.delay)
			break // one round trip brings all that is missing
		}
	}
	if l.rate > 0 {
		wait = max(0, l.free.Sub(now)-queued)
	}
	return due, wait
}

// gone returns when the last of so many bytes is on its way. l.mu is held.
func (l *line) gone(now time.Time, bytes int) time.Time {
	if l.rate == 0 {
		return now
	}
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(bytes) * time.Second / time.Duration(l.rate))
	return l.free
}
