package group

import (
	"context"
	"sync"
	"sync/atomic"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
)

// Topic is where groups are recorded.
const Topic = "__consumer_offsets"

// Partitions is how many partitions Topic has. Where a group is found depends
// on it, so it never changes.
const Partitions = 50

// Partition returns the partition of [Topic] that holds a group: Kafka's, the
// absolute value of Java's hash of the id, modulo the number of partitions.
func Partition(groupID string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(groupID)) {
		h = 31*h + int32(unit)
	}
	if h < 0 {
		h = -h
	}
	return max(h, 0) % Partitions // the least int32 has no absolute value; Kafka takes 0
}

// Coordinator coordinates the groups of the partitions loaded into it.
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
	groups atomic.Int64
	bytes  atomic.Int64
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
// reads the log, and answers COORDINATOR_LOAD_IN_PROGRESS meanwhile. A log that
// cannot be read is tried again until Unload. A partition that is loaded under
// a lower epoch is unloaded first; under the same, nothing happens.
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
// Completions of appends that come later are ignored.
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
	Groups          int64 // known, empty ones included
	Bytes           int64 // of state, as estimated
}

// Stats returns the totals of now.
func (c *Coordinator) Stats() Stats {
	st := Stats{Groups: c.groups.Load(), Bytes: c.bytes.Load()}
	for _, s := range c.here() {
		if s.ready.Load() {
			st.Loaded++
		} else {
			st.Loading++
		}
	}
	return st
}

// AwaitLoad returns when a partition of [Topic] is loaded, at once when it is not led
// here, and when it is led no more, or ctx ends.
func (c *Coordinator) AwaitLoad(ctx context.Context, partition int32) {
	var before *shard
	for s := c.shards[partition].Load(); s != nil && s != before; s = c.shards[partition].Load() {
		select {
		case <-s.loaded:
			return
		case <-ctx.Done():
			return
		case <-s.ctx.Done(): // under this epoch
			before = s
		}
	}
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

// submit passes a request to the shard that has the group. done gets the
// answer's body, or refuse the reason why there is none.
func (c *Coordinator) submit(ctx context.Context, group string, r Request, done func(any), refuse func(code int16)) {
	s := c.shards[Partition(group)].Load()
	if s == nil {
		refuse(kerr.NotCoordinator.Code)
		return
	}
	s.submit(ctx, r, done, refuse)
}

// full reports whether nothing new may be taken.
func (c *Coordinator) full() bool {
	return c.groups.Load() >= int64(c.opt.MaxGroups) || c.bytes.Load() >= c.opt.MaxState
}

func newUUID() string { return uuid.NewString() }
