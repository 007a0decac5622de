package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/rpc"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

func identity(id int32, roles ...string) pki.Identity {
	return pki.Identity{Cluster: "prod", Node: id, Roles: roles}
}

// guarded is a server of every service, which is node 1 in the roles that it is made with,
// at the address "node-1", and notes what gets through.
type guarded struct {
	t    *testing.T
	ca   *pkitest.Authority
	is   *pki.Mutual
	door *bufconn.Listener

	mu      sync.Mutex
	through []string
	logged  bytes.Buffer
}

func newGuarded(t *testing.T, roles ...string) *guarded {
	t.Helper()
	g := &guarded{t: t, ca: pkitest.New(t, "ours"), door: bufconn.Listen(1 << 20)}
	g.is = g.ca.Mutual("server", identity(1, roles...), "node-1")
	gate := rpc.NewGate(g.is, slog.New(slog.NewTextHandler(g, nil)))
	server := rpc.NewServer(gate, rpc.MaxMessage)
	cluster := func() string { return "id" }
	raft := rpc.NewRaft(rpc.RaftOptions{Cluster: cluster})
	raft.Attach(&deaf{})
	raft.Register(server)
	peers := rpc.NewPeers(rpc.PeersOptions{Cluster: cluster})
	peers.Attach(&asked{})
	peers.Register(server)
	controller := newAnswering("id")
	controller.answer = func(rpc.Call) rpc.Answer { g.note("call"); return rpc.Answer{} }
	controller.images = func(context.Context, func(rpc.ImagesState, []byte) error) error { g.note("images"); return nil }
	rpc.RegisterController(server, controller)
	rpc.RegisterReplication(server, cluster, g)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(g.door)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-serving
		if err := raft.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *guarded) note(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.through = append(g.through, what)
}

// Write takes the log.
func (g *guarded) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.logged.Write(b)
}

func (g *guarded) log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.logged.String()
}

// TakePushes implements [rpc.PushHandler].
func (g *guarded) TakePushes(_ context.Context, _, _ rpc.Incarnation, s *rpc.FollowerStream) error {
	g.note("pushes")
	return s.Send(new(rpc.PushReply))
}

func (g *guarded) dialer() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return g.door.DialContext(ctx) })
}

// calls are one of each service, of whoever connects by a TLS configuration and says that
// it is the node with an id, or -1.
func (g *guarded) calls(config *tls.Config, id int32) map[string]error {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	line, err := grpc.NewClient("passthrough:///node-1", g.dialer(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		g.t.Fatal(err)
	}
	defer line.Close()
	said := map[string]error{}
	member := &rpcpb.Member{Id: uint64(id), Directory: make([]byte, 16)}
	_, said["Hello"] = rpcpb.NewRaftClient(line).Hello(ctx, &rpcpb.HelloRequest{ClusterId: "id"})
	if messages, err := rpcpb.NewRaftClient(line).Messages(ctx); err != nil {
		said["Messages"] = err
	} else {
		_ = messages.Send(&rpcpb.MessageBatch{From: member, To: wireOf(1), ClusterId: "id"})
		_, said["Messages"] = messages.Recv()
	}
	if snapshot, err := rpcpb.NewRaftClient(line).Snapshot(ctx); err != nil {
		said["Snapshot"] = err
	} else {
		_ = snapshot.Send(&rpcpb.SnapshotChunk{From: member, To: wireOf(1), ClusterId: "id"})
		_, said["Snapshot"] = snapshot.CloseAndRecv()
	}
	_, said["Peers"] = rpcpb.NewPeersClient(line).Call(ctx, &rpcpb.PeerRequest{ClusterId: "id", From: &rpcpb.PeerBroker{Id: id}, To: &rpcpb.PeerBroker{Id: 1}})
	_, said["Controller"] = rpcpb.NewControllerClient(line).Call(ctx, &rpcpb.CallRequest{ClusterId: "id", Broker: id})
	if beats, err := rpcpb.NewControllerClient(line).Beats(ctx); err != nil {
		said["Beats"] = err
	} else {
		_ = beats.Send(&rpcpb.BeatRequest{ClusterId: "id", Broker: id})
		_, said["Beats"] = beats.Recv()
	}
	if images, err := rpcpb.NewControllerClient(line).Images(ctx, &rpcpb.ImagesRequest{ClusterId: "id", Broker: id}); err != nil {
		said["Images"] = err
	} else if _, said["Images"] = images.Recv(); status.Code(said["Images"]) == codes.Unavailable && strings.Contains(said["Images"].Error(), "the controller is closed") {
		said["Images"] = nil // it was let in
	}
	return said
}

// push opens a stream of replication as broker id.
func (g *guarded) push(mutual *pki.Mutual, id, to int32) error {
	pushes := rpc.NewPushes(rpc.PushesOptions{Cluster: func() string { return "id" }, Mutual: mutual, Dial: []grpc.DialOption{g.dialer()}})
	defer pushes.Close()
	s, err := pushes.Open(g.t.Context(), "node-1", rpc.Incarnation{Broker: id}, rpc.Incarnation{Broker: to})
	if err == nil {
		s.Close()
	}
	return err
}

// TestCallersProveTheirRole calls every service by every kind of certificate: what is not
// for it is refused, by an error that says who calls and who is expected, here and in the
// server's log, before anything of the service runs.
func TestCallersProveTheirRole(t *testing.T) {
	g := newGuarded(t, pki.RoleBroker, pki.RoleController)
	all := []string{"Hello", "Messages", "Snapshot", "Peers", "Controller", "Images", "Beats"}
	other := identity(2, pki.RoleBroker, pki.RoleController)
	other.Cluster = "test"
	for name, c := range map[string]struct {
		certificate *x509.Certificate
		says        int32
		refused     []string
		wants       string
	}{
		"a server":                 {pkitest.Server(identity(2, pki.RoleBroker, pki.RoleController)), 2, nil, ""},
		"another's id":             {pkitest.Server(identity(2, pki.RoleBroker, pki.RoleController)), 3, []string{"Messages", "Snapshot", "Peers", "Controller", "Images", "Beats"}, "the caller is node 2 (broker, controller) of cluster prod; expected is node 3 with the role"},
		"an operator":              {pkitest.Server(identity(2, pki.RoleBroker, pki.RoleController)), -1, nil, ""},
		"a broker, as an operator": {pkitest.Server(identity(2, pki.RoleBroker)), -1, []string{"Hello", "Messages", "Snapshot", "Peers"}, "expected is a node with the role controller"},
		"another nobody":           {pkitest.Server(identity(2, pki.RoleBroker, pki.RoleController)), -2, []string{"Peers"}, "expected is node -2 with the role broker"},
		"a broker":                 {pkitest.Server(identity(2, pki.RoleBroker)), 2, []string{"Hello", "Messages", "Snapshot"}, "expected is a node with the role controller"},
		"a controller":             {pkitest.Server(identity(2, pki.RoleController)), 2, []string{"Peers", "Controller", "Images", "Beats"}, "with the role broker"},
		"an admin":                 {pkitest.Server(identity(2, pki.RoleAdmin)), -1, []string{"Hello", "Messages", "Snapshot"}, "the caller is node 2 (admin)"},
		"one without a role":       {pkitest.Server(identity(2, "etl")), -1, all, "the caller is node 2 (etl)"},
		"one of another cluster":   {pkitest.Server(other), 2, all, "of cluster test, and this server's of cluster prod"},
		"a client":                 {&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, 2, all, "names no server"},
		"a client by its usage": {&x509.Certificate{
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{identity(2, pki.RoleBroker, pki.RoleController).URI()},
		}, 2, all, "for one side of a connection alone"},
	} {
		g.ca.Sign("caller", c.certificate)
		said := g.calls(g.ca.Client("caller"), c.says)
		for _, call := range all {
			err := said[call]
			refused := status.Code(err) == codes.PermissionDenied
			if want := slices.Contains(c.refused, call); refused != want {
				t.Errorf("%s calls %s: %v; refused should be %v", name, call, err, want)
			} else if refused && !strings.Contains(err.Error(), c.wants) {
				t.Errorf("%s calls %s: %v; want %q", name, call, err, c.wants)
			}
		}
	}
	if log := g.log(); !strings.Contains(log, "a call of another server is refused") || !strings.Contains(log, "from=") {
		t.Errorf("the server's log does not tell of it:\n%s", log)
	}
}

// TestLeadersProveTheirRole is as TestCallersProveTheirRole, of streams of replication.
func TestLeadersProveTheirRole(t *testing.T) {
	g := newGuarded(t, pki.RoleBroker)
	broker, controller := g.ca.Mutual("broker", identity(2, pki.RoleBroker), "node-2"), g.ca.Mutual("controller", identity(2, pki.RoleController), "node-2")
	if err := g.push(broker, 2, 1); err != nil {
		t.Errorf("a broker: %v", err)
	}
	g.through = nil
	for name, err := range map[string]error{
		"another's id": g.push(broker, 3, 1), "nobody": g.push(broker, -1, 1), "a controller": g.push(controller, 2, 1),
	} {
		if err == nil || !strings.Contains(err.Error(), "PermissionDenied") || !strings.Contains(err.Error(), "the caller is node 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(g.through) > 0 {
		t.Errorf("got through: %v", g.through)
	}
}

// TestServersThatAreCalledProveTheirRole dials node 1, whose certificate says that it is a
// broker only, as another node, or as a controller: nothing is said to it.
func TestServersThatAreCalledProveTheirRole(t *testing.T) {
	g := newGuarded(t, pki.RoleBroker)
	cluster, dial := func() string { return "id" }, []grpc.DialOption{g.dialer()}
	mutual := g.ca.Mutual("caller", identity(2, pki.RoleBroker, pki.RoleController), "node-2")
	const is = "is node 1 (broker) of cluster prod by its certificate; expected is "
	wants := func(what string, err error, expected string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), is+expected) {
			t.Errorf("%s: %v", what, err)
		}
	}
	raft := rpc.NewRaft(rpc.RaftOptions{Cluster: cluster, Address: func(uint64) (string, bool) { return "node-1", true }, Mutual: mutual, Dial: dial})
	defer raft.Close()
	_, err := raft.Hello(t.Context(), 1)
	wants("a controller", err, "node 1 with the role controller")

	peers := rpc.NewPeers(rpc.PeersOptions{Cluster: cluster, Mutual: mutual, Dial: dial})
	defer peers.Close()
	call := func(to int32) error {
		_, err := peers.Call(t.Context(), "node-1", &rpc.PeerCall{From: rpc.PeerBroker{ID: 2}, To: rpc.PeerBroker{ID: to}})
		return err
	}
	wants("another broker", call(3), "node 3 with the role broker")
	if err := call(1); err != nil {
		t.Errorf("the broker itself, at the same address: %v", err)
	}
	wants("another broker, after that", call(3), "node 3 with the role broker")
	wants("a follower", g.push(mutual, 2, 3), "node 3 with the role broker")

	controllers := rpc.NewControllers(rpc.ControllersOptions{Cluster: cluster, Mutual: mutual, Dial: dial})
	defer controllers.Close()
	_, err = controllers.Call(t.Context(), "node-1", rpc.Call{Broker: 2})
	wants("whoever leads", err, "a node with the role controller")
	if len(g.through) > 0 {
		t.Errorf("got through: %v", g.through)
	}
}
