package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// Keys of a topic by which elections go.
const (
	uncleanElection  = "unclean.leader.election.enable"
	durability       = "rustmq.durability"
	memoryDurability = "memory"
)

// loss is what became of a broker that is fenced.
type loss struct {
	restarted       bool // it has registered anew: what it said before is of another process
	wiped           bool // its directory is another one: nothing it held is there
	unclean         bool // its process ended without a stop, so that what was not synced is gone
	ackedBeforeSync bool // that process acknowledged such records, whatever the topic
	cutTail         bool // its log ended in frames that were not whole: the last that was synced may be among them
}

// lacks reports whether the broker may have lost records of the topic that it had
// acknowledged, or confirmed to a leader.
func (l loss) lacks(t *Topic) bool {
	return l.wiped || l.unclean && (l.ackedBeforeSync || t.Configs[durability] == memoryDurability)
}

// loseBroker takes a broker that just was fenced out of every ISR and leadership. Who
// may lack records leaves every ELR, too; but the last one that is known to have had
// them stays, unless it was wiped: nobody is known to have more.
func (m *Image) loseBroker(id int32, why loss) {
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		if m.heldByBucket(t) {
			if p.Leader == id { // what it has, or lost, is of no account
				p = change()
				m.electHeld(t, p)
				p.PartitionEpoch++
			}
			return
		}
		leads := !guard.Check("metadata.registration-takes-leadership", p.Leader != id)
		inSync, eligible, lacks := slices.Contains(p.ISR, id), slices.Contains(p.ELR, id), why.lacks(t)
		said := !guard.Check("metadata.restarted-says-anew", !why.restarted || !p.recovery.said(id))
		saidInDoubt := why.restarted && p.doubts.said(id)
		if !leads && !inSync && !said && !saidInDoubt && !((lacks || why.cutTail) && eligible) {
			return
		}
		p = change()
		if said {
			p.recovery = p.recovery.without(id)
		}
		if saidInDoubt {
			p.doubts = p.doubts.silenced(id)
		}
		p.ISR = without(p.ISR, id)
		switch {
		case !guard.Check("metadata.wiped-leaves-elr", !why.wiped):
			p.ELR = without(p.ELR, id)
		case !guard.Check("metadata.unclean-leaves-elr", !lacks):
			p.ELR = without(p.ELR, id)
			if last := len(p.ISR)+len(p.ELR) == 0; last && guard.Check("metadata.last-held-all", inSync || eligible) {
				p.ELR = []int32{id}
			}
		case inSync && len(p.ISR) < t.MinISR(p):
			p.ELR = slices.Concat(p.ELR, []int32{id})
		}
		if why.cutTail {
			p.doubt(id)
		}
		if leads {
			m.elect(t, p)
		}
		p.PartitionEpoch++
	})
}

// electWhereLeaderless gives a leader to partitions without one, now that
// broker id is back.
func (m *Image) electWhereLeaderless(id int32) {
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		held := m.heldByBucket(t)
		if p.Leader != NoLeader || !held && (!slices.Contains(p.Replicas, id) || m.mayLead(t, p) == NoLeader) {
			return
		}
		p = change()
		m.elect(t, p)
		p.PartitionEpoch++
	})
}

// elect gives p the leader that mayLead says, under a new leader epoch. One that was not
// in sync may be what a reassignment waited for.
func (m *Image) elect(t *Topic, p *Partition) {
	if m.heldByBucket(t) {
		m.electHeld(t, p)
		return
	}
	id := m.mayLead(t, p)
	p.Leader = NoLeader
	p.LeaderEpoch++
	if id != NoLeader {
		t.lead(p, id)
		m.completeReassignment(t, p)
	}
}

// lead makes id the leader of p. From the ISR nothing else changes; from elsewhere it
// is alone in sync, and who is neither eligible has lost what it lacks for all others.
func (t *Topic) lead(p *Partition, id int32) {
	p.Leader, p.recovery, p.doubts = id, nil, p.doubts.cleared(id)
	if !slices.Contains(p.ISR, id) {
		if !slices.Contains(p.ELR, id) {
			p.ELR = nil
		}
		p.ISR, p.ELR = []int32{id}, without(p.ELR, id)
	}
	t.clearELR(p)
}

// mayLead returns the first of p's replicas that is alive and in the ISR, else one of
// the ELR, else NoLeader: nobody else holds every acked record (RULES 3.2). Of the ELR
// those come last that cut their tail, see [Image.leadsInDoubt]. Only if the
// topic asks for it is it one of those whatever others have, else any that is alive. Of each
// kind those that are to be emptied come last. Of a partition that waits for its replicas' word, see [Recovery].
func (m *Image) mayLead(t *Topic, p *Partition) int32 {
	if p.recovery != nil {
		return m.longest(p)
	}
	kinds := [][]int32{p.ISR, p.undoubted()}
	if id := m.leadsInDoubt(t, p); id != NoLeader {
		kinds = append(kinds, []int32{id})
	}
	if asked := m.featureLevel >= ClusterFeatureLevel && t.Configs[uncleanElection] == "true"; !guard.Check("metadata.unclean-asked", !asked) {
		kinds = append(kinds, p.ELR, p.Replicas)
	}
	for _, kind := range kinds {
		drained := NoLeader
		for _, id := range p.Replicas {
			switch {
			case !slices.Contains(kind, id) || !m.alive(id):
			case !guard.Check("metadata.drained-leads-last", !m.draining(id)):
				if drained == NoLeader {
					drained = id
				}
			default:
				return id
			}
		}
		if drained != NoLeader {
			return drained
		}
	}
	return NoLeader
}

// leadsInVain reports whether the leader of p is to be emptied, and another broker
// could lead as well.
func (m *Image) leadsInVain(t *Topic, p *Partition) bool {
	if m.heldByBucket(t) {
		return m.draining(p.Leader) && m.anyLeader(t, p) != p.Leader
	}
	return m.draining(p.Leader) && slices.ContainsFunc(p.ISR, func(id int32) bool { return m.alive(id) && !m.draining(id) })
}

// clearELR forgets who was eligible once the ISR has risen again: from now on
// records are acked without them.
func (t *Topic) clearELR(p *Partition) {
	if !guard.Check("metadata.elr-ends", len(p.ISR) < t.MinISR(p)) {
		p.ELR = nil
	}
}

// electLeaders moves leaderships, each on its own.
func (m *Image) electLeaders(c *pb.ElectLeaders) (any, *Error) {
	edit := m.editCatalogue(0)
	results := make(PartitionResults, len(c.Entries))
	for i, e := range c.Entries {
		if refused := m.electLeader(edit, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

func (m *Image) electLeader(edit *catalogueEdit, e *pb.ElectLeaders_Entry) *Error {
	t, p, refused := edit.findRaw(e.TopicId, e.Partition)
	if refused != nil {
		return refused
	}
	if m.heldByBucket(t) {
		return m.moveHeld(edit, t, p, e.Leader)
	}
	if p.Leader == NoLeader {
		return m.electUnclean(edit, t, p, e)
	}
	to := e.Leader
	if to == NoLeader {
		to = m.preferred(p)
	}
	switch {
	case to == NoLeader:
		return Errorf(PreferredLeaderNotAvailable, "%s-%d: none of its replicas %v that is to stay is in sync", t.Name, p.Index, p.Replicas)
	case to == p.Leader:
		return Errorf(ElectionNotNeeded, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case !guard.Check("metadata.planned-leader-in-sync", slices.Contains(p.ISR, to)) || !m.alive(to):
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: broker %d is not in sync, %v are", t.Name, p.Index, to, p.ISR)
	case m.draining(to):
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: broker %d is being drained", t.Name, p.Index, to)
	}
	p = edit.change(p)
	p.LeaderEpoch++
	t.lead(p, to)
	p.PartitionEpoch++
	return nil
}

// electUnclean gives a leader to a partition whose ISR and ELR are gone, if that is
// asked for: what it lacks of the records that were acknowledged is lost.
func (m *Image) electUnclean(edit *catalogueEdit, t *Topic, p *Partition, e *pb.ElectLeaders_Entry) *Error {
	if !guard.Check("metadata.unclean-election", e.Unclean) {
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: none of ISR %v and ELR %v is in service", t.Name, p.Index, p.ISR, p.ELR)
	}
	to := e.Leader
	if to == NoLeader {
		to = m.losesLeast(p)
	}
	if to == NoLeader || !slices.Contains(p.Replicas, to) || !m.alive(to) {
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: broker %d is no replica that is in service; replicas are %v", t.Name, p.Index, to, p.Replicas)
	}
	p = edit.change(p)
	p.LeaderEpoch++
	t.lead(p, to)
	m.completeReassignment(t, p)
	p.PartitionEpoch++
	return nil
}

// losesLeast returns who of p's replicas leads where records are given up: of those in
// service that have said what they have, the one with the most; else one that is eligible;
// else the first. NoLeader: none is in service.
func (m *Image) losesLeast(p *Partition) int32 {
	ends := p.saidInDoubt()
	if p.recovery != nil {
		ends = p.recovery.Ends
	}
	here := slices.DeleteFunc(slices.Clone(ends), func(e ReplicaEnd) bool { return !m.alive(e.Broker) })
	if to := m.longestOf(p, here); to != NoLeader {
		return to
	}
	for _, kind := range [][]int32{p.ELR, p.Replicas} {
		for _, id := range p.Replicas {
			if slices.Contains(kind, id) && m.alive(id) {
				return id
			}
		}
	}
	return NoLeader
}

// preferred returns the first of p's replicas that is to stay and may lead.
func (m *Image) preferred(p *Partition) int32 {
	for _, id := range p.Replicas {
		if slices.Contains(p.ISR, id) && !slices.Contains(p.Removing, id) && m.alive(id) && !m.draining(id) {
			return id
		}
	}
	return NoLeader
}
