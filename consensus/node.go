package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Node is one member.
type Node struct {
	opt  Options
	log  *slog.Logger
	core *loop // set once, under mu; nil while the member opens
	wal  *wal.WAL
	wake chan struct{} // holds one token while events wait
	stop context.CancelFunc
	done sync.WaitGroup

	mu        sync.Mutex // guards what follows
	waiting   events
	inFlight  int               // proposals taken and not settled
	ended     error             // why nothing is taken any more
	empty     bool              // whether it opened without a log of its own
	members   []Member          // of the applied configuration; none before there is one
	changedAt uint64            // index up to which members has every change
	strangers map[uint64]Member // senders with a later configuration than that
	status    Status
}

// Status is what a member knows of the group.
type Status struct {
	Leader    uint64 // 0 when none is known
	Term      uint64
	Committed uint64 // index up to which this member knows that a majority has the log
	Applied   uint64 // index of the last entry applied here
	Snapshot  uint64 // index of the newest snapshot
	Member    bool   // whether the configuration applied here has this one
}

// Open starts a member; ctx bounds the opening. A member that is alone leads
// when the loop has begun; others when they are elected.
func Open(ctx context.Context, opt Options) (*Node, error) {
	if err := opt.fill(); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	n := &Node{opt: opt, log: opt.Log.With("member", opt.NodeID), wake: make(chan struct{}, 1), strangers: map[uint64]Member{}}
	if opt.Network != nil {
		opt.Network.Attach(n)
	}
	entries, snap, err := n.recover(ctx)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	core, err := newLoop(running, n, entries, snap)
	if err != nil {
		cancel()
		return nil, errors.Join(err, n.wal.Close())
	}
	n.mu.Lock()
	n.core = core
	n.mu.Unlock()
	n.done.Go(func() { n.run(running) }) // blocks on events, ticks, room in the WAL and, for a received snapshot, its file
	return n, nil
}

// Propose starts a proposal and waits for it.
func (n *Node) Propose(ctx context.Context, command []byte) (any, error) {
	return n.Start(command).Wait(ctx)
}

// Start proposes a command, which it keeps, and returns at once. Proposals of
// one goroutine enter the log in the order of their starts.
func (n *Node) Start(command []byte) *Proposal {
	p := &Proposal{command: command, done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.ended != nil:
		p.settle(nil, n.ended)
	case len(command) > n.opt.maxCommand():
		p.settle(nil, fmt.Errorf("consensus: a command of %d bytes: %w", len(command), wal.ErrTooLarge))
	case n.inFlight >= n.opt.MaxProposals:
		p.settle(nil, ErrBusy)
	default:
		n.inFlight++
		n.waiting.proposals = append(n.waiting.proposals, p)
		n.notify()
	}
	return p
}

// Barrier returns once this member has applied all that was committed when it
// was called: what is read after it is not older than the call.
func (n *Node) Barrier(ctx context.Context) error {
	done := make(chan error, 1)
	b := &barrier{done: func(err error) { done <- err }}
	n.mu.Lock()
	if ended := n.ended; ended != nil {
		n.mu.Unlock()
		return ended
	}
	n.waiting.barriers = append(n.waiting.barriers, b)
	n.notify()
	n.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hello implements [Receiver]. Before the log was looked into it is no answer: a peer
// that is empty would count this member as empty too.
func (n *Node) Hello() (Hello, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !guard.Check("consensus.hello-knows-log", n.empty || n.core != nil) {
		return Hello{}, ErrStarting
	}
	return Hello{Member: n.self(), First: n.first(), Joins: n.opt.Join, Begun: n.members}, nil
}

// Receive implements [Receiver]. Messages for another directory than this are refused,
// and those of a member that the configuration does not know by both id and directory,
// unless the sender's own configuration is a later one: this member was away while it
// was changed, or waits to be added.
func (n *Node) Receive(m Message) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := slices.Contains(n.members, m.From)
	switch {
	case n.ended != nil:
		return n.ended
	case n.core == nil:
		return ErrStarting
	case !guard.Check("consensus.directory-meant", m.To == n.self()):
		return fmt.Errorf("consensus: a message for member %d with directory %x has come to %d with %x", m.To.ID, m.To.Directory, n.opt.NodeID, n.opt.Directory)
	case !guard.Check("consensus.member-known", known || m.Changed > n.changedAt):
		return fmt.Errorf("consensus: member %d with directory %x is not in the configuration", m.From.ID, m.From.Directory)
	case m.Raft.GetFrom() != m.From.ID || m.Raft.GetTo() != n.opt.NodeID || raft.IsLocalMsg(m.Raft.GetType()):
		return fmt.Errorf("consensus: member %d sent %s from %d to %d", m.From.ID, m.Raft.GetType(), m.Raft.GetFrom(), m.Raft.GetTo())
	}
	if !known {
		n.strangers[m.From.ID] = m.From
	}
	if len(n.waiting.messages) < maxReceived {
		n.waiting.messages = append(n.waiting.messages, m.Raft)
		n.notify()
	}
	return nil
}

// stranger returns who sent messages as a member that the configuration does not know.
func (n *Node) stranger(id uint64) (Member, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m, ok := n.strangers[id]
	return m, ok
}

// Unreachable implements [Receiver]: what the peer lacks is found out anew.
func (n *Node) Unreachable(peer uint64) {
	n.tell(func(e *events) {
		if !slices.Contains(e.unreachable, peer) {
			e.unreachable = append(e.unreachable, peer)
		}
	})
}

// SnapshotSent implements [Receiver].
func (n *Node) SnapshotSent(peer uint64, err error) {
	status := raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
	}
	n.tell(func(e *events) { e.sent = append(e.sent, sent{peer, status}) })
}

// Leader returns the member that leads, 0 when none is known.
func (n *Node) Leader() uint64 { return n.Status().Leader }

// Status returns what this member knows of the group.
func (n *Node) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

// Close stops the member. Proposals in flight are answered ErrClosed.
func (n *Node) Close() error {
	n.stop()
	n.done.Wait()
	n.end(ErrClosed)
	return n.wal.Close()
}

// notify wakes the loop; mu is held.
func (n *Node) notify() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// tell leaves something for the loop.
func (n *Node) tell(leave func(*events)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	leave(&n.waiting)
	n.notify()
}

// take returns the events that wait.
func (n *Node) take() events {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.waiting
	n.waiting = events{}
	return taken
}

// settled gives back the places of proposals that have their answer.
func (n *Node) settled(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight -= count
}

// end refuses whatever comes and whatever waits. The first reason stays.
func (n *Node) end(reason error) {
	n.mu.Lock()
	if n.ended == nil {
		n.ended = reason
	}
	reason = n.ended
	waiting := n.waiting
	n.waiting = events{}
	n.mu.Unlock()
	for _, p := range waiting.proposals {
		p.settle(nil, reason)
	}
	for _, b := range waiting.barriers {
		b.done(reason)
	}
	for _, c := range waiting.changes {
		c.done <- reason
	}
	for _, a := range waiting.asked {
		close(a)
	}
	for _, r := range waiting.requests {
		r.done <- reason
	}
}

// run is the loop: it is the only one to touch the core.
func (n *Node) run(ctx context.Context) {
	ticker := time.NewTicker(n.opt.Tick)
	defer ticker.Stop()
	err := n.core.ready()
	for err == nil {
		select {
		case <-ctx.Done():
			n.core.end(ErrClosed)
			return
		case <-ticker.C:
			err = n.core.tick()
		case <-n.wake:
			err = n.core.handle(n.take())
		}
	}
	if ctx.Err() != nil { // closed while it waited for room
		n.core.end(ErrClosed)
		return
	}
	dead := &DeadError{Cause: err}
	n.log.Error("consensus has stopped", "error", err)
	n.core.end(dead)
	n.end(dead)
	n.opt.OnDead(err)
}
