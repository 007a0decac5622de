package broker

import (
	"context"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// verification is what a transactional produce asks the coordinator of its
// transactional id, before the first batch of a transaction is appended to a
// partition (KIP-890).
type verification struct {
	TransactionalID string
	ProducerID      int64
	ProducerEpoch   int16
	// Add has the coordinator add the partitions to the transaction, as of Produce
	// v12; else they must have been added (AddPartitionsToTxn, verify only).
	Add        bool
	Partitions []topicPartition
}

type topicPartition struct {
	Topic string
	Index int32
}

// transactionVerifier is the way to the coordinator of a transactional id.
type transactionVerifier interface {
	// Verify asks, and returns at once. done is called exactly once, from any
	// goroutine, with nil where the partition is part of an open transaction,
	// else an error of Kafka's (*kerr.Error, may be wrapped), for each of
	// q.Partitions. q stays as it is until then. While the transaction before is
	// being ended, the answer may be held back, which spares the producer another
	// try. It may come after ctx has ended, when nobody hears it any more: the
	// coordinator's log may wait for room.
	Verify(ctx context.Context, q *verification, done func([]error))
}

// markPartition ends a transaction in a partition that is led here: for the
// coordinators of this process, and for WriteTxnMarkers. done is called exactly
// once, when the marker is committed, or with an error: errors.go has its code.
// It waits for room in the WAL's reserve as long as ctx allows, and a deadline of ctx is
// that of the commit too.
func (b *Broker) markPartition(ctx context.Context, topic string, index int32, m log.Marker, done func(error)) {
	l, r, err := b.leaderOf(topic, index, storage.NoEpoch)
	if err != nil {
		done(err)
		return
	}
	o := log.MarkerOptions{Epoch: r.epoch}
	if until, ok := ctx.Deadline(); ok {
		o.Deadline = b.opt.Now().Add(time.Until(until))
	}
	l.AppendMarker(ctx, b.opt.Now(), m, o, markerDone(done))
}

// markerDone passes the outcome of a marker on.
type markerDone func(error)

// Appended implements log.Appended.
func (d markerDone) Appended(r log.AppendResult) { d(r.Err) }
