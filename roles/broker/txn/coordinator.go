package txn

import (
	"context"
	"sync"
	"sync/atomic"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
)

// Topic is where transactions are recorded.
const Topic = "__transaction_state"

// Partitions is how many partitions Topic has. Where a transactional id is found
// depends on it, so it never changes.
const Partitions = 50

// PartitionOf returns the partition of [Topic] that holds a transactional id:
// Kafka's, the absolute value of Java's hash of the id, modulo the number of
// partitions.
func PartitionOf(transactionalID string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(transactionalID)) {
		h = 31*h + int32(unit)
	}
	if h < 0 {
		h = -h
	}
	return max(h, 0) % Partitions // the least int32 has no absolute value; Kafka takes 0
}

// Coordinator coordinates the transactions of the partitions loaded into it.
type Coordinator struct {
	opt    Options
	ctx    context.Context // ends with the coordinator
	cancel context.CancelFunc
	run    sync.WaitGroup // the goroutines of shards

	shards [Partitions]atomic.Pointer[shard] // nil: not led here

	mu     sync.Mutex         // guards changes of shards, last and closed
	last   [Partitions]*shard // the last that there was; its successor waits for it
	closed bool

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
	c := &Coordinator{opt: opt}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Load begins to coordinate a partition that this broker leads under epoch: it
// reads the log, answers COORDINATOR_LOAD_IN_PROGRESS meanwhile, and then goes on
// with what was decided. A log that cannot be read is tried again until Unload. A
// partition that is loaded under a lower epoch is unloaded first; under the same,
// nothing happens.
func (c *Coordinator) Load(partition int32, epoch storage.Epoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.shards[partition].Load()
	if c.closed || was != nil && was.epoch >= epoch {
		return
	}
	if was != nil {
		was.stop()
	}
	s := newShard(c, partition, epoch, c.last[partition])
	c.last[partition] = s
	c.shards[partition].Store(s)
	c.run.Go(s.loop)
}

// Unload stops coordinating a partition: whoever waits is answered
// NOT_COORDINATOR. It returns before that is done.
func (c *Coordinator) Unload(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.shards[partition].Swap(nil); was != nil {
		was.stop()
	}
}

// Close unloads every partition and returns when nothing runs any more.
// Completions that come later are ignored.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	c.closed = true
	for i := range c.shards {
		if was := c.shards[i].Swap(nil); was != nil {
			was.stop()
		}
	}
	c.mu.Unlock()
	c.cancel()
	c.run.Wait()
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
	for _, s := range c.here() {
		if s.ready.Load() {
			st.Loaded++
		} else {
			st.Loading++
		}
	}
	return st
}

// here returns the shards of the partitions led here.
func (c *Coordinator) here() []*shard {
	var all []*shard
	for i := range c.shards {
		if s := c.shards[i].Load(); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// submit passes a request to the shard that has the id. done gets the answer's
// body, or refuse the reason why there is none.
func (c *Coordinator) submit(ctx context.Context, transactionalID string, body any, done func(any), refuse func(code int16)) {
	s := c.shards[PartitionOf(transactionalID)].Load()
	if s == nil {
		refuse(kerr.NotCoordinator.Code)
		return
	}
	s.submit(ctx, body, done, refuse)
}

// full reports whether nothing new may be taken.
func (c *Coordinator) full() bool {
	return c.ids.Load() >= int64(c.opt.MaxIDs) || c.bytes.Load() >= c.opt.MaxState
}
