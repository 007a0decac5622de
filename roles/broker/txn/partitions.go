package txn

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// addPartitions makes partitions part of the transaction, and begins it with the
// first; or says whether they are.
func (c *Core) addPartitions(r Request, q *AddPartitions) {
	t := c.ids[q.TransactionalID]
	switch {
	case q.TransactionalID == "":
		c.refuse(r, kerr.InvalidRequest.Code)
		return
	case t == nil:
		c.refuse(r, kerr.InvalidProducerIDMapping.Code)
		return
	case t.moving():
		c.park(t, r) // before the checks: the producer may have been told what comes
		return
	case !guard.Check("txn.add-id", q.ProducerID == t.producerID):
		c.refuse(r, kerr.InvalidProducerIDMapping.Code)
		return
	case !guard.Check("txn.add-epoch", q.ProducerEpoch == t.epoch):
		c.refuse(r, kerr.ProducerFenced.Code)
		return
	}
	codes := make([]int16, len(q.Partitions))
	var more []Partition
	for i, p := range q.Partitions {
		if t.state == Ongoing && t.partitions[p] {
			continue
		}
		if q.VerifyOnly {
			codes[i] = kerr.TransactionAbortable.Code
			continue
		}
		more = append(more, Partition{strings.Clone(p.Topic), p.Index})
	}
	switch {
	case len(more) == 0:
		c.answer(r.Call, codes)
		return
	case !guard.Check("txn.partitions-bounded", !r.Full):
		c.refuse(r, kerr.CoordinatorNotAvailable.Code)
		return
	}
	c.move(t, t.with(more, q.Version, c.wall), func(err error) {
		if !guard.Check("txn.added-recorded", err == nil) {
			c.refuse(r, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
			return
		}
		c.answer(r.Call, codes)
	})
}
