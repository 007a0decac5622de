package tiering

import (
	"sync"
	"time"
)

// Bandwidth is a token bucket that holds no tokens back: who takes some waits
// until those that were taken before are paid for.
type Bandwidth struct {
	Rate int64 // bytes a second; 0: no bound
	Now  func() time.Time

	mu   sync.Mutex
	paid time.Time // when all that was taken is paid for
}

// Take returns how long n bytes, and no earlier ones, have to wait.
func (b *Bandwidth) Take(n int64) time.Duration {
	if b.Rate == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.Now()
	from := now
	if b.paid.After(now) {
		from = b.paid
	}
	b.paid = from.Add(time.Duration(float64(n) / float64(b.Rate) * float64(time.Second)))
	return from.Sub(now)
}
