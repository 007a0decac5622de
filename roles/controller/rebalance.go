package controller

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// RebalancePlan is how replicas come to be spread over the brokers in service.
type RebalancePlan struct {
	Moves   []PlannedMove
	Brokers []PlannedBroker // in service and not drained, in order of id
}

// PlannedMove is one partition that is given other replicas.
type PlannedMove struct {
	Topic     string
	Partition storage.PartitionID
	From, To  []int32 // all of its replicas, before and after
	// Tail is how many bytes each of the new ones is sent, by the leader's last report:
	// those that are not in the bucket. A leader does not report a tail of some KiB.
	Tail     int64
	InBucket int64 // bytes that stay where they are
}

// PlannedBroker is how many replicas a broker has.
type PlannedBroker struct {
	ID            int32
	Before, After int
}

// PlanRebalance plans moves of replicas: first those of a partition that share a rack while
// another has none of it, then from brokers with more to such with less, until no single
// move would make two of them more even. Those of a partition that is being moved, or has no
// leader, stay. It changes nothing: ReassignPartitions carries it out.
func (c *Controller) PlanRebalance(context.Context) (RebalancePlan, error) {
	if err := c.leads(); err != nil {
		return RebalancePlan{}, err
	}
	plan := rebalance(c.state.Image())
	c.tails(plan.Moves)
	return plan, nil
}

// tails notes what leaders have said last of the tails of partitions.
func (c *Controller) tails(moves []PlannedMove) {
	c.balanceMu.Lock()
	defer c.balanceMu.Unlock()
	for i := range moves {
		moves[i].Tail = c.balance.loads[moves[i].Partition].tail
	}
}

// Sent is how many bytes the new replicas are sent together.
func (m *PlannedMove) Sent() int64 {
	fresh := int64(0)
	for _, id := range m.To {
		if !slices.Contains(m.From, id) {
			fresh++
		}
	}
	return fresh * m.Tail
}

// spread is a partition whose replicas may move.
type spread struct {
	topic    *metadata.Topic
	is       *metadata.Partition
	replicas []int32 // as planned
}

// rebalance is the pure part of PlanRebalance: it knows no tails.
func rebalance(image *metadata.Image) RebalancePlan {
	f := newField(image)
	var plan RebalancePlan
	for _, c := range f.brokers {
		plan.Brokers = append(plan.Brokers, PlannedBroker{ID: c.id, Before: f.replicas[c.id]})
	}
	var all []*spread
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			if len(p.Adding)+len(p.Removing) == 0 && p.Leader != metadata.NoLeader {
				all = append(all, &spread{t, p, slices.Clone(p.Replicas)})
			}
		}
	}
	for _, s := range all {
		f.part(s)
	}
	f.even(all)
	for _, s := range all {
		if !slices.Equal(s.replicas, s.is.Replicas) {
			plan.Moves = append(plan.Moves, s.move())
		}
	}
	for i := range plan.Brokers {
		plan.Brokers[i].After = f.replicas[plan.Brokers[i].ID]
	}
	return plan
}

// part moves replicas of a partition that share a rack to racks that have none of it.
func (f *field) part(s *spread) {
	for at := len(s.replicas) - 1; at >= 0; at-- { // the preferred leader last
		rest := slices.Delete(slices.Clone(s.replicas), at, at+1)
		from := s.replicas[at]
		if !f.shares(from, rest) || !f.serves(from) {
			continue
		}
		if to := f.lightest(s.replicas); to != metadata.NoLeader && f.mayMoveTo(to) && !f.shares(to, rest) {
			f.move(s, at, to)
		}
	}
}

// shares reports whether id is on the rack of one of those.
func (f *field) shares(id int32, others []int32) bool {
	return slices.ContainsFunc(others, func(o int32) bool { return f.racks[o] == f.racks[id] })
}

func (f *field) move(s *spread, at int, to int32) {
	f.replicas[s.replicas[at]]--
	f.replicas[to]++
	s.replicas[at] = to
	f.most--
}

// may returns where a replica of s on from is, if one on to can take its place: -1 else,
// as when it would come to share a rack that it does not share now.
func (f *field) may(s *spread, from, to int32) int {
	at := slices.Index(s.replicas, from)
	if at < 0 || slices.Contains(s.replicas, to) {
		return -1
	}
	rest := slices.Delete(slices.Clone(s.replicas), at, at+1)
	if f.shares(to, rest) && !f.shares(from, rest) {
		return -1
	}
	return at
}

// even moves replicas one by one from who has more to who has less, by two at least, and
// of the pairs for which that can be done between those that differ most. What a broker
// leads moves last.
func (f *field) even(all []*spread) {
	on := map[int32][]*spread{} // those that are led elsewhere first
	for _, leads := range []bool{false, true} {
		for _, s := range all {
			for _, r := range s.replicas {
				if (s.is.Leader == r) == leads {
					on[r] = append(on[r], s)
				}
			}
		}
	}
	type pair struct{ from, to int32 }
	seen := map[pair]int{} // of on[from], how many were looked at
	for {
		best := pair{metadata.NoLeader, metadata.NoLeader}
		var which *spread
		gap := 1
		for _, from := range f.brokers {
			for _, to := range f.brokers {
				if f.replicas[from.id]-f.replicas[to.id] <= gap || !f.mayMoveTo(to.id) {
					continue
				}
				p := pair{from.id, to.id}
				for list := on[p.from]; seen[p] < len(list) && f.may(list[seen[p]], p.from, p.to) < 0; {
					seen[p]++
				}
				if seen[p] < len(on[p.from]) {
					best, which, gap = p, on[p.from][seen[p]], f.replicas[from.id]-f.replicas[to.id]
				}
			}
		}
		if which == nil {
			return
		}
		f.move(which, slices.Index(which.replicas, best.from), best.to)
		on[best.to] = append(on[best.to], which)
	}
}
