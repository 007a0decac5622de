package controller

import (
	"context"
	"errors"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Entries of one command: far below metadata.MaxCommandBytes, and so few that
// apply is done in milliseconds.
const (
	maxIDsPerCommand    = 10_000
	maxStartsPerCommand = 20_000

	// issueWait is how long ids wait for the bucket: without it nothing can be
	// uploaded anyway.
	issueWait = 15 * time.Second
)

// SetBucket says which bucket the cluster stores in. Saying the same again is no
// error; another one is.
func (c *Controller) SetBucket(ctx context.Context, bucket metadata.Bucket) error {
	_, err := c.propose(ctx, &pb.SetBucket{Nonce: bucket.Nonce[:], Incarnation: bucket.Incarnation})
	return err
}

// announceEntry says which entry of the metadata log is put into the bucket next.
func (c *Controller) announceEntry(ctx context.Context, number, term, writer uint64) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, issueWait)
	defer cancel()
	result, err := c.propose(ctx, &pb.AnnounceEntry{Number: number, Term: term, Writer: writer})
	if err != nil {
		return 0, err
	}
	return uint64(result.(metadata.EntryIndex)), nil
}

// PrepareObjects issues count object ids, at most [metadata.MaxPreparedIDs], the
// first of which it returns. Nobody else is ever given one of them, and no other
// registration can commit them.
func (c *Controller) PrepareObjects(ctx context.Context, brokerID int32, brokerEpoch int64, count int) (first storage.ObjectID, err error) {
	if count < 1 || count > metadata.MaxPreparedIDs {
		return 0, metadata.Errorf(metadata.InvalidRequest, "%d object ids asked for: 1 to %d", count, metadata.MaxPreparedIDs)
	}
	if err := c.mayCommit(); err != nil {
		return 0, err
	}
	// Each try of an outage would leave ids behind, to be condemned one by one.
	if err := c.issued(ctx, (*shipper).AwaitBucket); err != nil {
		return 0, metadata.Errorf(metadata.KafkaStorageError, "no object ids are issued while the bucket does not take the metadata log: %v", err)
	}
	result, err := c.propose(ctx, &pb.PrepareObjects{BrokerId: brokerID, BrokerEpoch: brokerEpoch, Count: uint32(count)})
	if err != nil {
		return 0, err
	}
	all := func(s *shipper, ctx context.Context) error { return s.Await(ctx, c.state.Image().Offset()) }
	if err := c.issued(ctx, all); !guard.Check("controller.ids-shipped", err == nil) {
		return 0, metadata.Errorf(metadata.KafkaStorageError, "object ids are not used before the bucket has the command that issued them: %v", err)
	}
	return result.(metadata.ObjectIDs).First, nil
}

// issued waits for the bucket, as long as ids may: all that was decided so far must be
// there. A copy of this
// controller's directory, started beside it, would issue the same ids, and its
// objects would take the place of ours: one of the two finds the number of its
// entry taken, and is fenced before it has used one.
func (c *Controller) issued(ctx context.Context, wait func(*shipper, context.Context) error) error {
	k := c.keeper()
	if k == nil {
		return c.withoutKeeper()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, issueWait, errors.New("the bucket did not take it in time"))
	defer cancel()
	return wait(k.shipper, ctx)
}

// CommitObject makes the ranges of an object, which stands in the bucket and is
// size bytes long, part of their partitions, each on its own: the first result
// is nil or an error for each, in order. With err nothing was committed, unless
// its code is RequestTimedOut: then the image says what became of the object.
func (c *Controller) CommitObject(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) (results []error, err error) {
	if err := c.mayCommit(); err != nil {
		return nil, err
	}
	result, err := c.propose(ctx, metadata.NewCommitObject(brokerID, brokerEpoch, id, size, ranges))
	if err != nil {
		return nil, err
	}
	return result.(metadata.RangeResults), nil
}

// ReplaceRanges commits an object whose ranges take the place of others, each on
// its own and only while all of those are there. Results are as of CommitObject.
func (c *Controller) ReplaceRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error) {
	if err := c.mayCommit(); err != nil {
		return nil, err
	}
	result, err := c.propose(ctx, metadata.NewReplaceRanges(brokerID, brokerEpoch, id, size, replacements))
	if err != nil {
		return nil, err
	}
	return result.(metadata.RangeResults), nil
}

// RecordCleaning notes how far compaction by key has come in a partition that the
// broker leads under that epoch. It never goes back.
func (c *Controller) RecordCleaning(ctx context.Context, brokerID int32, brokerEpoch int64, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error {
	if err := c.mayCommit(); err != nil {
		return err
	}
	_, err := c.propose(ctx, metadata.NewRecordCleaning(brokerID, brokerEpoch, p, epoch, is))
	return err
}

// CondemnObjects ends those of ids that are prepared and returns how many were:
// commits of them are refused from now on.
func (c *Controller) CondemnObjects(ctx context.Context, ids []storage.ObjectID) (condemned int, err error) {
	for some := range slices.Chunk(ids, maxIDsPerCommand) {
		result, err := c.propose(ctx, &pb.CondemnObjects{ObjectIds: numbers(some)})
		if err != nil {
			return condemned, err
		}
		condemned += int(result.(metadata.ObjectCount))
	}
	return condemned, nil
}

// ForgetObjects ends those of ids that are condemned and returns how many were.
// Their keys have been deleted.
func (c *Controller) ForgetObjects(ctx context.Context, ids []storage.ObjectID) (forgotten int, err error) {
	for some := range slices.Chunk(ids, maxIDsPerCommand) {
		result, err := c.propose(ctx, &pb.ForgetObjects{ObjectIds: numbers(some)})
		if err != nil {
			return forgotten, err
		}
		forgotten += int(result.(metadata.ObjectCount))
	}
	return forgotten, nil
}

// MoveLogStarts moves log starts forward by retention, up to the committed end
// and whoever leads: leader epochs are not looked at. Errors are in order of the
// request. It is smallest when partitions of one topic follow one another.
func (c *Controller) MoveLogStarts(ctx context.Context, starts []LogStart) []error {
	results := make([]error, 0, len(starts))
	for some := range slices.Chunk(starts, maxStartsPerCommand) {
		result, err := c.propose(ctx, moveLogStarts(some))
		if err == nil {
			results = append(results, result.(metadata.LogStarts)...)
			continue
		}
		for range some {
			results = append(results, err)
		}
	}
	return results
}

func moveLogStarts(starts []LogStart) *pb.MoveLogStarts {
	command := &pb.MoveLogStarts{}
	var topic *pb.MoveLogStarts_Topic
	for i, s := range starts {
		if i == 0 || s.Partition.Topic != starts[i-1].Partition.Topic {
			topic = &pb.MoveLogStarts_Topic{TopicId: s.Partition.Topic[:]}
			command.Topics = append(command.Topics, topic)
		}
		topic.Partitions = append(topic.Partitions, s.Partition.Index)
		topic.Offsets = append(topic.Offsets, int64(s.Offset))
	}
	return command
}

func numbers(ids []storage.ObjectID) []uint64 {
	list := make([]uint64, len(ids))
	for i, id := range ids {
		list[i] = uint64(id)
	}
	return list
}
