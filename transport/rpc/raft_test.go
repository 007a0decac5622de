package rpc_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/transport/rpc"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// ledger is a state machine that keeps what it was given.
type ledger struct {
	mu       sync.Mutex
	commands []string
}

func (l *ledger) Apply(_ uint64, command []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands = append(l.commands, string(command))
	return nil, nil
}

func (l *ledger) Snapshot() func() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	commands := slices.Clone(l.commands)
	return func() []byte {
		var b []byte
		for _, c := range commands {
			b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
		}
		return b
	}
}

func (l *ledger) Restore(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands = nil
	for len(b) > 0 {
		n, width := binary.Uvarint(b)
		l.commands = append(l.commands, string(b[width:width+int(n)]))
		b = b[width+int(n):]
	}
	return nil
}

func (l *ledger) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.commands, " ")
}

// house is some controllers and the wires between them, in a bubble.
type house struct {
	t       *testing.T
	ids     []uint64
	mu      sync.Mutex
	doors   map[string]*bufconn.Listener
	cut     map[string]bool // addresses whose wires swallow everything
	slow    map[string]*slowLine
	rooms   map[uint64]*room
	disks   map[uint64]*disk.Mem
	cluster map[uint64]string
	trail   uint64 // bytes of the log that stay behind a snapshot; 0: consensus' own
	entries uint64 // from one snapshot to the next; 0: 20
}

// room is one controller.
type room struct {
	node   *consensus.Node
	net    *rpc.Raft
	server *grpc.Server
	ledger *ledger
}

func newHouse(t *testing.T, ids ...uint64) *house {
	return &house{
		t: t, ids: ids, doors: map[string]*bufconn.Listener{}, cut: map[string]bool{},
		rooms: map[uint64]*room{}, disks: map[uint64]*disk.Mem{}, cluster: map[uint64]string{},
	}
}

func address(id uint64) string { return fmt.Sprintf("controller-%d:9094", id) }

func member(id uint64) consensus.Member {
	return consensus.Member{ID: id, Directory: [16]byte{byte(id)}}
}

// wire is a connection that may swallow what is written.
type wire struct {
	net.Conn
	h  *house
	to string
}

func (w *wire) Write(b []byte) (int, error) {
	w.h.mu.Lock()
	cut := w.h.cut[w.to]
	w.h.mu.Unlock()
	if cut {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (h *house) dial(ctx context.Context, to string) (net.Conn, error) {
	h.mu.Lock()
	door, cut := h.doors[to], h.cut[to]
	h.mu.Unlock()
	if door == nil || cut {
		return nil, errors.New("nobody listens")
	}
	c, err := door.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if line := h.slow[to]; line != nil {
		return line.join(c), nil
	}
	return &wire{c, h, to}, nil
}

func (h *house) options(id uint64) rpc.RaftOptions {
	return rpc.RaftOptions{
		Cluster: func() string { return h.cluster[id] },
		Address: func(to uint64) (string, bool) { return address(to), true },
		Dial:    []grpc.DialOption{grpc.WithContextDialer(h.dial)},
	}
}

// listen serves a network; what it is attached to may still be starting.
func (h *house) listen(id uint64, net *rpc.Raft) *grpc.Server {
	server := rpc.NewServer(nil, rpc.MaxMessage, rpc.RaftWindows()...)
	net.Register(server)
	door := bufconn.Listen(1 << 20)
	h.mu.Lock()
	h.doors[address(id)] = door
	h.mu.Unlock()
	go func() { _ = server.Serve(door) }()
	return server
}

func (h *house) start(ids ...uint64) {
	h.t.Helper()
	var opening sync.WaitGroup
	for _, id := range ids {
		if h.disks[id] == nil {
			h.disks[id] = disk.NewMem(disk.MemOptions{})
		}
		r := &room{net: rpc.NewRaft(h.options(id)), ledger: &ledger{}}
		r.server = h.listen(id, r.net)
		h.rooms[id] = r
		fs := h.disks[id]
		peers := slices.DeleteFunc(slices.Clone(h.ids), func(other uint64) bool { return other == id })
		opening.Go(func() {
			var err error
			r.node, err = consensus.Open(h.t.Context(), consensus.Options{
				NodeID: id, Directory: member(id).Directory, Peers: peers, StateMachine: r.ledger, Network: r.net,
				FS: fs, SnapshotEntries: cmp.Or(h.entries, 20), SnapshotBytes: h.trail,
			})
			if err != nil {
				h.t.Errorf("open controller %d: %v", id, err)
			}
		})
	}
	opening.Wait()
	if h.t.Failed() {
		h.t.FailNow()
	}
}

func (h *house) stop(ids ...uint64) {
	h.t.Helper()
	for _, id := range ids {
		r := h.rooms[id]
		delete(h.rooms, id)
		if err := errors.Join(r.node.Close(), r.net.Close()); err != nil {
			h.t.Errorf("close controller %d: %v", id, err)
		}
		r.server.Stop()
		h.mu.Lock()
		delete(h.doors, address(id))
		h.mu.Unlock()
	}
}

func (h *house) stopAll() {
	for id := range h.rooms {
		h.stop(id)
	}
}

// leader waits for one that is not among those excluded.
func (h *house) leader(except ...uint64) *room {
	h.t.Helper()
	for range 400 {
		time.Sleep(consensus.DefaultTick) // simulated
		for id, r := range h.rooms {
			if !slices.Contains(except, id) && r.node.Leader() == id {
				return r
			}
		}
	}
	h.t.Fatal("nobody was elected")
	return nil
}

func (h *house) propose(r *room, commands ...string) {
	h.t.Helper()
	for _, c := range commands {
		if _, err := r.node.Propose(h.t.Context(), []byte(c)); err != nil {
			h.t.Fatalf("propose: %v", err)
		}
	}
}

func (h *house) agree() {
	h.t.Helper()
	for range 400 {
		time.Sleep(consensus.DefaultTick) // simulated
		want := h.leader().ledger.all()
		same := true
		for _, r := range h.rooms {
			same = same && r.ledger.all() == want
		}
		if same {
			return
		}
	}
	for id, r := range h.rooms {
		h.t.Errorf("controller %d: %+v", id, r.node.Status())
	}
	h.t.FailNow()
}

// TestControllersOverTheNetwork begins a group, takes a member away until it needs a
// snapshot, of several chunks, and cuts the wires of the leader.
func TestControllersOverTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		defer h.stopAll()
		h.start(1, 2, 3)
		h.propose(h.leader(), "a", "b")
		h.agree()

		away := h.leader().node.Status().Leader%3 + 1
		h.stop(away)
		for i := range 60 {
			h.propose(h.leader(), strings.Repeat(fmt.Sprint(i%10), 100<<10))
		}
		h.start(away)
		h.agree()
		if s := h.rooms[away].node.Status(); s.Snapshot < 20 {
			t.Fatalf("it took no snapshot: %+v", s)
		}

		old := h.leader().node.Status().Leader
		h.mu.Lock()
		h.cut[address(old)] = true // what is sent to it is swallowed
		h.mu.Unlock()
		h.propose(h.leader(old), "c")
		h.mu.Lock()
		clear(h.cut)
		h.mu.Unlock()
		h.agree()
	})
}

// raftClient speaks to a controller as an arbitrary peer does.
func (h *house) client(id uint64) (rpcpb.RaftClient, func()) {
	h.t.Helper()
	c, err := grpc.NewClient("passthrough:///"+address(id), grpc.WithContextDialer(h.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	return rpcpb.NewRaftClient(c), func() { _ = c.Close() }
}

// deaf is a node that takes note of what it is told.
type deaf struct {
	mu       sync.Mutex
	lost     int
	gone     []uint64
	snapshot []error
	got      []consensus.Message
}

func (d *deaf) Hello() (consensus.Hello, error) {
	return consensus.Hello{Member: member(1), First: []uint64{1, 2}}, nil
}

func (d *deaf) Receive(m consensus.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, m)
	return nil
}

func (d *deaf) Unreachable(uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost++
}

func (d *deaf) Gone(peer uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = append(d.gone, peer)
}

func (d *deaf) SnapshotSent(_ uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snapshot = append(d.snapshot, err)
}

func wireOf(id uint64) *rpcpb.Member {
	m := member(id)
	return &rpcpb.Member{Id: m.ID, Directory: m.Directory[:]}
}

// TestOtherClustersAreRefused, both ways.
func TestOtherClustersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		h.cluster = map[uint64]string{1: "one", 2: "two"}
		net := rpc.NewRaft(h.options(1))
		net.Attach(&deaf{})
		server := h.listen(1, net)
		defer server.Stop()
		asker := rpc.NewRaft(h.options(2))
		_, err := asker.Hello(t.Context(), 1)
		if status.Code(errors.Unwrap(err)) != codes.FailedPrecondition || !strings.Contains(err.Error(), "two") {
			t.Errorf("a controller of another cluster: %v", err)
		}
		h.cluster[2] = ""
		if _, err := asker.Hello(t.Context(), 1); err != nil {
			t.Errorf("one that knows none yet: %v", err)
		}
		client, done := h.client(1)
		defer done()
		stream, err := client.Messages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&rpcpb.MessageBatch{From: wireOf(2), To: wireOf(1), ClusterId: "two"})
		if _, err := stream.Recv(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("messages of another cluster: %v", err)
		}
		if err := errors.Join(asker.Close(), net.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestHostilePeers sends what no controller does: each call is refused, and nothing of
// it reaches the node.
func TestHostilePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		o := h.options(1)
		o.MaxSnapshot = 1 << 20
		net := rpc.NewRaft(o)
		server := h.listen(1, net)
		defer server.Stop()
		client, done := h.client(1)
		defer done()
		if _, err := client.Hello(t.Context(), &rpcpb.HelloRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("before there is a node: %v", err)
		}
		node := &deaf{}
		net.Attach(node)

		batch := func(b *rpcpb.MessageBatch) (*rpcpb.MessagesTaken, error) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := client.Messages(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(b)
			return stream.Recv()
		}
		if _, err := batch(&rpcpb.MessageBatch{From: &rpcpb.Member{Id: 2}, To: wireOf(1)}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a member without a directory: %v", err)
		}
		taken, err := batch(&rpcpb.MessageBatch{From: wireOf(2), To: wireOf(1), Messages: []*rpcpb.Envelope{{Raft: []byte{0xff, 1}}}})
		if err != nil || !strings.Contains(taken.GetRefused(), "no message of raft") {
			t.Errorf("bytes that are no message: %v, %v", taken, err)
		}

		snapshot := func(chunks ...*rpcpb.SnapshotChunk) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := client.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chunks {
				_ = stream.Send(c)
			}
			_, err = stream.CloseAndRecv()
			return err
		}
		first := func(size uint64, data ...byte) *rpcpb.SnapshotChunk {
			return &rpcpb.SnapshotChunk{From: wireOf(2), To: wireOf(1), Size: size, Data: data}
		}
		for name, c := range map[string]struct {
			chunks []*rpcpb.SnapshotChunk
			code   codes.Code
		}{
			"too large":      {[]*rpcpb.SnapshotChunk{first(1<<20 + 1)}, codes.ResourceExhausted},
			"more than said": {[]*rpcpb.SnapshotChunk{first(2, 1), {Data: []byte{2, 3}}}, codes.InvalidArgument},
			"less than said": {[]*rpcpb.SnapshotChunk{first(2, 1)}, codes.Unknown},
			"nobody's":       {[]*rpcpb.SnapshotChunk{{Size: 1, Data: []byte{1}}}, codes.InvalidArgument},
			"no message":     {[]*rpcpb.SnapshotChunk{first(2, 0xff, 1)}, codes.FailedPrecondition},
		} {
			if err := snapshot(c.chunks...); status.Code(err) != c.code {
				t.Errorf("a snapshot %s: %v", name, err)
			}
		}
		if len(node.got) > 0 {
			t.Errorf("the node was given %v", node.got)
		}
		if err := net.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWhatCannotBeSentIsTold: the queue of a peer that does not take anything is
// bounded, and the node learns of each message that is lost, and of each snapshot.
func TestWhatCannotBeSentIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		taken := rpc.NewRaft(h.options(2))
		taken.Attach(&deaf{})
		server := h.listen(2, taken)
		defer server.Stop()
		net := rpc.NewRaft(h.options(1))
		node := &deaf{}
		net.Attach(node)
		h.cut[address(2)] = false
		index := uint64(0)
		send := func(kind raftpb.MessageType, data int) {
			index++ // the same entries would not wait twice
			m := &raftpb.Message{Type: kind.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Index: proto.Uint64(index)}
			if data > 0 {
				m.Entries = []*raftpb.Entry{{Data: make([]byte, data)}}
			}
			net.Send(consensus.Message{From: member(1), To: member(2), Raft: m})
		}
		send(raftpb.MsgHeartbeat, 0)
		synctest.Wait()
		h.mu.Lock()
		h.cut[address(2)] = true
		h.mu.Unlock()
		send(raftpb.MsgHeartbeat, 0) // is on its way for ever
		synctest.Wait()
		for range 200 {
			send(raftpb.MsgApp, 1<<20)
		}
		last := index
		for range 10 {
			index = last - 1
			send(raftpb.MsgApp, 1<<20) // as raft sends again what waits, which is no loss
		}
		node.mu.Lock()
		lost := node.lost
		node.mu.Unlock()
		if lost < 200-65 || lost > 200 {
			t.Errorf("%d of 200 MiB are told lost, 64 MiB wait at most", lost)
		}
		time.Sleep(2 * rpc.DefaultPatience) // simulated
		synctest.Wait()
		node.mu.Lock()
		if node.lost <= lost {
			t.Errorf("that the line does not answer was not told: %d", node.lost)
		}
		node.mu.Unlock()
		send(raftpb.MsgSnap, 1<<10)
		time.Sleep(time.Minute) // simulated
		synctest.Wait()
		node.mu.Lock()
		if len(node.snapshot) != 1 || node.snapshot[0] == nil {
			t.Errorf("a snapshot that did not arrive: %v", node.snapshot)
		}
		node.mu.Unlock()
		if err := errors.Join(net.Close(), taken.Close()); err != nil {
			t.Error(err)
		}
	})
}
