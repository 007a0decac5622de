package rustmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// transactionAttempts is how often a transaction is tried that the cluster aborted.
	transactionAttempts = 5
	// endTimeout bounds the end of a transaction whose context is over: it has to end all
	// the same, or readers of what is committed wait for the broker's time-out.
	endTimeout      = 30 * time.Second
	firstRetryPause = 100 * time.Millisecond
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
	client *kgo.Client   // guarded by turn
	fenced bool          // guarded by turn

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
// reasons that pass, such as a coordinator that moved; it has to be fit for that.
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
		if isFenced(err) {
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
		opts := append(c.config.producing(), kgo.TransactionalID(c.config.transactionalID), kgo.RecordPartitioner(newPinned()), kgo.WithHooks(c.hooks))
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
	if failed != nil {
		if err := c.abort(ctx); err != nil {
			_, _ = c.discard(err)
			return errors.Join(failed, fmt.Errorf("rustmq: abort the transaction: %w", err)), false
		}
		return failed, abortedByCluster(failed)
	}
	err = t.client.EndTransaction(ctx, kgo.TryCommit)
	if err == nil {
		return nil, false
	}
	err = fmt.Errorf("rustmq: commit the transaction: %w", err)
	again = errors.Is(err, kerr.TransactionAbortable) || errors.Is(err, kerr.OperationNotAttempted)
	if endErr := c.abort(ctx); endErr != nil {
		_, _ = c.discard(endErr)
		return errors.Join(err, fmt.Errorf("rustmq: abort the transaction: %w", endErr)), false
	}
	return err, again
}

// abortedByCluster reports whether what failed in a transaction may succeed in another.
func abortedByCluster(err error) bool {
	return errors.Is(err, kerr.TransactionAbortable) || errors.Is(err, kerr.OperationNotAttempted) ||
		errors.Is(err, kerr.UnknownProducerID) || errors.Is(err, kerr.InvalidProducerIDMapping) || errors.Is(err, kerr.ConcurrentTransactions)
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
