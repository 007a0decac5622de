package consensus

import (
	"context"
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/guard"
)

// Proposal is a command on its way through the log.
type Proposal struct {
	command []byte
	result  any
	err     error
	done    chan struct{} // closed once result and err are set
}

func (p *Proposal) settle(result any, err error) {
	p.result, p.err = result, err
	close(p.done)
}

// Wait returns what Apply returned on this member; a result that is an error
// (a refusal) is returned as the error. If ctx ends first, the proposal may
// still be committed.
func (p *Proposal) Wait(ctx context.Context) (any, error) {
	select {
	case <-p.done:
		if refusal, ok := p.result.(error); ok && p.err == nil {
			return nil, refusal
		}
		return p.result, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Settled reports whether it is known what became of the proposal.
func (p *Proposal) Settled() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// barrier is a read that waits until what was committed when it began is
// applied here.
type barrier struct {
	index uint64 // to be applied; 0 until a majority has told it
	done  func(error)
}

// readContext names a read of this process: what answers one of an earlier process, which
// had the same number, may still be on its way.
func (l *loop) readContext(number uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, number), l.boot)
}

// ownRead returns the read of this process that a context names; nil: it names none that
// waits.
func (l *loop) ownRead(name []byte) *barrier {
	if len(name) != 16 || !guard.Check("consensus.own-read", binary.LittleEndian.Uint64(name[8:]) == l.boot) {
		return nil
	}
	return l.reads[binary.LittleEndian.Uint64(name)]
}

// events is what other goroutines leave for the loop.
type events struct {
	proposals []*Proposal
	messages  []*raftpb.Message
	durable   []func() error // of completions, in log order
	barriers  []*barrier
	snapshot  *written

	changes     []*change
	requests    []*request
	asked       []chan []MemberStatus // each has room for an answer
	unreachable []uint64
	gone        []uint64
	sent        []sent
}

// sent is a snapshot that a peer was sent, or was not.
type sent struct {
	peer   uint64
	status raft.SnapshotStatus
}

// written is a snapshot whose file was attempted.
type written struct {
	snap *snapshot
	err  error
}
