package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

const (
	// MaxPeerBody is the most bytes of a request from broker to broker, and
	// MaxPeerReply of its answer.
	MaxPeerBody  = 2 << 20
	MaxPeerReply = 64 << 20
	// maxPeerCalls are served at a time for all other brokers, and maxPeerBytes of
	// requests: who asks beyond that is told to come again. None is served for longer
	// than maxPeerTime.
	maxPeerCalls = 1024
	maxPeerBytes = 64 << 20
	maxPeerTime  = 30 * time.Second
)

// PeerBroker is one registration of a broker with the controller.
type PeerBroker struct {
	ID    int32
	Epoch int64 // 0, of who is asked: any
}

// OperatorID is the id of who asks, in PeerCall.From, for a person who calls a process that is
// no broker: one with the role controller or admin, whichever node it is. It has no epoch.
const OperatorID int32 = -1

// PeerCall is a request of one broker to another.
type PeerCall struct {
	From, To PeerBroker
	// MetadataOffset is that of the image which the call was written under.
	MetadataOffset uint64
	// Key is one of Kafka's API keys, or of the brokers' own.
	Key, Version int16
	Body         []byte // at most MaxPeerBody
	// Ordered has the calls to one broker served so that none takes effect behind a
	// later one, when it was given up before that was sent: what is tried again is not
	// overtaken by the try before.
	Ordered bool
}

// PeerHandler is the broker that other brokers ask. Its methods may be called from any
// goroutine, and block as long as their context allows.
type PeerHandler interface {
	// AdmitPeer returns once the broker's image is not older than the call's, or why the
	// caller is none, or this broker not the one that is asked: [ErrPeerRefused].
	AdmitPeer(ctx context.Context, c *PeerCall) error
	// ServePeer answers. An ordered call has no effect any more when it has returned, also
	// when ctx ended first.
	ServePeer(ctx context.Context, c *PeerCall) ([]byte, error)
}

// What calls to a broker fail with.
var (
	// ErrPeerRefused: the other broker, or its cluster, does not know the caller, or is
	// not whom the caller means. The call had no effect.
	ErrPeerRefused = errors.New("refused")
	// ErrPeerUnreachable: there is no answer. The call may have had an effect, or have
	// one yet.
	ErrPeerUnreachable = errors.New("no answer")
)

// PeersOptions of [Peers]. The zero value of a field with a default means it.
type PeersOptions struct {
	Cluster func() string // id of the cluster; "" while none is known
	// Mutual is how both sides prove who they are; nil: neither does, which is for loopback.
	Mutual *pki.Mutual
	Log    *slog.Logger
	Dial   []grpc.DialOption // more of them, for tests
}

// Peers is how one broker asks others, and is asked.
type Peers struct {
	o     PeersOptions
	lines *lines
	// connLines carry connections of clients: what is large there delays no call.
	connLines *lines
	orders    peerOrders

	mu      sync.Mutex
	handler PeerHandler       // nil until Attach
	ordered map[string]uint64 // the order of the next ordered call, by address
	calls   int               // being served
	bytes   int64             // of their bodies
	conns   PeerConnHandler   // nil until AttachConns
	noConns string            // why no connection is taken
	open    int               // connections being served
}

// NewPeers returns the calls of a broker; the server side is to be registered.
func NewPeers(o PeersOptions) *Peers {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Peers{
		o: o, lines: newLines(o.Mutual, pki.RoleBroker, append(keptAlive(), o.Dial...)),
		connLines: newLines(o.Mutual, pki.RoleBroker, append(keptAlive(), o.Dial...)), ordered: map[string]uint64{},
	}
}

// Register makes s answer other brokers.
func (p *Peers) Register(s grpc.ServiceRegistrar) { rpcpb.RegisterPeersServer(s, peersServer{p: p}) }

// Attach says who answers. Before, others are told to come again.
func (p *Peers) Attach(h PeerHandler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = h
}

// Close ends the connections to others. What is being served ends with the server.
func (p *Peers) Close() error { return errors.Join(p.lines.close(), p.connLines.close()) }

// Call asks the broker at an address, host:port, and returns the body of its answer.
// It does not wait for a connection that is down, and tries once. Errors wrap
// [ErrPeerRefused] or [ErrPeerUnreachable].
func (p *Peers) Call(ctx context.Context, address string, c *PeerCall) ([]byte, error) {
	if len(c.Body) > MaxPeerBody {
		return nil, fmt.Errorf("ask broker %d at %s: a request of %d bytes, at most %d are taken: %w", c.To.ID, address, len(c.Body), MaxPeerBody, ErrPeerRefused)
	}
	line, err := p.lines.toNode(address, int64(c.To.ID))
	if err != nil {
		return nil, fmt.Errorf("ask broker %d at %s: %w: %w", c.To.ID, address, ErrPeerUnreachable, err)
	}
	q := &rpcpb.PeerRequest{
		ClusterId: p.o.Cluster(), From: wireBroker(c.From), To: wireBroker(c.To),
		MetadataOffset: c.MetadataOffset, Key: int32(c.Key), Version: int32(c.Version), Body: c.Body,
	}
	if c.Ordered {
		q.Order = p.order(address)
	}
	reply, err := rpcpb.NewPeersClient(line).Call(ctx, q, grpc.MaxCallRecvMsgSize(MaxPeerReply))
	if err == nil {
		return reply.GetBody(), nil
	}
	is := ErrPeerUnreachable
	switch {
	case refusedPeer(err):
		is = ErrPeerRefused
	case c.Ordered && status.Code(err) != codes.ResourceExhausted: // which is an answer: it is over
		p.reorder(address, q.GetOrder())
	}
	return nil, fmt.Errorf("ask broker %d at %s: %w: %w", c.To.ID, address, is, err)
}

// order returns the order of a call that begins now.
func (p *Peers) order(address string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ordered[address] == 0 {
		p.ordered[address] = 1
	}
	return p.ordered[address]
}

// reorder gives up all calls of an order: one of them has no answer.
func (p *Peers) reorder(address string, order uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ordered[address] = max(p.ordered[address], order+1)
}

func wireBroker(b PeerBroker) *rpcpb.PeerBroker { return &rpcpb.PeerBroker{Id: b.ID, Epoch: b.Epoch} }
