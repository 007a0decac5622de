package txn

import (
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// maxID is the longest id that the key of a record can hold.
const maxID = math.MaxInt16

// initProducerID gives a producer the id and epoch to go on with, which fences off
// all that had the transactional id before. One who names the epoch he has
// (KIP-360) goes on, unless another has come since.
func (c *Core) initProducerID(r Request, q *kmsg.InitProducerIDRequest) {
	timeout := time.Duration(q.TransactionTimeoutMillis) * time.Millisecond
	switch {
	case *q.TransactionalID == "", !guard.Check("txn.id-length", len(*q.TransactionalID) <= maxID), (q.ProducerID < 0) != (q.ProducerEpoch < 0):
		c.refuse(r, kerr.InvalidRequest.Code)
		return
	case timeout <= 0 || timeout > c.opt.MaxTimeout:
		c.refuse(r, kerr.InvalidTransactionTimeout.Code)
		return
	}
	t := c.ids[*q.TransactionalID]
	if t == nil {
		if !guard.Check("txn.ids-bounded", !r.Full) {
			c.refuse(r, kerr.CoordinatorNotAvailable.Code)
			return
		}
		id, ok := c.producerID(r)
		if !ok {
			return
		}
		t = c.make(strings.Clone(*q.TransactionalID), id)
	}
	named := q.ProducerID >= 0
	switch {
	case t.moving():
		c.park(t, r)
	case named && !guard.Check("txn.init-fenced", t.isOf(q.ProducerID, q.ProducerEpoch)):
		c.refuse(r, kerr.ProducerFenced.Code)
	case t.state == Ongoing:
		// Nobody is told of the epoch that this abort takes, unless he has the one
		// before it: r comes back to an aborted transaction.
		c.fence(t, named, func(err error) {
			if err != nil {
				c.refuse(r, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
				return
			}
			c.park(t, r)
		})
	default:
		c.begins(t, r, q, timeout)
	}
}

// begins writes the epoch that the producer gets in an idle transaction, and then
// tells it.
func (c *Core) begins(t *transaction, r Request, q *kmsg.InitProducerIDRequest, timeout time.Duration) {
	named := q.ProducerID >= 0 && t.epoch != noProducerEpoch
	var next metadata
	switch {
	case named && (q.ProducerID != t.producerID || q.ProducerEpoch != t.epoch) && t.epoch < math.MaxInt16:
		next = t.idle(t.epoch, t.lastEpoch, timeout, c.wall) // he was told before, and did not hear
	case !guard.Check("txn.epoch-left", !exhausted(t.epoch)):
		id, ok := c.producerID(r)
		if !ok {
			return
		}
		last := noProducerEpoch
		if named {
			last = q.ProducerEpoch
		}
		next = t.rotated(id, last, timeout, c.wall)
	case named:
		next = t.idle(t.epoch+1, t.epoch, timeout, c.wall)
	default:
		next = t.idle(t.epoch+1, noProducerEpoch, timeout, c.wall)
	}
	c.move(t, next, func(err error) {
		if err != nil {
			c.refuse(r, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
			return
		}
		resp := q.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = next.producerID, next.epoch
		c.answer(r.Call, resp)
	})
}

// isOf reports whether a producer that names this id and epoch is the one that t
// belongs to: he has what he was told last or, when he has not heard it, what he
// was told before. In a transaction he must have heard it.
func (t *transaction) isOf(id int64, epoch int16) bool {
	switch {
	case t.epoch == noProducerEpoch: // all that was known of him has expired
		return true
	case id == t.producerID && epoch == t.epoch:
		return true
	case t.state == Ongoing || epoch != t.lastEpoch:
		return false
	case id == t.producerID:
		return epoch+1 == t.epoch
	}
	return id == t.previousID && exhausted(epoch)
}

// fence aborts a transaction under an epoch that its producer does not have. One
// that gets to know of it may go on (KIP-588).
func (c *Core) fence(t *transaction, goesOn bool, then func(err error)) {
	next := t.ended(false, true, c.wall)
	if !goesOn {
		next.lastEpoch = noProducerEpoch
	}
	c.note(t, "transaction aborted by its coordinator")
	c.move(t, next, then)
}

// timeOut aborts a transaction that has taken too long.
func (c *Core) timeOut(t *transaction) {
	c.fence(t, true, func(err error) {
		if err != nil {
			c.backOff(t)
		}
	})
}
