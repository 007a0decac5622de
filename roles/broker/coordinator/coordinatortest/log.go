package coordinatortest

import (
	"context"
	"slices"
	"sync"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Partitions is how many a coordinator's topic has.
const Partitions = 50

// Log is a coordinator's topic. The zero value is empty.
type Log struct {
	mu      sync.Mutex // guards all below
	held    bool
	waiting []func()

	Batches [Partitions][]batch.Batch
	Next    [Partitions]storage.Offset

	Fail     error // of the appends to come
	FailOnce error // of the next append
	Limit    int   // bytes that a batch may have; 0: any
	ReadErr  error // of the reads to come
	TrimErr  error // of the trims to come

	Reading chan struct{} // not nil: reads wait until it is closed

	Reads, Appends, Trims int // there were so many

	KeepAll bool
	Whole   [Partitions][]batch.Batch // with KeepAll, also what was trimmed
	Starts  [Partitions][]Start       // every trim
}

// Start is a trim, and how many batches there had been.
type Start struct {
	Offset storage.Offset
	Length int
}

// Append appends at once, or when the log is released.
func (l *Log) Append(partition int32, epoch storage.Epoch, b batch.Batch, done func(storage.Offset, error)) {
	l.mu.Lock()
	l.Appends++
	err := l.Fail
	switch {
	case l.FailOnce != nil:
		err, l.FailOnce = l.FailOnce, nil
	case l.Limit > 0 && len(b) > l.Limit:
		err = coordinator.ErrTooLarge
	}
	if l.held {
		l.waiting = append(l.waiting, func() {
			l.mu.Lock()
			next := l.land(partition, epoch, b, err)
			l.mu.Unlock()
			done(next, err)
		})
		l.mu.Unlock()
		return
	}
	next := l.land(partition, epoch, b, err)
	l.mu.Unlock()
	done(next, err)
}

// land makes b part of the log, unless it failed, and returns its end. l.mu is held.
func (l *Log) land(partition int32, epoch storage.Epoch, b batch.Batch, err error) storage.Offset {
	if err == nil {
		batch.Stamp(b, l.Next[partition], epoch)
		l.Next[partition] = b.NextOffset()
		l.Batches[partition] = append(l.Batches[partition], b)
		if l.KeepAll {
			l.Whole[partition] = append(l.Whole[partition], b)
		}
	}
	return l.Next[partition]
}

// Read implements [coordinator.Log].
func (l *Log) Read(ctx context.Context, partition int32, _ storage.Epoch, yield func(batch.Batch) error) error {
	l.mu.Lock()
	l.Reads++
	batches, err, gate := slices.Clone(l.Batches[partition]), l.ReadErr, l.Reading
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

// Trim implements [coordinator.Log].
func (l *Log) Trim(partition int32, _ storage.Epoch, start storage.Offset, done func(error)) {
	l.mu.Lock()
	l.Trims++
	err := l.TrimErr
	if err == nil {
		l.Starts[partition] = append(l.Starts[partition], Start{start, len(l.Whole[partition])})
		l.Batches[partition] = slices.DeleteFunc(slices.Clone(l.Batches[partition]), func(b batch.Batch) bool { return b.NextOffset() <= start })
	}
	l.mu.Unlock()
	done(err)
}

// Size is the bytes of a partition.
func (l *Log) Size(partition int32) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.Batches[partition] {
		n += len(b)
	}
	return n
}

// Hold makes appends wait.
func (l *Log) Hold() { l.Set(func(l *Log) { l.held = true }) }

// Release lets the appends through that wait, and those to come.
func (l *Log) Release() {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting, l.held = nil, false
	l.mu.Unlock()
	for _, land := range waiting {
		land()
	}
}

// Set changes how the log behaves from now on.
func (l *Log) Set(change func(*Log)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}
