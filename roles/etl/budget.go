package etl

import (
	"errors"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/guard"
)

// budget counts failures of a module. It is a core: no clock.
type budget struct {
	window time.Duration
	last   []time.Time // of the failures, a ring as large as the budget
	next   int         // in the ring
	total  int
}

func newBudget(b pipeline.Budget) *budget {
	return &budget{window: time.Duration(b.WindowMillis) * time.Millisecond, last: make([]time.Time, max(b.Failures, 1))}
}

// fail notes a failure, and reports whether the budget is spent: as many as it has room for
// came within the window.
func (b *budget) fail(now time.Time) bool {
	b.last[b.next] = now
	b.next = (b.next + 1) % len(b.last)
	b.total++
	oldest := b.last[b.next] // of as many as the budget has room for
	return b.total >= len(b.last) && guard.Check("etl.budget-window", now.Sub(oldest) <= b.window)
}

// recent is how many failures came within the window, of those that are remembered.
func (b *budget) recent(now time.Time) (n int) {
	for _, at := range b.last[:min(b.total, len(b.last))] {
		if now.Sub(at) <= b.window {
			n++
		}
	}
	return n
}

// counts reports whether an error is a failure of a module, and not of how busy a broker is.
func counts(err error) bool {
	if errors.Is(err, pipeline.ErrUnready) {
		return false
	}
	if f, is := errors.AsType[*abi.Failure](err); is && (f.Kind == abi.Busy || f.Kind == abi.Closed || f.Kind == abi.Disabled) {
		return false
	}
	return err != nil
}
