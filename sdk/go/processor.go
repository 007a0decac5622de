package rustmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// sessionAttempts is how often in a row a processor begins a session anew without a
	// commit in between.
	sessionAttempts = 8
	// longestPause is the longest between two of them.
	longestPause = 5 * time.Second
)

// Processor reads topics in a group and writes to others, exactly once: the positions in
// what it reads and the records that it writes are committed in one transaction, so that
// whatever dies when, readers of what is committed (the default of [Consumer]) see the
// results of each record once.
type Processor[T any] struct {
	client *Client
	codec  Codec[T]
	o      ConsumerOptions
	id     string
}

// NewProcessor makes a processor. transactionalID names it across restarts; instances that
// run side by side in one group have ids of their own. Of o, Group has to be given; Workers, Manual,
// CommitEvery and DrainTimeout do not apply. Failures.Then of DeadLetter writes dead letters in the
// transaction.
func NewProcessor[T any](client *Client, codec Codec[T], transactionalID string, o ConsumerOptions) (*Processor[T], error) {
	if err := o.defaults(); err != nil {
		return nil, fmt.Errorf("rustmq: %w", err)
	}
	switch {
	case o.Group == "":
		return nil, errors.New("rustmq: a processor needs a Group, which keeps its positions")
	case transactionalID == "":
		return nil, errors.New("rustmq: a processor needs a transactional id")
	case client.config.acks != AcksAll:
		return nil, errors.New("rustmq: a processor needs AcksAll")
	case o.Uncommitted:
		return nil, errors.New("rustmq: what is read uncommitted may not be there in the end: a processor reads what is committed")
	}
	return &Processor[T]{client: client, codec: codec, o: o, id: transactionalID}, nil
}

// Run hands batches to handle, at most MaxPoll messages of any partitions, each partition's in order,
// until the context ends, and then nil is returned. What handle produces by tx is committed
// together with the batch when it returns nil; otherwise it is aborted, and the batch is
// read again, as it is after a rebalance. That is no attempt of the batch where brokers had
// aborted the transaction, such as one that was open for too long. Where the attempts of a batch are used up and Failures.Then is
// Skip or DeadLetter, its messages come one by one, so that the one that fails goes alone.
// A handler that is at work when the context ends is let finish, and is committed.
func (p *Processor[T]) Run(ctx context.Context, handle func(context.Context, *Tx, []*Message[T]) error) error {
	state := &attempts{}
	var was *incarnation
	pause := firstRetryPause
	for failed := 0; ; {
		commits, err := p.session(ctx, handle, state, &was)
		// Whose epoch is old took too long, or was fenced: the next session finds out.
		fenced := isFenced(err) && (was == nil || !errors.Is(err, kerr.InvalidProducerEpoch))
		if ctx.Err() != nil && !fenced {
			return nil
		}
		if commits > 0 {
			failed, pause = 0, firstRetryPause
		}
		var stopped *ProcessingError
		failed++
		switch {
		case errors.As(err, &stopped), errors.Is(err, ErrClosed):
			return err
		case fenced:
			return fmt.Errorf("%w: %w", ErrFenced, err)
		case failed >= sessionAttempts:
			return fmt.Errorf("rustmq: processor %s: no transaction succeeds: %w", p.id, err)
		}
		p.client.config.log.Warn("a processor begins anew", "id", p.id, "error", err)
		if !wait(ctx, pause, nil) {
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

// attempts is what a processor remembers of failures, across sessions.
type attempts struct {
	failed int          // of the batch, in a row
	alone  int          // messages that come one by one from now on
	lost   *lostMessage // its attempts are used up; nil: there is none
}

// lostMessage is a message that cannot be handled.
type lostMessage struct {
	topic     string
	partition int32
	offset    int64
	attempts  int
	err       error
}

func (l *lostMessage) is(r *Record) bool {
	return l != nil && l.topic == r.Topic && l.partition == r.Partition && l.offset == r.Offset
}

// session runs transactions until one cannot be ended, or the context ends; it returns how many
// were committed. was is the producer of the last transaction, here or in a session before;
// nil: it is not known.
func (p *Processor[T]) session(ctx context.Context, handle func(context.Context, *Tx, []*Message[T]) error, state *attempts, was **incarnation) (commits int, err error) {
	if _, err := p.client.reclaim(ctx, p.id, *was); err != nil {
		return 0, err
	}
	*was = nil // until it is known what the next producer is
	opts := append(p.o.reading(p.client.config.recordBytes), p.client.config.producing()...)
	opts = append(opts, kgo.TransactionalID(p.id), kgo.RecordPartitioner(newPinned()), kgo.WithHooks(p.client.deliveries))
	if t := p.client.config.transactionTime; t > 0 {
		opts = append(opts, kgo.TransactionTimeout(t))
	}
	all := append(p.client.config.base(p.client.dial), opts...)
	s, err := kgo.NewGroupTransactSession(append(append(all, p.client.config.extra...), p.o.Kafka...)...)
	if err != nil {
		return 0, fmt.Errorf("rustmq: %w", err)
	}
	defer leave(s.Client())
	if err := p.client.adopt(s.Client()); err != nil {
		return 0, err
	}
	defer p.client.disown(s.Client())
	reader := &Consumer[T]{client: p.client} // for what it makes of fetches
	for {
		most := p.o.MaxPoll
		if state.alone > 0 {
			most = 1
		}
		fetches := s.PollRecords(ctx, most)
		if err := reader.fetchError(fetches); err != nil {
			return commits, err
		}
		if ctx.Err() != nil {
			return commits, nil
		}
		if fetches.NumRecords() == 0 {
			continue
		}
		messages := messagesOf[T](fetches)
		decode(p.codec, messages)
		if is := incarnationOf(ctx, s.Client()); is != nil {
			*was = is
		}
		committed, err := p.transact(ctx, s, handle, messages, state)
		if committed {
			commits++
		}
		if err != nil {
			return commits, err
		}
	}
}

// transact handles one batch in one transaction.
func (p *Processor[T]) transact(ctx context.Context, s *kgo.GroupTransactSession, handle func(context.Context, *Tx, []*Message[T]) error, batch []*Message[T], state *attempts) (committed bool, err error) {
	if err := s.Begin(); err != nil {
		return false, fmt.Errorf("rustmq: begin a transaction: %w", err)
	}
	working := context.WithoutCancel(ctx)
	tx := &Tx{client: s.Client(), inject: p.client.config.hooks.Inject}
	returned := false
	defer func() {
		if !returned { // handle panics: nothing of it stays
			ending, cancel := context.WithTimeout(working, endTimeout)
			defer cancel()
			_, _ = s.End(ending, kgo.TryAbort)
		}
	}()
	passing := len(batch) == 1 && state.lost.is(batch[0].Record)
	var failed error
	if passing {
		p.passOver(working, tx, batch[0], state.lost)
	} else {
		failed = p.attempt(working, handle, tx, batch, state.failed+1)
	}
	returned = true
	ending, cancel := context.WithTimeout(working, max(endTimeout, p.client.config.deliveryTimeout))
	defer cancel()
	byBrokers := false // it is they who fail, not the handler: a new session tries again
	if failed == nil {
		failed = s.Client().Flush(ending) // End would commit without a record that fails
		if broken := tx.failure(); failed == nil && broken != nil {
			failed = broken
		}
		byBrokers = failed != nil
	} else if broken := tx.failure(); abortedByCluster(broken) || isFenced(broken) {
		byBrokers, failed = true, errors.Join(failed, broken) // which the handler may have been told, and says
	}
	if byBrokers {
		_, err := s.End(ending, kgo.TryAbort)
		return false, errors.Join(failed, err)
	}
	committed, err = s.End(ending, failed == nil)
	switch {
	case err != nil:
		return false, fmt.Errorf("rustmq: end a transaction: %w", err)
	case committed && failed == nil:
		*state = attempts{alone: max(0, state.alone-len(batch))}
		return true, nil
	case failed == nil:
		return false, nil // a rebalance: who has the partitions reads the batch again
	}
	state.failed++
	if p.o.Failures.more(state.failed, failed) {
		p.client.config.log.Debug("a batch is tried again", "id", p.id, "messages", len(batch), "attempt", state.failed, "error", failed)
		wait(ctx, p.o.Failures.pause(state.failed), nil)
		return false, nil
	}
	r := batch[0].Record
	switch {
	case p.o.Failures.Then == Stop:
		return false, &ProcessingError{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Attempts: state.failed, Err: failed}
	case len(batch) == 1:
		// What the handler wrote is aborted; the message comes once more, to be passed over
		// in a transaction of its own.
		*state = attempts{alone: max(state.alone, 1), lost: &lostMessage{r.Topic, r.Partition, r.Offset, state.failed, failed}}
	default:
		*state = attempts{alone: len(batch)}
	}
	return false, nil
}

// passOver writes a message that cannot be handled to where it is to go.
func (p *Processor[T]) passOver(ctx context.Context, tx *Tx, m *Message[T], lost *lostMessage) {
	what := "a record is skipped"
	if p.o.Failures.Then == DeadLetter {
		what = "a record is a dead letter"
		tx.Produce(ctx, p.o.Failures.deadLetter(m.Record, p.o.Group, lost.attempts, lost.err), nil)
	}
	p.client.config.log.Warn(what, "topic", lost.topic, "partition", lost.partition, "offset", lost.offset, "attempts", lost.attempts, "error", lost.err)
}

// attempt calls the handler, unless a message cannot be decoded.
func (p *Processor[T]) attempt(ctx context.Context, handle func(context.Context, *Tx, []*Message[T]) error, tx *Tx, batch []*Message[T], attempt int) error {
	hooks := p.client.config.hooks
	if hooks.Extract != nil {
		ctx = hooks.Extract(ctx, batch[0].Record)
	}
	began := time.Now()
	err := error(nil)
	for _, m := range batch {
		if m.err != nil {
			err = m.err
		}
	}
	if err == nil {
		err = handle(ctx, tx, batch)
	}
	if hooks.Processed != nil {
		for _, m := range batch {
			hooks.Processed(ctx, m.Record, attempt, time.Since(began), err)
		}
	}
	return err
}
