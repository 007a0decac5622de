package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc"
)

// peers is what a node has for the other processes of its cluster.
type peers struct {
	secure *pki.Mutual // nil: neither side proves who it is
	gate   *rpc.Gate   // nil likewise
	book   *addressBook
	image  atomic.Pointer[func() *metadata.Image] // nil before there is one

	raft             *rpc.Raft // of a controller, as is the next
	controllerServer *peerServer
	brokerServer     *peerServer // of a broker, as is the next
	asked            *rpc.Peers
	raftAddr         string // host:port that others dial, as is the next
	controllerAddr   string
}

// peerServer is a gRPC server whose port is bound and which is not served yet: what calls
// it waits.
type peerServer struct {
	*grpc.Server
	listener net.Listener
}

// openPeers binds the ports for others, and begins to serve other controllers: those
// that start now wait for this one to say who it is.
func (n *Node) openPeers() error {
	p := &peers{}
	n.peers = p
	var err error
	if c := n.config.Security.Cluster; c.CAFile != "" {
		if p.secure, err = pki.LoadMutual(pki.MutualOptions{
			CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, RevocationFile: c.CRLFile, Node: n.config.Broker.ID, Roles: n.config.RoleList(), Now: time.Now,
		}); err != nil {
			return fmt.Errorf("security.cluster: %w", err)
		}
	} else if !n.config.Loopback() {
		n.log.Warn("servers of this cluster do not prove who they are to each other: whoever reaches their ports can be one; set security.cluster.ca_file, cert_file and key_file")
	}
	p.gate = rpc.NewGate(p.secure, n.log.With("room", "rpc"))
	p.book = newAddressBook(n.config.Peers(), p.controllers)
	if n.has("controller") {
		if err := n.openControllerPorts(); err != nil {
			return err
		}
	}
	if n.has("broker") {
		p.brokerServer, err = n.listenPeers("what brokers say to each other", n.config.Network.BrokerPort, "network.broker_port", rpc.MaxReplication)
	}
	return err
}

func (n *Node) openControllerPorts() error {
	p, raftKey, key := n.peers, "controller.raft_port", "controller.port"
	self, named := n.config.Self()
	if named {
		raftKey, key = peersKey, peersKey
	} else {
		self.RaftPort, self.Port = n.config.Controller.RaftPort, n.config.Controller.Port
	}
	raft, err := n.listenPeers("what controllers say to each other", self.RaftPort, raftKey, rpc.MaxMessage, rpc.RaftWindows()...)
	if err != nil {
		return err
	}
	if p.controllerServer, err = n.listenPeers("what brokers ask controllers", self.Port, key, rpc.MaxMessage); err != nil {
		return err
	}
	if p.raftAddr, err = n.peerAddress(raft.listener); err != nil {
		return err
	}
	if p.controllerAddr, err = n.peerAddress(p.controllerServer.listener); err != nil {
		return err
	}
	p.raft = rpc.NewRaft(rpc.RaftOptions{
		Cluster: n.clusterID, Address: p.book.raft, Mutual: p.secure, Dial: n.machine.dial(), Log: n.log.With("room", "raft"),
	})
	n.opened("network of the controllers", func(context.Context) error { return p.raft.Close() })
	p.raft.Register(raft)
	n.servePeers(raft)
	return nil
}

// listenPeers binds a port of gRPC. What listens is closed with the node, served or not.
func (n *Node) listenPeers(what string, port int, key string, largest int, more ...grpc.ServerOption) (*peerServer, error) {
	listener, err := n.machine.listenTCP(n.config.Network.Bind, port, key, n.mayBind())
	if err != nil {
		return nil, err
	}
	s := &peerServer{rpc.NewServer(n.peers.gate, largest, more...), listener}
	n.opened("port for "+what, func(context.Context) error {
		s.Stop()
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return s, nil
}

// servePeers serves what is registered on a server.
func (n *Node) servePeers(s *peerServer) {
	n.serving.Go(func() {
		if err := s.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			n.fail(fmt.Errorf("serve gRPC on %s: %w", s.listener.Addr(), err))
		}
	})
}

// peerAddress is what others dial for a port of this node: the host by which
// controller.peers calls it, else the bound one, else what clients are told.
func (n *Node) peerAddress(l net.Listener) (string, error) {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "", err
	}
	if self, named := n.config.Self(); named {
		return net.JoinHostPort(self.Host, port), nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = n.reachableHost(host); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

// peerListener is what other brokers are told to dial.
func (n *Node) peerListener() (metadata.Listener, error) {
	address, err := n.peerAddress(n.peers.brokerServer.listener)
	if err != nil {
		return metadata.Listener{}, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return metadata.Listener{}, err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return metadata.Listener{}, err
	}
	protocol := "PLAINTEXT"
	if n.peers.secure != nil {
		protocol = "SSL"
	}
	return metadata.Listener{Name: metadata.PeerListener, Host: host, Port: int32(number), Protocol: protocol}, nil
}

// controllers are the addresses that controllers made known.
func (p *peers) controllers(id uint64) (metadata.ControllerNode, bool) {
	image := p.image.Load()
	if image == nil {
		return metadata.ControllerNode{}, false
	}
	c, ok := (*image)().ControllerNode(id)
	if !ok {
		return metadata.ControllerNode{}, false
	}
	return *c, true
}
