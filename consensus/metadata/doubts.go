package metadata

import (
	"cmp"
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// doubts are replicas of a partition's ELR that, after an unclean end, found the tail of
// their log cut: the last that was synced cannot be told from what was not (RULES 1.1), so
// they may lack what they had confirmed. They lead only by what they and others say they
// have (RULES 3.2). One that is in sync again is doubted no more. It is never changed.
type doubts struct {
	of   []int32      // in ascending order; what is not in the ELR counts for nothing
	ends []ReplicaEnd // what some have said since the last leader, in order of broker
}

// doubt notes that a replica that just was fenced has cut its tail, if it is eligible. The
// only one that is held to have all is not doubted: nobody else would know better.
func (p *Partition) doubt(id int32) {
	if alone := len(p.ISR)+len(p.ELR) == 1; guard.Check("metadata.cut-tail-doubted", alone || !slices.Contains(p.ELR, id)) {
		return
	}
	next := doubts{}
	if p.doubts != nil {
		next = *p.doubts
	}
	if at, found := slices.BinarySearch(next.of, id); !found {
		next.of = slices.Insert(slices.Clone(next.of), at, id)
	}
	p.doubts = &next
}

// undoubted returns those of the ELR that hold every acked record beyond doubt.
func (p *Partition) undoubted() []int32 {
	if p.doubts == nil {
		return p.ELR
	}
	return minus(p.ELR, p.doubts.of)
}

// leadsInDoubt returns who of the doubted leads: the one with the highest epoch, of those
// with the longest log, among min.insync.replicas at least that are in service and have
// said what they have, or among all that are eligible. Whatever was acknowledged was on
// that many. NoLeader: nobody, yet.
func (m *Image) leadsInDoubt(t *Topic, p *Partition) int32 {
	if p.doubts == nil {
		return NoLeader
	}
	heard := p.saidInDoubt()
	here := slices.DeleteFunc(slices.Clone(heard), func(e ReplicaEnd) bool { return !m.alive(e.Broker) })
	switch {
	case !guard.Check("metadata.doubted-enough", len(here) >= t.MinISR(p)):
		if len(heard) < len(p.ISR)+len(p.ELR) {
			return NoLeader
		}
		return m.longestOf(p, heard)
	case len(here) == 0:
		return NoLeader
	}
	return m.longestOf(p, here)
}

// saidInDoubt returns what those that are eligible, and doubted, have said that they have.
func (p *Partition) saidInDoubt() (said []ReplicaEnd) {
	if p.doubts == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.doubts.ends), func(e ReplicaEnd) bool { return !slices.Contains(p.ELR, e.Broker) })
}

// reportDoubted notes what a doubted replica has of p, which has no leader, as of a leader
// epoch, and elects who may lead by that.
func (m *Image) reportDoubted(edit *catalogueEdit, t *Topic, p *Partition, end ReplicaEnd, leaderEpoch storage.Epoch) *Error {
	if !guard.Check("metadata.doubted-as-of", leaderEpoch == p.LeaderEpoch) {
		return Errorf(FencedLeaderEpoch, "%s-%d: what broker %d has is as of leader epoch %d, now %d", t.Name, p.Index, end.Broker, leaderEpoch, p.LeaderEpoch)
	}
	p = edit.change(p)
	next := p.doubts.silenced(end.Broker)
	at, _ := slices.BinarySearchFunc(next.ends, end, func(a, b ReplicaEnd) int { return cmp.Compare(a.Broker, b.Broker) })
	next.ends = slices.Insert(next.ends, at, end)
	p.doubts = next
	if m.mayLead(t, p) != NoLeader {
		m.elect(t, p)
	}
	p.PartitionEpoch++
	return nil
}

func (d *doubts) has(id int32) bool { return d != nil && slices.Contains(d.of, id) }

// said reports whether a broker has said what it has.
func (d *doubts) said(id int32) bool {
	return d != nil && slices.ContainsFunc(d.ends, func(e ReplicaEnd) bool { return e.Broker == id })
}

// silenced returns a copy without what a broker has said.
func (d *doubts) silenced(id int32) *doubts {
	return &doubts{of: d.of, ends: slices.DeleteFunc(slices.Clone(d.ends), func(e ReplicaEnd) bool { return e.Broker == id })}
}

// without returns the doubts about others than ids.
func (d *doubts) without(ids []int32) *doubts {
	if d == nil {
		return nil
	}
	next := &doubts{of: minus(d.of, ids)}
	for _, e := range d.ends {
		if !slices.Contains(ids, e.Broker) {
			next.ends = append(next.ends, e)
		}
	}
	if len(next.of) == 0 {
		return nil
	}
	return next
}

// cleared returns the doubts once a broker leads: what the others have, they are to say
// anew when it is gone.
func (d *doubts) cleared(leader int32) *doubts {
	if d = d.without([]int32{leader}); d != nil {
		d.ends = nil
	}
	return d
}

func (d *doubts) encode() *pb.Doubts {
	if d == nil {
		return nil
	}
	e := &pb.Doubts{Of: d.of}
	for _, end := range d.ends {
		e.Ends = append(e.Ends, &pb.ReplicaEnd{Broker: end.Broker, Epoch: int32(end.Epoch), End: int64(end.End)})
	}
	return e
}

// decodeDoubts reads what a snapshot says; false: it cannot be.
func decodeDoubts(e *pb.Doubts, replicas []int32) (d *doubts, ok bool) {
	if e == nil {
		return nil, true
	}
	d = &doubts{of: slices.Clip(e.Of)}
	for i, id := range d.of {
		if !slices.Contains(replicas, id) || i > 0 && d.of[i-1] >= id {
			return nil, false
		}
	}
	for i, said := range e.Ends {
		end, ok := decodeEnd(said.Broker, said)
		if !ok || !slices.Contains(d.of, end.Broker) || i > 0 && d.ends[i-1].Broker >= end.Broker {
			return nil, false
		}
		d.ends = append(d.ends, end)
	}
	return d, len(d.of) > 0
}
