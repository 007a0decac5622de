package txn

import (
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
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
	coordinator.Compaction
	seq    uint64          // of the last append
	last   uint64          // append of the snapshot, once all ids are in it
	flying map[uint64]bool // appends that are not known to be committed
	failed error           // of an append since the snapshot began
}

// appending counts an append, and numbers it.
func (c *compaction) appending(bytes int) (seq uint64) {
	c.seq++
	c.Appending(bytes)
	if c.flying == nil {
		c.flying = map[uint64]bool{}
	}
	c.flying[c.seq] = true
	return c.seq
}

func (c *compaction) appended(done completion) {
	delete(c.flying, done.seq)
	if done.err == nil {
		c.End = max(c.End, done.next)
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

// compact takes the compaction as far as it goes now. The builder is empty.
func (s *shard) compact(now time.Time) {
	c := &s.compaction
	switch {
	case c.Stage == coordinator.CompactIdle:
		if _, live := s.core.Size(); !c.Due(now, s.c.opt.CompactBytes, live) {
			return
		}
		if !guard.Check("txn.snapshot-unknown", s.core.Skipped() == 0) {
			s.KeepWhole(&c.Compaction, s.core.Skipped())
			return
		}
		c.Stage, c.Left, c.failed = coordinator.CompactWriting, s.core.IDs(), nil
		c.Start()
		s.writeSnapshot()
	case c.Stage == coordinator.CompactTrimming:
		if !c.Retry.IsZero() && !now.Before(c.Retry) {
			s.Trim(&c.Compaction, s.c.opt.Log)
		}
	case !guard.Check("txn.snapshot-whole", c.failed == nil):
		s.GiveUp(&c.Compaction, now, c.failed)
	case len(c.Left) > 0:
		s.writeSnapshot()
	case guard.Check("txn.snapshot-committed", c.settled()):
		s.Trim(&c.Compaction, s.c.opt.Log)
	}
}

// writeSnapshot appends the records of the ids whose turn it is.
func (s *shard) writeSnapshot() {
	c := &s.compaction
	now := s.c.opt.Now().UnixMilli()
	for size := 0; len(c.Left) > 0 && size < coordinator.SnapshotStep; c.Left = c.Left[1:] {
		key, value, ok := s.core.Current(c.Left[0])
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
		s.Trim(&c.Compaction, s.c.opt.Log)
	}
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
