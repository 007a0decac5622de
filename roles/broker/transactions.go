package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage"
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
	o.Markers, o.Topics, o.NewProducerID = newMarkers(b), groupTopics{b}, b.newProducerID
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
	b.askCoordinator(r.Context(), v, func(answers []error) {
		if err := answers[0]; err != nil {
			if isNotTheirs(err) {
				l.RefuseVerification(q.ProducerID, q.ProducerEpoch)
			}
			refuse(unverifiedCommit(err))
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

// unverifiedCommit is the error that stands for one of the coordinator of transactions:
// where that is not to be had, the group's own is, and is to be asked again.
func unverifiedCommit(err error) error {
	switch kafkaError(err) {
	case kerr.NetworkException, kerr.RequestTimedOut, kerr.NotCoordinator, kerr.CoordinatorNotAvailable:
		return kerr.CoordinatorLoadInProgress
	}
	return err
}

// askCoordinator asks the coordinator of a transactional id, here or elsewhere, for an
// error for each partition; nil: it is part of the transaction.
func (b *Broker) askCoordinator(ctx context.Context, v *verification, done func([]error)) {
	if at, elsewhere := b.coordinatedElsewhere(transactionsTopic, txn.PartitionOf(v.TransactionalID)); elsewhere {
		b.requests.Go(func() { done(b.askCoordinatorAt(ctx, at, v)) }) // the request that it is for is counted until done
		return
	}
	q := &txn.AddPartitions{TransactionalID: v.TransactionalID, ProducerID: v.ProducerID, ProducerEpoch: v.ProducerEpoch, VerifyOnly: !v.Add}
	if v.Add {
		q.Version = epochPerTransaction
	}
	for _, p := range v.Partitions {
		q.Partitions = append(q.Partitions, txn.Partition(p))
	}
	b.transactions.AddPartitions(ctx, q, func(codes []int16) {
		errs := make([]error, len(codes))
		for i, code := range codes {
			errs[i] = kerr.ErrorForCode(code)
		}
		done(errs)
	})
}

// askCoordinatorAt asks another broker, once: producers come again.
func (b *Broker) askCoordinatorAt(ctx context.Context, at int32, v *verification) []error {
	q := kmsg.NewPtrAddPartitionsToTxnRequest()
	q.Version = peerAddPartitions
	t := kmsg.NewAddPartitionsToTxnRequestTransaction()
	t.TransactionalID, t.ProducerID, t.ProducerEpoch, t.VerifyOnly = v.TransactionalID, v.ProducerID, v.ProducerEpoch, !v.Add
	places := map[string]int{}
	for _, p := range v.Partitions {
		i, ok := places[p.Topic]
		if !ok {
			i = len(t.Topics)
			places[p.Topic] = i
			t.Topics = append(t.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: p.Topic})
		}
		t.Topics[i].Partitions = append(t.Topics[i].Partitions, p.Index)
	}
	q.Transactions = append(q.Transactions, t)
	p, err := askPeer[*kmsg.AddPartitionsToTxnResponse](ctx, b, at, q)
	if err == nil && p.ErrorCode != 0 {
		err = kerr.ErrorForCode(p.ErrorCode)
	}
	if err != nil {
		b.log.Debug("the coordinator of a transaction cannot be asked", "transactional-id", v.TransactionalID, "broker", at, "error", err)
		return slices.Repeat([]error{err}, len(v.Partitions))
	}
	codes := map[topicPartition]int16{}
	for _, t := range p.Transactions {
		for _, rt := range t.Topics {
			for _, rp := range rt.Partitions {
				codes[topicPartition{rt.Topic, rp.Partition}] = rp.ErrorCode
			}
		}
	}
	errs := make([]error, len(v.Partitions))
	for i, p := range v.Partitions {
		code, told := codes[p]
		if errs[i] = kerr.ErrorForCode(code); !told {
			errs[i] = errNoAnswer
		}
	}
	return errs
}

// coordinatorVerifier asks the coordinators of transactions.
type coordinatorVerifier struct{ b *Broker }

// Verify implements transactionVerifier.
func (c coordinatorVerifier) Verify(ctx context.Context, v *verification, done func([]error)) {
	c.b.askCoordinator(ctx, v, done)
}
