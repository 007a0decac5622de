package roles

import (
	"context"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/transport/rpc"
)

const (
	// batchRoom is what surrounds a batch in a message of replication, at most.
	batchRoom = 64 << 10
	// leaveShare is the part of a stop that the leaving of a broker may take, and leaveLongest
	// the most: controllers that have a majority elect within a second. Where they have none, as
	// when a whole cluster is stopped, nobody takes over, however long one waits.
	leaveShare   = 0.25
	leaveLongest = 3 * time.Second
)

// otherBrokers is how a broker reaches others; zero: there are none.
type otherBrokers struct {
	asked  broker.Peers
	pushed *broker.Replication
}

// openReplication prepares the ways to other brokers, and notes in the data directory
// that this run has begun.
func (n *Node) openReplication() (o otherBrokers, err error) {
	if n.peers == nil {
		return o, nil
	}
	before := n.ackBeforeSync() > 0
	if err := n.id.change(func(id *identity) { id.LastRun, id.AckedBeforeSync = runBegun, before }); err != nil {
		return o, err
	}
	n.peers.asked = rpc.NewPeers(rpc.PeersOptions{Cluster: n.clusterID, Mutual: n.peers.secure, Dial: n.machine.dial(), Log: n.log.With("room", "peers")})
	n.opened("ways to other brokers", func(context.Context) error { return n.peers.asked.Close() })
	r := n.config.Replication
	return otherBrokers{n.peers.asked, &broker.Replication{
		Mutual: n.peers.secure, Dial: n.machine.dial(), LagTime: time.Duration(r.LagTime), Lease: time.Duration(n.config.Liveness().HeartbeatTimeout),
	}}, nil
}

// openFront opens the way to brokers of a process that is none, and serves the admin API.
func (n *Node) openFront() *broker.Front {
	asked := rpc.NewPeers(rpc.PeersOptions{Cluster: n.clusterID, Mutual: n.peers.secure, Dial: n.machine.dial(), Log: n.log.With("room", "peers")})
	n.opened("ways to brokers", func(context.Context) error { return asked.Close() })
	front := broker.NewFront(n.door.Image, asked)
	if n.account != nil {
		n.startAudit(front.AuditSink(n.auditRetention(), n.door, n.log.With("room", "audit")))
	}
	return front
}

// answerPeers lets other brokers ask this one, and push to it.
func (n *Node) answerPeers() {
	if n.peers == nil {
		return
	}
	server := n.peers.brokerServer
	n.peers.asked.Register(server)
	n.peers.asked.Attach(n.broker)
	n.broker.ServeReplication(server)
	n.servePeers(server)
	n.opened("answers to other brokers", func(context.Context) error { server.Stop(); return nil })
}

// leaveFirst has others lead what this broker leads before anything else of it ends: it
// goes on to serve until they do.
func (n *Node) leaveFirst() {
	if n.peers == nil {
		return
	}
	n.opened("leaderships", func(ctx context.Context) error {
		if n.failure() != nil {
			return nil
		}
		ctx, cancel := share(ctx, leaveShare)
		defer cancel()
		ctx, end := context.WithTimeout(ctx, leaveLongest)
		defer end()
		if err := n.broker.Leave(ctx); err != nil {
			n.log.Warn("what this broker leads has no other leader yet; the controllers will notice its silence", "error", err)
		}
		return nil
	})
}

// largestBatch is the most that a batch may have, which in a cluster goes to followers in
// one message.
func (n *Node) largestBatch() int {
	largest := int(n.config.LargestBatch())
	if n.peers != nil {
		largest = min(largest, rpc.MaxPush-batchRoom)
	}
	return largest
}
