package broker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

// transactionsTopic holds the state of transactions.
const transactionsTopic = txn.Topic

// Clients of these versions and up know that a transaction can only be aborted
// (KIP-1050), and have the coordinator add partitions as they write (KIP-890).
const (
	abortableTxnOffsetCommit = 4
	addingTxnOffsetCommit    = 5
)

// epochPerTransaction is the transaction version of clients that have the
// coordinator add partitions as they write.
const epochPerTransaction = 2

// openTransactions makes the coordinator; partitions come to it with leadership.
func (b *Broker) openTransactions() (*txn.Coordinator, error) {
	o := b.opt.Transactions
	o.Log = transactionsLog{newCoordinatorLog(b, transactionsTopic)}
	o.Markers, o.Topics, o.NewProducerID = markers{b}, groupTopics{b}, b.newProducerID
	o.Logger, o.Now, o.Believed = b.log, b.opt.Now, b.opt.Controller.BelievedTime
	if o.CompactBytes == 0 { // of a small WAL, all partitions together a tenth
		o.CompactBytes = min(coordinator.DefaultCompactBytes, b.store.Stats().Capacity/(10*txn.Partitions))
	}
	return txn.Open(o)
}

func (b *Broker) addPartitionsToTxn(r *kafka.Request, q *kmsg.AddPartitionsToTxnRequest, answer func(*kmsg.AddPartitionsToTxnResponse)) {
	b.transactions.AddPartitionsToTxn(r.Context(), q, answer)
}

func (b *Broker) addOffsetsToTxn(r *kafka.Request, q *kmsg.AddOffsetsToTxnRequest, answer func(*kmsg.AddOffsetsToTxnResponse)) {
	offsets := txn.Partition{Topic: offsetsTopic, Index: group.Partition(q.Group)}
	b.transactions.AddOffsetsToTxn(r.Context(), q, offsets, answer)
}

func (b *Broker) endTxn(r *kafka.Request, q *kmsg.EndTxnRequest, answer func(*kmsg.EndTxnResponse)) {
	b.transactions.EndTxn(r.Context(), q, answer)
}

func (b *Broker) describeTransactions(r *kafka.Request, q *kmsg.DescribeTransactionsRequest, answer func(*kmsg.DescribeTransactionsResponse)) {
	q.TransactionalIDs = unique(q.TransactionalIDs, func(id string) string { return id })
	b.transactions.DescribeTransactions(r.Context(), q, answer)
}

func (b *Broker) listTransactions(r *kafka.Request, q *kmsg.ListTransactionsRequest, answer func(*kmsg.ListTransactionsResponse)) {
	b.transactions.ListTransactions(r.Context(), q, answer)
}

// txnOffsetCommit commits offsets in a transaction. The coordinator of the
// transaction is asked whether it is open, unless the log knows.
func (b *Broker) txnOffsetCommit(r *kafka.Request, q *kmsg.TxnOffsetCommitRequest, answer func(*kmsg.TxnOffsetCommitResponse)) {
	refuse := func(err error) { answer(group.RefuseTxnOffsetCommit(q, txnCommitCode(q.Version, code(err)))) }
	switch {
	case q.Group == "":
		refuse(kerr.InvalidGroupID)
		return
	case q.TransactionalID == "":
		refuse(kerr.InvalidRequest)
		return
	}
	index := group.Partition(q.Group)
	l, _, err := b.leaderOf(offsetsTopic, index, storage.NoEpoch)
	if err != nil {
		refuse(kerr.NotCoordinator)
		return
	}
	const unsequenced = -1
	verified, open, err := l.BeginVerification(q.ProducerID, q.ProducerEpoch, unsequenced)
	if err != nil {
		b.log.Warn("a transaction that commits offsets cannot be verified", "group", q.Group, "producer", q.ProducerID, "error", err)
		refuse(kerr.CoordinatorNotAvailable)
		return
	}
	commit := func() {
		b.groups.TxnOffsetCommit(r.Context(), q, verified, func(p *kmsg.TxnOffsetCommitResponse) {
			for i := range p.Topics {
				for j := range p.Topics[i].Partitions {
					c := &p.Topics[i].Partitions[j].ErrorCode
					*c = txnCommitCode(q.Version, *c)
				}
			}
			answer(p)
		})
	}
	if open {
		commit()
		return
	}
	v := &verification{
		TransactionalID: q.TransactionalID, ProducerID: q.ProducerID, ProducerEpoch: q.ProducerEpoch,
		Add: q.Version >= addingTxnOffsetCommit, Partitions: []topicPartition{{offsetsTopic, index}},
	}
	b.askCoordinator(r.Context(), v, func(codes []int16) {
		if codes[0] != 0 {
			refused := kerr.TypedErrorForCode(codes[0])
			if isNotTheirs(refused) {
				l.RefuseVerification(q.ProducerID, q.ProducerEpoch)
			}
			refuse(refused)
			return
		}
		commit()
	})
}

// txnCommitCode returns the code as a client of TxnOffsetCommit knows it. What is
// wrong with the coordinator of transactions must not look like that of the group.
func txnCommitCode(version, c int16) int16 {
	switch {
	case c == kerr.ProducerFenced.Code:
		return kerr.InvalidProducerEpoch.Code
	case c == kerr.ConcurrentTransactions.Code:
		return kerr.CoordinatorLoadInProgress.Code
	case c == kerr.TransactionAbortable.Code && version < abortableTxnOffsetCommit:
		return kerr.InvalidTxnState.Code
	}
	return c
}

// askCoordinator asks for a code for each partition.
func (b *Broker) askCoordinator(ctx context.Context, v *verification, done func(codes []int16)) {
	q := &txn.AddPartitions{TransactionalID: v.TransactionalID, ProducerID: v.ProducerID, ProducerEpoch: v.ProducerEpoch, VerifyOnly: !v.Add}
	if v.Add {
		q.Version = epochPerTransaction
	}
	for _, p := range v.Partitions {
		q.Partitions = append(q.Partitions, txn.Partition(p))
	}
	b.transactions.AddPartitions(ctx, q, done)
}

// coordinatorVerifier asks the coordinator of transactions in this process.
type coordinatorVerifier struct{ b *Broker }

// Verify implements transactionVerifier.
func (c coordinatorVerifier) Verify(ctx context.Context, v *verification, done func([]error)) {
	c.b.askCoordinator(ctx, v, func(codes []int16) {
		errs := make([]error, len(codes))
		for i, code := range codes {
			errs[i] = kerr.ErrorForCode(code)
		}
		done(errs)
	})
}

// markers writes the ends of transactions.
type markers struct{ b *Broker }

// WriteMarkers implements [txn.Markers].
func (m markers) WriteMarkers(of txn.Marker, done func(left []txn.Partition)) {
	marker := log.Marker{
		ProducerID: of.ProducerID, ProducerEpoch: of.ProducerEpoch, CoordinatorEpoch: int32(of.CoordinatorEpoch),
		Commit: of.Commit, TransactionVersion: int8(of.Version),
	}
	m.b.done.Go(func() { // the coordinator's goroutine, which calls this, ends before done is waited for
		m.b.writeMarkers(m.b.ctx, marker, of.Partitions, func(errs []error) {
			var left []txn.Partition
			for i, err := range errs {
				if m.b.again(of.Partitions[i], err) {
					left = append(left, of.Partitions[i])
				}
			}
			done(left)
		})
	})
}

// again reports whether a marker is to be written again. One that its partition
// refuses is not: a newer producer, or coordinator, has ended the transaction.
func (b *Broker) again(p txn.Partition, err error) bool {
	switch {
	case err == nil:
		return false
	case guard.Check("broker.marker-dropped", !b.exists(p)):
		return false // deleted
	case errors.Is(err, log.ErrInvalidProducerEpoch), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, log.ErrCoordinatorFenced):
		b.log.Warn("the end of a transaction came late", "topic", p.Topic, "partition", p.Index, "error", err)
		return false
	}
	b.log.Debug("the end of a transaction could not be written; trying on", "topic", p.Topic, "partition", p.Index, "error", err)
	return true
}

// exists reports whether a partition exists. It asks the newest image: what is not
// carried out of it yet is not gone.
func (b *Broker) exists(p txn.Partition) bool {
	t, ok := b.follower.newest.Load().Topic(p.Topic)
	return ok && t.Partition(p.Index) != nil
}

// writeMarkers writes a marker to each partition. done is called once, when all are
// committed or known not to be, with an error for each. It waits for room in the
// WAL, as long as ctx allows.
func (b *Broker) writeMarkers(ctx context.Context, m log.Marker, partitions []txn.Partition, done func([]error)) {
	errs := make([]error, len(partitions))
	var left atomic.Int64
	left.Store(int64(len(partitions)) + 1)
	over := func() {
		if left.Add(-1) == 0 {
			done(errs)
		}
	}
	for i, p := range partitions {
		put := func(err error) {
			errs[i] = err
			over()
		}
		if p.Topic == offsetsTopic {
			// Its turn comes later, when ctx may have ended.
			b.groups.EndTransaction(context.WithoutCancel(ctx), p.Index, m, put)
		} else {
			b.markPartition(ctx, p.Topic, p.Index, m, put)
		}
	}
	over()
}

// writeTxnMarkers serves other coordinators, and operators who end what hangs.
func (b *Broker) writeTxnMarkers(r *kafka.Request, q *kmsg.WriteTxnMarkersRequest, answer func(*kmsg.WriteTxnMarkersResponse)) {
	p := q.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	p.Markers = make([]kmsg.WriteTxnMarkersResponseMarker, len(q.Markers))
	var left atomic.Int64
	left.Store(int64(len(q.Markers)) + 1)
	over := func() {
		if left.Add(-1) == 0 {
			answer(p)
		}
	}
	b.spawn(r, func(ctx context.Context) { // markers wait for room
		for i := range q.Markers {
			m := &q.Markers[i]
			type topic = kmsg.WriteTxnMarkersRequestMarkerTopic
			m.Topics = distinct(m.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
			marker := log.Marker{
				ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch,
				Commit: m.Committed, TransactionVersion: m.TransactionVersion,
			}
			b.writeMarkers(ctx, marker, markedPartitions(m), func(errs []error) {
				p.Markers[i] = markedBy(m, errs)
				over()
			})
		}
		over()
	})
}

func markedPartitions(m *kmsg.WriteTxnMarkersRequestMarker) []txn.Partition {
	var partitions []txn.Partition
	for _, t := range m.Topics {
		for _, index := range t.Partitions {
			partitions = append(partitions, txn.Partition{Topic: t.Topic, Index: index})
		}
	}
	return partitions
}

// markedBy tells what became of a marker.
func markedBy(m *kmsg.WriteTxnMarkersRequestMarker, errs []error) kmsg.WriteTxnMarkersResponseMarker {
	out := kmsg.NewWriteTxnMarkersResponseMarker()
	out.ProducerID = m.ProducerID
	for _, t := range m.Topics {
		ot := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
		ot.Topic = t.Topic
		for _, index := range t.Partitions {
			op := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
			op.Partition, op.ErrorCode = index, code(errs[0])
			ot.Partitions, errs = append(ot.Partitions, op), errs[1:]
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}
