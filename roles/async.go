package roles

import (
	"context"
	"net"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

// openAsync begins to run asynchronous transforms, once it is told of some, and lets those
// of other brokers in. They reach brokers by a door of their own (docs/design/0024).
func (n *Node) openAsync() {
	serve := func(c net.Conn) { n.kafka.ServeConn(c, broker.InsideInfo()) }
	n.broker.ServeInside(serve)
	if n.peers != nil {
		n.peers.asked.AttachConns(func(_ rpc.PeerBroker, c net.Conn) { serve(c) }, n.noDoorInside())
	}
	n.async = async.New(async.Options{
		NodeID: n.config.Broker.ID, Image: n.door.Image, Subscribe: n.door.Subscribe, Log: n.log.With("room", "etl"),
		TransactionTimeout: min(async.DefaultTransactionTimeout, time.Duration(n.config.Broker.Transactions.MaxTimeout)),
		Dial:               func(ctx context.Context, id int32) (net.Conn, error) { return n.broker.DialInside(ctx, id, serve) },
	})
	n.metrics.MustRegister(n.async.Metrics())
	n.transforms.runAsync(n.async)
	n.opened("asynchronous transforms", func(context.Context) error { n.async.Close(); return nil })
}

// noDoorInside says why other brokers are not let in as clients of the cluster's own, or
// nothing: where clients have to say who they are, so have servers.
func (n *Node) noDoorInside() string {
	if asks := n.config.Authorizes() || n.config.Authenticates(); !guard.Check("roles.inside-proof", n.peers.secure != nil || !asks) {
		return "clients of this cluster have to say who they are, and its servers do not: set security.cluster.ca_file, cert_file and key_file, and asynchronous transforms reach other brokers"
	}
	return ""
}
