package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/transport/kafka"
)

// producerIDs hands out ids from a block that the controller gave this broker.
type producerIDs struct {
	// turn is held by whoever looks for an id, also while a block is asked for: who needs
	// an id needs that block.
	turn chan struct{}
	next int64
	left int32
}

func newProducerIDs() *producerIDs { return &producerIDs{turn: make(chan struct{}, 1)} }

// take returns an id, or why there is none before ctx ends.
func (i *producerIDs) take(ctx context.Context, allocate func() (first int64, count int32, err error)) (int64, error) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return 0, metadata.Errorf(metadata.RequestTimedOut, "a producer id: others wait for the controller to give a block of them: %v", context.Cause(ctx))
	}
	if i.left == 0 {
		first, count, err := allocate()
		if err != nil {
			return 0, err
		}
		i.next, i.left = first, count
	}
	id := i.next
	i.next++
	i.left--
	return id, nil
}

// initProducerID gives a producer an id: a transactional one by its coordinator,
// which waits for no controller but to get ids.
func (b *Broker) initProducerID(r *kafka.Request) {
	q, ok := decode[*kmsg.InitProducerIDRequest](b, r)
	if !ok {
		return
	}
	if c := b.client(r); c != nil {
		if refused := mayInitProducer(c, q); refused != 0 {
			p := q.ResponseKind().(*kmsg.InitProducerIDResponse)
			p.ErrorCode, p.ProducerID, p.ProducerEpoch = refused, -1, -1
			b.respond(r, p)
			return
		}
	}
	if q.TransactionalID == nil {
		b.spawn(r, func(ctx context.Context) { b.respond(r, b.initIdempotent(ctx, q)) })
		return
	}
	b.requests.Add(1)
	b.transactions.InitProducerID(r.Context(), q, func(p *kmsg.InitProducerIDResponse) {
		b.respond(r, p)
		b.requests.Done()
	})
}

// newProducerID gets an id for a transactional producer, perhaps from the
// controller.
func (b *Broker) newProducerID(done func(id int64, err error)) {
	b.done.Go(func() { // the coordinator's goroutine, which calls this, ends before done is waited for
		ctx, cancel := controllerContext(b.ctx, 0)
		defer cancel()
		done(b.takeProducerID(ctx))
	})
}

func (b *Broker) takeProducerID(ctx context.Context) (int64, error) {
	id, err := b.producerIDs.take(ctx, func() (int64, int32, error) {
		return b.opt.Controller.AllocateProducerIDs(ctx, b.opt.NodeID, b.registration.epoch.Load())
	})
	if err != nil {
		b.log.Warn("no producer ids from the controller", "error", err)
	}
	return id, err
}

// initIdempotent gives an idempotent producer a new id. One that had an id
// already gets another: it raises epochs by itself (KIP-360), and comes here
// only when it has used them up.
func (b *Broker) initIdempotent(ctx context.Context, q *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	p := q.ResponseKind().(*kmsg.InitProducerIDResponse)
	p.ProducerID, p.ProducerEpoch = -1, -1
	if (q.ProducerID < 0) != (q.ProducerEpoch < 0) {
		p.ErrorCode = kerr.InvalidRequest.Code // an epoch is that of an id
		return p
	}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	id, err := b.takeProducerID(ctx)
	if err != nil {
		// Whatever it was, the client is to try again.
		p.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return p
	}
	p.ProducerID, p.ProducerEpoch = id, 0
	return p
}
