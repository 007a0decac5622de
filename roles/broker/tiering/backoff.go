package tiering

import (
	"time"

	"rustmq.dev/rustmq/storage"
)

// Backoff says how long partitions wait after a failure: Min after the first,
// twice as long after each that follows, Max at most.
type Backoff struct {
	Min, Max time.Duration

	failing map[storage.PartitionID]failure
}

type failure struct {
	times int
	until time.Time
}

// Waits reports whether a partition is not to be tried now.
func (b *Backoff) Waits(now time.Time, id storage.PartitionID) bool {
	f, failed := b.failing[id]
	return failed && now.Before(f.until)
}

// Failed counts a failure.
func (b *Backoff) Failed(now time.Time, id storage.PartitionID) {
	if b.failing == nil {
		b.failing = map[storage.PartitionID]failure{}
	}
	f := b.failing[id]
	wait := min(b.Min<<min(f.times, 20), b.Max)
	b.failing[id] = failure{f.times + 1, now.Add(wait)}
}

// Succeeded forgets the failures of a partition.
func (b *Backoff) Succeeded(id storage.PartitionID) { delete(b.failing, id) }

// Forget drops partitions that keep does not want.
func (b *Backoff) Forget(keep func(storage.PartitionID) bool) {
	for id := range b.failing {
		if !keep(id) {
			delete(b.failing, id)
		}
	}
}
