package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// DefaultCompactBytes keeps all partitions together under half a gigabyte of
	// log and, at 200 bytes for the smallest batch, under two million batches.
	DefaultCompactBytes = 8 << 20

	// A snapshot is written in steps of about so many bytes, between which
	// requests are served. A group is not divided.
	snapshotStep = 1 << 20

	// A snapshot that could not be written, or a log start that could not be
	// moved, is tried again after this time.
	compactRetry = 10 * time.Second

	// What a batch takes in the log besides its bytes: a frame, an index entry.
	batchOverhead = 100
)

// compaction keeps a partition's log short: when enough was appended, all that
// the log says of every group is written once more, at its end, and what lies
// before that is let go of. It belongs to the shard's goroutine.
//
// A group's records are taken from the core while no append is under way: then
// the core holds what the log holds. What clients ask meanwhile is put off until
// those records are appended, so that it lies behind them. Whatever is replayed
// from before the snapshot, a part of it included, ends in the same state; so a
// crash at any moment loses nothing.
type compaction struct {
	stage    compactionStage
	grown    int64          // bytes in the log, about
	before   int64          // of them before the snapshot
	end      storage.Offset // of the log, as far as it is known to be committed
	start    storage.Offset // of the snapshot; what lies before it goes
	started  bool
	left     []string // groups that the snapshot does not hold yet
	inFlight int      // its batches that are not committed
	failed   error
	retry    time.Time // not before; zero: now
	complain bool      // said that there are records of unknown kinds
}

type compactionStage uint8

const (
	compactIdle compactionStage = iota
	compactWriting
	compactTrimming
)

// holds reports whether the snapshot goes on once nothing is in flight, so that
// nothing new may be.
func (c *compaction) holds() bool {
	return c.stage == compactWriting && c.inFlight == 0 && c.failed == nil && (!c.started || len(c.left) > 0)
}

// due reports whether the log has grown enough: by the budget, and by as much
// again as the groups take, so that they are not written over and over.
func (s *shard) due(now time.Time) bool {
	_, live := s.core.Size()
	return s.compaction.grown >= s.c.opt.CompactBytes+2*live && !now.Before(s.compaction.retry)
}

// compact takes the compaction as far as it goes now. The builder is empty.
func (s *shard) compact(now time.Time) {
	c := &s.compaction
	if c.stage == compactIdle {
		if !s.due(now) {
			if !now.Before(c.retry) {
				c.retry = time.Time{} // there is nothing to wake for
			}
			return
		}
		if !guard.Check("group.snapshot-unknown", s.core.Skipped() == 0) {
			// A newer rustmq wrote them, and will want them.
			if !c.complain {
				s.c.opt.Logger.Warn("log of groups cannot be shortened: it has records of unknown kinds", "partition", s.Partition, "records", s.core.Skipped())
			}
			c.complain = true
			return
		}
		*c = compaction{stage: compactWriting, grown: c.grown, end: c.end, left: s.core.Groups()}
	}
	switch {
	case c.stage == compactTrimming:
		if !c.retry.IsZero() && !now.Before(c.retry) {
			s.trim()
		}
	case c.holds():
		if guard.Check("group.snapshot-settled", s.inFlight == 0) {
			s.writeSnapshot()
			s.appendHeld()
			if c.inFlight == 0 { // no group had anything to write
				c.stage = compactTrimming
				s.trim()
			}
		}
	case c.inFlight == 0 && !guard.Check("group.snapshot-committed", c.failed == nil):
		s.c.opt.Logger.Warn("snapshot of groups could not be written; trying on", "partition", s.Partition, "error", c.failed)
		c.stage, c.retry, c.left = compactIdle, now.Add(compactRetry), nil
	case c.inFlight == 0:
		c.stage = compactTrimming
		s.trim()
	}
}

// writeSnapshot appends the records of the groups whose turn it is.
func (s *shard) writeSnapshot() {
	c := &s.compaction
	if !c.started {
		c.started, c.start, c.before = true, c.end, c.grown
	}
	now := s.c.opt.Now().UnixMilli()
	for size := 0; len(c.left) > 0 && size < snapshotStep; c.left = c.left[1:] {
		for _, w := range s.core.Current(c.left[0]) {
			size += s.addSnapshot(now, w)
		}
	}
	if s.builder.Len() > 0 {
		s.flushSnapshot()
	}
}

// addSnapshot appends records, or puts them into the next batch, and returns how
// many bytes they are.
func (s *shard) addSnapshot(now int64, w Write) (size int) {
	if w.Txn != nil {
		if s.builder.Len() > 0 {
			s.flushSnapshot()
		}
		b, err := s.transactional(w)
		s.compaction.inFlight++
		s.append(completion{}, heldWrite{batch: b}, err)
		return len(b)
	}
	for _, r := range w.Records {
		n := len(r.Key) + len(r.Value)
		if s.builder.Len() > 0 && s.builder.Size()+n > maxWrite {
			s.flushSnapshot()
		}
		s.builder.Add(now, r.Key, r.Value)
		size += n
	}
	return size
}

func (s *shard) flushSnapshot() {
	b, err := s.builder.Build()
	s.builder.Reset(batch.BuilderOptions{})
	s.compaction.inFlight++
	s.append(completion{}, heldWrite{batch: b}, err)
}

// snapshotted notes the fate of one of the snapshot's batches.
func (s *shard) snapshotted(err error) {
	c := &s.compaction
	c.inFlight--
	if c.failed == nil {
		c.failed = err
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
		s.c.opt.Logger.Warn("log of groups could not be shortened; trying on", "partition", s.Partition, "epoch", s.Epoch, "error", err)
		c.retry = now.Add(compactRetry)
		return
	}
	s.c.opt.Logger.Debug("log of groups shortened", "partition", s.Partition, "start", c.start, "was", c.before, "is", c.grown-c.before)
	c.stage, c.grown = compactIdle, c.grown-c.before
}

// Groups returns the ids of all groups, in order.
func (c *Core) Groups() []string {
	return slices.Sorted(maps.Keys(c.groups))
}

// Current returns the writes that make a replay find the group as the log has it
// now: none for one that is gone. What is being written is not in them. Offsets
// come in the order of the log, those in open transactions among them: it decides
// between them when the transactions end.
func (c *Core) Current(id string) []Write {
	g := c.groups[id]
	if g == nil {
		return nil
	}
	type offset struct {
		commit
		slot
		producer int64
		txn      *transaction // nil: it is committed
	}
	var offsets []offset
	for topic, partitions := range g.offsets {
		for p, o := range partitions {
			offsets = append(offsets, offset{o, slot{topic, p}, 0, nil})
		}
	}
	for producer, t := range g.transactions {
		for s, o := range t.offsets {
			offsets = append(offsets, offset{o, s, producer, t})
		}
	}
	slices.SortFunc(offsets, func(a, b offset) int { return cmp.Compare(a.order, b.order) })

	var writes []Write
	var size int
	last := &transaction{} // of none
	if g.record != nil {
		writes, last = append(writes, Write{Records: []Record{{Key: groupKey(id), Value: g.record}}}), nil
	}
	if len(g.committed) > 0 {
		writes, last = append(writes, Write{Records: recordsOf(g.committed)}), nil
	}
	for _, o := range offsets {
		if o.txn != last || size > maxWrite {
			w := Write{}
			if o.txn != nil {
				w.Txn = &TxnWrite{ProducerID: o.producer, ProducerEpoch: o.txn.epoch}
			}
			writes, last, size = append(writes, w), o.txn, 0
		}
		r := encodeCommit(id, o.slot, o.commit)
		w := &writes[len(writes)-1]
		w.Records = append(w.Records, r)
		size += len(r.Key) + len(r.Value)
	}
	return writes
}
