package txn

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describe shows an id as it is on record. Of a transaction that is being ended
// it shows the partitions that have no marker yet.
func (c *Core) describe(q *Describe) *kmsg.DescribeTransactionsResponseTransactionState {
	resp := kmsg.NewDescribeTransactionsResponseTransactionState()
	resp.TransactionalID = q.TransactionalID
	t := c.ids[q.TransactionalID]
	if t == nil || !t.recorded {
		resp.ErrorCode = kerr.TransactionalIDNotFound.Code
		return &resp
	}
	resp.State, resp.TimeoutMillis = t.state.String(), int32(t.timeout.Milliseconds())
	resp.StartTimestamp, resp.ProducerID, resp.ProducerEpoch = t.started, t.producerID, t.epoch
	shown := t.partitions
	if t.state.preparing() {
		shown = t.owed
	}
	resp.Topics = []kmsg.DescribeTransactionsResponseTransactionStateTopic{}
	for _, p := range slices.SortedFunc(maps.Keys(shown), Partition.compare) {
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != p.Topic {
			rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			rt.Topic = p.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		last := &resp.Topics[len(resp.Topics)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return &resp
}

func (c *Core) list(q *List) []kmsg.ListTransactionsResponseTransactionState {
	all := []kmsg.ListTransactionsResponseTransactionState{}
	for _, t := range c.sorted() {
		switch {
		case !t.recorded,
			q.States != nil && !q.States[t.state],
			q.ProducerIDs != nil && !q.ProducerIDs[t.producerID],
			q.Longer >= 0 && c.wall-t.started <= q.Longer:
			continue
		}
		rt := kmsg.NewListTransactionsResponseTransactionState()
		rt.TransactionalID, rt.ProducerID, rt.TransactionState = t.id, t.producerID, t.state.String()
		all = append(all, rt)
	}
	return all
}
