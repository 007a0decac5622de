package metadata

import (
	"encoding/binary"
	"slices"

	"rustmq.dev/rustmq/storage/guard"
)

// objectDurability is that of topics whose acks wait for the bucket
// (docs/design/0016-durability.md): what was acknowledged is in the catalogue, so that
// whoever is in service may lead. A partition of theirs has one replica, which leads it, or
// led it last.
const objectDurability = "object"

// heldByBucket reports whether the catalogue alone has all that was acknowledged of a topic.
func (m *Image) heldByBucket(t *Topic) bool {
	return m.featureLevel >= ObjectTopicsFeatureLevel && t.Configs[durability] == objectDurability && !t.Internal
}

// checkHeld refuses more than one replica for a topic that keeps none besides its leader.
func (m *Image) checkHeld(t *Topic, partitions []Partition) *Error {
	if len(partitions) > 0 && len(partitions[0].Replicas) != 1 && !guard.Check("metadata.held-has-one-replica", !m.heldByBucket(t)) {
		return Errorf(InvalidReplicationFactor, "topic %q is in the bucket when it is acknowledged (%s = %s): each partition has one replica, not %d", t.Name, durability, objectDurability, len(partitions[0].Replicas))
	}
	return nil
}

// electHeld gives p, a partition being changed that the bucket holds, a leader under a new
// epoch, if anybody is in service.
func (m *Image) electHeld(t *Topic, p *Partition) {
	p.LeaderEpoch++
	if id := m.anyLeader(t, p); id != NoLeader {
		p.moveTo(id)
		return
	}
	p.Leader, p.ISR, p.ELR = NoLeader, nil, p.Replicas
	p.Adding, p.Removing, p.recovery, p.doubts = nil, nil, nil, nil
}

// moveTo makes a broker the leader and only replica of p, a partition being changed.
func (p *Partition) moveTo(id int32) {
	p.Leader, p.Replicas = id, []int32{id}
	p.ISR, p.ELR = p.Replicas, nil
	p.Adding, p.Removing, p.recovery, p.doubts = nil, nil, nil, nil
}

// anyLeader returns who leads p next: its replica, if that is in service and is to stay,
// else another such broker, so that those of one broker go to all others; else one that
// is to be emptied. NoLeader: nobody is in service.
func (m *Image) anyLeader(t *Topic, p *Partition) int32 {
	var staying, drained []int32
	for b := range m.Brokers() {
		switch {
		case b.Fenced:
		case !guard.Check("metadata.held-leaves-drained", !b.Draining):
			drained = append(drained, b.ID)
		default:
			staying = append(staying, b.ID)
		}
	}
	for _, kind := range [][]int32{staying, drained} {
		switch {
		case len(kind) == 0:
		case slices.Contains(kind, p.Replicas[0]):
			return p.Replicas[0]
		default:
			return kind[(uint64(binary.LittleEndian.Uint32(t.ID[:]))+uint64(p.Index))%uint64(len(kind))]
		}
	}
	return NoLeader
}

// moveHeld moves the leadership of a partition that the bucket holds; to NoLeader asks for
// whoever may lead, if nobody does.
func (m *Image) moveHeld(edit *catalogueEdit, t *Topic, p *Partition, to int32) *Error {
	if to == NoLeader {
		if to = p.Leader; to == NoLeader {
			to = m.anyLeader(t, p)
		}
	}
	switch {
	case to == NoLeader || !guard.Check("metadata.held-by-who-serves", m.alive(to)):
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: broker %d is not in service", t.Name, p.Index, to)
	case to == p.Leader:
		return Errorf(ElectionNotNeeded, "%s-%d is led by broker %d", t.Name, p.Index, to)
	case m.draining(to) && p.Leader != NoLeader:
		return Errorf(EligibleLeadersNotAvailable, "%s-%d: broker %d is being drained", t.Name, p.Index, to)
	}
	p = edit.change(p)
	p.LeaderEpoch++
	p.moveTo(to)
	p.PartitionEpoch++
	return nil
}

// reassignHeld gives a partition that the bucket holds another replica, which leads it at
// once: there is nothing to be copied.
func (m *Image) reassignHeld(edit *catalogueEdit, t *Topic, p *Partition, target []int32) *Error {
	if len(target) == 0 {
		return Errorf(NoReassignmentInProgress, "%s-%d has no reassignment under way", t.Name, p.Index)
	}
	if refused := m.checkTarget(t, p, target); refused != nil {
		return refused
	}
	switch {
	case len(target) != 1:
		return Errorf(InvalidReplicaAssignment, "%s-%d is in the bucket when it is acknowledged (%s = %s), and has one replica, not %d", t.Name, p.Index, durability, objectDurability, len(target))
	case slices.Equal(target, p.Replicas):
		return nil
	case !m.alive(target[0]):
		return Errorf(InvalidReplicaAssignment, "%s-%d: broker %d is not in service", t.Name, p.Index, target[0])
	}
	return m.moveHeld(edit, t, p, target[0])
}
