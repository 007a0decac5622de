package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

// Timestamps of ListOffsets that stand for a place in the log.
const (
	latest            = -1
	earliest          = -2
	maxTimestamp      = -3 // KIP-734
	earliestLocal     = -4 // KIP-405
	latestTiered      = -5 // KIP-1005
	firstPending      = -6 // KIP-1023
	noTimestamp       = -1
	firstNotAvailable = 5 // version that knows OFFSET_NOT_AVAILABLE
	firstMaxTime      = 7 // version that knows maxTimestamp
	firstLocal        = 8
	firstTiered       = 9
	firstUpload       = 11
	deleteToHighWM    = -1 // offset of DeleteRecords
)

func (b *Broker) listOffsets(ctx context.Context, _ *kafka.Request, q *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	p := q.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range q.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for _, want := range t.Partitions {
			part := kmsg.NewListOffsetsResponseTopicPartition()
			part.Partition = want.Partition
			found, err := b.offsetAt(ctx, t.Topic, want, q)
			part.ErrorCode = code(err)
			if err == nil {
				part.Offset, part.Timestamp, part.LeaderEpoch = int64(found.offset), found.timestamp, int32(found.epoch)
			}
			out.Partitions = append(out.Partitions, part)
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

// Isolation levels of Fetch and ListOffsets.
const (
	readUncommitted = 0
	readCommitted   = 1
)

// errIsolation refuses a whole request, as Kafka does: by its word for what was
// never to come.
var errIsolation = kerr.UnknownServerError

func isIsolation(level int8) bool { return level == readUncommitted || level == readCommitted }

type foundOffset struct {
	offset    storage.Offset
	timestamp int64
	epoch     storage.Epoch
}

func (b *Broker) offsetAt(ctx context.Context, topic string, want kmsg.ListOffsetsRequestTopicPartition, q *kmsg.ListOffsetsRequest) (foundOffset, error) {
	if !isIsolation(q.IsolationLevel) {
		return foundOffset{}, errIsolation
	}
	l, r, err := b.leaderOf(topic, want.Partition, storage.Epoch(want.CurrentLeaderEpoch))
	if err != nil {
		return foundOffset{}, err
	}
	found := foundOffset{storage.NoOffset, noTimestamp, r.epoch}
	end := l.HighWatermark()
	if q.IsolationLevel == readCommitted {
		end = l.LastStable()
	}
	switch {
	case want.Timestamp == latest:
		found.offset, err = b.latest(l, topic, want.Partition, q)
	case want.Timestamp == earliest:
		found.offset = l.LogStart()
		found.epoch = l.EpochAt(found.offset)
	case want.Timestamp == earliestLocal && q.Version >= firstLocal:
		found.offset = l.LocalStart()
		found.epoch = l.EpochAt(found.offset)
	case want.Timestamp == maxTimestamp && q.Version >= firstMaxTime:
		found, err = byTime(l, func() (storage.Offset, int64, bool, error) { return b.maxTimestamp(ctx, l) })
	case want.Timestamp == latestTiered && q.Version >= firstTiered:
		found.epoch = storage.NoEpoch
		if last := l.Uploaded() - 1; last >= l.LogStart() && b.cold != nil {
			found.offset, found.epoch = last, l.EpochAt(last)
		}
	case want.Timestamp == firstPending && q.Version >= firstUpload:
		found.epoch = storage.NoEpoch
		if b.cold != nil {
			found.offset = max(l.Uploaded(), l.LogStart())
			found.epoch = l.EpochAt(found.offset)
		}
	case want.Timestamp >= 0:
		found, err = byTime(l, func() (storage.Offset, int64, bool, error) { return b.offsetForTime(ctx, l, want.Timestamp) })
	default:
		return foundOffset{}, kerr.UnsupportedVersion
	}
	if q.IsolationLevel == readCommitted && found.timestamp != noTimestamp && found.offset >= end {
		// Who asks cannot read it.
		return foundOffset{storage.NoOffset, noTimestamp, storage.NoEpoch}, err
	}
	return found, err
}

// latest is where a log ends for who asks, once that is known (KIP-207) and nobody else
// can have moved it on.
func (b *Broker) latest(l *log.Log, topic string, index int32, q *kmsg.ListOffsetsRequest) (storage.Offset, error) {
	if p, err := b.partitionOf(topic, index); err == nil && !b.leased(p, p.role.Load()) {
		return storage.NoOffset, errLeaseOut
	}
	now, err := l.Latest()
	switch {
	case errors.Is(err, log.ErrOffsetNotAvailable) && q.Version < firstNotAvailable:
		return storage.NoOffset, kerr.LeaderNotAvailable
	case err != nil:
		return storage.NoOffset, err
	case q.IsolationLevel == readCommitted:
		return now.LastStable, nil
	}
	return now.HighWatermark, nil
}

func byTime(l *log.Log, find func() (storage.Offset, int64, bool, error)) (foundOffset, error) {
	offset, timestamp, ok, err := find()
	if err != nil || !ok {
		return foundOffset{storage.NoOffset, noTimestamp, storage.NoEpoch}, err
	}
	return foundOffset{offset, timestamp, l.EpochAt(offset)}, nil
}

// leaderOf finds the log of a partition that is led here. currentEpoch is what
// the client believes (KIP-320); NoEpoch is not checked.
func (b *Broker) leaderOf(topic string, index int32, currentEpoch storage.Epoch) (*log.Log, *role, error) {
	p, err := b.partitionOf(topic, index)
	if err != nil {
		return nil, nil, err
	}
	l, r, err := p.leading()
	if err == nil {
		err = checkEpoch(currentEpoch, r.epoch)
	}
	return l, r, err
}

func (b *Broker) partitionOf(topic string, index int32) (*partition, error) {
	b.table.mu.RLock()
	tp := b.table.names[topic]
	b.table.mu.RUnlock()
	if tp == nil {
		return nil, errUnknownTopic
	}
	if p := tp.partition(index); p != nil {
		return p, nil
	}
	return nil, errUnknownTopic
}

func checkEpoch(believed, is storage.Epoch) error {
	switch {
	case believed == storage.NoEpoch || believed == is:
		return nil
	case believed < is:
		return kerr.FencedLeaderEpoch
	}
	return kerr.UnknownLeaderEpoch
}

// offsetForLeaderEpoch tells where an epoch ended, so that a client or a
// follower finds where its history left this one (KIP-320).
func (b *Broker) offsetForLeaderEpoch(_ *kafka.Request, q *kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
	p := q.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, t := range q.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		for _, want := range t.Partitions {
			part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			part.Partition, part.LeaderEpoch, part.EndOffset = want.Partition, -1, -1
			l, _, err := b.leaderOf(t.Topic, want.Partition, storage.Epoch(want.CurrentLeaderEpoch))
			part.ErrorCode = code(err)
			if err == nil {
				epoch, end := l.EpochEnd(storage.Epoch(want.LeaderEpoch))
				part.LeaderEpoch, part.EndOffset = int32(epoch), int64(end)
			}
			out.Partitions = append(out.Partitions, part)
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

// deleteRecords moves log starts: the controller decides, by epoch, before the
// answer (RULES 5.5), so that no failover brings a deleted record back.
func (b *Broker) deleteRecords(ctx context.Context, _ *kafka.Request, q *kmsg.DeleteRecordsRequest) *kmsg.DeleteRecordsResponse {
	p := q.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	type place struct {
		topic, partition int
		log              *log.Log
	}
	var starts []controller.LogStart
	var places []place
	for i, t := range q.Topics {
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = t.Topic
		for j, want := range t.Partitions {
			part := kmsg.NewDeleteRecordsResponseTopicPartition()
			part.Partition, part.LowWatermark = want.Partition, -1
			start, l, err := b.logStartFor(t.Topic, want)
			if part.ErrorCode = code(err); err == nil {
				starts, places = append(starts, start), append(places, place{i, j, l})
			}
			out.Partitions = append(out.Partitions, part)
		}
		p.Topics = append(p.Topics, out)
	}
	if len(starts) == 0 {
		return p
	}
	for i, err := range b.opt.Controller.AdvanceLogStart(ctx, b.opt.NodeID, b.registration.epoch.Load(), starts) {
		at := places[i]
		part := &p.Topics[at.topic].Partitions[at.partition]
		if err == nil {
			err = at.log.SetLogStart(starts[i].Offset)
		}
		if part.ErrorCode = code(err); err == nil {
			part.LowWatermark = int64(at.log.LogStart())
		}
	}
	return p
}

// logStartFor returns what to ask the controller for.
func (b *Broker) logStartFor(topic string, want kmsg.DeleteRecordsRequestTopicPartition) (controller.LogStart, *log.Log, error) {
	p, err := b.partitionOf(topic, want.Partition)
	if err != nil {
		return controller.LogStart{}, nil, err
	}
	if reserved(topic) {
		return controller.LogStart{}, nil, errInternalTopic
	}
	l, r, err := p.leading()
	if err != nil {
		return controller.LogStart{}, nil, err
	}
	if t, ok := b.images.image().Topic(topic); ok && !b.deletes(t) {
		return controller.LogStart{}, nil, explained{kerr.PolicyViolation, "cleanup.policy of the topic has no delete"}
	}
	offset := storage.Offset(want.Offset)
	if offset == deleteToHighWM {
		offset = l.HighWatermark()
	}
	if offset < 0 || !guard.Check("broker.delete-committed", offset <= l.HighWatermark()) {
		return controller.LogStart{}, nil, kerr.OffsetOutOfRange
	}
	return controller.LogStart{Partition: p.id(), LeaderEpoch: r.epoch, Offset: offset}, l, nil
}
