package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

const (
	// MaxBatch is about the most bytes of one batch of messages; a single larger message
	// goes alone. A line that carries less in the patience of a batch is no line.
	MaxBatch = 256 << 10
	// MaxMessage is the largest message that a server must be ready to take
	// (grpc.MaxRecvMsgSize).
	MaxMessage = 8 << 20
	// DefaultMaxSnapshot is in bytes.
	DefaultMaxSnapshot = 1 << 30
	// DefaultPatience is how long a batch, or a chunk of a snapshot, may stay without an
	// answer; a message of more than MaxBatch as many times as long as that is more.
	DefaultPatience = time.Second

	// maxQueued bounds what waits for a peer; raft sends again.
	maxQueued      = 4096
	maxQueuedBytes = 64 << 20
)

// RaftOptions of a [Raft]. The zero value of a field with a default means it.
type RaftOptions struct {
	Cluster func() string                  // id of the cluster; "" while none is known
	Address func(id uint64) (string, bool) // host:port of a controller; false: it is not known
	// Mutual is how both sides prove who they are; nil: neither does, which is for loopback.
	Mutual      *pki.Mutual
	Patience    time.Duration
	MaxSnapshot int64
	Log         *slog.Logger
	Dial        []grpc.DialOption // more of them, for tests
}

// Raft is the network of one controller. It implements [consensus.Network].
type Raft struct {
	o         RaftOptions
	lines     *lines
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup
	receiving chan struct{} // holds one while a snapshot comes in

	mu     sync.Mutex
	node   consensus.Receiver // nil until Attach
	peers  map[uint64]*peer
	closed bool
}

// NewRaft returns a network; its server side is to be registered.
func NewRaft(o RaftOptions) *Raft {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.MaxSnapshot == 0 {
		o.MaxSnapshot = DefaultMaxSnapshot
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Raft{o: o, lines: newLines(o.Mutual, pki.RoleController, o.Dial), ctx: ctx, stop: stop, receiving: make(chan struct{}, 1), peers: map[uint64]*peer{}}
}

// Register makes s answer peers.
func (r *Raft) Register(s grpc.ServiceRegistrar) { rpcpb.RegisterRaftServer(s, server{r: r}) }

// Attach implements [consensus.Network].
func (r *Raft) Attach(node consensus.Receiver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = node
}

// Close ends all sending, and waits for it. What is being received ends with the server.
func (r *Raft) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
	return r.lines.close()
}

// attached returns the node; nil before there is one.
func (r *Raft) attached() consensus.Receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node
}

// Send implements [consensus.Network].
func (r *Raft) Send(m consensus.Message) {
	if m.Raft.GetType() == raftpb.MsgSnap {
		r.start(func() { r.sendSnapshot(m) })
		return
	}
	r.mu.Lock()
	p := r.peers[m.To.ID]
	if p == nil {
		p = &peer{r: r, id: m.To.ID, wake: make(chan struct{}, 1)}
		r.peers[m.To.ID] = p
	}
	r.mu.Unlock()
	if p.begun.CompareAndSwap(false, true) {
		r.start(func() { p.run(r.ctx) })
	}
	p.add(m)
}

// start runs f on a goroutine, unless Close was called.
func (r *Raft) start(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.running.Go(f)
	}
}

// Hello implements [consensus.Network].
func (r *Raft) Hello(ctx context.Context, id uint64) (consensus.Hello, error) {
	client, address, err := r.client(id)
	if err != nil {
		return consensus.Hello{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Patience)
	defer cancel()
	reply, err := client.Hello(ctx, &rpcpb.HelloRequest{ClusterId: r.o.Cluster()})
	if err != nil {
		return consensus.Hello{}, fmt.Errorf("ask controller %d at %s who it is: %w", id, address, err)
	}
	if err := r.sameCluster(reply.GetClusterId()); err != nil {
		return consensus.Hello{}, fmt.Errorf("controller %d at %s: %w", id, address, err)
	}
	h := consensus.Hello{First: reply.GetFirst(), Joins: reply.GetJoins()}
	if h.Member, err = memberOf(reply.GetMember()); err != nil {
		return consensus.Hello{}, fmt.Errorf("controller %d at %s: %w", id, address, err)
	}
	for _, m := range reply.GetBegun() {
		member, err := memberOf(m)
		if err != nil {
			return consensus.Hello{}, fmt.Errorf("controller %d at %s: %w", id, address, err)
		}
		h.Begun = append(h.Begun, member)
	}
	return h, nil
}

// client returns a way to a controller.
func (r *Raft) client(id uint64) (rpcpb.RaftClient, string, error) {
	address, known := r.o.Address(id)
	if !known {
		return nil, "", fmt.Errorf("the address of controller %d is not known", id)
	}
	line, err := r.lines.toNode(address, int64(id))
	if err != nil {
		return nil, address, err
	}
	return rpcpb.NewRaftClient(line), address, nil
}

// sameCluster refuses whoever is of another cluster; who knows none yet is of any.
func (r *Raft) sameCluster(theirs string) error {
	if ours := r.o.Cluster(); ours != "" && theirs != "" && ours != theirs {
		return fmt.Errorf("it belongs to cluster %s, and this controller to %s", theirs, ours)
	}
	return nil
}
