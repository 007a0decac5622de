package broker

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/rpc"
)

// What runs inside the brokers, the asynchronous transforms, is a client of the cluster
// by connections that no listener takes (docs/design/0024): to its own broker through a
// pipe, to others through the line between brokers. They are not held to ACLs and quotas,
// and served what such a client needs alone.

const (
	insideListener = "inside"
	insidePort     = 1 // of which nothing is dialled
	// InsidePrincipal is who such a client is; no other can be, for those are "User:…".
	InsidePrincipal = "Cluster:transforms"
)

// insideHost is the name of a broker for who comes from inside.
func insideHost(id int32) string { return "broker-" + strconv.Itoa(int(id)) }

// InsideInfo says what such a connection is.
func InsideInfo() kafka.Info {
	return kafka.Info{Listener: insideListener, Transport: "internal", Internal: true, Principal: InsidePrincipal}
}

// servedInside reports whether an API is served to who comes from inside: what consumes,
// produces, and keeps offsets and transactions.
func servedInside(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetFetch, kmsg.FindCoordinator,
		kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn:
		return true
	}
	return false
}

// errNotInside says that a broker asked through a connection from inside for what is
// nobody's there.
func errNotInside(key int16) error {
	return fmt.Errorf("%s is not served to the cluster's own transforms", kmsg.NameForKey(key))
}

// DialInside connects to a broker as a client from inside. Serve serves connections to
// this one, until they end, and closes them.
func (b *Broker) DialInside(ctx context.Context, id int32, serve func(net.Conn)) (net.Conn, error) {
	if id != b.opt.NodeID {
		return b.connectPeer(ctx, id)
	}
	client, server := rpc.PeerPipe(id)
	go serve(server) // ends with the connection, which the server of b ends before b does
	return client, nil
}

// connectPeer opens a connection to another broker.
func (b *Broker) connectPeer(ctx context.Context, at int32) (net.Conn, error) {
	c := &rpc.PeerCall{}
	address, err := b.addressPeer(at, c)
	if err != nil {
		return nil, err
	}
	conns, ok := b.opt.Peers.(PeerConns)
	if !ok {
		return nil, errAlone
	}
	ctx, cancel := context.WithTimeout(ctx, peerDeadline)
	defer cancel()
	return conns.Connect(ctx, address, c)
}
