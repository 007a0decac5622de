package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// transaction is what a producer's open transaction commits to a group, unless it
// is aborted.
type transaction struct {
	epoch   int16
	offsets map[slot]commit
}

// commitLater writes offsets into a transaction; they are committed with it.
func (c *Core) commitLater(r Request, g *group, txn *TxnCommit, slots []slot, commits []commit, records []Record, codes []*int16, resp *kmsg.OffsetCommitResponse) {
	for _, s := range slots {
		g.entersBy(s, +1)
	}
	written := &TxnWrite{txn.ProducerID, txn.ProducerEpoch, txn.Verified}
	g.writeAll(records, written, func(from, to int, err error) {
		for i := from; i < to; i++ {
			g.fly(slots[i], -1)
			g.entersBy(slots[i], -1)
			*codes[i] = coordinator.CodeOf(err, kerr.InvalidCommitOffsetSize.Code)
			if guard.Check("group.txn-commit-recorded", err == nil) {
				g.enter(txn.ProducerID, txn.ProducerEpoch, slots[i], commits[i])
			}
		}
	}, func(error) { c.answer(r.Call, resp) })
}

// endTransaction writes the end of a transaction, and then obeys it. It is written
// whether or not anything is known of the transaction here: the log may hold
// records of it that were taken back.
func (c *Core) endTransaction(r Request, m log.Marker) {
	c.write(Write{Marker: &m}, func(_ time.Time, err error) {
		if guard.Check("group.marker-recorded", err == nil) {
			c.ended(m.ProducerID, m.Commit)
		}
		c.answer(r.Call, ended{err})
	})
}

// ended wraps the error that answers the end of a transaction: there may be none.
type ended struct{ err error }

// ended obeys the end of a transaction.
func (c *Core) ended(producerID int64, commit bool) {
	for g := range c.producers[producerID] {
		g.endTransaction(producerID, commit)
		c.dropIfBare(g)
	}
}

// endTransaction commits or forgets what a transaction would commit to the group.
func (g *group) endTransaction(producerID int64, commit bool) {
	t := g.transactions[producerID]
	for s, o := range t.offsets {
		g.leave(producerID, s)
		if was, ok := g.offsets[s.topic][s.partition]; commit && (!ok || guard.Check("group.txn-order", was.order < o.order)) {
			g.set(s.topic, s.partition, o)
		}
	}
}

// enter notes an offset in a transaction.
func (g *group) enter(producerID int64, epoch int16, s slot, o commit) {
	g.leave(producerID, s)
	if g.transactions == nil {
		g.transactions = map[int64]*transaction{}
	}
	t := g.transactions[producerID]
	if t == nil {
		t = &transaction{offsets: map[slot]commit{}}
		g.transactions[producerID] = t
		g.core.bytes += commitBytes
		if g.core.producers[producerID] == nil {
			g.core.producers[producerID] = map[*group]bool{}
		}
		g.core.producers[producerID][g] = true
	}
	g.core.order++
	o.order = g.core.order
	t.epoch, t.offsets[s] = epoch, o
	g.core.bytes += commitBytes + int64(len(s.topic)+len(o.metadata))
}

// leave forgets an offset in a transaction.
func (g *group) leave(producerID int64, s slot) {
	t := g.transactions[producerID]
	if t == nil {
		return
	}
	o, ok := t.offsets[s]
	if !ok {
		return
	}
	delete(t.offsets, s)
	g.core.bytes -= commitBytes + int64(len(s.topic)+len(o.metadata))
	if len(t.offsets) > 0 {
		return
	}
	delete(g.transactions, producerID)
	g.core.bytes -= commitBytes
	delete(g.core.producers[producerID], g)
	if len(g.core.producers[producerID]) == 0 {
		delete(g.core.producers, producerID)
	}
}

// forget forgets a slot: what is committed, and what transactions would commit.
func (g *group) forget(s slot) {
	g.unset(s.topic, s.partition)
	for id := range g.transactions {
		g.leave(id, s)
	}
}

// entersBy counts writes of a slot in transactions that are under way.
func (g *group) entersBy(s slot, n int) {
	if g.entering == nil {
		g.entering = map[slot]int{}
	}
	if g.entering[s] += n; g.entering[s] == 0 {
		delete(g.entering, s)
	}
}

// unstable reports whether a transaction may yet decide what is committed.
func (g *group) unstable(s slot) bool {
	if g.entering[s] > 0 {
		return true
	}
	for _, t := range g.transactions {
		if _, ok := t.offsets[s]; ok {
			return true
		}
	}
	return false
}
