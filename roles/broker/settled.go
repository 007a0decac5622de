package broker

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/transport/rpc"
)

// settleElsewhere is how long who changes topics waits for the other brokers to know. One that is
// cut off, and not fenced yet, holds nobody up for longer: whom it tells asks again, as ever.
const settleElsewhere = 250 * time.Millisecond

// settleEverywhere waits until what the controller has decided so far is carried out here, and
// for a moment until it is at the other brokers in service: a client that was told of a topic may
// ask any of them next, and would be told that there is none.
func (b *Broker) settleEverywhere(ctx context.Context) {
	b.settle(ctx)
	if b.opt.Peers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleElsewhere)
	defer cancel()
	var asked sync.WaitGroup
	for broker := range b.images.image().Brokers() {
		if broker.Fenced || broker.ID == b.opt.NodeID {
			continue
		}
		asked.Go(func() {
			// Nothing is asked: who is called waits for the metadata of its caller before it answers.
			call := &rpc.PeerCall{Key: peerGroupPartitions, Body: []byte("[]")}
			if _, err := b.callPeer(ctx, broker.ID, call); err != nil {
				b.log.Debug("answering before the change is known elsewhere", "broker", broker.ID, "error", err)
			}
		})
	}
	asked.Wait()
}
