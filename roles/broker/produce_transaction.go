package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// Versions of Produce whose clients know TRANSACTION_ABORTABLE, and leave it to
// the broker to add partitions to their transactions (KIP-890).
const (
	abortableProduce = 11
	addingProduce    = 12
)

// isTransactional reports whether records are a batch of a transaction, by what it
// says of itself: about what cannot be one, no coordinator is asked.
func isTransactional(records []byte) bool {
	b, rest, err := batch.Next(records)
	return err == nil && len(rest) == 0 && b.IsTransactional() && !b.IsControl() && b.ProducerID() >= 0 && b.ProducerEpoch() >= 0
}

// admittedBatch is a batch that has room, and is yet to be appended.
type admittedBatch struct {
	part       *producePart
	log        *log.Log
	epoch      storage.Epoch
	now        time.Time
	records    []byte
	transcoded log.Transcoded
	guard      log.Guard

	screened    bool // the log has seen the batch, which is as it came
	transformed bool
	memory      heldMemory // of a batch that was transformed
}

// append hands the batch over. The part is told the outcome.
func (a *admittedBatch) append() {
	request := a.part.request
	a.part.appended = request.b.opt.Now()
	a.log.Append(a.now, a.records, log.AppendOptions{
		Epoch: a.epoch, LeaderOnly: request.q.Acks != acksAll, Guard: a.guard, Condition: a.transcoded.Condition, Transformed: a.transformed, Screened: a.screened,
		Deadline: request.b.appendDeadline(a.part.partition, a.now, request.q.TimeoutMillis),
	}, a.part)
	a.release()
}

// refuse gives the room back.
func (a *admittedBatch) refuse() {
	a.part.request.b.store.Unadmit(len(a.records))
	a.release()
}

// release gives back the memory of a batch that is not as it came.
func (a *admittedBatch) release() {
	a.transcoded.Release()
	a.memory.release()
}

// verifications is the batches of a partition that wait until the coordinator has
// said whether their transaction is open: in order of arrival for each producer,
// so that whatever is sent behind the first batch of a transaction stays behind
// it. Batches of a transaction that is open pass by.
//
// The coordinator's word is about one verification of the log, for one is asked about at
// a time: those that wait by another, which began behind a marker, are asked about anew.
type verifications struct {
	mu      sync.Mutex // guards waiting
	waiting map[producerEpoch][]admittedBatch
}

type producerEpoch struct {
	id    int64
	epoch int16
}

// inTransaction appends the batch if its transaction is open, or else has it wait
// for the coordinator's word. asks is what the request is going to ask already, nil:
// nothing; what it is to ask from now on is returned. After nil the part is told the outcome.
func (a *admittedBatch) inTransaction(asks *asking) (*asking, error) {
	b := batch.Batch(a.records)
	who := producerEpoch{b.ProducerID(), b.ProducerEpoch()}
	p := a.part.request
	if asks != nil && asks.who != who { // one question is for one of them
		a.refuse()
		return asks, explained{kerr.InvalidProducerIDMapping, "a request has batches of two producers, or epochs, in one transaction"}
	}
	of, open, err := a.log.BeginVerification(who.id, who.epoch, b.BaseSequence())
	if err != nil {
		a.log.Refused(a.records, err)
		a.refuse()
		return asks, err
	}
	a.guard = of
	v := &a.part.partition.verifications
	v.mu.Lock()
	queue, asked := v.waiting[who]
	if open && !asked {
		v.mu.Unlock()
		a.append()
		return asks, nil
	}
	if v.waiting == nil {
		v.waiting = map[producerEpoch][]admittedBatch{}
	}
	v.waiting[who] = append(queue, *a)
	v.mu.Unlock()
	if !asked {
		if asks == nil {
			asks = newAsking(who, p)
		}
		asks.add(a.part.partition, of)
	}
	return asks, nil
}

// answered carries out the coordinator's word on the batches that wait by a verification.
// It may run on the coordinator's goroutine, and waits for nothing: what is appended has
// room, and has the codec of its topic.
func (v *verifications) answered(who producerEpoch, of log.Guard, refused error) {
	if refused != nil && !v.refuse(who, of, refused) {
		return
	}
	for {
		v.mu.Lock()
		queue := v.waiting[who]
		if len(queue) == 0 {
			delete(v.waiting, who)
			v.mu.Unlock()
			return
		}
		next := queue[0]
		open := next.guard == log.Guard{} // when it came; the log looks again
		confirmed := refused == nil && guard.Check("broker.confirmed-verification", next.guard == of)
		if open || confirmed {
			v.waiting[who] = queue[1:]
		}
		v.mu.Unlock()
		if !open && !confirmed {
			another := newAsking(who, next.part.request)
			another.add(next.part.partition, next.guard)
			another.ask(next.part.request.b, next.part.request.q.TimeoutMillis)
			return
		}
		next.append()
	}
}

// refuse refuses all that waits by a verification. Nothing does any more by the time that
// the first of it is told so: what the producer does about it, and sends then, is another
// question. others: some wait by another verification, and still for who called this.
func (v *verifications) refuse(who producerEpoch, of log.Guard, refused error) (others bool) {
	var gone []admittedBatch
	v.mu.Lock()
	left := slices.DeleteFunc(v.waiting[who], func(a admittedBatch) bool {
		theirs := a.guard == of
		if theirs {
			gone = append(gone, a)
		}
		return theirs
	})
	if others = len(left) > 0; others {
		v.waiting[who] = left
	} else {
		delete(v.waiting, who)
	}
	v.mu.Unlock()
	for _, a := range gone {
		if isNotTheirs(refused) {
			a.log.RefuseVerification(who.id, who.epoch)
		}
		a.refuse()
	}
	for _, a := range gone {
		a.part.fail(verificationError(refused, a.part.request.q.Version))
	}
	return others
}

// isNotTheirs reports whether a coordinator has refused who asked: the id, or the epoch,
// is not that of the transaction's producer. After other refusals he may come again, and
// what he sent first stays first.
func isNotTheirs(refused error) bool {
	switch kafkaError(refused) {
	case kerr.InvalidProducerIDMapping, kerr.ProducerFenced, kerr.InvalidProducerEpoch:
		return true
	}
	return false
}

// asking is a question to the coordinator of a transaction: of all partitions of a
// request, or of those that were parked before it had to wait.
type asking struct {
	who        producerEpoch
	partitions []*partition
	guards     []log.Guard // of each, the verification that is asked about
	question   verification
}

// newAsking is a question with no partitions yet.
func newAsking(who producerEpoch, p *produceRequest) *asking {
	return &asking{who: who, question: verification{
		TransactionalID: string(p.q.TransactionalID), ProducerID: who.id, ProducerEpoch: who.epoch, Add: p.q.Version >= addingProduce,
	}}
}

// pending reports whether there is anything to ask.
func (a *asking) pending() bool { return a != nil && len(a.partitions) > 0 }

// askParked asks for the partitions whose batches are parked so far; what is parked from
// here on is another question, of the same producer.
func (p *produceRequest) askParked() {
	if !p.asks.pending() {
		return
	}
	asked := p.asks
	p.asks = newAsking(asked.who, p)
	asked.ask(p.b, p.q.TimeoutMillis)
}

func (a *asking) add(p *partition, of log.Guard) {
	a.partitions = append(a.partitions, p)
	a.guards = append(a.guards, of)
	a.question.Partitions = append(a.question.Partitions, topicPartition{p.topic.name, p.index})
}

// ask asks, and has the answer carried out, whatever becomes of the request that
// it came with: others may wait for it by then. Without an answer in time, it is
// refused: of the two, what comes first counts.
func (a *asking) ask(b *Broker, timeoutMillis int32) {
	ctx, cancel := controllerContext(b.ctx, timeoutMillis)
	b.requests.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer b.requests.Done()
		cancel()
		a.answered(slices.Repeat([]error{kerr.RequestTimedOut}, len(a.partitions)))
	})
	b.verifier.Verify(ctx, &a.question, func(answers []error) {
		if !stop() {
			return // too late
		}
		defer b.requests.Done()
		cancel()
		a.answered(answers)
	})
}

// answered carries out the coordinator's word, for each partition.
func (a *asking) answered(answers []error) {
	for i, p := range a.partitions {
		err := errNoAnswer
		if i < len(answers) {
			err = answers[i]
		}
		p.verifications.answered(a.who, a.guards[i], err)
	}
}

// errNoAnswer says that a coordinator answered for fewer partitions than it was
// asked about.
var errNoAnswer error = explained{kerr.CoordinatorNotAvailable, "the transaction coordinator did not say whether the partition is part of the transaction"}

// verificationError is what a producer is told when the coordinator did not
// confirm its transaction.
func verificationError(err error, version int16) error {
	var refused *kerr.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refused = kerr.RequestTimedOut
	default:
		refused = kafkaError(err)
	}
	answer := refused
	switch refused {
	case kerr.ConcurrentTransactions, kerr.NetworkException, kerr.RequestTimedOut,
		kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator:
		// What is tried again without asking for the leader anew.
		answer = kerr.NotEnoughReplicas
	case kerr.ProducerFenced:
		answer = kerr.InvalidProducerEpoch
	case kerr.TransactionAbortable:
		if version < abortableProduce {
			answer = kerr.InvalidTxnState
		}
	}
	return explained{answer, fmt.Sprintf("verify the transaction: %v", err)}
}
