package broker

import (
	"context"
	"slices"
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// budget is memory that several share. First come, first served; what is larger than all
// of it passes when it is alone.
type budget struct {
	limit int64

	mu      sync.Mutex
	used    int64        // guarded by mu
	waiting []budgetWait // guarded by mu
}

type budgetWait struct {
	n     int64
	ready chan struct{}
}

// tryTake takes n bytes if nobody has to wait for that.
func (m *budget) tryTake(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) > 0 || !m.fits(n) {
		return false
	}
	m.used += n
	return true
}

// take takes n bytes, and waits for them as long as ctx allows. waits, if there is one, is
// called before that.
func (m *budget) take(ctx context.Context, n int64, waits func()) error {
	if m.tryTake(n) {
		return nil
	}
	if waits != nil {
		waits()
	}
	m.mu.Lock()
	if len(m.waiting) == 0 && m.fits(n) {
		m.used += n
		m.mu.Unlock()
		return nil
	}
	w := budgetWait{n, make(chan struct{})}
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.IndexFunc(m.waiting, func(o budgetWait) bool { return o.ready == w.ready }); i >= 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
	} else {
		m.used -= n // it was given in the same moment
	}
	m.admit()
	return ctx.Err()
}

// give gives n bytes back; less than nothing is what was found to be taken beyond what was
// asked for.
func (m *budget) give(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.admit()
}

func (m *budget) fits(n int64) bool {
	return guard.Check("broker.budget", m.used <= 0 || m.used+n <= m.limit)
}

// admit lets those in who wait, in order. m.mu is held.
func (m *budget) admit() {
	for len(m.waiting) > 0 && m.fits(m.waiting[0].n) {
		m.used += m.waiting[0].n
		close(m.waiting[0].ready)
		m.waiting = m.waiting[1:]
	}
}

// inUse is how many bytes are taken.
func (m *budget) inUse() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}
