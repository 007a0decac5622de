package rpc

import (
	"context"
	"errors"
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// peerOrders keeps the ordered calls of each sender apart: those of one order are
// served at once, and none of them when one of a later order is. The zero value has
// seen no sender. Registrations are as many as there are brokers, so that the map is
// bounded by whom the handler admits.
type peerOrders struct {
	mu      sync.Mutex // guards all below, of the orders too
	senders map[int32]*peerOrder
}

// peerOrder is the calls of one order.
type peerOrder struct {
	of     *peerOrders
	epoch  int64 // of the sender's registration
	number uint64
	ctx    context.Context // ends when there is a later one
	stop   context.CancelFunc
	calls  int
	over   bool          // there is a later one
	idle   chan struct{} // closed when it is over and no call of it is left
	after  *peerOrder    // which must be idle first; nil: none
}

// errGivenUp is why the context of a call ends for a later order.
var errGivenUp = errors.New("the sender has given this call up")

// enter counts a call in, which is to leave.
func (s *peerOrders) enter(from PeerBroker, number uint64) (*peerOrder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := s.senders[from.ID]
	if is != nil && !guard.Check("rpc.peer-order", from.Epoch > is.epoch || from.Epoch == is.epoch && number >= is.number) {
		return nil, errOvertaken{number, is.number}
	}
	if is == nil || from.Epoch > is.epoch || number > is.number {
		next := &peerOrder{of: s, epoch: from.Epoch, number: number, idle: make(chan struct{}), after: is}
		next.ctx, next.stop = context.WithCancel(context.Background())
		if is != nil {
			is.over = true
			is.stop()
			is.settle()
		}
		if s.senders == nil {
			s.senders = map[int32]*peerOrder{}
		}
		s.senders[from.ID], is = next, next
	}
	is.calls++
	return is, nil
}

// begin waits until all calls of earlier orders are over. The context that it returns
// ends when a later order comes.
func (o *peerOrder) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for before := o.before(); before != nil; before = before.before() {
		select {
		case <-before.idle:
		case <-o.ctx.Done():
			return nil, nil, context.Canceled
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	o.of.mu.Lock()
	o.after = nil // and what was before it
	o.of.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	end := context.AfterFunc(o.ctx, func() { cancel(errGivenUp) })
	return ctx, func() { end(); cancel(nil) }, nil
}

// before returns the order before, unless all before are known to be over.
func (o *peerOrder) before() *peerOrder {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	return o.after
}

func (o *peerOrder) leave() {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	o.calls--
	o.settle()
}

// settle tells the next order when nothing of this one is left. o.of.mu is held.
func (o *peerOrder) settle() {
	if o.over && o.calls == 0 {
		close(o.idle)
	}
}
