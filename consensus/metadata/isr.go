package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// ReplicaEpoch is one registration of a broker that holds a replica.
type ReplicaEpoch struct {
	Broker int32
	Epoch  int64
}

// PartitionChange is who its leader says is in sync of one partition, itself among
// them. It is refused unless the partition stands at both epochs.
type PartitionChange struct {
	Partition      storage.PartitionID
	LeaderEpoch    storage.Epoch
	PartitionEpoch int32
	ISR            []ReplicaEpoch
}

// NewAlterPartitions returns the command by which a broker changes the ISRs of
// partitions that it leads.
func NewAlterPartitions(brokerID int32, brokerEpoch int64, changes []PartitionChange) *pb.AlterPartitions {
	c := &pb.AlterPartitions{BrokerId: brokerID, BrokerEpoch: brokerEpoch}
	for _, is := range changes {
		e := &pb.AlterPartitions_Entry{
			TopicId: is.Partition.Topic[:], Partition: is.Partition.Index,
			LeaderEpoch: int32(is.LeaderEpoch), PartitionEpoch: is.PartitionEpoch,
		}
		for _, r := range is.ISR {
			e.Isr = append(e.Isr, &pb.AlterPartitions_Replica{BrokerId: r.Broker, BrokerEpoch: r.Epoch})
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

// alterPartitions changes ISRs, each for the leader of its epoch that knows the
// partition as it is.
func (m *Image) alterPartitions(c *pb.AlterPartitions) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	edit := m.editCatalogue(0)
	results := make(PartitionResults, len(c.Entries))
	for i, e := range c.Entries {
		if refused := m.alterPartition(edit, c.BrokerId, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

func (m *Image) alterPartition(edit *catalogueEdit, broker int32, e *pb.AlterPartitions_Entry) *Error {
	t, p, refused := edit.findRaw(e.TopicId, e.Partition)
	if refused != nil {
		return refused
	}
	switch {
	case !guard.Check("metadata.isr-leader-epoch", storage.Epoch(e.LeaderEpoch) >= p.LeaderEpoch):
		return Errorf(FencedLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, e.LeaderEpoch, p.LeaderEpoch)
	case storage.Epoch(e.LeaderEpoch) > p.LeaderEpoch:
		return Errorf(UnknownLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, e.LeaderEpoch, p.LeaderEpoch)
	case !guard.Check("metadata.isr-leader", p.Leader == broker):
		return Errorf(NotLeaderOrFollower, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case !guard.Check("metadata.isr-partition-epoch", e.PartitionEpoch == p.PartitionEpoch):
		return Errorf(InvalidUpdateVersion, "%s-%d: partition epoch %d, now %d", t.Name, p.Index, e.PartitionEpoch, p.PartitionEpoch)
	}
	isr, refused := m.namedISR(t, p, e.Isr)
	if refused != nil {
		return refused
	}
	if slices.Equal(isr, p.ISR) {
		return nil
	}
	p = edit.change(p)
	t.setISR(p, isr)
	if m.leadsInVain(t, p) {
		m.elect(t, p)
	}
	m.completeReassignment(t, p)
	p.PartitionEpoch++
	return nil
}

// namedISR returns the ISR that a leader names, in order of the replicas. A follower is
// let in as the registration that the leader has seen catch up (KIP-903).
func (m *Image) namedISR(t *Topic, p *Partition, named []*pb.AlterPartitions_Replica) ([]int32, *Error) {
	ids := make([]int32, 0, len(named))
	for _, r := range named {
		b, known := m.brokers.get(r.BrokerId)
		switch {
		case slices.Contains(ids, r.BrokerId):
			return nil, Errorf(InvalidRequest, "%s-%d: broker %d is named twice in the ISR", t.Name, p.Index, r.BrokerId)
		case !guard.Check("metadata.isr-of-replicas", slices.Contains(p.Replicas, r.BrokerId)):
			return nil, Errorf(InvalidRequest, "%s-%d: broker %d is none of the replicas %v", t.Name, p.Index, r.BrokerId, p.Replicas)
		case !known || !guard.Check("metadata.isr-in-service", !b.Fenced):
			return nil, Errorf(IneligibleReplica, "%s-%d: broker %d is not in service", t.Name, p.Index, r.BrokerId)
		case !guard.Check("metadata.isr-broker-epoch", b.Epoch == r.BrokerEpoch):
			return nil, Errorf(IneligibleReplica, "%s-%d: broker %d is registered with epoch %d, not %d", t.Name, p.Index, r.BrokerId, b.Epoch, r.BrokerEpoch)
		case !guard.Check("metadata.isr-not-drained", !b.Draining || slices.Contains(p.ISR, r.BrokerId)):
			return nil, Errorf(IneligibleReplica, "%s-%d: broker %d is being drained", t.Name, p.Index, r.BrokerId)
		}
		ids = append(ids, r.BrokerId)
	}
	if !guard.Check("metadata.isr-has-leader", slices.Contains(ids, p.Leader)) {
		return nil, Errorf(InvalidRequest, "%s-%d: the ISR %v lacks the leader %d", t.Name, p.Index, ids, p.Leader)
	}
	isr := make([]int32, 0, len(ids))
	for _, id := range p.Replicas {
		if slices.Contains(ids, id) {
			isr = append(isr, id)
		}
	}
	return isr, nil
}

// setISR makes isr the ISR of p. Who leaves it below min.insync.replicas stays eligible
// until it has risen again: the high watermark stands still meanwhile (KIP-966).
func (t *Topic) setISR(p *Partition, isr []int32) {
	before := p.ISR
	p.ISR, p.doubts = isr, p.doubts.without(isr)
	if !guard.Check("metadata.shrunk-stay-eligible", len(isr) >= t.MinISR(p)) {
		elr := make([]int32, 0, len(before)+len(p.ELR))
		for _, id := range slices.Concat(p.ELR, before) {
			if !slices.Contains(isr, id) {
				elr = append(elr, id)
			}
		}
		p.ELR = elr
	}
	t.clearELR(p)
}
