package metadata

import (
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// commitObject makes an object's ranges part of their partitions, each for the
// leader of its epoch and only at the committed end (RULES 5.3). It is refused
// as a whole when the id was not issued to this registration, or is not prepared
// any more: who comes late finds it condemned.
func (m *Image) commitObject(index uint64, c *pb.CommitObject) (any, *Error) {
	o, refused := m.preparedFor(c.BrokerId, c.BrokerEpoch, c.ObjectId, c.Size)
	if refused != nil {
		return nil, refused
	}
	ranges, refused := decodeRanges(c.Ranges)
	if refused != nil {
		return nil, refused
	}
	if len(ranges) > MaxObjectRanges {
		return nil, Errorf(InvalidRequest, "object %s has %d ranges, more than %d", o.ID, len(ranges), MaxObjectRanges)
	}
	mixed := false
	for _, r := range ranges {
		mixed = mixed || r.Partition != ranges[0].Partition
	}
	edit := m.editCatalogue(index)
	o = edit.commit(o, int64(c.Size), mixed)
	results := make(RangeResults, len(ranges))
	for i := range ranges {
		if refused := edit.commitRange(o, c.BrokerId, &ranges[i]); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

// replaceRanges commits an object whose ranges take the place of others: of
// ranges that are all still there, follow one another, and together have its
// base and end.
func (m *Image) replaceRanges(index uint64, c *pb.ReplaceRanges) (any, *Error) {
	o, refused := m.preparedFor(c.BrokerId, c.BrokerEpoch, c.ObjectId, c.Size)
	if refused != nil {
		return nil, refused
	}
	replacements, refused := decodeReplacements(c)
	if refused != nil {
		return nil, refused
	}
	if len(replacements) > MaxObjectRanges {
		return nil, Errorf(InvalidRequest, "object %s has %d ranges, more than %d", o.ID, len(replacements), MaxObjectRanges)
	}
	mixed := false
	for _, r := range replacements {
		mixed = mixed || r.Partition != replacements[0].Partition
	}
	edit := m.editCatalogue(index)
	o = edit.commit(o, int64(c.Size), mixed)
	results := make(RangeResults, len(replacements))
	for i := range replacements {
		if refused := edit.replaceRun(o, c.BrokerId, &replacements[i]); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

// preparedFor returns the object that a registration may commit.
func (m *Image) preparedFor(broker int32, epoch int64, id, size uint64) (*Object, *Error) {
	if refused := m.checkBrokerEpoch(broker, epoch); refused != nil {
		return nil, refused
	}
	o, ok := m.Object(storage.ObjectID(id))
	switch {
	case !ok:
		return nil, Errorf(ResourceNotFound, "object %s: never issued, or forgotten", storage.ObjectID(id))
	case !guard.Check("metadata.commit-prepared", o.State == Prepared):
		if o.State == Committed {
			return nil, Errorf(Conflict, "object %s was committed at %d", o.ID, o.Since)
		}
		return nil, Errorf(ResourceNotFound, "object %s was condemned at %d", o.ID, o.Since)
	case !guard.Check("metadata.commit-registration", o.Broker == broker && o.BrokerEpoch == epoch):
		return nil, Errorf(StaleBrokerEpoch, "object %s was issued to broker %d of epoch %d, not %d of %d", o.ID, o.Broker, o.BrokerEpoch, broker, epoch)
	case size < 1 || size > maxObjectBytes:
		return nil, Errorf(InvalidRequest, "object %s of %d bytes", o.ID, size)
	}
	return o, nil
}

func (e *catalogueEdit) commitRange(o *Object, broker int32, r *PartitionRange) *Error {
	t, p, refused := e.mayCommit(o, broker, r)
	if refused != nil {
		return refused
	}
	// Without ranges it begins at the log start, or below it: a log start may lie
	// within a batch, and a range holds batches whole.
	begins := r.Range.Base <= p.LogStart && p.LogStart < r.Range.End
	if last, ok := p.Ranges().Last(); ok {
		begins = r.Range.Base == last.End
	}
	if !guard.Check("metadata.range-begins-at-committed-end", begins) {
		return Errorf(OffsetOutOfRange, "%s-%d: range [%d, %d) does not begin at the committed end %d", t.Name, p.Index, r.Range.Base, r.Range.End, p.CommittedEnd())
	}
	committed := r.Range
	committed.Object = o.ID
	e.append(p, committed)
	return nil
}

func (e *catalogueEdit) replaceRun(o *Object, broker int32, r *Replacement) *Error {
	t, p, refused := e.mayCommit(o, broker, &r.PartitionRange)
	if refused != nil {
		return refused
	}
	l := p.Ranges()
	c, at := l.above(r.Range.Base)
	same, end := 0, r.Range.Base
	l.walk(c, at, func(is Range) bool {
		if same == len(r.Removed) || (RemovedRange{Object: is.Object, Base: is.Base, End: is.End}) != r.Removed[same] {
			return false
		}
		same++
		end = is.End
		return true
	})
	n := len(r.Removed)
	if !guard.Check("metadata.replaced-still-there", same == n) {
		return Errorf(Conflict, "%s-%d: of %d ranges from %d on, which [%d, %d) takes the place of, %d are there", t.Name, p.Index, n, r.Range.Base, r.Range.Base, r.Range.End, same)
	}
	if !guard.Check("metadata.replacement-same-ends", end == r.Range.End) {
		return Errorf(OffsetOutOfRange, "%s-%d: [%d, %d) takes the place of ranges that end at %d", t.Name, p.Index, r.Range.Base, r.Range.End, end)
	}
	committed := r.Range
	committed.Object = o.ID
	e.replace(p, l.index(c, at), n, committed)
	return nil
}

// mayCommit finds the partition of a range that the broker may commit there, if
// it fits otherwise.
func (e *catalogueEdit) mayCommit(o *Object, broker int32, r *PartitionRange) (*Topic, *Partition, *Error) {
	t, p, refused := e.find(r.Partition)
	if refused != nil {
		return nil, nil, refused
	}
	is := &r.Range
	switch {
	case !guard.Check("metadata.range-epoch", is.Epoch >= p.LeaderEpoch):
		return nil, nil, Errorf(FencedLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, is.Epoch, p.LeaderEpoch)
	case is.Epoch > p.LeaderEpoch:
		return nil, nil, Errorf(UnknownLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, is.Epoch, p.LeaderEpoch)
	case !guard.Check("metadata.range-leader", p.Leader == broker):
		return nil, nil, Errorf(NotLeaderOrFollower, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case is.Base < 0 || is.End <= is.Base:
		return nil, nil, Errorf(InvalidRequest, "%s-%d: range [%d, %d)", t.Name, p.Index, is.Base, is.End)
	case is.Bytes < 0 || is.Bytes > o.Size-o.LiveBytes:
		return nil, nil, Errorf(InvalidRequest, "%s-%d: %d bytes, of an object of %d with %d in other ranges", t.Name, p.Index, is.Bytes, o.Size, o.LiveBytes)
	case is.IndexPosition < 0 || is.IndexPosition > o.Size-int64(is.IndexLength):
		return nil, nil, Errorf(InvalidRequest, "%s-%d: index at %d with %d bytes, of an object of %d", t.Name, p.Index, is.IndexPosition, is.IndexLength, o.Size)
	}
	return t, p, nil
}
