package door

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a group of controllers that agree on everything, for they are one, whose
// members lead, lag and die as a test says. It lives in a synctest bubble.
type house struct {
	t    *testing.T
	real *controller.Controller
	runs atomic.Int64 // of commands, by all

	mu      sync.Mutex
	leader  int32 // 0: none
	members map[int32]*member
	doors   map[string]*bufconn.Listener
}

// member is one of them.
type member struct {
	Controller // the real one
	h          *house
	id         int32
	server     *Server
	grpc       *grpc.Server
	thinks     atomic.Bool                       // that it leads, whoever does
	alone      atomic.Bool                       // that nobody leads
	old        atomic.Pointer[metadata.Image]    // that it has; nil: the newest
	runs       atomic.Int64                      // of commands
	heard      atomic.Int64                      // beats of brokers
	broke      atomic.Int64                      // lines of brokers
	ran        atomic.Pointer[func(error) error] // called after a command was run: what becomes of its error; or nil

	mu   sync.Mutex
	call func(*metadata.Image) // of the server
}

func addressFor(id int32) string { return fmt.Sprintf("controller-%d:9095", id) }

func newHouse(t *testing.T, ids ...int32) *house {
	t.Helper()
	real, err := controller.Open(t.Context(), controller.Options{NodeID: 1})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	h := &house{t: t, real: real, leader: ids[0], members: map[int32]*member{}, doors: map[string]*bufconn.Listener{}}
	for _, id := range ids {
		if err := real.RegisterController(t.Context(), metadata.ControllerNode{
			ID: uint64(id), Directory: [16]byte{byte(id)}, Raft: "raft:1", Controller: addressFor(id), MaxFeatureLevel: metadata.LatestFeatureLevel,
		}); err != nil {
			t.Fatalf("register controller %d: %v", id, err)
		}
		h.start(id)
	}
	t.Cleanup(func() {
		for id := range maps.Clone(h.members) {
			h.kill(id)
		}
		if err := real.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

func (h *house) start(id int32) *member {
	m := &member{Controller: h.real, h: h, id: id}
	m.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(rpc.MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	m.server = Serve(m.grpc, m)
	door := bufconn.Listen(1 << 20)
	h.mu.Lock()
	h.members[id], h.doors[addressFor(id)] = m, door
	h.mu.Unlock()
	go func() { _ = m.grpc.Serve(door) }()
	return m
}

// kill ends a member, and every connection to it.
func (h *house) kill(id int32) {
	h.mu.Lock()
	m := h.members[id]
	delete(h.members, id)
	delete(h.doors, addressFor(id))
	if h.leader == id {
		h.leader = 0
	}
	h.mu.Unlock()
	_ = m.server.Close()
	m.grpc.Stop()
}

func (h *house) elect(id int32) {
	h.mu.Lock()
	h.leader = id
	members := maps.Clone(h.members)
	h.mu.Unlock()
	for _, m := range members {
		m.publish()
	}
}

func (h *house) dial(ctx context.Context, to string) (net.Conn, error) {
	h.mu.Lock()
	door := h.doors[to]
	h.mu.Unlock()
	if door == nil {
		return nil, errors.New("nobody listens")
	}
	return door.DialContext(ctx)
}

// options are those of broker 7, which knows the addresses of those controllers.
func (h *house) options(known ...int32) Options {
	var addresses []string
	for _, id := range known {
		addresses = append(addresses, addressFor(id))
	}
	return Options{
		Broker: 7, Addresses: func() []string { return addresses }, Dial: []grpc.DialOption{grpc.WithContextDialer(h.dial)},
		Rand: func() float64 { return 0.5 },
	}
}

func (h *house) door(o Options) *Door {
	h.t.Helper()
	d := New(o)
	h.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			h.t.Errorf("close the door: %v", err)
		}
	})
	if err := d.Ready(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return d
}

// broker puts a broker into service, over a door.
func (h *house) broker(d *Door, id int32) (epoch int64) {
	h.t.Helper()
	epoch, err := d.RegisterBroker(h.t.Context(), controller.Registration{
		BrokerID: id, Incarnation: [16]byte{1, byte(id)}, Directory: [16]byte{byte(id)}, MaxFeatureLevel: metadata.LatestFeatureLevel,
	})
	if err == nil {
		err = d.Heartbeat(h.t.Context(), id, epoch)
	}
	if err != nil {
		h.t.Fatalf("broker %d: %v", id, err)
	}
	return epoch
}

func (m *member) NodeID() int32 { return m.id }

func (m *member) Leads() bool {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	return m.thinks.Load() || m.h.leader == m.id
}

func (m *member) Image() *metadata.Image {
	image := m.old.Load()
	if image == nil {
		image = m.Controller.Image()
	}
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	switch {
	case m.thinks.Load():
		return image.WithController(m.id)
	case m.alone.Load():
		return image.WithController(0)
	}
	return image.WithController(m.h.leader)
}

func (m *member) Subscribe(f func(*metadata.Image)) (cancel func()) {
	m.mu.Lock()
	m.call = f
	m.mu.Unlock()
	return m.Controller.Subscribe(func(*metadata.Image) { m.publish() })
}

func (m *member) publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.call != nil {
		m.call(m.Image())
	}
}

// lag has the member stay with the image that it has; false: it catches up.
func (m *member) lag(lags bool) {
	if lags {
		m.old.Store(m.Controller.Image())
		return
	}
	m.old.Store(nil)
	m.publish()
}

// finish is what happens to a command that was run.
func (m *member) finish(err error) error {
	m.runs.Add(1)
	m.h.runs.Add(1)
	if f := m.ran.Load(); f != nil {
		return (*f)(err)
	}
	return err
}

// then has f called after each command.
func (m *member) then(f func(error) error) { m.ran.Store(&f) }

// member returns the member of that id that lives.
func (h *house) member(id int32) *member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members[id]
}

func (m *member) CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	results := m.Controller.CreateTopics(ctx, topics, validateOnly)
	for i := range results {
		results[i].Err = m.finish(results[i].Err)
	}
	return results
}

func (m *member) DeleteTopics(ctx context.Context, topics []controller.TopicRef) []controller.TopicResult {
	results := m.Controller.DeleteTopics(ctx, topics)
	for i := range results {
		results[i].Err = m.finish(results[i].Err)
	}
	return results
}

func (m *member) ElectLeaders(ctx context.Context, elections []controller.LeaderElection) []error {
	results := m.Controller.ElectLeaders(ctx, elections)
	for i := range results {
		results[i] = m.finish(results[i])
	}
	return results
}

func (m *member) RegisterBroker(ctx context.Context, r controller.Registration) (int64, error) {
	epoch, err := m.Controller.RegisterBroker(ctx, r)
	return epoch, m.finish(err)
}

func (m *member) UnregisterBroker(ctx context.Context, id int32) error {
	return m.finish(m.Controller.UnregisterBroker(ctx, id))
}

func (m *member) Hear(id int32, epoch int64) {
	m.heard.Add(1)
	m.Controller.Hear(id, epoch)
}

func (m *member) Broke(id int32, epoch int64) {
	m.broke.Add(1)
	m.Controller.Broke(id, epoch)
}

func (m *member) Heartbeat(ctx context.Context, id int32, epoch int64) error {
	return m.finish(m.Controller.Heartbeat(ctx, id, epoch))
}

func topic(name string) []controller.NewTopic {
	return []controller.NewTopic{{Name: name, Partitions: 2, ReplicationFactor: 1}}
}

func create(t *testing.T, d *Door, name string) {
	t.Helper()
	if err := d.CreateTopics(t.Context(), topic(name), false)[0].Err; err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	if _, ok := d.Image().Topic(name); !ok {
		t.Fatalf("%s was created, and the image does not have it", name)
	}
}

func wantCode(t *testing.T, what string, err error, want metadata.Code) {
	t.Helper()
	if err == nil || metadata.CodeOf(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}
