package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
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
	short  []consensus.Message // what is no part of the log, which goes before others: heartbeats do not wait for what is large
	long   []consensus.Message // in the order of the log: a follower refuses what comes before what it follows
	queued int                 // bytes of entries in long
	under  []consensus.Message // those with entries that were taken and may still be under way

	told    time.Time          // when a refusal was logged; only run uses it, and the next
	watched []*grpc.ClientConn // that goroutines watch: a peer may have two addresses, tried in turn
}

// batchStream is an open call of Messages.
type batchStream = grpc.BidiStreamingClient[rpcpb.MessageBatch, rpcpb.MessagesTaken]

// add leaves a message to be sent, or loses it. Until it knows where a follower stands raft
// sends it the same entries with each answer to a heartbeat; on a slow line they would fill it.
func (p *peer) add(m consensus.Message) {
	size := entryBytes(m)
	p.mu.Lock()
	if p.repeats(m, size) {
		p.mu.Unlock()
		return
	}
	full := len(p.short)+len(p.long) >= maxQueued || p.queued+size > maxQueuedBytes && p.queued > 0
	switch fits := guard.Check("rpc.queue-bounded", !full); {
	case !fits:
		defer p.lost()
	case size == 0 && m.Raft.GetType() != raftpb.MsgApp:
		p.short = append(p.short, m)
	default:
		p.long, p.queued = append(p.long, m), p.queued+size
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// repeats reports whether entries wait or are under way already, and has those that wait
// take the place of the same that were there before; mu is held.
func (p *peer) repeats(m consensus.Message, size int) bool {
	same := func(o consensus.Message) bool {
		return o.To == m.To && o.Changed == m.Changed && o.Raft.GetType() == m.Raft.GetType() && o.Raft.GetTerm() == m.Raft.GetTerm() &&
			o.Raft.GetIndex() == m.Raft.GetIndex() && o.Raft.GetLogTerm() == m.Raft.GetLogTerm()
	}
	if size == 0 || m.Raft.GetType() != raftpb.MsgApp {
		return false
	}
	if at := slices.IndexFunc(p.long, same); at >= 0 {
		p.queued += size - entryBytes(p.long[at])
		p.long[at] = m
		return true
	}
	at := slices.IndexFunc(p.under, same)
	return at >= 0 && len(m.Raft.GetEntries()) <= len(p.under[at].Raft.GetEntries())
}

// take returns what is to be sent next, for one directory: what is short, and of the rest
// what a batch has room for. Nothing: nothing waits.
func (p *peer) take() (batch []consensus.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.under)
	p.under = p.under[:0]
	fits := func(m consensus.Message) bool { return len(batch) == 0 || m.To == batch[0].To }
	for len(p.short) > 0 && fits(p.short[0]) {
		batch = append(batch, p.short[0])
		p.short[0] = consensus.Message{}
		p.short = p.short[1:]
	}
	for room := MaxBatch; len(p.long) > 0 && fits(p.long[0]) && room > 0; {
		n := entryBytes(p.long[0])
		if room -= n; room < 0 && room+n < MaxBatch {
			break
		}
		batch, p.under = append(batch, p.long[0]), append(p.under, p.long[0])
		p.long[0] = consensus.Message{}
		p.long, p.queued = p.long[1:], p.queued-n
	}
	return batch
}

// forget loses what waits, for the line is down: raft sends anew what it takes by then.
func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.short, p.long, p.under, p.queued = nil, nil, nil, 0
}

// entryBytes is about what a message takes.
func entryBytes(m consensus.Message) (size int) {
	for _, e := range m.Raft.GetEntries() {
		size += len(e.GetData())
	}
	return size
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
		for messages := p.take(); len(messages) > 0; messages = p.take() {
			batch, size, err := batchOf(messages, p.r.o.Cluster())
			if err == nil && line == nil {
				line, err = p.open(ctx)
			}
			if err == nil {
				err = p.send(line, batch, size)
			}
			if err != nil {
				p.r.o.Log.Debug("messages to a controller are lost", "peer", p.id, "messages", len(messages), "error", err)
				p.tellUnproven(err)
				line.close()
				line = nil
				p.forget()
				p.lost()
			}
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
func (p *peer) send(line *openLine, batch *rpcpb.MessageBatch, size int) error {
	late := time.AfterFunc(max(p.r.o.Patience, p.r.o.Patience/MaxBatch*time.Duration(size)), func() {
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

// batchOf encodes messages that are for one directory, and says how large they are.
func batchOf(messages []consensus.Message, cluster string) (b *rpcpb.MessageBatch, size int, err error) {
	first := messages[0]
	b = &rpcpb.MessageBatch{From: wireMember(first.From), To: wireMember(first.To), ClusterId: cluster}
	for _, m := range messages {
		raft, err := proto.Marshal(m.Raft)
		if err != nil {
			return nil, 0, fmt.Errorf("encode %s: %w", m.Raft.GetType(), err)
		}
		b.Messages = append(b.Messages, &rpcpb.Envelope{Changed: m.Changed, Raft: raft})
		size += len(raft)
	}
	return b, size, nil
}
