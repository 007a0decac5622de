package group

import (
	"context"
	"slices"
	"sync"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// memoryLog is the topic in memory. Appends wait for release when held.
type memoryLog struct {
	mu      sync.Mutex // guards all below
	batches [Partitions][]batch.Batch
	next    [Partitions]storage.Offset
	held    bool
	waiting []func()
	fail    error         // of the appends to come
	limit   int           // bytes that a batch may have, 0: any
	readErr error         // of the reads to come
	reading chan struct{} // not nil: reads wait until it is closed
	reads   int
	appends int
	trims   int
	trimErr error // of the trims to come
	keepAll bool
	whole   [Partitions][]batch.Batch // with keepAll, also what was trimmed
	starts  [Partitions][]logStart    // with keepAll, every trim
}

// logStart is a trim, and how many batches there were.
type logStart struct {
	offset storage.Offset
	length int
}

func (l *memoryLog) AppendMarker(partition int32, epoch storage.Epoch, m log.Marker, done func(storage.Offset, error)) {
	b := batch.BuildMarker(0, m.ProducerID, m.ProducerEpoch, batch.Marker{Commit: m.Commit, CoordinatorEpoch: m.CoordinatorEpoch})
	l.Append(partition, epoch, b, log.Guard{}, done)
}

func (l *memoryLog) Append(partition int32, epoch storage.Epoch, b batch.Batch, _ log.Guard, done func(storage.Offset, error)) {
	l.mu.Lock()
	l.appends++
	err := l.fail
	if l.limit > 0 && len(b) > l.limit {
		err = coordinator.ErrTooLarge
	}
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
	l.reads++
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

// size is the bytes of a partition.
func (l *memoryLog) size(partition int32) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.batches[partition] {
		n += len(b)
	}
	return n
}

// hold makes appends wait.
func (l *memoryLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

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

func (l *memoryLog) set(change func(l *memoryLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}
