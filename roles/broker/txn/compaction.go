package txn

import (
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// DefaultCompactBytes keeps all partitions together under half a gigabyte of
	// log and, at 200 bytes for the smallest batch, under two million batches.
	DefaultCompactBytes = 8 << 20

	// A snapshot is written in steps of about so many bytes, between which
	// requests are served. An id is not divided.
	snapshotStep = 1 << 20

	// A snapshot that could not be written, or a log start that could not be
	// moved, is tried again after this time.
	compactRetry = 10 * time.Second

	// What a batch takes in the log besides its bytes: a frame, an index entry.
	batchOverhead = 100
)

// compaction keeps a partition's log short: when enough was appended, all that
// the log says of every id is written once more, at its end, and what lies before
// that is let go of. It belongs to the shard's goroutine.
//
// An id has one record at a time. One whose record is being written when its turn
// comes needs no other: it lies, or will lie, behind the start of the snapshot,
// since it was not committed when that began. For the same reason nobody has to
// wait. But a write that fails leaves its id with the record before, which may
// lie before the snapshot: then the snapshot is worth nothing, and the log keeps
// its start. It moves once every append up to the snapshot's last is known to be
// committed.
type compaction struct {
	stage    compactionStage
	grown    int64           // bytes in the log, about
	before   int64           // of them before the snapshot
	end      storage.Offset  // of the log, as far as it is known to be committed
	start    storage.Offset  // of the snapshot; what lies before it goes
	left     []string        // ids that the snapshot does not hold yet
	seq      uint64          // of the last append
	last     uint64          // append of the snapshot, once left is empty
	flying   map[uint64]bool // appends that are not known to be committed
	failed   error           // of an append since the snapshot began
	retry    time.Time       // not before; zero: now
	complain bool            // said that there are records of unknown kinds
}

type compactionStage uint8

const (
	compactIdle compactionStage = iota
	compactWriting
	compactTrimming
)

// appending counts an append, and numbers it.
func (c *compaction) appending(bytes int) (seq uint64) {
	c.seq++
	c.grown += int64(bytes) + batchOverhead
	if c.flying == nil {
		c.flying = map[uint64]bool{}
	}
	c.flying[c.seq] = true
	return c.seq
}

func (c *compaction) appended(done completion) {
	delete(c.flying, done.seq)
	if done.err == nil {
		c.end = max(c.end, done.next)
	} else if c.failed == nil {
		c.failed = done.err
	}
}

// settled reports whether every append up to the snapshot's last is over.
func (c *compaction) settled() bool {
	for seq := range c.flying {
		if seq <= c.last {
			return false
		}
	}
	return true
}

// due reports whether the log has grown enough: by the budget, and by as much
// again as the ids take, so that they are not written over and over.
func (s *shard) due(now time.Time) bool {
	_, live := s.core.Size()
	return s.compaction.grown >= s.c.opt.CompactBytes+2*live && !now.Before(s.compaction.retry)
}

// compact takes the compaction as far as it goes now. The builder is empty.
func (s *shard) compact(now time.Time) {
	c := &s.compaction
	switch {
	case c.stage == compactIdle:
		if !s.due(now) {
			if !now.Before(c.retry) {
				c.retry = time.Time{} // there is nothing to wake for
			}
			return
		}
		if !guard.Check("txn.snapshot-unknown", s.core.Skipped() == 0) {
			// A newer rustmq wrote them, and will want them.
			if !c.complain {
				s.c.opt.Logger.Warn("log of transactions cannot be shortened: it has records of unknown kinds", "partition", s.Partition, "records", s.core.Skipped())
			}
			c.complain, c.retry = true, now.Add(compactRetry)
			return
		}
		c.stage, c.start, c.before, c.failed, c.retry = compactWriting, c.end, c.grown, nil, time.Time{}
		c.left = s.core.IDs()
		s.writeSnapshot()
	case c.stage == compactTrimming:
		if !c.retry.IsZero() && !now.Before(c.retry) {
			s.trim()
		}
	case !guard.Check("txn.snapshot-whole", c.failed == nil):
		s.c.opt.Logger.Warn("snapshot of transactions could not be written; trying on", "partition", s.Partition, "error", c.failed)
		c.stage, c.retry, c.left = compactIdle, now.Add(compactRetry), nil
	case len(c.left) > 0:
		s.writeSnapshot()
	case guard.Check("txn.snapshot-committed", c.settled()):
		c.stage = compactTrimming
		s.trim()
	}
}

// writeSnapshot appends the records of the ids whose turn it is.
func (s *shard) writeSnapshot() {
	c := &s.compaction
	now := s.c.opt.Now().UnixMilli()
	for size := 0; len(c.left) > 0 && size < snapshotStep; c.left = c.left[1:] {
		key, value, ok := s.core.Current(c.left[0])
		if !ok {
			continue
		}
		if s.builder.Len() > 0 && s.builder.Size()+len(key)+len(value) > maxWrite {
			s.append(completion{})
		}
		s.builder.Add(now, key, value)
		size += len(key) + len(value)
	}
	if s.builder.Len() > 0 {
		s.append(completion{})
	}
	if c.last = c.seq; len(c.flying) == 0 { // no id had anything to write
		c.stage = compactTrimming
		s.trim()
	}
}

// trim lets go of what lies before the snapshot.
func (s *shard) trim() {
	s.compaction.retry = time.Time{}
	s.c.opt.Log.Trim(s.Partition, s.Epoch, s.compaction.start, func(err error) {
		s.Post(func() { s.trimmed(time.Now(), err) })
	})
}

// trimmed notes that the log start was moved, or why not.
func (s *shard) trimmed(now time.Time, err error) {
	c := &s.compaction
	if err != nil {
		s.c.opt.Logger.Warn("log of transactions could not be shortened; trying on", "partition", s.Partition, "epoch", s.Epoch, "error", err)
		c.retry = now.Add(compactRetry)
		return
	}
	s.c.opt.Logger.Debug("log of transactions shortened", "partition", s.Partition, "start", c.start, "was", c.before, "is", c.grown-c.before)
	c.stage, c.grown = compactIdle, c.grown-c.before
}

// IDs returns all ids, in order.
func (c *Core) IDs() []string {
	return slices.Sorted(maps.Keys(c.ids))
}

// Current returns the record of an id as the log has it now; false: there is none,
// or another is being written.
func (c *Core) Current(id string) (key, value []byte, ok bool) {
	t := c.ids[id]
	if t == nil || !t.recorded || t.pending != nil {
		return nil, nil, false
	}
	return idKey(id), encode(&t.metadata), true
}
