package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// refusalTold is how often the log says that a peer refuses what it is sent.
const refusalTold = 10 * time.Second

// peer is what waits to be sent to one member.
type peer struct {
	r     *Raft
	id    uint64
	begun atomic.Bool   // run was started
	wake  chan struct{} // holds one token while something waits

	mu     sync.Mutex
	queue  []consensus.Message
	queued int // bytes of entries in it

	told    time.Time          // when a refusal was logged; only run uses it, and the next
	watched []*grpc.ClientConn // that goroutines watch: a peer may have two addresses, tried in turn
}

// batchStream is an open call of Messages.
type batchStream = grpc.BidiStreamingClient[rpcpb.MessageBatch, rpcpb.MessagesTaken]

// add leaves a message to be sent, or loses it.
func (p *peer) add(m consensus.Message) {
	size := 0
	for _, e := range m.Raft.GetEntries() {
		size += len(e.GetData())
	}
	p.mu.Lock()
	full := len(p.queue) >= maxQueued || p.queued+size > maxQueuedBytes && p.queued > 0
	if fits := guard.Check("rpc.queue-bounded", !full); fits {
		p.queue, p.queued = append(p.queue, m), p.queued+size
	} else {
		defer p.lost()
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns what waits.
func (p *peer) take() []consensus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.queue
	p.queue, p.queued = nil, 0
	return taken
}

func (p *peer) lost() {
	if node := p.r.attached(); node != nil {
		node.Unreachable(p.id)
	}
}

// run sends until ctx ends. It blocks on the network.
func (p *peer) run(ctx context.Context) {
	var line *openLine
	defer func() { line.close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for messages := p.take(); len(messages) > 0; {
			batch, rest, err := batchOf(messages, p.r.o.Cluster())
			if err == nil && line == nil {
				line, err = p.open(ctx)
			}
			if err == nil {
				err = p.send(line, batch)
			}
			if err != nil {
				p.r.o.Log.Debug("messages to a controller are lost", "peer", p.id, "messages", len(messages), "error", err)
				p.tellUnproven(err)
				line.close()
				line = nil
				p.lost()
				break
			}
			messages = rest
		}
	}
}

// openLine is a stream to a peer, and what ends it.
type openLine struct {
	stream batchStream
	cancel context.CancelFunc
	giveUp func() // the connection below, for it does not answer
}

func (l *openLine) close() {
	if l != nil {
		l.cancel()
	}
}

func (p *peer) open(ctx context.Context) (*openLine, error) {
	client, address, err := p.r.client(p.id)
	if err != nil {
		return nil, err
	}
	p.watch(ctx, address)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := client.Messages(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("reach controller %d at %s: %w", p.id, address, err)
	}
	return &openLine{stream, cancel, func() { p.r.lines.drop(address) }}, nil
}

// watch has the node told when the process at an address ends.
func (p *peer) watch(ctx context.Context, address string) {
	p.watched = slices.DeleteFunc(p.watched, func(line *grpc.ClientConn) bool { return line.GetState() == connectivity.Shutdown })
	line, err := p.r.lines.toNode(address, int64(p.id))
	if err != nil || slices.Contains(p.watched, line) {
		return
	}
	p.watched = append(p.watched, line)
	p.r.start(func() { // blocks on the network
		watch(ctx, line, func() {
			p.r.o.Log.Info("a controller has gone: its connection broke, and its port takes no other", "peer", p.id, "address", address)
			if node := p.r.attached(); node != nil {
				node.Gone(p.id)
			}
		})
	})
}

// tellUnproven tells the log where it is by a certificate that messages are lost: this
// side's or the other's, and time does not mend it.
func (p *peer) tellUnproven(err error) {
	if status.Code(err) != codes.PermissionDenied {
		err = p.r.lines.failureOf(int64(p.id))
	}
	if now := time.Now(); err != nil && now.Sub(p.told) >= refusalTold {
		p.told = now
		p.r.o.Log.Warn("a controller cannot be spoken to", "peer", p.id, "error", err)
	}
}

// send sends a batch and waits until it was taken; who does not answer in time is
// given up, with the connection.
func (p *peer) send(line *openLine, batch *rpcpb.MessageBatch) error {
	late := time.AfterFunc(p.r.o.Patience, func() {
		line.cancel()
		line.giveUp()
	})
	defer late.Stop()
	// An error of Send is told by Recv.
	_ = line.stream.Send(batch)
	taken, err := line.stream.Recv()
	if err != nil {
		return fmt.Errorf("send to controller %d: %w", p.id, err)
	}
	if why := taken.GetRefused(); why != "" {
		p.lost()
		if now := time.Now(); now.Sub(p.told) >= refusalTold {
			p.told = now
			p.r.o.Log.Warn("a controller refuses what it is sent", "peer", p.id, "reason", why)
		}
	}
	return nil
}

// batchOf encodes the first of the messages that are for one directory.
func batchOf(messages []consensus.Message, cluster string) (b *rpcpb.MessageBatch, rest []consensus.Message, err error) {
	first := messages[0]
	b = &rpcpb.MessageBatch{From: wireMember(first.From), To: wireMember(first.To), ClusterId: cluster}
	size := 0
	for i, m := range messages {
		if m.To != first.To || size >= MaxBatch {
			return b, messages[i:], nil
		}
		raft, err := proto.Marshal(m.Raft)
		if err != nil {
			return nil, nil, fmt.Errorf("encode %s: %w", m.Raft.GetType(), err)
		}
		b.Messages = append(b.Messages, &rpcpb.Envelope{Changed: m.Changed, Raft: raft})
		size += len(raft)
	}
	return b, nil, nil
}

// sendSnapshot sends a message in chunks, and tells the node how that ended.
func (r *Raft) sendSnapshot(m consensus.Message) {
	err := r.snapshot(m)
	if err != nil {
		r.o.Log.Warn("a snapshot was not sent", "peer", m.To.ID, "error", err)
	}
	if node := r.attached(); node != nil {
		node.SnapshotSent(m.To.ID, err)
	}
}

func (r *Raft) snapshot(m consensus.Message) error {
	data, err := proto.Marshal(m.Raft)
	if err != nil {
		return fmt.Errorf("encode the snapshot for controller %d: %w", m.To.ID, err)
	}
	client, address, err := r.client(m.To.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	late := time.AfterFunc(r.o.Patience, cancel)
	defer late.Stop()
	stream, err := client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reach controller %d at %s: %w", m.To.ID, address, err)
	}
	chunk := &rpcpb.SnapshotChunk{From: wireMember(m.From), To: wireMember(m.To), ClusterId: r.o.Cluster(), Changed: m.Changed, Size: uint64(len(data))}
	for sent := false; !sent || len(data) > 0; sent = true {
		n := min(chunkBytes, len(data))
		chunk.Data, data = data[:n], data[n:]
		late.Reset(r.o.Patience)
		if err := stream.Send(chunk); err != nil {
			break // CloseAndRecv says why
		}
		chunk = new(rpcpb.SnapshotChunk)
	}
	late.Reset(snapshotPatience)
	if _, err := stream.CloseAndRecv(); err != nil {
		return fmt.Errorf("send a snapshot to controller %d at %s: %w", m.To.ID, address, err)
	}
	return nil
}
