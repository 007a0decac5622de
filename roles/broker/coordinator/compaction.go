package coordinator

import (
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

const (
	// DefaultCompactBytes keeps all partitions together under half a gigabyte of
	// log and, at 200 bytes for the smallest batch, under two million batches.
	DefaultCompactBytes = 8 << 20

	// SnapshotStep is about how many bytes of a snapshot are written at a time,
	// between which requests are served.
	SnapshotStep = 1 << 20

	// CompactRetry is after how long a snapshot that could not be written, or a log
	// start that could not be moved, is tried again.
	CompactRetry = 10 * time.Second

	// What a batch takes in the log besides its bytes: a frame, an index entry.
	batchOverhead = 100
)

// Compaction is how far a shard is in keeping its log short: when enough was
// appended, all that the log says is written once more, at its end, and what lies
// before that is let go of. What is written, and when all of it is committed, is the
// runner's. It belongs to the shard's goroutine.
type Compaction struct {
	Stage CompactionStage
	Grown int64          // bytes in the log, about
	End   storage.Offset // of the log, as far as it is known to be committed
	Left  []string       // ids that the snapshot does not hold yet
	Retry time.Time      // not before; zero: now

	start  storage.Offset // of the snapshot; what lies before it goes
	before int64          // bytes before the snapshot
	warned bool           // that there are records of unknown kinds
}

// CompactionStage is what is being done.
type CompactionStage uint8

// Stages of a compaction.
const (
	CompactIdle CompactionStage = iota
	CompactWriting
	CompactTrimming
)

// Appending counts a batch of so many bytes.
func (c *Compaction) Appending(bytes int) { c.Grown += int64(bytes) + batchOverhead }

// Replayed counts a batch that the log had when it was loaded.
func (c *Compaction) Replayed(b batch.Batch) {
	c.Appending(len(b))
	c.End = b.NextOffset()
}

// Due reports whether the log has grown enough: by the budget, and by as much again
// as the live state takes, so that it is not written over and over.
func (c *Compaction) Due(now time.Time, budget, live int64) bool {
	if now.Before(c.Retry) {
		return false
	}
	c.Retry = time.Time{} // there is nothing to wake for
	return c.Grown >= budget+2*live
}

// Start says that the snapshot begins at the end of the log as it is now.
func (c *Compaction) Start() { c.start, c.before = c.End, c.Grown }

// KeepWhole says, once, that the log is not shortened since so many of its records
// are of unknown kinds: a newer rustmq wrote them, and will want them.
func (s *Shard[R]) KeepWhole(c *Compaction, unknown int) {
	if !c.warned {
		s.opt.Logger.Warn("log of "+s.opt.What+" cannot be shortened: it has records of unknown kinds", "partition", s.Partition, "records", unknown)
	}
	c.warned = true
}

// GiveUp drops a snapshot that could not be written, until it is tried again.
func (s *Shard[R]) GiveUp(c *Compaction, now time.Time, err error) {
	s.opt.Logger.Warn("snapshot of "+s.opt.What+" could not be written; trying on", "partition", s.Partition, "error", err)
	c.Stage, c.Left, c.Retry = CompactIdle, nil, now.Add(CompactRetry)
}

// Trim lets go of what lies before the snapshot, all of which is committed. When that
// fails, Retry says when Trim is to be called again.
func (s *Shard[R]) Trim(c *Compaction, log Log) {
	c.Stage, c.Retry = CompactTrimming, time.Time{}
	log.Trim(s.Partition, s.Epoch, c.start, func(err error) {
		s.Post(func() {
			if err != nil {
				s.opt.Logger.Warn("log of "+s.opt.What+" could not be shortened; trying on", "partition", s.Partition, "epoch", s.Epoch, "error", err)
				c.Retry = time.Now().Add(CompactRetry)
				return
			}
			s.opt.Logger.Debug("log of "+s.opt.What+" shortened", "partition", s.Partition, "start", c.start, "was", c.before, "is", c.Grown-c.before)
			c.Stage, c.Grown = CompactIdle, c.Grown-c.before
		})
	})
}
