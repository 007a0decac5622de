package replication

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/transport/rpc"
)

// mostChanges is in one call of the controller.
const mostChanges = 1000

// keep keeps the sets of those in sync until ctx ends. It blocks on the controller.
func (l *Leader) keep(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		var look []*led
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			look = l.joining()
		case <-ticker.C:
			look = l.all()
			l.pace(time.Now(), look)
			l.press(look)
		}
		l.propose(ctx, look)
	}
}

func (l *Leader) joining() (out []*led) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.joins {
		out = append(out, p)
	}
	clear(l.joins)
	return out
}

func (l *Leader) all() []*led {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*led, 0, len(l.led))
	for _, p := range l.led {
		out = append(out, p)
	}
	return out
}

// pace tells partitions how long their followers take.
func (l *Leader) pace(now time.Time, of []*led) {
	l.mu.Lock()
	took := map[int32]time.Duration{}
	for id, k := range l.links {
		if d, known := k.took(now); known {
			took[id] = d
		}
	}
	l.mu.Unlock()
	for _, p := range of {
		p.mu.Lock()
		p.isr.pace(now, took)
		p.mu.Unlock()
	}
}

// press says of partitions how full the fullest WAL is among their followers in sync.
func (l *Leader) press(of []*led) {
	l.mu.Lock()
	full := make(map[int32]uint16, len(l.links))
	for id, k := range l.links {
		k.mu.Lock()
		full[id] = max(k.tail.fullness, k.catchUp.fullness)
		k.mu.Unlock()
	}
	l.mu.Unlock()
	for _, p := range of {
		fullest := uint16(0)
		p.mu.Lock()
		for _, id := range p.isr.committed {
			fullest = max(fullest, full[id])
		}
		p.mu.Unlock()
		p.fullest.Store(uint32(fullest))
	}
}

// propose asks the controller for the changes that partitions want.
func (l *Leader) propose(ctx context.Context, of []*led) {
	self := l.o.Self()
	var asked []*led
	var proposals []proposal
	var changes []metadata.PartitionChange
	for _, p := range of {
		at := p.log.Progress()
		if at.Epoch != p.epoch {
			continue
		}
		p.mu.Lock()
		want, ok := p.isr.propose(time.Now(), at.End, at.HighWatermark)
		p.mu.Unlock()
		if !ok {
			continue
		}
		p.tell() // before anybody may count on it
		at = p.log.Progress()
		p.mu.Lock()
		ok = p.isr.stands(want, at.HighWatermark)
		p.mu.Unlock()
		if !ok {
			p.tell()
			continue
		}
		asked, proposals, changes = append(asked, p), append(proposals, want), append(changes, p.change(self, want))
		if len(changes) == mostChanges {
			l.ask(ctx, self, asked, proposals, changes)
			asked, proposals, changes = nil, nil, nil
		}
	}
	if len(changes) > 0 {
		l.ask(ctx, self, asked, proposals, changes)
	}
}

func (p *led) change(self rpc.Incarnation, want proposal) metadata.PartitionChange {
	c := metadata.PartitionChange{Partition: p.id, LeaderEpoch: p.epoch, PartitionEpoch: want.partitionEpoch}
	for i, id := range want.isr {
		epoch := want.epochs[i]
		if epoch == 0 {
			epoch = self.Epoch
			if peer, ok := p.leader.peer(id); ok && id != self.Broker { // in sync, and heard on no stream yet
				epoch = peer.Epoch
			}
		}
		c.ISR = append(c.ISR, metadata.ReplicaEpoch{Broker: id, Epoch: epoch})
	}
	return c
}

func (l *Leader) peer(id int32) (Peer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.peers[id]
	return p, ok
}

func (l *Leader) ask(ctx context.Context, self rpc.Incarnation, asked []*led, proposals []proposal, changes []metadata.PartitionChange) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	errs := l.o.Controller.AlterPartitions(ctx, self.Broker, self.Epoch, changes)
	for i, p := range asked {
		o := outcomeOf(errs[i])
		p.mu.Lock()
		before := len(p.isr.committed)
		p.isr.answer(proposals[i], o)
		p.mu.Unlock()
		p.tell()
		switch {
		case o == accepted && len(proposals[i].isr) < before:
			l.counts.shrinks.Add(1)
			l.o.Log.Warn("replicas are out of sync", "partition", p.id, "epoch", p.epoch, "in-sync", proposals[i].isr)
		case o == accepted:
			l.counts.growths.Add(1)
			l.o.Log.Info("replicas are in sync", "partition", p.id, "epoch", p.epoch, "in-sync", proposals[i].isr)
		default:
			l.o.Log.Debug("who is in sync was not changed", "partition", p.id, "epoch", p.epoch, "proposed", proposals[i].isr, "error", errs[i])
		}
	}
}

// outcomeOf says what the controller's answer means: what it refused will not be, and of
// what it has not answered nobody knows.
func outcomeOf(err error) outcome {
	if err == nil {
		return accepted
	}
	switch metadata.CodeOf(err) {
	case metadata.InvalidUpdateVersion:
		return stale
	case metadata.FencedLeaderEpoch, metadata.UnknownLeaderEpoch, metadata.NotLeaderOrFollower, metadata.UnknownTopicOrPartition,
		metadata.UnknownTopicID, metadata.StaleBrokerEpoch, metadata.IneligibleReplica, metadata.InvalidRequest, metadata.BrokerIDNotRegistered:
		return refused
	}
	return unknown
}
