package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// reassignPartitions begins and ends moves of replicas, each on its own.
func (m *Image) reassignPartitions(c *pb.ReassignPartitions) (any, *Error) {
	edit := m.editCatalogue(0)
	results := make(PartitionResults, len(c.Entries))
	for i, e := range c.Entries {
		if refused := m.reassignPartition(edit, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

// reassignPartition gives p other replicas, in the shape of KIP-455: it has both, until
// those that are to stay are all in sync. What an earlier reassignment was adding, and
// this one does not, goes at once; those without it, the original ones, are what is
// taken away from, and come back where the reassignment ends without others.
func (m *Image) reassignPartition(edit *catalogueEdit, e *pb.ReassignPartitions_Entry) *Error {
	t, p, refused := edit.findRaw(e.TopicId, e.Partition)
	if refused != nil {
		return refused
	}
	if m.heldByBucket(t) {
		return m.reassignHeld(edit, t, p, e.Replicas)
	}
	if p.recovery != nil {
		return Errorf(InvalidRequest, "%s-%d waits for the word of its replicas %v, and of these for %v", t.Name, p.Index, p.Replicas, p.recovery.Silent())
	}
	original := minus(p.Replicas, p.Adding)
	target := e.Replicas
	if len(target) == 0 {
		if len(p.Adding) == 0 && len(p.Removing) == 0 {
			return Errorf(NoReassignmentInProgress, "%s-%d has no reassignment under way", t.Name, p.Index)
		}
		target = original
	} else if refused := m.checkTarget(t, p, target); refused != nil {
		return refused
	}
	adding, removing := minus(target, original), minus(original, target)
	replicas := slices.Concat(target, removing)
	if len(replicas) > MaxReplicas {
		return Errorf(InvalidReplicaAssignment, "%s-%d: it would have %d replicas while they move, more than %d", t.Name, p.Index, len(replicas), MaxReplicas)
	}
	dropped := minus(p.Adding, target)
	holds := slices.ContainsFunc(dropped, func(id int32) bool { return slices.Contains(p.ISR, id) || slices.Contains(p.ELR, id) })
	if left := minus(p.ISR, dropped); holds && !guard.Check("metadata.dropped-leave-enough", len(left) >= t.MinISR(p)) {
		return Errorf(InvalidReplicaAssignment, "%s-%d: without %v, which would go, only %v are in sync; wait until others are", t.Name, p.Index, dropped, left)
	}
	if slices.Equal(replicas, p.Replicas) && slices.Equal(adding, p.Adding) && slices.Equal(removing, p.Removing) {
		return nil
	}
	p = edit.change(p)
	if t.ReplicasUnset && len(target) < len(original) {
		asked := *t
		asked.ReplicasUnset = false
		edit.topic = &asked
	}
	p.Replicas, p.Adding, p.Removing = replicas, adding, removing
	p.ISR, p.ELR, p.doubts = minus(p.ISR, dropped), minus(p.ELR, dropped), p.doubts.without(dropped)
	if slices.Contains(dropped, p.Leader) {
		m.elect(t, p)
	} else if len(dropped) > 0 {
		m.depart(p)
	}
	m.completeReassignment(t, p)
	p.PartitionEpoch++
	return nil
}

// checkTarget refuses replicas that a partition cannot be given.
func (m *Image) checkTarget(t *Topic, p *Partition, target []int32) *Error {
	if len(target) > MaxReplicas {
		return Errorf(InvalidReplicaAssignment, "%s-%d: %d replicas, more than %d", t.Name, p.Index, len(target), MaxReplicas)
	}
	for i, id := range target {
		_, known := m.brokers.get(id)
		switch {
		case !known:
			return Errorf(InvalidReplicaAssignment, "%s-%d: broker %d is not registered", t.Name, p.Index, id)
		case slices.Contains(target[:i], id):
			return Errorf(InvalidReplicaAssignment, "%s-%d: broker %d is named twice", t.Name, p.Index, id)
		case !guard.Check("metadata.drained-gets-no-replica", !m.draining(id) || slices.Contains(p.Replicas, id)):
			return Errorf(InvalidReplicaAssignment, "%s-%d: broker %d is being drained", t.Name, p.Index, id)
		}
	}
	return nil
}

// completeReassignment ends a reassignment of p, a partition being changed, once all
// that are to stay are in sync. A leader that goes hands over.
func (m *Image) completeReassignment(t *Topic, p *Partition) {
	if len(p.Adding) == 0 && len(p.Removing) == 0 {
		return
	}
	target := minus(p.Replicas, p.Removing)
	if !guard.Check("metadata.reassigned-in-sync", len(minus(target, p.ISR)) == 0) {
		return
	}
	p.ISR, p.ELR, p.doubts = minus(p.ISR, p.Removing), minus(p.ELR, p.Removing), p.doubts.without(p.Removing)
	left := len(p.Removing) > 0
	p.Replicas, p.Adding, p.Removing = target, nil, nil
	if !slices.Contains(target, p.Leader) {
		m.elect(t, p)
	} else if left {
		m.depart(p)
	}
	t.clearELR(p)
}

// depart ends the leader epoch of p, whose leader stays, for somebody has stopped being a
// replica: it drops its log. Should it come back at once, what it had confirmed to that leader,
// who may not have seen it leave, would let it into the ISR with nothing. Kafka's controller
// does so, too.
func (m *Image) depart(p *Partition) {
	if !guard.Check("metadata.departure-ends-epoch", m.featureLevel < DepartureFeatureLevel) {
		p.LeaderEpoch++
	}
}

// minus returns those of ids that are not in others; nil when there are none.
func minus(ids, others []int32) (left []int32) {
	for _, id := range ids {
		if !slices.Contains(others, id) {
			left = append(left, id)
		}
	}
	return left
}
