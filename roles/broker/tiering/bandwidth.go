package tiering

import (
	"context"
	"sync"
	"time"
)

// Bandwidth is a token bucket that holds no tokens back: who takes some waits
// until those that were taken before are paid for.
type Bandwidth struct {
	Rate int64 // bytes a second; 0: no bound. Set changes it while it is used
	Now  func() time.Time
	// Pace says how long n bytes have to wait for those who produce; nil: not at all.
	Pace func(n int64) time.Duration

	mu   sync.Mutex
	paid time.Time // when all that was taken is paid for
}

// Turn is how long what was taken has to wait, from then on.
type Turn time.Duration

// Take takes n bytes, whose turn comes behind that of all that were taken before.
func (b *Bandwidth) Take(n int64) Turn {
	var pace Turn
	if b.Pace != nil {
		pace = Turn(b.Pace(n))
	}
	return max(pace, b.take(n))
}

// take is Take by the rate alone.
func (b *Bandwidth) take(n int64) Turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Rate == 0 {
		return 0
	}
	now := b.Now()
	from := now
	if b.paid.After(now) {
		from = b.paid
	}
	b.paid = from.Add(time.Duration(float64(n) / float64(b.Rate) * float64(time.Second)))
	return Turn(from.Sub(now))
}

// Set changes the rate, for what is taken from now on.
func (b *Bandwidth) Set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Rate = rate
}

// Wait waits until the turn has come, or ctx is done.
func (t Turn) Wait(ctx context.Context) error {
	if t <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(time.Duration(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
