package broker

import (
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// fetchMemory bounds the records of fetch responses that are not written yet:
// what slow readers hold, pinned in the WAL's memory or read from its files. A
// fetch that finds it used up waits, as if there were no records.
type fetchMemory struct {
	limit int64

	mu      sync.Mutex
	used    int64                      // guarded by mu; beyond limit by a grant or a batch for each read under way
	starved map[*fetchRequest]struct{} // woken when there is room; guarded by mu
}

const (
	// minGrant is granted at least: less would cost as much and bring little.
	minGrant = 64 << 10

	// starvedAtOnce is how many are woken when memory is given back. Each of
	// them gives back in its turn, and wakes the next.
	starvedAtOnce = 16
)

func newFetchMemory(limit int64) *fetchMemory {
	return &fetchMemory{limit: limit, starved: map[*fetchRequest]struct{}{}}
}

// take grants f up to n bytes to read, to be given back. False: there are none,
// and f is woken when there may be.
func (m *fetchMemory) take(f *fetchRequest, n int) (granted int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.limit - m.used
	if !guard.Check("broker.fetch-memory", left > 0) {
		m.starved[f] = struct{}{}
		return 0, false
	}
	granted = int(min(int64(n), max(left, minGrant)))
	m.used += int64(granted)
	return granted, true
}

// give takes back what was granted or read, and wakes some who wait for it.
func (m *fetchMemory) give(bytes int) {
	m.mu.Lock()
	m.used -= int64(bytes)
	m.wake()
}

// passOn says that f waits for memory no more: others may have what it was
// woken for.
func (m *fetchMemory) passOn(f *fetchRequest) {
	m.mu.Lock()
	delete(m.starved, f)
	m.wake()
}

// wake gives back m.mu, which is held, and wakes some who wait.
func (m *fetchMemory) wake() {
	var woken [starvedAtOnce]*fetchRequest
	n := 0
	if m.used < m.limit {
		for waiting := range m.starved {
			if n == len(woken) {
				break
			}
			woken[n] = waiting
			delete(m.starved, waiting)
			n++
		}
	}
	m.mu.Unlock()
	for _, waiting := range woken[:n] {
		waiting.Wake()
	}
}

// correct replaces a grant by what was read: less, or one larger batch.
func (m *fetchMemory) correct(granted, read int) {
	m.mu.Lock()
	m.used += int64(read - granted)
	m.mu.Unlock()
}

func (m *fetchMemory) inUse() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}
