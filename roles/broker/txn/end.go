package txn

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// ownEpochs is the first EndTxn whose client has an epoch for each transaction.
const ownEpochs = 5

func (c *Core) endTxn(r Request, q *kmsg.EndTxnRequest) {
	t := c.ids[q.TransactionalID]
	switch {
	case q.TransactionalID == "":
		c.refuse(r, kerr.InvalidRequest.Code)
	case t == nil:
		c.refuse(r, kerr.InvalidProducerIDMapping.Code)
	case t.pending != nil:
		c.park(t, r)
	case q.Version >= ownEpochs:
		c.endOwnEpoch(t, r, q)
	default:
		c.endSameEpoch(t, r, q)
	}
}

// endSameEpoch ends a transaction whose epoch the next one will have too. What
// comes late cannot be told from what comes in time, except by the outcome.
func (c *Core) endSameEpoch(t *transaction, r Request, q *kmsg.EndTxnRequest) {
	switch {
	case q.ProducerID != t.producerID:
		c.refuse(r, kerr.InvalidProducerIDMapping.Code)
	case !guard.Check("txn.end-epoch-v1", q.ProducerEpoch == t.epoch):
		c.refuse(r, kerr.ProducerFenced.Code)
	case t.state == Ongoing:
		c.decide(t, r, q)
	default:
		c.endAgain(t, r, q)
	}
}

// endOwnEpoch ends a transaction that has an epoch of its own: who names the epoch
// before has not heard that his transaction is over (KIP-890).
func (c *Core) endOwnEpoch(t *transaction, r Request, q *kmsg.EndTxnRequest) {
	if t.state.preparing() && t.goesOnAs(q.ProducerID, q.ProducerEpoch) {
		c.park(t, r) // it ends the next transaction, which begins when the markers are written
		return
	}
	rolled := q.ProducerID == t.previousID && q.ProducerID != t.producerID && q.ProducerEpoch == math.MaxInt16-1 && t.epoch == 0
	again := q.ProducerID == t.producerID && int32(q.ProducerEpoch)+1 == int32(t.epoch) || rolled
	if t.epoch == math.MaxInt16 && t.nextID == noProducerID {
		// It was aborted in its last epoch, and no other was made ready for it: it has
		// to ask for one.
		again = guard.Check("txn.highest-epoch", false)
	}
	current := q.ProducerID == t.producerID && q.ProducerEpoch == t.epoch
	var valid bool
	switch {
	case t.state == Ongoing || t.state == Empty:
		valid = current
	case t.state.preparing():
		valid = again
	default:
		valid = current || again
	}
	switch {
	case q.ProducerID != t.producerID && !rolled:
		c.refuse(r, kerr.InvalidProducerIDMapping.Code)
	case !guard.Check("txn.end-epoch", valid):
		c.refuse(r, kerr.ProducerFenced.Code)
	case again:
		c.endAgain(t, r, q)
	case t.state == Ongoing:
		c.decide(t, r, q)
	case !q.Commit:
		c.decide(t, r, q) // what may have been added, and not heard of, has been aborted
	default:
		c.refuse(r, kerr.InvalidTxnState.Code)
	}
}

// endAgain answers who asks for the end of a transaction that has one: it is done,
// if it is the one asked for.
func (c *Core) endAgain(t *transaction, r Request, q *kmsg.EndTxnRequest) {
	committed := t.state == PrepareCommit || t.state == CompleteCommit
	switch {
	case t.state == Empty || t.state == Ongoing || !guard.Check("txn.end-outcome", committed == q.Commit):
		c.refuse(r, kerr.InvalidTxnState.Code)
	case t.state.preparing():
		c.park(t, r)
	default:
		c.answer(r.Call, ended(q, &t.metadata))
	}
}

// decide writes how the transaction ends, and tells it: nothing can change it then.
func (c *Core) decide(t *transaction, r Request, q *kmsg.EndTxnRequest) {
	own := q.Version >= ownEpochs
	next := t.ended(q.Commit, own, c.wall)
	if !own && next.version >= bumpsEpochs {
		// Its partitions were added by a newer way: the marker must be taken for what
		// it is, one under the epoch that the transaction has had (KIP-890).
		next.version = bumpsEpochs - 1
	}
	if own {
		next.version = bumpsEpochs
		if exhausted(t.epoch) {
			id, ok := c.producerID(r)
			if !ok {
				return
			}
			next.nextID = id
		}
	}
	c.move(t, next, func(err error) {
		if !guard.Check("txn.decision-recorded", err == nil) {
			c.refuse(r, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
			return
		}
		c.answer(r.Call, ended(q, &next))
	})
}

// ended tells a producer the id and epoch to go on with.
func ended(q *kmsg.EndTxnRequest, m *metadata) *kmsg.EndTxnResponse {
	resp := q.ResponseKind().(*kmsg.EndTxnResponse)
	resp.ProducerID, resp.ProducerEpoch = m.producerID, m.epoch // as in goesOnAs
	if m.nextID != noProducerID {
		resp.ProducerID, resp.ProducerEpoch = m.nextID, 0
	}
	return resp
}

// goesOnAs reports whether this is the id and epoch that ended tells.
func (m *metadata) goesOnAs(id int64, epoch int16) bool {
	if m.nextID != noProducerID {
		return id == m.nextID && epoch == 0
	}
	return id == m.producerID && epoch == m.epoch
}

// send asks for the markers that are owed, or completes.
func (c *Core) send(t *transaction) {
	t.retry = time.Time{}
	if len(t.owed) == 0 {
		c.complete(t)
		return
	}
	t.sending = true
	c.fx.Markers = append(c.fx.Markers, Sending{t.id, Marker{
		ProducerID: t.producerID, ProducerEpoch: t.epoch, Commit: t.state == PrepareCommit, Version: t.version,
		Partitions: slices.SortedFunc(maps.Keys(t.owed), Partition.compare),
	}})
}

// marked takes what became of the markers.
func (c *Core) marked(ev Marked) {
	t := c.ids[ev.TransactionalID]
	if t == nil || !t.sending {
		panic("txn: markers of " + ev.TransactionalID + ", which nobody asked for")
	}
	t.sending = false
	t.owed = map[Partition]bool{}
	for _, p := range ev.Left {
		t.owed[p] = true
	}
	if guard.Check("txn.marked-all", len(t.owed) == 0) {
		c.complete(t)
		return
	}
	c.backOff(t)
	c.schedule(t)
}

// complete writes that every marker is written.
func (c *Core) complete(t *transaction) {
	c.move(t, t.completed(c.wall), func(err error) {
		if err != nil {
			c.backOff(t)
		}
	})
}
