package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// NewGiveUpReplicas returns the command by which a broker says that it lacks, or may lack,
// what it had of partitions.
func NewGiveUpReplicas(brokerID int32, brokerEpoch int64, partitions []storage.PartitionID) *pb.GiveUpReplicas {
	c := &pb.GiveUpReplicas{BrokerId: brokerID, BrokerEpoch: brokerEpoch}
	for _, id := range partitions {
		c.Entries = append(c.Entries, &pb.GiveUpReplicas_Entry{TopicId: id.Topic[:], Partition: id.Index})
	}
	return c
}

// giveUpReplicas takes a broker out of the ISRs and ELRs of partitions, each on its own. It
// is refused where nobody else is known to have what was acknowledged. A broker in service
// may have confirmed to the leader what it lacks now: under the next leader epoch that
// counts for nothing (RULES 3.1), also where the leader is just about to let it in.
func (m *Image) giveUpReplicas(c *pb.GiveUpReplicas) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	edit := m.editCatalogue(0)
	results := make(PartitionResults, len(c.Entries))
	for i, e := range c.Entries {
		if refused := m.giveUpReplica(edit, c.BrokerId, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

func (m *Image) giveUpReplica(edit *catalogueEdit, broker int32, e *pb.GiveUpReplicas_Entry) *Error {
	t, p, refused := edit.findRaw(e.TopicId, e.Partition)
	switch {
	case refused != nil:
		return refused
	case !slices.Contains(p.Replicas, broker):
		return Errorf(InvalidRequest, "%s-%d: broker %d is none of the replicas %v", t.Name, p.Index, broker, p.Replicas)
	case !p.Counts(broker) && !m.alive(broker):
		return nil
	case p.Counts(broker) && !guard.Check("metadata.given-up-elsewhere", p.heldBeside(broker)):
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: nobody but broker %d is known to have what was acknowledged", t.Name, p.Index, broker)
	}
	p = edit.change(p)
	p.ISR, p.ELR = without(p.ISR, broker), without(p.ELR, broker)
	p.doubts = p.doubts.without([]int32{broker})
	switch {
	case p.Leader == broker || p.Leader == NoLeader && m.mayLead(t, p) != NoLeader:
		m.elect(t, p)
	case p.Leader != NoLeader && !guard.Check("metadata.given-up-epoch", !m.alive(broker)):
		p.LeaderEpoch++
	}
	p.PartitionEpoch++
	return nil
}

// Counts reports whether a broker is held to have all of p that was acknowledged.
func (p *Partition) Counts(broker int32) bool {
	return slices.Contains(p.ISR, broker) || slices.Contains(p.ELR, broker)
}

// heldBeside reports whether another replica has all that was acknowledged: beyond doubt,
// unless the broker itself is doubted.
func (p *Partition) heldBeside(broker int32) bool {
	eligible := p.undoubted()
	if p.doubts.has(broker) {
		eligible = p.ELR
	}
	other := func(id int32) bool { return id != broker }
	return slices.ContainsFunc(p.ISR, other) || slices.ContainsFunc(eligible, other)
}
