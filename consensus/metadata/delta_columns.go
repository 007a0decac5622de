package metadata

import (
	"fmt"
	"maps"
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// partitionsWriter makes records of partitions of one topic, in order of index.
type partitionsWriter struct {
	topic   storage.TopicID
	columns *pb.DeltaPartitions
	next    int32 // the least index that can follow
}

func (w *partitionsWriter) add(b []byte, p *Partition, reset bool) []byte {
	c := w.columns
	if c == nil {
		c = &pb.DeltaPartitions{TopicId: w.topic[:]}
		w.columns, w.next = c, 0
	}
	c.Indexes = append(c.Indexes, uint32(p.Index-w.next))
	w.next = p.Index + 1
	c.Leaders = append(c.Leaders, p.Leader)
	c.LeaderEpochs = append(c.LeaderEpochs, int32(p.LeaderEpoch))
	c.PartitionEpochs = append(c.PartitionEpochs, p.PartitionEpoch)
	c.LogStarts = append(c.LogStarts, uint64(p.LogStart))
	c.ReplicaCounts = append(c.ReplicaCounts, uint32(len(p.Replicas)))
	c.Replicas = append(c.Replicas, p.Replicas...)
	isr := uint32(0)
	if !slices.Equal(p.ISR, p.Replicas) {
		isr = uint32(len(p.ISR)) + 1
		c.Isr = append(c.Isr, p.ISR...)
	}
	c.IsrCounts = append(c.IsrCounts, isr)
	n := len(c.Indexes)
	c.ElrCounts = appendRare(c.ElrCounts, n, uint32(len(p.ELR)))
	c.Elr = append(c.Elr, p.ELR...)
	c.AddingCounts = appendRare(c.AddingCounts, n, uint32(len(p.Adding)))
	c.Adding = append(c.Adding, p.Adding...)
	c.RemovingCounts = appendRare(c.RemovingCounts, n, uint32(len(p.Removing)))
	c.Removing = append(c.Removing, p.Removing...)
	if reset {
		c.Resets = appendRare(c.Resets, n, 1)
	} else {
		c.Resets = appendRare(c.Resets, n, 0)
	}
	if n == deltaColumn {
		return w.end(b)
	}
	return b
}

// appendRare appends entry n of a column that is left out while all of it is 0.
func appendRare(column []uint32, n int, value uint32) []uint32 {
	if len(column) == 0 && value == 0 {
		return nil
	}
	for len(column) < n-1 {
		column = append(column, 0)
	}
	return append(column, value)
}

func (w *partitionsWriter) end(b []byte) []byte {
	if w.columns != nil {
		b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Partitions{Partitions: w.columns}})
	}
	w.columns = nil
	return b
}

// deltaPartition is a partition of a delta; of what is in the bucket it says nothing.
type deltaPartition struct {
	Partition
	reset bool
}

// decodePartitions reads what partitionsWriter writes. Slices are of the partitions
// alone, but for an ISR that is the list of replicas.
func decodePartitions(c *pb.DeltaPartitions) (storage.TopicID, []deltaPartition, error) {
	topic, ok := topicID(c.TopicId)
	n := len(c.Indexes)
	if !ok || n == 0 {
		return topic, nil, fmt.Errorf("%d partitions of a topic id of %d bytes", n, len(c.TopicId))
	}
	for _, column := range []int{len(c.Leaders), len(c.LeaderEpochs), len(c.PartitionEpochs), len(c.LogStarts), len(c.ReplicaCounts), len(c.IsrCounts)} {
		if column != n {
			return topic, nil, fmt.Errorf("columns of %d and of %d partitions", n, column)
		}
	}
	for _, column := range []*[]uint32{&c.ElrCounts, &c.AddingCounts, &c.RemovingCounts, &c.Resets} {
		if len(*column) == 0 {
			*column = make([]uint32, n)
		}
		if len(*column) != n {
			return topic, nil, fmt.Errorf("columns of %d and of %d partitions", n, len(*column))
		}
	}
	replicas, isr, elr := idsReader{rest: c.Replicas}, idsReader{rest: c.Isr}, idsReader{rest: c.Elr}
	adding, removing := idsReader{rest: c.Adding}, idsReader{rest: c.Removing}
	partitions := make([]deltaPartition, n)
	next := int64(0)
	for i := range partitions {
		index := next + int64(c.Indexes[i])
		if next = index + 1; next > MaxPartitionsPerTopic {
			return topic, nil, fmt.Errorf("partition %d: a topic has %d at most", index, MaxPartitionsPerTopic)
		}
		p := &partitions[i].Partition
		*p = Partition{
			Index: int32(index), Leader: c.Leaders[i], LeaderEpoch: storage.Epoch(c.LeaderEpochs[i]),
			PartitionEpoch: c.PartitionEpochs[i], LogStart: storage.Offset(c.LogStarts[i]),
			Replicas: replicas.take(c.ReplicaCounts[i]), ELR: elr.take(c.ElrCounts[i]),
			Adding: adding.take(c.AddingCounts[i]), Removing: removing.take(c.RemovingCounts[i]),
		}
		p.ISR = p.Replicas
		if count := c.IsrCounts[i]; count > 0 {
			p.ISR = isr.take(count - 1)
		}
		partitions[i].reset = c.Resets[i] != 0
		if len(p.Replicas) == 0 || p.LogStart < 0 || p.Leader < NoLeader || p.LeaderEpoch < 0 || c.Resets[i] > 1 {
			return topic, nil, fmt.Errorf("partition %d: %+v", index, *p)
		}
	}
	for _, r := range []idsReader{replicas, isr, elr, adding, removing} {
		if r.failed || len(r.rest) > 0 {
			return topic, nil, fmt.Errorf("%d partitions have more replicas than there are, or fewer", n)
		}
	}
	return topic, partitions, nil
}

// idsReader cuts a column into lists of brokers.
type idsReader struct {
	rest   []int32
	failed bool
}

func (r *idsReader) take(n uint32) []int32 {
	if n > MaxReplicas || int(n) > len(r.rest) {
		r.failed = true
		return nil
	}
	ids := slices.Clone(r.rest[:n:n])
	r.rest = r.rest[n:]
	return ids
}

// Flags of an object in a delta.
const (
	flagMixed uint32 = 1 << iota
	flagManifest
	knownObjectFlags = flagMixed | flagManifest
)

// appendObjects appends records of committed objects, in order of id.
func appendObjects(b []byte, objects map[storage.ObjectID]*Object) []byte {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(objects)), deltaColumn) {
		c := &pb.DeltaObjects{}
		before := &Object{}
		for _, id := range ids {
			o := objects[id]
			c.Ids = append(c.Ids, uint64(id-before.ID))
			c.Sizes = append(c.Sizes, uint64(o.Size))
			c.Brokers = append(c.Brokers, o.Broker)
			c.BrokerEpochs = append(c.BrokerEpochs, o.BrokerEpoch-before.BrokerEpoch)
			c.Ranges = append(c.Ranges, uint32(o.Ranges))
			c.LiveBytes = append(c.LiveBytes, uint64(o.LiveBytes))
			c.Since = append(c.Since, int64(o.Since-before.Since))
			var flags uint32
			if o.Mixed {
				flags |= flagMixed
			}
			if o.Manifest {
				flags |= flagManifest
			}
			c.Flags = append(c.Flags, flags)
			before = o
		}
		b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Objects{Objects: c}})
	}
	return b
}

// decodeObjects reads a record of appendObjects.
func decodeObjects(c *pb.DeltaObjects) ([]*Object, error) {
	n := len(c.Ids)
	for _, column := range []int{len(c.Sizes), len(c.Brokers), len(c.BrokerEpochs), len(c.Ranges), len(c.LiveBytes), len(c.Since), len(c.Flags)} {
		if column != n {
			return nil, fmt.Errorf("columns of %d and of %d objects", n, column)
		}
	}
	objects := make([]*Object, 0, n)
	before := &Object{}
	for i := range n {
		o := &Object{
			ID: before.ID + storage.ObjectID(c.Ids[i]), State: Committed, Size: int64(c.Sizes[i]),
			Broker: c.Brokers[i], BrokerEpoch: before.BrokerEpoch + c.BrokerEpochs[i],
			Ranges: int(c.Ranges[i]), LiveBytes: int64(c.LiveBytes[i]), Since: before.Since + uint64(c.Since[i]),
			Mixed: c.Flags[i]&flagMixed != 0, Manifest: c.Flags[i]&flagManifest != 0,
		}
		if c.Ids[i] == 0 || o.ID <= before.ID || o.Size < 0 || o.Size > maxObjectBytes || o.Ranges < 1 || o.LiveBytes < 0 || c.Flags[i]&^knownObjectFlags != 0 {
			return nil, fmt.Errorf("object %+v with flags %#x, behind %s", *o, c.Flags[i], before.ID)
		}
		objects = append(objects, o)
		before = o
	}
	return objects, nil
}
