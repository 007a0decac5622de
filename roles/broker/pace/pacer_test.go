package pace_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/roles/broker/pace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// busy is a broker on a machine whose processors are not free when they are wanted.
type busy struct {
	appends  atomic.Int64
	produces atomic.Bool
	late     atomic.Int64 // of each sleep
	sleeps   atomic.Int64
}

func (b *busy) options() pace.Options {
	return pace.Options{
		Appends: func() int64 {
			if b.produces.Load() {
				b.appends.Add(1)
			}
			return b.appends.Load()
		},
		Late: func(ctx context.Context, d time.Duration) time.Duration {
			b.sleeps.Add(1)
			timer := time.NewTimer(d + time.Duration(b.late.Load()))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return time.Duration(b.late.Load())
		},
	}
}

// move moves data in steps of 1 MiB for a while, as the meter allows, each of which takes
// a millisecond, and returns how much that was a second.
func move(m *pace.Meter, long time.Duration) int64 {
	n := int64(0)
	for begun := time.Now(); time.Since(begun) < long; n++ {
		time.Sleep(m.Take(mib) + time.Millisecond)
	}
	return n * mib * int64(time.Second) / int64(long)
}

func TestReadingGivesWayToProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b busy
		p := pace.New(b.options())
		defer p.Close()
		m := p.Meter()
		b.late.Store(int64(3 * time.Millisecond))
		if got := move(m, 5*time.Second); got < 990*mib {
			t.Errorf("nobody produces: %d MiB a second, want all that can be moved", got/mib)
		}
		b.produces.Store(true)
		move(m, 5*time.Second) // it is noticed
		if got := move(m, 5*time.Second); got < 31*mib || got > 33*mib {
			t.Errorf("beside produce on a busy machine: %d MiB a second, want 32", got/mib)
		}
		if wait := m.Delay(); wait <= 0 || wait > time.Second/16 {
			t.Errorf("who moves something next waits for %v, want for what was moved", wait)
		}
		b.produces.Store(false)
		move(m, 5*time.Second)
		if got := move(m, 5*time.Second); got < 990*mib {
			t.Errorf("nobody produces any more: %d MiB a second, want all that can be moved", got/mib)
		}
	})
}

func TestFreeProcessorsBoundNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b busy
		b.produces.Store(true)
		p := pace.New(b.options())
		defer p.Close()
		if got := move(p.Meter(), 5*time.Second); got < 990*mib {
			t.Errorf("%d MiB a second, want all that can be moved", got/mib)
		}
	})
}

func TestNothingIsWatchedWhileNothingIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b busy
		b.produces.Store(true)
		p := pace.New(b.options())
		defer p.Close()
		time.Sleep(time.Minute)
		if n := b.sleeps.Load(); n != 0 {
			t.Errorf("%d samples before anything was moved", n)
		}
		move(p.Meter(), time.Second)
		time.Sleep(time.Second)
		n := b.sleeps.Load()
		time.Sleep(time.Minute)
		if more := b.sleeps.Load() - n; n == 0 || more != 0 {
			t.Errorf("%d samples while something was moved, and %d after", n, more)
		}
	})
}

// Without a pacer nothing waits.
func TestTheZeroMeterBoundsNothing(t *testing.T) {
	var m pace.Meter
	if m.Take(mib) != 0 || m.Delay() != 0 {
		t.Error("it waits")
	}
}
