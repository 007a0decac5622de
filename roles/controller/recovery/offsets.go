package recovery

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

const offsetsTopic = "__consumer_offsets"

// Beyond is an offset that a group has committed, and that lies behind all that is left of its
// partition: what is between End and it was there, and is lost.
type Beyond struct {
	Group     string         `json:"group"`
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Committed storage.Offset `json:"committed"`
	End       storage.Offset `json:"end" doc:"of the partition, from now on: offsets from here on are given out anew"`
}

// slot is a partition of a group.
type slot struct {
	group string
	of    partOf
}

// commits are what groups have committed, as records of the offsets topic come in.
type commits struct {
	is      map[slot]storage.Offset
	pending map[int64][]pendingCommit // by producer: of transactions that are under way
}

type pendingCommit struct {
	of slot
	to storage.Offset
}

// findBeyond reads what groups have committed, as the bucket has it up to where partitions end. Partitions whose
// replicas are awaited are not judged.
func findBeyond(ctx context.Context, o Options, next *metadata.Image, endOf func(topic string, is *metadata.Partition) storage.Offset) (found []Beyond, err error) {
	offsets, there := next.Topic(offsetsTopic)
	if !there || !anyForsaken(next) {
		return nil, nil
	}
	r := bucketReader{o.Bucket, o.Prefix, o.Cluster}
	for p := range offsets.Partitions.All() {
		all := commits{map[slot]storage.Offset{}, map[int64][]pendingCommit{}}
		left := endOf(offsetsTopic, p)
		for in := range p.Ranges().All() {
			if in.Base >= left {
				break
			}
			if err := r.batches(ctx, storage.PartitionID{Topic: offsets.ID, Index: p.Index}, in, func(b batch.Batch) error {
				if b.NextOffset() > left {
					return nil
				}
				return all.read(b)
			}); err != nil {
				return nil, err
			}
		}
		for s, committed := range all.is {
			t, known := next.Topic(s.of.topic)
			if !known || t.Partition(s.of.index) == nil {
				continue
			}
			is := t.Partition(s.of.index)
			if end := endOf(s.of.topic, is); len(awaited(is)) == 0 && !guard.Check("recovery.committed-beyond", committed <= end) {
				found = append(found, Beyond{Group: s.group, Topic: s.of.topic, Partition: s.of.index, Committed: committed, End: end})
			}
		}
	}
	slices.SortFunc(found, func(a, b Beyond) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return found, nil
}

// read takes a batch of the offsets topic, in the log's order.
func (c *commits) read(b batch.Batch) error {
	if b.IsControl() {
		m, ok := batch.ReadMarker(b)
		if !ok {
			return errors.New("a control batch that is no marker")
		}
		for _, p := range c.pending[b.ProducerID()] {
			if m.Commit {
				c.is[p.of] = p.to
			}
		}
		delete(c.pending, b.ProducerID())
		return nil
	}
	it := b.Records(maxRecordBytes)
	for it.Next() {
		var k kmsg.OffsetCommitKey
		var v kmsg.OffsetCommitValue
		key, value := it.Record().Key, it.Record().Value
		if k.ReadFrom(key) != nil || k.Version > 1 {
			continue // of another kind
		}
		s := slot{k.Group, partOf{k.Topic, k.Partition}}
		switch {
		case value == nil:
			delete(c.is, s)
		case v.ReadFrom(value) != nil: // of a later version
		case b.IsTransactional():
			c.pending[b.ProducerID()] = append(c.pending[b.ProducerID()], pendingCommit{s, storage.Offset(v.Offset)})
		default:
			c.is[s] = storage.Offset(v.Offset)
		}
	}
	return it.Err()
}
