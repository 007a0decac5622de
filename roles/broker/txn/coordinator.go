package txn

import (
	"context"
	"sync/atomic"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
)

// Topic is where transactions are recorded.
const Topic = "__transaction_state"

// Partitions is how many partitions Topic has. Where a transactional id is found
// depends on it, so it never changes.
const Partitions = 50

// PartitionOf returns the partition of [Topic] that holds a transactional id.
func PartitionOf(transactionalID string) int32 {
	return coordinator.PartitionOf(transactionalID, Partitions)
}

// Coordinator coordinates the transactions of the partitions loaded into it.
type Coordinator struct {
	opt    Options
	shards *coordinator.Shards[any, *shard]

	matches *matches

	// Totals over all shards, for the bounds on memory.
	ids   atomic.Int64
	open  atomic.Int64
	bytes atomic.Int64
}

// Open returns a coordinator that has no partition yet.
func Open(opt Options) (*Coordinator, error) {
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	c := &Coordinator{opt: opt, matches: newMatches()}
	c.shards = coordinator.New(coordinator.Options{
		What: "transactions", Partitions: Partitions, MaxQueue: opt.MaxQueue, Logger: opt.Logger,
	}, c.newShard)
	return c, nil
}

// Load begins to coordinate a partition that this broker leads under epoch: it
// reads the log, answers COORDINATOR_LOAD_IN_PROGRESS meanwhile, and then goes on
// with what was decided. A log that cannot be read is tried again until Unload. A
// partition that is loaded under a lower epoch is unloaded first; under the same,
// nothing happens.
func (c *Coordinator) Load(partition int32, epoch storage.Epoch) {
	c.shards.Load(partition, epoch)
}

// Unload stops coordinating a partition: whoever waits is answered
// NOT_COORDINATOR. It returns before that is done.
func (c *Coordinator) Unload(partition int32) { c.shards.Unload(partition) }

// Close unloads every partition and returns when nothing runs any more.
// Completions that come later are ignored.
func (c *Coordinator) Close() error {
	c.matches.close()
	c.shards.Close()
	return nil
}

// Stats are totals over the loaded partitions.
type Stats struct {
	Loaded, Loading int   // partitions
	IDs             int64 // transactional ids, idle ones included
	Open            int64 // transactions that are not complete
	Bytes           int64 // of state, as estimated
}

// Stats returns the totals of now.
func (c *Coordinator) Stats() Stats {
	st := Stats{IDs: c.ids.Load(), Open: c.open.Load(), Bytes: c.bytes.Load()}
	st.Loaded, st.Loading = c.shards.Loaded()
	return st
}

// listedBytes is about what an id takes in an answer that lists it, besides its letters:
// as it is found, gathered and encoded. Those are there
// several times until that has grown, and the collector has come by.
const listedBytes = 450

// ListMemory is about how many bytes an answer to ListTransactions takes while it is
// made, if all ids are listed, at most.
func (c *Coordinator) ListMemory() int64 { return c.ids.Load()*listedBytes + 6*c.named() }

// DescribeMemory is about how many bytes the partitions in an answer to
// DescribeTransactions take while it is made, at most.
func (c *Coordinator) DescribeMemory() int64 { return 3 * c.named() }

// named is about what the letters of all ids take, and the partitions in open
// transactions.
func (c *Coordinator) named() int64 { return max(0, c.bytes.Load()-c.ids.Load()*idBytes) }

// submit passes a request to the shard that has the id. done gets the answer's
// body, or refuse the reason why there is none.
func (c *Coordinator) submit(ctx context.Context, transactionalID string, body any, done func(any), refuse func(code int16)) {
	c.shards.Submit(ctx, PartitionOf(transactionalID), body, done, refuse)
}

// full reports whether nothing new may be taken.
func (c *Coordinator) full() bool {
	return c.ids.Load() >= int64(c.opt.MaxIDs) || c.bytes.Load() >= c.opt.MaxState
}
