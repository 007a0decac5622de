package pattern_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/roles/broker/pattern"
)

// A match that takes long does not hold up another, is told when it has taken too long
// by itself, and does not count the time of others.
func TestMatchesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns pattern.Turns
		work := func(names int, limit time.Duration, ctx context.Context) (took time.Duration, done int, err error) {
			began := time.Now()
			m := turns.Begin(limit, ctx)
			for done < names && m.Next() {
				time.Sleep(20 * time.Millisecond) // a name
				done++
			}
			return time.Since(began), done, m.End()
		}
		if _, done, err := work(100, time.Second, t.Context()); err != pattern.ErrTooLong || done != 51 {
			t.Errorf("too long: %d names, %v", done, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, done, err := work(100, 0, ctx); err != pattern.ErrNobody || done != 0 {
			t.Errorf("nobody waits: %d names, %v", done, err)
		}
		if took, done, err := work(100, 0, t.Context()); err != nil || done != 100 || took != 2*time.Second {
			t.Errorf("alone: %d names in %v, %v", done, took, err)
		}
	})
}
