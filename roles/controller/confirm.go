package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
)

// confirmApart is the least time between two questions to the other controllers whether
// this one leads still: it bounds what heartbeats of many brokers cost, and is far below
// what they wait.
const confirmApart = 10 * time.Millisecond

// confirmations asks one question for all who come before it is asked.
type confirmations struct {
	wake chan struct{} // holds one while somebody waits

	mu   sync.Mutex
	next *confirmation // that has not been asked yet; nil: nobody waits. Guarded by mu
}

// confirmation is one question, and its answer once done is closed.
type confirmation struct {
	done chan struct{}
	err  error
}

func newConfirmations() *confirmations { return &confirmations{wake: make(chan struct{}, 1)} }

// join returns the next question.
func (c *confirmations) join() *confirmation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &confirmation{done: make(chan struct{})}
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return c.next
}

// take returns the question that is to be asked now; who comes later waits for another.
func (c *confirmations) take() *confirmation {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.next
	c.next = nil
	return q
}

// run asks until ctx ends.
func (c *confirmations) run(ctx context.Context, ask func(context.Context) error) {
	apart := time.NewTicker(confirmApart)
	defer apart.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		q := c.take()
		q.err = ask(ctx)
		close(q.done)
		apart.Reset(confirmApart)
		select {
		case <-apart.C:
		case <-ctx.Done():
			return
		}
	}
}

// confirmed returns once a majority of the controllers has confirmed, after it was called,
// that this one leads. One question serves all who ask at about the same time.
func (c *Controller) confirmed(ctx context.Context) error {
	q := c.confirmations.join()
	select {
	case <-q.done:
		return q.err
	case <-c.running.Done():
		return clientError(consensus.ErrClosed)
	case <-ctx.Done():
		return c.unconfirmed()
	}
}

func (c *Controller) unconfirmed() error {
	return metadata.Errorf(metadata.RequestTimedOut, "no majority of the controllers has confirmed in time that controller %d leads", c.opt.NodeID)
}

// askWhetherLeads returns an error unless this controller led all the time in which a
// majority was asked: who leads in a term before and after it has led between.
func (c *Controller) askWhetherLeads(ctx context.Context) error {
	term, ok := c.reigns()
	if !ok {
		return c.leads()
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.BrokerSession)
	defer cancel()
	if err := c.node.Barrier(ctx); !guard.Check("controller.lease-confirmed", err == nil) {
		if errors.Is(err, context.DeadlineExceeded) {
			return c.unconfirmed()
		}
		return clientError(err)
	}
	if now, ok := c.reigns(); !ok || now != term {
		return metadata.Errorf(metadata.NotController, "controller %d does not lead any more", c.opt.NodeID)
	}
	return nil
}
