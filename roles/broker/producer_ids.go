package broker

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// producerIDs hands out ids from a block that the controller gave this broker.
type producerIDs struct {
	mu   sync.Mutex // guards both, and is held while a block is asked for: who needs an id needs that block
	next int64
	left int32
}

func (i *producerIDs) take(allocate func() (first int64, count int32, err error)) (int64, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
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

// initProducerID gives an idempotent producer a new id. One that had an id
// already gets another: it raises epochs by itself (KIP-360), and comes here
// only when it has used them up. Transactional ids have no coordinator yet.
func (b *Broker) initProducerID(ctx context.Context, _ *kafka.Request, q *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	p := q.ResponseKind().(*kmsg.InitProducerIDResponse)
	p.ProducerID, p.ProducerEpoch = -1, -1
	if q.TransactionalID != nil {
		p.ErrorCode = code(errTransactions)
		b.log.Warn("a client asked for transactions, which are not served yet")
		return p
	}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	id, err := b.producerIDs.take(func() (int64, int32, error) {
		return b.opt.Controller.AllocateProducerIDs(ctx, b.opt.NodeID, b.registration.epoch.Load())
	})
	if err != nil {
		// Whatever it was, the client is to try again.
		b.log.Warn("no producer ids from the controller", "error", err)
		p.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return p
	}
	p.ProducerID, p.ProducerEpoch = id, 0
	return p
}
