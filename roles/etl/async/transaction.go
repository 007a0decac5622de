package async

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

const (
	// DefaultTransactionTimeout is after how long a transaction is aborted whose process is
	// gone, and that nobody has taken over. Readers of the output wait for as long.
	DefaultTransactionTimeout = time.Minute
	// abortTime is how long the orderly end of a transaction may take.
	abortTime = 5 * time.Second
)

// source is a partition that records are read from.
type source struct {
	id        storage.TopicID
	topic     string
	partition int32
}

// target is a partition that records go to.
type target struct {
	topic     string
	partition int32
}

// sealed is a batch that is ready to go.
type sealed struct {
	to      target
	records batch.Batch
}

// refusedError says that a partition does not take a batch, and will not: a record is too
// large for it, or against its rules.
type refusedError struct {
	to  target
	err error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s-%d does not take the records: %v", e.to.topic, e.to.partition, e.err)
}

func (e *refusedError) Unwrap() error { return e.err }

// producer writes the transactions of one task for one source partition. Whoever begins
// with the same ids later fences it: of two, one is heard.
type producer struct {
	cluster *cluster
	id      string // transactional id
	group   string
	of      source
	timeout time.Duration // of its transactions

	producerID int64
	epoch      int16
	sequences  map[target]int32 // of the next record
	open       bool             // the coordinator may know of a transaction
}

// begin fences whoever had the id before, and aborts or completes what that left.
func (p *producer) begin(ctx context.Context) error {
	q := kmsg.NewPtrInitProducerIDRequest()
	q.SetVersion(initProducerIDVersion)
	q.TransactionalID = &p.id
	q.TransactionTimeoutMillis = int32(p.timeout.Milliseconds())
	q.ProducerID, q.ProducerEpoch = -1, -1
	answer, err := p.cluster.askCoordinator(ctx, transactionCoordinator, p.id, q, func(r kmsg.Response) int16 { return r.(*kmsg.InitProducerIDResponse).ErrorCode })
	if err != nil {
		return err
	}
	is := answer.(*kmsg.InitProducerIDResponse)
	p.producerID, p.epoch, p.open = is.ProducerID, is.ProducerEpoch, false
	p.sequences = map[target]int32{}
	return nil
}

// committed returns the offset that the last transaction ended at; false: there was none.
// It waits for one that is being completed.
func (p *producer) committed(ctx context.Context) (offset int64, ok bool, err error) {
	q := kmsg.NewPtrOffsetFetchRequest()
	q.SetVersion(offsetFetchVersion)
	q.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = p.group
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: p.of.topic, Partitions: []int32{p.of.partition}}}
	q.Groups = []kmsg.OffsetFetchRequestGroup{g}
	part := func(r kmsg.Response) (*kmsg.OffsetFetchResponseGroupTopicPartition, int16) {
		groups := r.(*kmsg.OffsetFetchResponse).Groups
		if len(groups) != 1 {
			return nil, kerr.UnknownServerError.Code
		}
		if code := groups[0].ErrorCode; code != 0 {
			return nil, code
		}
		if len(groups[0].Topics) != 1 || len(groups[0].Topics[0].Partitions) != 1 {
			return nil, kerr.UnknownServerError.Code
		}
		one := &groups[0].Topics[0].Partitions[0]
		return one, one.ErrorCode
	}
	answer, err := p.cluster.askCoordinator(ctx, groupCoordinator, p.group, q, func(r kmsg.Response) int16 {
		_, code := part(r)
		return code
	})
	if err != nil {
		return 0, false, err
	}
	one, _ := part(answer)
	return one.Offset, one.Offset >= 0, nil
}

// stamp is what the next batch to a target says of its sender, once it has n records.
func (p *producer) stamp(to target) *batch.Producer {
	return &batch.Producer{ID: p.producerID, Epoch: p.epoch, BaseSequence: p.sequences[to]}
}

// sealedWith notes that a batch to a target has so many records.
func (p *producer) sealedWith(to target, n int32) {
	p.sequences[to] = batch.NextSequence(p.sequences[to], n)
}

// produce has batches appended, in order for each target, and returns once all are acked.
// After an error nothing of the transaction may be committed. A [*refusedError] says that
// trying again is of no use.
func (p *producer) produce(ctx context.Context, batches []sealed) error {
	for len(batches) > 0 {
		var round, rest []sealed
		in := map[target]bool{}
		for _, b := range batches { // a request has one batch of a partition
			if in[b.to] {
				rest = append(rest, b)
				continue
			}
			in[b.to] = true
			round = append(round, b)
		}
		p.open = true
		errs := make([]error, len(round))
		var all sync.WaitGroup
		for i, b := range round[1:] {
			all.Go(func() { errs[i+1] = p.produceOne(ctx, b) })
		}
		errs[0] = p.produceOne(ctx, round[0])
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		batches = rest
	}
	return nil
}

// produceOne has one batch appended, wherever its partition is led; while it is led
// nowhere, or is full, it waits.
func (p *producer) produceOne(ctx context.Context, b sealed) error {
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(produceVersion)
	q.TransactionID, q.Acks, q.TimeoutMillis = &p.id, -1, int32(askTime.Milliseconds())
	q.Topics = []kmsg.ProduceRequestTopic{{Topic: b.to.topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: b.to.partition}}}}
	return persist(ctx, func() error {
		t, err := p.cluster.topic(ctx, b.to.topic)
		if err != nil {
			return err
		}
		part := t.Partition(b.to.partition)
		if part == nil || part.Leader == noLeader {
			return fmt.Errorf("%s-%d: %w", b.to.topic, b.to.partition, kerr.LeaderNotAvailable)
		}
		answer, err := p.cluster.askWith(ctx, part.Leader, q, b.records)
		if err != nil {
			return err
		}
		topics := answer.(*kmsg.ProduceResponse).Topics
		if len(topics) != 1 || len(topics[0].Partitions) != 1 {
			return fmt.Errorf("%s-%d: %w", b.to.topic, b.to.partition, kerr.UnknownServerError)
		}
		is := topics[0].Partitions[0]
		switch err := kerr.ErrorForCode(is.ErrorCode); {
		case err == nil:
			return nil
		case refuses(err):
			if is.ErrorMessage != nil {
				err = fmt.Errorf("%w: %s", err, *is.ErrorMessage)
			}
			return &refusedError{b.to, err}
		default:
			return fmt.Errorf("produce to %s-%d: %w", b.to.topic, b.to.partition, err)
		}
	})
}

// refuses reports whether an answer is about the records.
func refuses(err error) bool {
	for _, of := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// commit ends the transaction: what was produced counts, and the group has read up to
// offset. After an error it is not known whether it did; begin and committed tell.
func (p *producer) commit(ctx context.Context, offset int64) error {
	q := kmsg.NewPtrTxnOffsetCommitRequest()
	q.SetVersion(txnOffsetCommitVersion)
	q.TransactionalID, q.Group, q.ProducerID, q.ProducerEpoch = p.id, p.group, p.producerID, p.epoch
	q.Generation = -1
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset = p.of.partition, offset
	q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: p.of.topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{part}}}
	p.open = true
	if _, err := p.cluster.askCoordinator(ctx, groupCoordinator, p.group, q, func(r kmsg.Response) int16 {
		t := r.(*kmsg.TxnOffsetCommitResponse).Topics
		if len(t) != 1 || len(t[0].Partitions) != 1 {
			return kerr.UnknownServerError.Code
		}
		return t[0].Partitions[0].ErrorCode
	}); err != nil {
		return err
	}
	return p.end(ctx, true)
}

// abort ends the transaction, if there is one, so that nobody waits for it. An error
// leaves it to who begins next, or to its time.
func (p *producer) abort(ctx context.Context) error {
	if !p.open {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	return p.end(ctx, false)
}

func (p *producer) end(ctx context.Context, commit bool) error {
	q := kmsg.NewPtrEndTxnRequest()
	q.SetVersion(endTxnVersion)
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = p.id, p.producerID, p.epoch, commit
	answer, err := p.cluster.askCoordinator(ctx, transactionCoordinator, p.id, q, func(r kmsg.Response) int16 { return r.(*kmsg.EndTxnResponse).ErrorCode })
	if err != nil {
		return err
	}
	is := answer.(*kmsg.EndTxnResponse)
	p.producerID, p.epoch, p.open = is.ProducerID, is.ProducerEpoch, false
	clear(p.sequences) // each transaction has an epoch, and counts anew (KIP-890)
	return nil
}
