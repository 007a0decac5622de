package group

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// prepare begins a rebalance: members learn of it by their next heartbeat, and
// have until rebalanceBy to join.
func (g *group) prepare(now time.Time, cause *member, why string) {
	if g.state == completing {
		for _, m := range g.ordered() {
			g.endSync(m, kerr.RebalanceInProgress.Code)
		}
	}
	g.note("rebalance: "+why, cause)
	g.saving = 0
	limit := g.maxRebalance()
	g.initial = g.state == empty && g.core.opt.InitialRebalanceDelay > 0
	if g.initial {
		delay := min(g.core.opt.InitialRebalanceDelay, limit)
		g.delayLeft = limit - delay
		limit = delay
		g.grown = false
	}
	g.become(preparing)
	g.rebalanceBy = now.Add(limit)
	g.core.wakeBy(g, g.rebalanceBy)
	g.tryComplete(now)
}

// tryComplete ends the joining when nobody is missing.
func (g *group) tryComplete(now time.Time) {
	if g.state == preparing && !g.initial && g.joining == len(g.members) && len(g.pending) == 0 {
		g.complete(now)
	}
}

// late ends a phase whose time is over.
func (g *group) late(now time.Time) {
	g.rebalanceBy = time.Time{}
	switch {
	case g.state == preparing && g.initial && g.grown && g.delayLeft > 0:
		// Somebody came, others may follow.
		delay := min(g.core.opt.InitialRebalanceDelay, g.delayLeft)
		g.delayLeft -= delay
		g.grown = false
		g.rebalanceBy = now.Add(delay)
	case g.state == preparing:
		g.complete(now)
	case g.state == completing:
		var last *member
		for _, m := range g.ordered() {
			if !m.synced {
				g.note("member removed: it did not sync in time", m)
				g.remove(m)
				last = m
			}
		}
		if last != nil {
			g.prepare(now, last, "member did not sync in time")
		}
	}
}

// complete begins the next generation with the members that have joined. Static
// members stay though they have not.
func (g *group) complete(now time.Time) {
	for _, m := range g.ordered() {
		if m.join == nil && m.instance == nil {
			g.note("member removed: it did not rejoin in time", m)
			g.remove(m)
		}
	}
	g.initial, g.grown = false, false
	if len(g.members) > 0 && !g.electLeader() {
		g.rebalanceBy = now.Add(g.maxRebalance()) // only absent static members are left
		g.core.wakeBy(g, g.rebalanceBy)
		return
	}
	if g.generation == math.MaxInt32 {
		g.generation = 0
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol, g.leader, g.subscribed, g.rebalanceBy = "", "", nil, time.Time{}
		g.become(empty)
		g.note("group is empty", nil)
		// Without it a restart finds the members before, and sees them time out.
		g.writeGroup(encodeGroup(g, nil), func(time.Time, error) {})
		return
	}
	g.protocol = g.selectProtocol()
	g.become(completing)
	g.readSubscriptions()
	g.rebalanceBy = now.Add(g.maxRebalance())
	g.core.wakeBy(g, g.rebalanceBy)
	members := g.ordered()
	for _, m := range members {
		if m.joined {
			g.assign(m, nil)
		}
		m.isNew, m.synced = false, false
		g.beat(now, m)
	}
	for _, m := range members {
		if m.join != nil {
			g.core.answer(m.join.call, g.joinResponse(m.join.join, m))
			m.join = nil
			g.joining--
		}
	}
	g.note("generation begins", nil)
}

// electLeader makes sure that the leader has joined; false: nobody has.
func (g *group) electLeader() bool {
	if m := g.members[g.leader]; m != nil && m.join != nil {
		return true
	}
	for _, m := range g.ordered() {
		if m.join != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// afterRemoval goes on without members that are gone.
func (g *group) afterRemoval(now time.Time, gone *member, why string) {
	switch g.state {
	case completing, stable:
		g.prepare(now, gone, why)
	case preparing:
		g.tryComplete(now)
	}
}

// expire ends whatever has ended by now.
func (g *group) expire(now time.Time) {
	if g.consumer != nil {
		g.consumer.expire(now)
		return
	}
	for id, until := range g.pending {
		if !now.Before(until) {
			g.unexpect(id)
		}
	}
	var gone *member
	for _, m := range g.ordered() {
		if m.mayExpire() && !now.Before(m.expires) {
			g.note("member removed: its session timed out", m)
			g.remove(m)
			gone = m
		}
	}
	if gone != nil {
		g.afterRemoval(now, gone, "session timed out")
	} else {
		g.tryComplete(now) // an id that was never used may have been all it waited for
	}
	if !g.rebalanceBy.IsZero() && !now.Before(g.rebalanceBy) {
		g.late(now)
	}
}

// writeRecords writes records of this group, in a transaction unless txn is nil.
func (g *group) writeRecords(records []Record, txn *TxnWrite, then func(now time.Time, err error)) WriteID {
	g.writing++
	return g.core.write(Write{Records: records, Txn: txn}, func(now time.Time, err error) {
		g.writing--
		then(now, err)
		g.core.dropIfBare(g)
	})
}

// writeGroup writes the record of the group itself.
func (g *group) writeGroup(r Record, then func(now time.Time, err error)) WriteID {
	records, buried := g.buryConsumers(r)
	return g.writeRecords(records, nil, func(now time.Time, err error) {
		buried(err)
		if err == nil {
			g.recorded(r.Value)
		}
		then(now, err)
	})
}

// recorded notes what the log says of the group itself. It is kept as it is: in
// a rebalance the members are others already than those that a restart finds.
func (g *group) recorded(value []byte) {
	g.core.bytes += int64(len(value) - len(g.record))
	g.record = value
}

// maxWrite is about how many bytes of records go into one batch. A batch is
// refused as a whole, so it must not come near what a topic takes; only a single
// record that is larger has one for itself.
const maxWrite = 128 << 10

// writeAll writes as many records as there are, in several writes if need be.
// each runs for the records from one index to another, in order, and last
// thereafter, with the first error.
func (g *group) writeAll(records []Record, txn *TxnWrite, each func(from, to int, err error), last func(err error)) {
	var failed error
	for from := 0; from < len(records); {
		to, size := from, 0
		for to < len(records) && (to == from || size+records[to].size() <= maxWrite) {
			size += records[to].size()
			to++
		}
		first, end := from, to == len(records)
		g.writeRecords(records[from:to], txn, func(_ time.Time, err error) {
			if err != nil && failed == nil {
				failed = err
			}
			each(first, to, err)
			if end {
				last(failed)
			}
		})
		from = to
	}
}

// assign gives m an assignment.
func (g *group) assign(m *member, assignment []byte) {
	g.grow(int64(len(assignment) - len(m.assignment)))
	m.assignment = assignment
}

// note says something of the group in the log.
func (g *group) note(what string, m *member) {
	n := Note{Group: g.id, What: what, Generation: g.generation, Members: len(g.members)}
	if m != nil {
		n.Member = m.id
	}
	g.core.fx.Notes = append(g.core.fx.Notes, n)
}
