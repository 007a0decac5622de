package txn

import (
	"context"
	"slices"
	"sync"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// memoryLog is the topic in memory. Appends wait for release when held.
type memoryLog struct {
	mu       sync.Mutex // guards all below
	batches  [Partitions][]batch.Batch
	next     [Partitions]storage.Offset
	held     bool
	waiting  []func()
	failOnce error         // of the next append
	readErr  error         // of the reads to come
	reading  chan struct{} // not nil: reads wait until it is closed
	trims    int
	trimErr  error // of the trims to come
	keepAll  bool  // whole and starts are kept
	whole    [Partitions][]batch.Batch
	starts   [Partitions][]logStart // every trim
}

// logStart is a trim, and how many batches there were.
type logStart struct {
	offset storage.Offset
	length int
}

func (l *memoryLog) Append(partition int32, epoch storage.Epoch, b batch.Batch, done func(storage.Offset, error)) {
	l.mu.Lock()
	err := l.failOnce
	l.failOnce = nil
	land := func() {
		if err == nil {
			batch.Stamp(b, l.next[partition], epoch)
			l.next[partition] = b.NextOffset()
			l.batches[partition] = append(l.batches[partition], b)
			if l.keepAll {
				l.whole[partition] = append(l.whole[partition], b)
			}
		}
	}
	if l.held {
		l.waiting = append(l.waiting, func() {
			l.mu.Lock()
			land()
			next := l.next[partition]
			l.mu.Unlock()
			done(next, err)
		})
		l.mu.Unlock()
		return
	}
	land()
	next := l.next[partition]
	l.mu.Unlock()
	done(next, err)
}

func (l *memoryLog) Read(ctx context.Context, partition int32, _ storage.Epoch, yield func(batch.Batch) error) error {
	l.mu.Lock()
	batches, err, gate := slices.Clone(l.batches[partition]), l.readErr, l.reading
	l.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

func (l *memoryLog) Trim(partition int32, _ storage.Epoch, start storage.Offset, done func(error)) {
	l.mu.Lock()
	l.trims++
	err := l.trimErr
	if err == nil {
		l.starts[partition] = append(l.starts[partition], logStart{start, len(l.whole[partition])})
		l.batches[partition] = slices.DeleteFunc(slices.Clone(l.batches[partition]), func(b batch.Batch) bool { return b.NextOffset() <= start })
	}
	l.mu.Unlock()
	done(err)
}

func (l *memoryLog) set(change func(l *memoryLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// hold makes appends wait.
func (l *memoryLog) hold() { l.set(func(l *memoryLog) { l.held = true }) }

// release lets the appends through that wait, and those to come.
func (l *memoryLog) release() {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting, l.held = nil, false
	l.mu.Unlock()
	for _, land := range waiting {
		land()
	}
}

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
