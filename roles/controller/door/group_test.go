package door

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/transport/rpc"
)

// group is controllers that elect and agree over gRPC, each with a door of its own.
type group struct {
	t     *testing.T
	mu    sync.Mutex
	lines map[string]*bufconn.Listener
	nodes map[int32]*node
}

type node struct {
	controller *controller.Controller
	raft       *rpc.Raft
	servers    []*grpc.Server
	server     *Server
	door       *Door
}

func raftAddress(id uint64) string { return fmt.Sprintf("controller-%d:9094", id) }

func (g *group) dial(ctx context.Context, to string) (net.Conn, error) {
	g.mu.Lock()
	line := g.lines[to]
	g.mu.Unlock()
	if line == nil {
		return nil, errors.New("nobody listens")
	}
	return line.DialContext(ctx)
}

// serve answers at an address.
func (g *group) serve(address string, register func(*grpc.Server)) *grpc.Server {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(rpc.MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	register(s)
	line := bufconn.Listen(1 << 20)
	g.mu.Lock()
	g.lines[address] = line
	g.mu.Unlock()
	go func() { _ = s.Serve(line) }()
	return s
}

func (g *group) dialer() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(g.dial)}
}

func newGroup(t *testing.T, ids ...int32) *group {
	t.Helper()
	g := &group{t: t, lines: map[string]*bufconn.Listener{}, nodes: map[int32]*node{}}
	var opening sync.WaitGroup
	for _, id := range ids {
		n := &node{raft: rpc.NewRaft(rpc.RaftOptions{
			Cluster: func() string { return "" }, Address: func(id uint64) (string, bool) { return raftAddress(id), true }, Dial: g.dialer(),
		})}
		g.nodes[id] = n
		n.servers = append(n.servers, g.serve(raftAddress(uint64(id)), func(s *grpc.Server) { n.raft.Register(s) }))
		opening.Go(func() { g.open(n, id, ids) })
	}
	opening.Wait()
	t.Cleanup(func() {
		for id := range g.nodes {
			g.kill(id)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return g
}

func (g *group) open(n *node, id int32, ids []int32) {
	var peers []uint64
	var addresses []string
	for _, other := range ids {
		addresses = append(addresses, addressFor(other))
		if other != id {
			peers = append(peers, uint64(other))
		}
	}
	c, err := controller.Open(g.t.Context(), controller.Options{
		NodeID: id, Directory: [16]byte{byte(id)}, Peers: peers, Network: n.raft, FS: disk.NewMem(disk.MemOptions{}), LogCapacity: 8 << 20,
	})
	if err != nil {
		g.t.Errorf("open controller %d: %v", id, err)
		return
	}
	n.controller = c
	n.servers = append(n.servers, g.serve(addressFor(id), func(s *grpc.Server) { n.server = Serve(s, c) }))
	n.door = New(Options{Broker: id, Local: c, Addresses: func() []string { return addresses }, Dial: g.dialer()})
	if err := n.door.RegisterController(g.t.Context(), metadata.ControllerNode{
		ID: uint64(id), Directory: [16]byte{byte(id)}, Raft: raftAddress(uint64(id)), Controller: addressFor(id), MaxFeatureLevel: metadata.LatestFeatureLevel,
	}); err != nil {
		g.t.Errorf("register controller %d: %v", id, err)
	}
}

// kill ends a node without a word to the others.
func (g *group) kill(id int32) {
	n := g.nodes[id]
	delete(g.nodes, id)
	g.mu.Lock()
	delete(g.lines, addressFor(id))
	delete(g.lines, raftAddress(uint64(id)))
	g.mu.Unlock()
	for _, s := range n.servers {
		s.Stop()
	}
	if n.controller == nil {
		_ = n.raft.Close()
		return
	}
	_ = n.server.Close()
	if err := errors.Join(n.raft.Close(), n.door.Close(), n.controller.Close()); err != nil {
		g.t.Errorf("close node %d: %v", id, err)
	}
}

// leader returns who leads.
func (g *group) leader() int32 {
	for id, n := range g.nodes {
		if n.controller.Leads() {
			return id
		}
	}
	return 0
}

// The whole of it: controllers that elect, brokers with and without one of their own.
func TestGroupOfThreeGoesOnWithoutItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		away := New(Options{Broker: 9, Addresses: func() []string { return []string{addressFor(1), addressFor(2)} }, Dial: g.dialer()})
		defer func() { _ = away.Close() }()
		if err := away.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := watch(t, away)
		epochs := map[int32]int64{}
		beat := func(d *Door, id int32) {
			t.Helper()
			begun := time.Now()
			for d.Heartbeat(t.Context(), id, epochs[id]) != nil {
				if time.Since(begun) > 8*time.Second {
					t.Fatalf("broker %d is not heard", id)
				}
			}
		}
		h := &house{t: t}
		for id, n := range g.nodes {
			epochs[id] = h.broker(n.door, id)
		}
		epochs[9] = h.broker(away, 9)
		create(t, away, "first")
		dead := g.leader()
		g.kill(dead)
		begun := time.Now()
		create(t, away, "second")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("a topic took %v after the death of the leader", took)
		}
		if is := g.leader(); is == dead || is == 0 {
			t.Errorf("controller %d leads after %d", is, dead)
		}
		beat(away, 9)
		for id, n := range g.nodes {
			beat(n.door, id)
			create(t, n.door, fmt.Sprintf("by-%d", id))
			if b, ok := n.door.Image().Broker(id); !ok || b.Epoch != epochs[id] || b.Fenced {
				t.Errorf("broker %d is %+v, and was registered with %d", id, b, epochs[id])
			}
		}
		<-time.After(time.Second)
		want := g.nodes[g.leader()].controller.Image()
		if is := away.Image(); is.Offset() != want.Offset() || is.ControllerID() != want.ControllerID() || is.NumTopics() != 4 {
			t.Errorf("image at %d by controller %d with %d topics, want %d by %d with 4", is.Offset(), is.ControllerID(), is.NumTopics(), want.Offset(), want.ControllerID())
		}
		seen.inOrder(t)
	})
}
