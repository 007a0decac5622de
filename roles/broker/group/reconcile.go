package group

import (
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// reconcile takes m as far towards its target as it goes now. owned is what the
// member says it has; told is false when it says nothing of it.
//
// Partitions come in two steps: who has too much is told to let it go, at its old
// epoch, and only when it says that it has does it come to the new one; a
// partition is given to nobody else before.
func (cg *consumerGroup) reconcile(now time.Time, m *consumerMember, owned assignment, told bool) {
	holds := func(a assignment) bool { return len(a) > 0 && (!told || owned.meets(a)) }
	switch {
	case m.state == memberStable && m.epoch == cg.epoch:
		return
	case m.state == memberUnrevoked && !guard.Check("group.partition-revoked", !holds(m.revoking)):
		return
	}
	subscribed := cg.subscribedIDs(m)
	target := m.target.where(func(p place) bool { return subscribed[p.topic] })
	kept := m.assigned.where(target.has)
	if revoke := m.assigned.where(func(p place) bool { return !target.has(p) }); holds(revoke) {
		cg.own(m, kept, revoke)
		cg.move(m, m.epoch, memberUnrevoked)
		m.revokeBy = now.Add(m.rebalance)
		cg.wakeBy(m.revokeBy)
		return
	}
	given := target.where(func(p place) bool { return kept.has(p) || cg.free(p, m) })
	state := memberStable
	if given.count() < target.count() {
		state = memberUnreleased
	}
	if m.epoch == cg.epoch && m.state == state && given.equal(m.assigned) {
		return // it waits on
	}
	cg.own(m, given, nil)
	cg.move(m, cg.epoch, state)
	m.revokeBy = time.Time{}
}

// move brings m to an epoch. The one before is remembered: its answer may be lost.
func (cg *consumerGroup) move(m *consumerMember, epoch int32, state memberState) {
	m.previous, m.epoch, m.state = m.epoch, epoch, state
}

// waits reports whether m still waits for a partition that another has.
func (cg *consumerGroup) waits(m *consumerMember) bool {
	for p := range m.target.places {
		if owner := cg.owners[p]; !m.assigned.has(p) && owner != nil && owner != m {
			return true
		}
	}
	return false
}
