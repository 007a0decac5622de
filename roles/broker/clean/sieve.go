package clean

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// sieve decides, record by record, what stays. It is a core: what it decides by is
// fixed when it is made.
type sieve struct {
	keys      *keyTable
	end       storage.Offset // of the round: records from here on stay as they are
	last      storage.Offset // the committed end, as the round knows it
	now       int64          // ms since 1970
	retention int64          // ms that a tombstone stays, from now
	older     bool           // there are older records that nobody sifts: tombstones and markers stay
	aborts    aborts         // of what it is given
	// kept are the producers of which records stay that belong to the transaction that
	// the next of their markers ends. inside: what lies before is not known.
	kept   map[int64]struct{}
	inside bool

	filter batch.Filter
	counts counts
	due    int64            // the first horizon of what it let through; 0: none
	gone   []storage.Offset // markers that it took out, in order
}

// counts of records and batches that went through.
type counts struct {
	batches, records int64 // that stay
	bytes            int64 // of those batches
	superseded       int64 // records with a later one of the same key
	tombstones       int64 // whose horizon has passed
	aborted          int64 // records of aborted transactions
	keyless          int64
	changed          bool // something is not as it was
}

func (c *counts) removed() int64 { return c.superseded + c.tombstones + c.aborted + c.keyless }

// sift returns what is left of a batch, the batch itself if nothing changes, or nil.
// The batch must stay as it is while what is returned is used.
func (s *sieve) sift(b batch.Batch) (batch.Batch, error) {
	// The CRC of its block says that it is what was written; its own, that it was
	// right then. It will have another one.
	if !guard.Check("clean.batch-crc", b.ComputeCRC() == b.CRC()) {
		return nil, fmt.Errorf("batch at %d: its crc32c does not fit", b.BaseOffset())
	}
	out, err := b, error(nil)
	before, gone := s.counts, len(s.gone)
	switch {
	case b.BaseOffset() >= s.end:
	case b.IsControl():
		out, err = s.marker(b)
	case s.aborts.hold(b) && b.LastOffset() < s.end:
		s.counts.aborted += int64(b.NumRecords())
		out = nil
	default:
		out, err = s.data(b)
	}
	if err != nil {
		return nil, fmt.Errorf("batch at %d: %w", b.BaseOffset(), err)
	}
	// Clients go on behind the last batch that they were given: without the one before
	// the committed end they would never come there. Behind what follows it goes.
	if out == nil && !guard.Check("clean.last-batch", b.NextOffset() != s.last) {
		out, s.counts, s.gone = b, before, s.gone[:gone]
	}
	if out == nil {
		s.counts.changed = true
		return nil, nil
	}
	if b.IsTransactional() && !b.IsControl() {
		if s.kept == nil {
			s.kept = map[int64]struct{}{}
		}
		s.kept[b.ProducerID()] = struct{}{}
	}
	s.counts.changed = s.counts.changed || &out[0] != &b[0]
	s.counts.batches++
	s.counts.records += int64(out.NumRecords())
	s.counts.bytes += int64(len(out))
	return out, nil
}

// data sifts a batch of records.
func (s *sieve) data(b batch.Batch) (batch.Batch, error) {
	horizon, has := b.DeleteHorizon()
	passed := has && guard.Check("clean.tombstone-horizon", s.now >= horizon) && guard.Check("clean.older-tombstone", !s.older)
	tombstones := false // that stay
	err := s.filter.Sift(b, func(r *batch.Record) bool {
		if r.Offset >= s.end {
			return true
		}
		if r.Key == nil {
			s.counts.keyless++
			return false
		}
		if s.keys.used > 0 {
			if last, known := s.keys.last(hashOf(r.Key)); known && guard.Check("clean.latest-stays", last > r.Offset) {
				s.counts.superseded++
				return false
			}
		}
		if r.Value != nil {
			return true
		}
		if passed {
			s.counts.tombstones++
			return false
		}
		tombstones = true
		return true
	})
	if err != nil || s.filter.Kept() == 0 {
		return nil, err
	}
	give := batch.NoTimestamp
	switch {
	case !tombstones || s.older:
	case has:
		s.dueAt(horizon)
	case b.LastOffset() < s.end: // else some may not have been compared with all before
		give = s.now + s.retention
		s.dueAt(give)
	}
	return s.filter.Build(give)
}

// marker sifts the marker of a transaction. All records that it speaks of lie before
// it and have been sifted: it stays for who is reading. That of a commit stays, too, as
// long as one of them does: whoever learns from the log what is open, as coordinators
// do, would wait for it for ever.
func (s *sieve) marker(b batch.Batch) (batch.Batch, error) {
	horizon, has := b.DeleteHorizon()
	m, transaction := batch.ReadMarker(b)
	err := s.filter.Sift(b, func(*batch.Record) bool { return true })
	_, kept := s.kept[b.ProducerID()]
	if transaction {
		delete(s.kept, b.ProducerID())
	}
	switch {
	case err != nil:
		return nil, err
	case !transaction || b.LastOffset() >= s.end || !guard.Check("clean.older-marker", !s.older):
		return b, nil
	case m.Commit && !guard.Check("clean.marker-of-what-stays", !kept):
		return b, nil // a round that leaves none of them lets it go
	case m.Commit && !guard.Check("clean.marker-inside", !s.inside):
		s.dueAt(s.now + s.retention) // the next round sees what lies before
		return b, nil
	case !has:
		s.dueAt(s.now + s.retention)
		return s.filter.Build(s.now + s.retention)
	case guard.Check("clean.marker-horizon", s.now >= horizon):
		s.gone = append(s.gone, b.BaseOffset())
		return nil, nil
	}
	s.dueAt(horizon)
	return b, nil
}

func (s *sieve) dueAt(millis int64) {
	if s.due == 0 || millis < s.due {
		s.due = max(millis, 1)
	}
}

// learn puts the keys of a batch into the table, of records from offset from on.
// full: from that offset on there is no room.
func (s *sieve) learn(b batch.Batch, from storage.Offset) (full storage.Offset, err error) {
	if b.IsControl() || !guard.Check("clean.aborted-supersedes-nothing", !s.aborts.hold(b)) {
		return storage.NoOffset, nil
	}
	it := b.Records(mostExpanded)
	for it.Next() {
		r := it.Record()
		if r.Offset < from || r.Key == nil {
			continue
		}
		if r.Offset >= s.end {
			break
		}
		if !s.keys.put(hashOf(r.Key), r.Offset) {
			return r.Offset, nil
		}
	}
	if err := it.Err(); err != nil {
		return storage.NoOffset, fmt.Errorf("batch at %d: %w", b.BaseOffset(), err)
	}
	return storage.NoOffset, nil
}

// aborts are aborted transactions by producer, each in order of offset.
type aborts map[int64][]object.Aborted

func abortsOf(all []object.Aborted) aborts {
	if len(all) == 0 {
		return nil
	}
	by := aborts{}
	for _, a := range all {
		by[a.ProducerID] = append(by[a.ProducerID], a)
	}
	for _, of := range by {
		slices.SortFunc(of, func(a, b object.Aborted) int { return cmp.Compare(a.Last, b.Last) })
	}
	return by
}

// hold reports whether the records of a batch belong to an aborted transaction.
func (a aborts) hold(b batch.Batch) bool {
	if len(a) == 0 || !b.IsTransactional() || b.IsControl() {
		return false
	}
	of := a[b.ProducerID()]
	i := sort.Search(len(of), func(i int) bool { return of[i].Last >= b.BaseOffset() })
	return i < len(of) && of[i].First <= b.BaseOffset()
}
