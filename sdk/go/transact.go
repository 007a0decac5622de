package rustmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// transactionAttempts is how often a transaction is tried that the cluster aborted.
	transactionAttempts = 5
	// endTimeout bounds the end of a transaction whose context is over: it has to end all
	// the same, or readers of what is committed wait for the broker's time-out.
	endTimeout      = 30 * time.Second
	firstRetryPause = 100 * time.Millisecond
	// transactionTimeout is how long a transaction may be open, unless the caller says.
	transactionTimeout = 40 * time.Second
)

// Tx is an open transaction.
type Tx struct {
	client *kgo.Client
	inject func(context.Context, *Record)

	mu  sync.Mutex
	err error // of the first record that failed
}

// Produce sends a record in the transaction. done, which may be nil, is called with its
// result: what is delivered is read only once the transaction is committed. A record that
// fails fails the transaction, whether or not done looks.
func (t *Tx) Produce(ctx context.Context, r *Record, done func(*Record, error)) {
	if t.inject != nil {
		t.inject(ctx, r)
	}
	if partition, ok := partitionOf(r); ok {
		r.Context = context.WithValue(ctx, pinnedKey{}, partition)
	} else {
		r.Context = ctx // of a record that was used before it may be another
	}
	t.client.Produce(ctx, r, func(r *Record, err error) {
		if err != nil {
			t.mu.Lock()
			if t.err == nil {
				t.err = err
			}
			t.mu.Unlock()
		}
		if done != nil {
			done(r, err)
		}
	})
}

// ProduceSync sends records in the transaction and waits for the results of all, or for
// the end of ctx.
func (t *Tx) ProduceSync(ctx context.Context, rs ...*Record) Results {
	return produceAll(ctx, rs, t.Produce)
}

func (t *Tx) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// transacting is the producer of Transact.
type transacting struct {
	turn   chan struct{} // one transaction at a time; made with the client
	client *kgo.Client   // guarded by turn, as is what follows
	was    *incarnation  // of the last transaction; nil: it is not known
	fenced bool

	mu    sync.Mutex
	ended bool
}

func (t *transacting) close() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.turn <- struct{}{} // what is under way ends first
	defer func() { <-t.turn }()
	if t.client != nil {
		t.client.Close()
	}
}

func (t *transacting) isEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// Transact runs f in a transaction, and commits when it returns nil: all records that it
// produced are there then, in whatever topics, or none is. An error of f, of a record, or
// a panic aborts. f is run again, at most five times in all, where the cluster aborted for
// reasons that pass, such as a coordinator that moved, or a transaction that was open for
// longer than it may be; it has to be fit for that.
//
// The client has to have [WithTransactionalID]. Transactions of a client wait for each
// other. [ErrFenced] says that another has taken the id: this client transacts no more.
// When the context ends while the transaction is being committed, whether it was is not
// known.
func (c *Client) Transact(ctx context.Context, f func(*Tx) error) error {
	t := &c.transacting
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case c.config.transactionalID == "":
		return errors.New("rustmq: Transact needs a transactional id: add WithTransactionalID")
	case t.isEnded():
		return ErrClosed
	case t.fenced:
		return ErrFenced
	}
	pause := firstRetryPause
	for attempt := 1; ; attempt++ {
		err, again := c.transactOnce(ctx, f)
		if !again && isFenced(err) {
			t.fenced = true
			return fmt.Errorf("%w: %w", ErrFenced, err)
		}
		if err == nil || !again || attempt == transactionAttempts || ctx.Err() != nil {
			return err
		}
		c.config.log.Warn("a transaction is tried again", "id", c.config.transactionalID, "attempt", attempt, "error", err)
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return err
		}
	}
}

// transactOnce runs f in one transaction; again says that the cluster aborted it.
func (c *Client) transactOnce(ctx context.Context, f func(*Tx) error) (err error, again bool) {
	t := &c.transacting
	if t.client == nil {
		if again, err := c.reclaim(ctx, c.config.transactionalID, t.was); err != nil {
			return err, again
		}
		t.was = nil // until it is known what the next producer is
		opts := append(c.config.producing(), kgo.TransactionalID(c.config.transactionalID), kgo.RecordPartitioner(newPinned()), kgo.WithHooks(c.deliveries))
		if c.config.transactionTime > 0 {
			opts = append(opts, kgo.TransactionTimeout(c.config.transactionTime))
		}
		if t.client, err = c.newKafka(opts...); err != nil {
			return err, false
		}
	}
	if err := t.client.BeginTransaction(); err != nil {
		return c.discard(fmt.Errorf("rustmq: begin a transaction: %w", err))
	}
	if is := incarnationOf(ctx, t.client); is != nil {
		t.was = is
	}
	tx := &Tx{client: t.client, inject: c.config.hooks.Inject}
	returned := false
	defer func() {
		if !returned { // f panics
			_ = c.abort(ctx)
		}
	}()
	failed := f(tx)
	returned = true
	if failed == nil {
		failed = t.client.Flush(ctx)
	}
	if failed == nil {
		failed = tx.failure()
	}
	refused := false
	if failed == nil {
		err := t.client.EndTransaction(ctx, kgo.TryCommit)
		if err == nil {
			return nil, false
		}
		// It was aborted by its coordinator, or fenced: reclaim finds out.
		refused = errors.Is(err, kerr.InvalidTxnState) || errors.Is(err, kerr.InvalidProducerEpoch)
		failed = fmt.Errorf("rustmq: commit the transaction: %w", err)
		again = refused || errors.Is(err, kerr.TransactionAbortable) || errors.Is(err, kerr.OperationNotAttempted)
	} else {
		again = abortedByCluster(failed)
	}
	if err := c.abort(ctx); err != nil {
		_, _ = c.discard(err)
		return errors.Join(failed, fmt.Errorf("rustmq: abort the transaction: %w", err)), false
	}
	if refused {
		_, _ = c.discard(failed) // franz-go begins no more transactions with this producer
	}
	return failed, again
}

// abortedByCluster reports whether what failed in a transaction, which was aborted then, may succeed in
// another. Of a producer with an old epoch the transaction took too long, or another has its
// id, who would have been heard of by the abort.
func abortedByCluster(err error) bool {
	return errors.Is(err, kerr.TransactionAbortable) || errors.Is(err, kerr.OperationNotAttempted) || errors.Is(err, kerr.InvalidProducerEpoch) ||
		errors.Is(err, kerr.UnknownProducerID) || errors.Is(err, kerr.InvalidProducerIDMapping) || errors.Is(err, kerr.ConcurrentTransactions)
}

// incarnation is what brokers know a transactional producer by, from one transaction to the next.
type incarnation struct {
	id    int64
	epoch int16
}

// incarnationOf is that of a client in a transaction; nil where that cannot be said.
func incarnationOf(ctx context.Context, cl *kgo.Client) *incarnation {
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return nil
	}
	return &incarnation{id, epoch}
}

// reclaim asks whether a transactional id is still of the incarnation that was given up, for a new
// producer fences whoever has it. again says of an error that it passes.
func (c *Client) reclaim(ctx context.Context, transactionalID string, was *incarnation) (again bool, err error) {
	if was == nil {
		return false, nil
	}
	q := kmsg.NewPtrInitProducerIDRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch = &transactionalID, was.id, was.epoch
	q.TransactionTimeoutMillis = int32(orDefault(c.config.transactionTime, transactionTimeout).Milliseconds())
	resp, err := q.RequestWith(ctx, c.kafka)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return kerr.IsRetriable(err), fmt.Errorf("rustmq: go on with transactional id %s: %w", transactionalID, err)
	}
	return false, nil
}

// abort ends the transaction, also where its context is over.
func (c *Client) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := c.transacting.client.AbortBufferedRecords(ctx); err != nil {
		return err
	}
	return c.transacting.client.EndTransaction(ctx, kgo.TryAbort)
}

// discard gives a producer up whose state is not known; the next transaction begins with a new one,
// which ends what the old has left open.
func (c *Client) discard(err error) (error, bool) {
	c.transacting.client.Close()
	c.transacting.client = nil
	return err, false
}
