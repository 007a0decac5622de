package roles

import (
	"context"
	"net"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/etl/async"
)

// Async is the runner of the node's asynchronous transforms.
func (n *Node) Async() *async.Runner { return n.async }

// AsyncOptions are those of a runner on the node, beside its own.
func (n *Node) AsyncOptions() async.Options {
	return async.Options{
		NodeID: n.config.Broker.ID, Image: n.door.Image, Subscribe: n.door.Subscribe, Log: n.log,
		Dial: func(ctx context.Context, id int32) (net.Conn, error) {
			return n.broker.DialInside(ctx, id, func(c net.Conn) { n.kafka.ServeConn(c, broker.InsideInfo()) })
		},
	}
}
