package rustmq

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// windowsPerTimeout is into how many windows a delivery time-out is divided: a record may
// take a windowsPerTimeout-th longer.
const windowsPerTimeout = 32

// windows bound the time of records: each that is produced within a window of time gets the same
// deadline, so that a record costs neither a timer nor an allocation. franz-go's own bound
// reckons from the record's timestamp, which may be any.
type windows struct {
	timeout time.Duration
	current atomic.Pointer[window]
	mu      sync.Mutex // one window at a time is made
}

// window is a context that ends with kgo.ErrRecordTimeout.
type window struct {
	until    time.Time // of the window: records from then on get another
	deadline time.Time
	ended    chan struct{}
}

// at is the window of a record produced now.
func (w *windows) at(now time.Time) *window {
	if is := w.current.Load(); is != nil && now.Before(is.until) {
		return is
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if is := w.current.Load(); is != nil && now.Before(is.until) {
		return is
	}
	step := w.timeout / windowsPerTimeout
	is := &window{until: now.Add(step), deadline: now.Add(step + w.timeout), ended: make(chan struct{})}
	time.AfterFunc(step+w.timeout, func() { close(is.ended) })
	w.current.Store(is)
	return is
}

func (w *window) Deadline() (time.Time, bool) { return w.deadline, true }
func (w *window) Done() <-chan struct{}       { return w.ended }
func (w *window) Value(any) any               { return nil }

func (w *window) Err() error {
	select {
	case <-w.ended:
		return kgo.ErrRecordTimeout
	default:
		return nil
	}
}

// bounded is a window with the values of the caller's context.
type bounded struct {
	*window
	values    context.Context
	partition int32 // that the record is pinned to; -1: it is not
}

func (b *bounded) Value(key any) any {
	if key == (pinnedKey{}) && b.partition >= 0 {
		return b.partition
	}
	return b.values.Value(key)
}
