package metadata

import (
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// Flags of a range. A bit that has no name yet is refused: it comes with a
// feature level.
const (
	flagAborts uint32 = 1 << iota
	flagOpenTransactions
	knownFlags = flagAborts | flagOpenTransactions
)

// PartitionRange is a range with the partition that it is of.
type PartitionRange struct {
	Partition storage.PartitionID
	Range     Range // Object is said beside it; Epoch is the leader epoch
}

// columnsBefore is what entries of columns are written against: the range before.
type columnsBefore struct {
	PartitionRange
	any bool
}

// base is what the base of the next range of p is written against.
func (b *columnsBefore) base(p storage.PartitionID) storage.Offset {
	if b.any && b.Partition == p {
		return b.Range.End
	}
	return 0
}

func (b *columnsBefore) partition(topic storage.TopicID) int32 {
	if b.any && b.Partition.Topic == topic {
		return b.Partition.Index
	}
	return 0
}

// columnsWriter makes columns. Ranges of one topic, and of one partition, are
// smallest when they follow one another.
type columnsWriter struct {
	columns pb.Ranges
	before  columnsBefore
}

func (w *columnsWriter) add(p storage.PartitionID, r *Range) {
	c, before := &w.columns, &w.before
	if !before.any || before.Partition.Topic != p.Topic {
		c.TopicIds = append(c.TopicIds, p.Topic[:]...)
		c.TopicRanges = append(c.TopicRanges, 0)
	}
	c.TopicRanges[len(c.TopicRanges)-1]++
	c.Partitions = append(c.Partitions, p.Index-before.partition(p.Topic))
	c.LeaderEpochs = append(c.LeaderEpochs, int32(r.Epoch))
	c.Bases = append(c.Bases, int64(r.Base-before.base(p)))
	c.Lengths = append(c.Lengths, uint64(r.End-r.Base))
	c.Bytes = append(c.Bytes, uint64(r.Bytes))
	c.MaxTimestamps = append(c.MaxTimestamps, r.MaxTimestamp-before.Range.MaxTimestamp)
	c.IndexPositions = append(c.IndexPositions, r.IndexPosition-before.Range.IndexPosition-int64(before.Range.IndexLength))
	c.IndexLengths = append(c.IndexLengths, r.IndexLength)
	c.IndexCrcs = append(c.IndexCrcs, r.IndexCRC)
	var flags uint32
	if r.HasAborts {
		flags |= flagAborts
	}
	if r.OpenTransactions {
		flags |= flagOpenTransactions
	}
	c.Flags = append(c.Flags, flags)
	*before = columnsBefore{PartitionRange: PartitionRange{Partition: p, Range: *r}, any: true}
}

// encodeRanges returns ranges as columns.
func encodeRanges(ranges []PartitionRange) *pb.Ranges {
	var w columnsWriter
	for i := range ranges {
		w.add(ranges[i].Partition, &ranges[i].Range)
	}
	return &w.columns
}

// decodeRanges reads what encodeRanges writes. Numbers are taken as they are:
// whether a range makes sense is for the caller to say.
func decodeRanges(c *pb.Ranges) ([]PartitionRange, *Error) {
	n := len(c.GetPartitions())
	if n == 0 {
		return nil, Errorf(InvalidRequest, "no ranges")
	}
	for _, column := range []int{len(c.LeaderEpochs), len(c.Bases), len(c.Lengths), len(c.Bytes), len(c.MaxTimestamps), len(c.IndexPositions), len(c.IndexLengths), len(c.IndexCrcs), len(c.Flags)} {
		if column != n {
			return nil, Errorf(InvalidRequest, "columns of %d and of %d ranges", n, column)
		}
	}
	if len(c.TopicIds) != len(c.TopicRanges)*len(storage.TopicID{}) {
		return nil, Errorf(InvalidRequest, "%d topics with %d bytes of ids", len(c.TopicRanges), len(c.TopicIds))
	}
	ranges := make([]PartitionRange, 0, n)
	var before columnsBefore
	for t, count := range c.TopicRanges {
		topic, ok := topicID(c.TopicIds[t*len(storage.TopicID{}):][:len(storage.TopicID{})])
		if !ok {
			return nil, Errorf(InvalidRequest, "a topic id of zeros")
		}
		if count < 1 || uint64(count) > uint64(n-len(ranges)) {
			return nil, Errorf(InvalidRequest, "topic %s has %d of %d ranges", topic, count, n-len(ranges))
		}
		for range count {
			i := len(ranges)
			if c.Flags[i]&^knownFlags != 0 {
				return nil, Errorf(UnsupportedVersion, "range %d has flags %#x", i, c.Flags[i])
			}
			p := storage.PartitionID{Topic: topic, Index: before.partition(topic) + c.Partitions[i]}
			base := before.base(p) + storage.Offset(c.Bases[i])
			before = columnsBefore{any: true, PartitionRange: PartitionRange{Partition: p, Range: Range{
				Base: base, End: base + storage.Offset(c.Lengths[i]),
				Bytes:            int64(c.Bytes[i]),
				MaxTimestamp:     before.Range.MaxTimestamp + c.MaxTimestamps[i],
				IndexPosition:    before.Range.IndexPosition + int64(before.Range.IndexLength) + c.IndexPositions[i],
				IndexLength:      c.IndexLengths[i],
				IndexCRC:         c.IndexCrcs[i],
				Epoch:            storage.Epoch(c.LeaderEpochs[i]),
				HasAborts:        c.Flags[i]&flagAborts != 0,
				OpenTransactions: c.Flags[i]&flagOpenTransactions != 0,
			}}}
			ranges = append(ranges, before.PartitionRange)
		}
	}
	if len(ranges) != n {
		return nil, Errorf(InvalidRequest, "%d ranges belong to no topic", n-len(ranges))
	}
	return ranges, nil
}

// Replacement is a range that takes the place of others, which follow one
// another and lie where it lies.
type Replacement struct {
	PartitionRange
	Removed []RemovedRange // at least one, in order of offset
}

// RemovedRange names a range that is there, exactly.
type RemovedRange struct {
	Object    storage.ObjectID
	Base, End storage.Offset
}

// NewCommitObject returns the command that commits an object of that size in
// bytes. It is smallest when ranges of one topic follow one another.
func NewCommitObject(brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, ranges []PartitionRange) *pb.CommitObject {
	return &pb.CommitObject{BrokerId: brokerID, BrokerEpoch: brokerEpoch, ObjectId: uint64(id), Size: uint64(size), Ranges: encodeRanges(ranges)}
}

// NewReplaceRanges returns the command that commits an object whose ranges take
// the place of others.
func NewReplaceRanges(brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, replacements []Replacement) *pb.ReplaceRanges {
	c := &pb.ReplaceRanges{BrokerId: brokerID, BrokerEpoch: brokerEpoch, ObjectId: uint64(id), Size: uint64(size)}
	var w columnsWriter
	var before storage.ObjectID
	for _, r := range replacements {
		w.add(r.Partition, &r.Range)
		c.Removed = append(c.Removed, uint32(len(r.Removed)))
		for _, gone := range r.Removed {
			c.RemovedObjects = append(c.RemovedObjects, int64(gone.Object-before))
			c.RemovedLengths = append(c.RemovedLengths, uint64(gone.End-gone.Base))
			before = gone.Object
		}
	}
	c.Ranges = &w.columns
	return c
}

// decodeReplacements reads what NewReplaceRanges writes. The first removed range
// begins where its replacement does; the next one where it ends.
func decodeReplacements(c *pb.ReplaceRanges) ([]Replacement, *Error) {
	ranges, refused := decodeRanges(c.Ranges)
	switch {
	case refused != nil:
		return nil, refused
	case len(c.Removed) != len(ranges) || len(c.RemovedObjects) != len(c.RemovedLengths):
		return nil, Errorf(InvalidRequest, "columns of %d ranges and %d, of %d removed ones and %d", len(ranges), len(c.Removed), len(c.RemovedObjects), len(c.RemovedLengths))
	}
	removed := make([]RemovedRange, len(c.RemovedObjects))
	replacements := make([]Replacement, len(ranges))
	var object storage.ObjectID
	used := 0
	for i, r := range ranges {
		n := c.Removed[i]
		if n < 1 || uint64(n) > uint64(len(removed)-used) {
			return nil, Errorf(InvalidRequest, "range %d takes the place of %d, of %d", i, n, len(removed)-used)
		}
		base := r.Range.Base
		gone := removed[used : used+int(n) : used+int(n)]
		for j := range gone {
			object += storage.ObjectID(c.RemovedObjects[used+j])
			gone[j] = RemovedRange{Object: object, Base: base, End: base + storage.Offset(c.RemovedLengths[used+j])}
			base = gone[j].End
		}
		replacements[i] = Replacement{PartitionRange: r, Removed: gone}
		used += int(n)
	}
	if used != len(removed) {
		return nil, Errorf(InvalidRequest, "%d removed ranges belong to none", len(removed)-used)
	}
	return replacements, nil
}
