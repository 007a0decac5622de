package broker

import (
	"fmt"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// Reads from the replica in a client's rack (KIP-392). A client names its rack, and asks
// the leader, which refers it to a follower there; the follower serves it up to its own
// high watermark, and sends it back once it is out of touch with the leader.

const (
	// inTouch is how long ago a leader and a follower have heard of each other who are in
	// touch: ten times as long as either is silent.
	inTouch = time.Second
	// maxRack bounds the name of a rack that is looked for.
	maxRack = 256
)

// takeRack notes whose rack the client names.
func (f *fetchRequest) takeRack() {
	f.near, f.rack = false, ""
	switch {
	case len(f.q.Rack) == 0 || len(f.q.Rack) > maxRack || f.b.replication == nil:
	case string(f.q.Rack) == f.b.opt.Rack:
		f.near = true
	default:
		f.rack = string(f.q.Rack)
	}
}

// reading returns the log to read p from: that which is led here or, for a reader of this
// broker's rack, followed. The role says which.
func (p *partition) reading(near bool) (*log.Log, *role, error) {
	l, r, err := p.leading()
	if err != nil && near && r.replica != nil {
		return r.replica, r, nil
	}
	return l, r, err
}

// referred returns to whom else the client is sent, for what it asks for; noReplica:
// to nobody. l is led, or followed, as r says.
func (part *fetchPart) referred(f *fetchRequest, l *log.Log, r *role) (int32, error) {
	switch {
	case r.log == nil:
		return part.sentBack(f, l, r)
	case f.rack == "" || !r.replicated:
		return noReplica, nil
	}
	if now := l.Offsets(); part.want.Offset < now.LogStart || part.want.Offset > now.HighWatermark {
		return noReplica, nil // for the leader to answer
	}
	id := part.partition().id()
	image := f.b.images.image()
	_, p := image.Partition(id)
	if p == nil {
		return noReplica, nil
	}
	var there []int32
	for _, other := range others(p.ISR, f.b.opt.NodeID) {
		at, known := image.Broker(other)
		if known && !at.Fenced && at.Rack == f.rack && f.b.replication.leader.Holds(id, other, part.want.Offset, inTouch) {
			there = append(there, other)
		}
	}
	if len(there) == 0 {
		return noReplica, nil
	}
	f.b.metrics.referred.Inc()
	return there[int(part.want.Index)%len(there)], nil
}

// sentBack returns the leader where a follower does not know yet that the leader has what
// is here, where one that is out of touch with it has nothing more for a reader, who would
// wait here for what will not come, and where one has not got as far as a reader is, having
// begun anew. By an error a client might stay: franz-go does for minutes.
func (part *fetchPart) sentBack(f *fetchRequest, l *log.Log, r *role) (int32, error) {
	now := l.Offsets()
	end := now.HighWatermark
	if f.q.ReadCommitted {
		end = now.LastStable
	}
	follower := f.b.replication.follower
	agrees := guard.Check("broker.follower-agrees", follower.Agrees(l.ID(), r.epoch))
	inTouch := time.Since(follower.Fed(l.ID())) < inTouch
	if !agrees || !guard.Check("broker.follower-in-touch", inTouch || part.want.Offset < end) ||
		!guard.Check("broker.follower-has-it", part.want.Offset <= l.End()) {
		if r.leader == metadata.NoLeader {
			return noReplica, errNotLeader
		}
		return r.leader, nil
	}
	return noReplica, nil
}

// isAhead says that a reader asks a follower for what that does not know to be committed
// (RULES 3.4). It has it, and waits to hear so.
func (part *fetchPart) isAhead(l *log.Log) error {
	if part.want.Offset <= part.result.HighWatermark {
		return nil
	}
	part.lags = part.want.Offset <= l.End()
	return fmt.Errorf("read %s at %d, it is committed here to %d: %w", l.ID(), part.want.Offset, part.result.HighWatermark, log.ErrOffsetNotAvailable)
}
