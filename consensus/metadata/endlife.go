package metadata

import (
	"fmt"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// EndedError says that the cluster was brought back from its bucket, and that whoever
// answers so is of the life before: nothing changes in it, and nobody leads.
type EndedError struct {
	By uint64 // the incarnation that came in its place
}

// Error says what happened, and what to do.
func (e *EndedError) Error() string {
	return fmt.Sprintf("this cluster was brought back from its bucket, as incarnation %d, and this process is of the one before: it takes no change, and leads, commits and deletes nothing any more. Stop it; docs/cluster.md says how it becomes part of the other", e.By)
}

// EndedBy returns the incarnation that the cluster was given in place of this one; 0: none,
// as far as is known here.
func (m *Image) EndedBy() uint64 { return m.endedBy }

// Ended returns an [*EndedError] once EndedBy is known, and nil before.
func (m *Image) Ended() error {
	if m.endedBy == 0 {
		return nil
	}
	return &EndedError{By: m.endedBy}
}

// NewEndLife returns the command by which the life of a cluster ends.
func NewEndLife(by uint64) *pb.EndLife { return &pb.EndLife{Incarnation: by} }

// checkLives refuses every command of a life that has ended.
func (m *Image) checkLives() *Error {
	if guard.Check("metadata.ended-life", m.endedBy == 0) {
		return nil
	}
	return Errorf(PolicyViolation, "%v", m.Ended())
}

// endLife takes every leadership, and every broker out of service. Who was in sync stays
// on record.
func (m *Image) endLife(c *pb.EndLife) *Error {
	if is, _ := m.Bucket(); c.Incarnation <= max(is.Incarnation, 1) {
		return Errorf(InvalidRequest, "incarnation %d does not come after %d", c.Incarnation, is.Incarnation)
	}
	m.endedBy = c.Incarnation
	for b := range m.Brokers() {
		fenced := *b
		fenced.Fenced = true
		m.brokers = m.brokers.put(b.ID, &fenced)
	}
	m.editPartitions(func(_ *Topic, p *Partition, change func() *Partition) {
		if p.Leader == NoLeader {
			return
		}
		p = change()
		p.Leader = NoLeader
		p.LeaderEpoch++
		p.PartitionEpoch++
	})
	return nil
}
