package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/transport/rpc"
)

// cluster is some brokers with one controller, and one replica of everything. They ask
// each other over pipes, which can be cut.
type cluster struct {
	t          testing.TB
	controller *testController
	nodes      map[int32]*node
	peers      map[int32]*rpc.Peers
	ends       map[int32]func() // of the server for the others

	mu    sync.Mutex
	doors map[string]*bufconn.Listener // by address; guarded by mu, as is cut
	cut   map[string]bool
}

// newCluster starts brokers 1 to n. Partition i of a topic is led by broker 1 + i mod n,
// unless place says otherwise. With sockets, clients are told addresses where they reach
// the brokers.
func newCluster(t testing.TB, n int32, sockets bool, place func(topic string, partition int32) int32, change ...func(*Options)) *cluster {
	t.Helper()
	c := &cluster{
		t: t, controller: newTestController(t), nodes: map[int32]*node{}, peers: map[int32]*rpc.Peers{}, ends: map[int32]func(){},
		doors: map[string]*bufconn.Listener{}, cut: map[string]bool{},
	}
	c.controller.place = func(topic string, partition int32) []int32 {
		if place != nil {
			if at := place(topic, partition); at > 0 {
				return []int32{at}
			}
		}
		return []int32{1 + partition%n}
	}
	for id := int32(1); id <= n; id++ {
		fs := disk.NewMem(disk.MemOptions{})
		nd := &node{t: t, controller: c.controller, fs: fs, store: openStore(t, fs)}
		c.nodes[id] = nd
		nd.options = Options{
			NodeID: id, Store: nd.store, Controller: c.controller, AutoCreate: true,
			Listeners: []metadata.Listener{
				{Name: metadata.PeerListener, Host: "broker", Port: 9000 + id, Protocol: "GRPC"}, // first, and told to no client
				{Name: "kafka", Host: "127.0.0.1", Port: 9092, Protocol: "PLAINTEXT"},
			},
		}
		for _, f := range change {
			f(&nd.options)
		}
		var socket net.Listener
		if sockets {
			socket = listenLoopback(t)
			nd.options.Listeners[1].Port = portOf(socket)
		}
		c.open(id)
		if sockets {
			nd.serve(socket)
		}
	}
	return c
}

// open opens a broker, with its way to the others.
func (c *cluster) open(id int32) {
	c.t.Helper()
	nd := c.nodes[id]
	peers := rpc.NewPeers(rpc.PeersOptions{
		Cluster: func() string { return c.controller.Image().ClusterID() },
		Dial:    []grpc.DialOption{grpc.WithContextDialer(c.dial)},
	})
	c.t.Cleanup(func() { peers.Close() })
	server, door := rpc.NewServer(nil, rpc.MaxMessage), bufconn.Listen(1<<20)
	peers.Register(server)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(door)
	}()
	nd.options.Peers = peers
	nd.open()
	peers.Attach(nd.Broker)
	c.mu.Lock()
	c.doors[c.address(id)] = door
	c.mu.Unlock()
	end := sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.doors, c.address(id))
		c.mu.Unlock()
		server.Stop()
		<-serving
	})
	c.t.Cleanup(end)
	c.peers[id], c.ends[id] = peers, end
}

// close ends a broker, and takes what it leads out of service.
func (c *cluster) close(id int32) {
	c.t.Helper()
	nd := c.nodes[id]
	c.ends[id]()
	nd.server.Close()
	if err := errors.Join(nd.Broker.Close(), nd.store.Close()); err != nil {
		c.t.Fatal(err)
	}
}

// reopen opens a broker that was closed, on its disk.
func (c *cluster) reopen(id int32) {
	c.t.Helper()
	nd := c.nodes[id]
	nd.store = openStore(c.t, nd.fs)
	nd.options.Store = nd.store
	c.open(id)
}

func (c *cluster) address(id int32) string { return fmt.Sprintf("broker:%d", 9000+id) }

// sever cuts, or mends, the wires to a broker.
func (c *cluster) sever(id int32, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[c.address(id)] = cut
}

// pipe is a wire between two brokers, on which nothing comes through while it is cut.
type pipe struct {
	net.Conn
	c  *cluster
	to string
}

func (p *pipe) Write(b []byte) (int, error) {
	p.c.mu.Lock()
	cut := p.c.cut[p.to]
	p.c.mu.Unlock()
	if cut {
		p.Conn.Close()
		return 0, errors.New("cut")
	}
	return p.Conn.Write(b)
}

func (c *cluster) dial(ctx context.Context, to string) (net.Conn, error) {
	c.mu.Lock()
	door, cut := c.doors[to], c.cut[to]
	c.mu.Unlock()
	if door == nil || cut {
		return nil, errors.New("nobody listens")
	}
	conn, err := door.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return &pipe{conn, c, to}, nil
}

// settle waits until every broker has carried out what the controller has decided.
func (c *cluster) settle() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.settle(c.t.Context())
	}
}

// coordinated returns an id whose coordinator is that broker, by a function that says in
// which partition an id is.
func (c *cluster) coordinated(prefix string, partitionOf func(string) int32, at int32) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint(prefix, i); 1+partitionOf(id)%int32(len(c.nodes)) == at {
			return id
		}
	}
}

func (c *cluster) groupAt(at int32) string { return c.coordinated("group-", group.Partition, at) }

func (c *cluster) transactionAt(at int32) string { return c.coordinated("tx-", txn.PartitionOf, at) }
