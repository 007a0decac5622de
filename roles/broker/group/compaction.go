package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
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
	coordinator.Compaction
	started  bool // the snapshot is begun
	inFlight int  // its batches that are not committed
	failed   error
}

// holds reports whether the snapshot goes on once nothing is in flight, so that
// nothing new may be.
func (c *compaction) holds() bool {
	return c.Stage == coordinator.CompactWriting && c.inFlight == 0 && c.failed == nil && (!c.started || len(c.Left) > 0)
}

// compact takes the compaction as far as it goes now. The builder is empty.
func (s *shard) compact(now time.Time) {
	c := &s.compaction
	if c.Stage == coordinator.CompactIdle {
		if _, live := s.core.Size(); !c.Due(now, s.c.opt.CompactBytes, live) {
			return
		}
		if !guard.Check("group.snapshot-unknown", s.core.Skipped() == 0) {
			s.KeepWhole(&c.Compaction, s.core.Skipped())
			return
		}
		c.Stage, c.Left, c.started, c.failed = coordinator.CompactWriting, s.core.Groups(), false, nil
	}
	switch {
	case c.Stage == coordinator.CompactTrimming:
		if !c.Retry.IsZero() && !now.Before(c.Retry) {
			s.Trim(&c.Compaction, s.c.opt.Log)
		}
	case c.holds():
		if guard.Check("group.snapshot-settled", s.inFlight == 0) {
			s.writeSnapshot()
			s.appendHeld()
			if c.inFlight == 0 { // no group had anything to write
				s.Trim(&c.Compaction, s.c.opt.Log)
			}
		}
	case c.inFlight == 0 && !guard.Check("group.snapshot-committed", c.failed == nil):
		s.GiveUp(&c.Compaction, now, c.failed)
	case c.inFlight == 0:
		s.Trim(&c.Compaction, s.c.opt.Log)
	}
}

// writeSnapshot appends the records of the groups whose turn it is.
func (s *shard) writeSnapshot() {
	c := &s.compaction
	if !c.started {
		c.started = true
		c.Start()
	}
	now := s.c.opt.Now().UnixMilli()
	for size := 0; len(c.Left) > 0 && size < coordinator.SnapshotStep; c.Left = c.Left[1:] {
		for _, w := range s.core.Current(c.Left[0]) {
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
		n := r.size()
		if s.builder.Len() > 0 && s.builder.Size()+n > maxWrite {
			s.flushSnapshot()
		}
		s.builder.Add(now, r.Key, r.Value, r.headers()...)
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
		size += r.size()
	}
	return writes
}
