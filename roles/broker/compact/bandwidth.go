package compact

import (
	"context"
	"sync"
	"time"
)

// bandwidth is a token bucket that holds no tokens back: who takes some waits
// until those that were taken before are paid for.
type bandwidth struct {
	rate int64 // bytes a second; 0: no bound
	now  func() time.Time

	mu   sync.Mutex
	paid time.Time // when all that was taken is paid for
}

// take waits until n bytes may pass.
func (b *bandwidth) take(ctx context.Context, n int64) error {
	if b.rate == 0 {
		return ctx.Err()
	}
	b.mu.Lock()
	now := b.now()
	from := now
	if b.paid.After(now) {
		from = b.paid
	}
	b.paid = from.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	b.mu.Unlock()
	timer := time.NewTimer(from.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
