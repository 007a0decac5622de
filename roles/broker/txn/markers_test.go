package txn

import "sync"

// memoryMarkers writes markers at once, or when it is let.
type memoryMarkers struct {
	mu      sync.Mutex // guards all below
	written []Marker
	left    []Partition // of those to come: to be tried again
	held    bool
	waiting []func()
}

func (m *memoryMarkers) WriteMarkers(marker Marker, done func(left []Partition)) {
	m.mu.Lock()
	m.written = append(m.written, marker)
	left := m.left
	if m.held {
		m.waiting = append(m.waiting, func() { done(nil) })
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	done(left)
}

func (m *memoryMarkers) set(change func(m *memoryMarkers)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}
