package group

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// A cluster that was brought back from its bucket may have lost the end of partitions, and
// has what groups had committed behind it. Whoever consumes from there on passes over what
// is written in its place. So offsets that were committed in an earlier life are set back to where
// this life of their partition began, if they lie behind that (RULES 7).

// EarlierOffset is an offset that a group has committed in an earlier life of the cluster, and
// nobody has since, or that a transaction of that life would commit.
type EarlierOffset struct {
	Group, Topic string
	Partition    int32
	Offset       int64
}

// Clamp sets an offset back.
type Clamp struct {
	EarlierOffset
	To int64
}

// Clamped says what became of clamps.
type Clamped struct {
	Code int16 // an error of Kafka's, why not all were done that could be; else 0
	Left int   // that were not: they are being written, or wait for a transaction
}

// EarlierOffsets tells what was committed in earlier lives in a partition of [Topic], or would be by a
// transaction that is open, in order of groups; code is an error of Kafka's, why that is not known, or 0. It
// follows the rules of the entry points for requests.
func (c *Coordinator) EarlierOffsets(ctx context.Context, partition int32, answer func(offsets []EarlierOffset, code int16)) {
	c.shards.Submit(ctx, partition, Request{Body: new(EarlierLife)}, coordinator.Deliver(func(o []EarlierOffset) { answer(o, 0) }),
		func(code int16) { answer(nil, code) })
}

// ClampOffsets sets offsets back that nobody has committed anew since they were told.
func (c *Coordinator) ClampOffsets(ctx context.Context, partition int32, clamps []Clamp, answer func(Clamped)) {
	c.shards.Submit(ctx, partition, Request{Body: &ClampOffsets{Clamps: clamps}}, coordinator.Deliver(answer),
		func(code int16) { answer(Clamped{Code: code, Left: len(clamps)}) })
}

// ReplayLife says of what is replayed from now on that it is of a life of the cluster which did not
// reach that leader epoch; 0: it is of this one.
func (c *Core) ReplayLife(before storage.Epoch) { c.earlier = before }

// isEarlier reports whether an offset was committed in an earlier life.
func (c *Core) isEarlier(o commit) bool {
	return guard.Check("group.clamps-earlier", o.before > 0)
}

func (c *Core) earlierOffsets(r Request) (all []EarlierOffset) {
	for _, g := range c.sorted() {
		all = g.heldEarlier(all)
		for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
			for _, p := range g.committedFor(r, topic) {
				if o := g.offsets[topic][p]; c.isEarlier(o) {
					all = append(all, EarlierOffset{g.id, topic, p, o.offset})
				}
			}
		}
	}
	return all
}

// heldEarlier adds what open transactions of an earlier life may yet commit.
func (g *group) heldEarlier(all []EarlierOffset) []EarlierOffset {
	n := len(all)
	for _, t := range g.transactions {
		for s, o := range t.offsets {
			if g.core.isEarlier(o) {
				all = append(all, EarlierOffset{g.id, s.topic, s.partition, o.offset})
			}
		}
	}
	slices.SortFunc(all[n:], func(a, b EarlierOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return all
}

// holdsEarlier reports whether a transaction of an earlier life is open that would commit an offset.
func (g *group) holdsEarlier(s slot, offset int64) bool {
	for _, t := range g.transactions {
		if o, in := t.offsets[s]; in && g.core.isEarlier(o) && o.offset == offset {
			return true
		}
	}
	return false
}

// clamp sets offsets back, whoever is in the group: what its members hold is as lost. One that
// was committed anew, or is being, is left as it is.
func (c *Core) clamp(r Request, clamps []Clamp) {
	result, open := &Clamped{}, 0
	answer := func() {
		if open == 0 {
			c.answer(r.Call, *result)
		}
	}
	open++ // until all were begun
	for of := clamps; len(of) > 0; {
		n := slices.IndexFunc(of, func(o Clamp) bool { return o.Group != of[0].Group })
		if n < 0 {
			n = len(of)
		}
		g := c.groups[of[0].Group]
		if g != nil && !g.deleting {
			open++
			c.clampGroup(r, g, of[:n], result, func() { open--; answer() })
		}
		of = of[n:]
	}
	open--
	answer()
}

// clampGroup does clamp for one group.
func (c *Core) clampGroup(r Request, g *group, clamps []Clamp, result *Clamped, done func()) {
	var slots []slot
	var commits []commit
	var records []Record
	for _, is := range clamps {
		s := slot{is.Topic, is.Partition}
		if !guard.Check("group.clamp-awaits-transactions", !g.holdsEarlier(s, is.Offset)) {
			result.Left++ // it lies behind the end too, once it is committed
		}
		o, there := g.offsets[s.topic][s.partition]
		if !there || !guard.Check("group.clamp-unchanged", o.offset == is.Offset) || !c.isEarlier(o) || r.gone(s.topic, o.topicID) {
			continue
		}
		if g.flying[s] > 0 {
			result.Left++
			continue
		}
		o.offset, o.leaderEpoch, o.order, o.before = is.To, -1, 0, 0
		slots, commits = append(slots, s), append(commits, o)
		records = append(records, encodeCommit(g.id, s, o))
		g.fly(s, +1)
	}
	if len(records) == 0 {
		done()
		return
	}
	g.writeAll(records, nil, func(from, to int, err error) {
		for i := from; i < to; i++ {
			g.fly(slots[i], -1)
			if err == nil {
				g.set(slots[i].topic, slots[i].partition, commits[i])
				continue
			}
			result.Code = coordinator.CodeOf(err, kerr.InvalidCommitOffsetSize.Code)
			result.Left++
		}
	}, func(error) { done() })
}
