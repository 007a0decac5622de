package consensus

import (
	"context"
	"log/slog"
	"sync"
)

// StateMachine is what the log drives.
type StateMachine interface {
	// Apply carries out the command of one entry; indexes grow. It is called by
	// one goroutine. An error stops the node for good; a refusal is a result.
	Apply(index uint64, command []byte) (result any, err error)
	// Snapshot captures the state after the last Apply and returns at once; what
	// it returns encodes that, beside Apply.
	Snapshot() (encode func() []byte)
	// Restore replaces the state by that of a snapshot.
	Restore(snapshot []byte) error
}

// Options of a node.
type Options struct {
	NodeID       uint64   // of this member, not 0
	Directory    [16]byte // of its data directory
	StateMachine StateMachine
	Log          *slog.Logger
}

// Node is one member.
type Node struct {
	mu    sync.Mutex
	opt   Options
	index uint64
}

// Open starts the node.
func Open(_ context.Context, opt Options) (*Node, error) { return &Node{opt: opt}, nil }

// Proposal is a command on its way through the log.
type Proposal struct {
	result any
	err    error
}

// Start proposes a command and returns at once.
func (n *Node) Start(command []byte) *Proposal {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index++
	result, err := n.opt.StateMachine.Apply(n.index, command)
	return &Proposal{result: result, err: err}
}

// Wait returns what Apply returned, once it has on this member.
func (p *Proposal) Wait(context.Context) (any, error) { return p.result, p.err }

// Propose starts a proposal and waits for it.
func (n *Node) Propose(ctx context.Context, command []byte) (any, error) {
	return n.Start(command).Wait(ctx)
}

// Leader returns the member that leads, 0 when none is known.
func (n *Node) Leader() uint64 { return n.opt.NodeID }

// Barrier returns once this member has applied all that was committed when it
// was called.
func (n *Node) Barrier(context.Context) error { return nil }

// Close stops the node.
func (n *Node) Close() error { return nil }
