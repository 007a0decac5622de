package group

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
)

// Topic is where groups are recorded.
const Topic = "__consumer_offsets"

// Partitions is how many partitions Topic has. Where a group is found depends
// on it, so it never changes.
const Partitions = 50

// Partition returns the partition of [Topic] that holds a group.
func Partition(groupID string) int32 { return coordinator.PartitionOf(groupID, Partitions) }

// Coordinator coordinates the groups of the partitions loaded into it.
type Coordinator struct {
	opt    Options
	shards *coordinator.Shards[Request, *shard]

	matcher *matcher

	// Totals over all shards, for the bounds on memory.
	groups atomic.Int64
	bytes  atomic.Int64
	names  atomic.Int64 // bytes of the groups' ids
}

// Open returns a coordinator that has no partition yet.
func Open(opt Options) (*Coordinator, error) {
	if err := opt.setDefaults(); err != nil {
		return nil, err
	}
	c := &Coordinator{opt: opt, matcher: newMatcher(opt.Catalogue)}
	c.shards = coordinator.New(coordinator.Options{
		What: "groups", Partitions: Partitions, MaxQueue: opt.MaxQueue, Logger: opt.Logger,
	}, c.newShard)
	return c, nil
}

// Load begins to coordinate a partition that this broker leads under epoch: it
// reads the log, and answers COORDINATOR_LOAD_IN_PROGRESS meanwhile. A log that
// cannot be read is tried again until Unload. A partition that is loaded under
// a lower epoch is unloaded first; under the same, nothing happens.
func (c *Coordinator) Load(partition int32, epoch storage.Epoch) {
	c.shards.Load(partition, epoch)
}

// Unload stops coordinating a partition: whoever waits is answered
// NOT_COORDINATOR. It returns before that is done.
func (c *Coordinator) Unload(partition int32) { c.shards.Unload(partition) }

// Close unloads every partition and returns when nothing runs any more.
// Completions of appends that come later are ignored.
func (c *Coordinator) Close() error {
	c.matcher.close()
	c.shards.Close()
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
	st.Loaded, st.Loading = c.shards.Loaded()
	return st
}

// What a group takes in an answer that lists it, about, besides its id: as it is found,
// gathered and encoded. The id is there several times until the encoding has
// grown, and the collector has come by.
const (
	listedBytes = 500
	listedNames = 6
)

// ListMemory is about how many bytes an answer to ListGroups takes while it is made, if
// all groups are listed.
func (c *Coordinator) ListMemory() int64 {
	return c.groups.Load()*listedBytes + c.names.Load()*listedNames
}

// AwaitLoad returns when a partition of [Topic] is loaded, at once when it is not led
// here, and when it is led no more, or ctx ends.
func (c *Coordinator) AwaitLoad(ctx context.Context, partition int32) {
	c.shards.AwaitLoad(ctx, partition)
}

// submit passes a request to the shard that has the group. done gets the
// answer's body, or refuse the reason why there is none.
func (c *Coordinator) submit(ctx context.Context, group string, r Request, done func(any), refuse func(code int16)) {
	c.shards.Submit(ctx, Partition(group), r, done, refuse)
}

// question is a request whose answer is no more than what is known here.
type question struct {
	request Request
	done    func(any)
	refuse  func(code int16)
}

// submitConfirmed is submit for questions about groups of one partition: they are answered by a
// coordinator that was the only one when they came. One that was cut off would answer from what
// it knew before, and a consumer begin again where another had gone on.
func (c *Coordinator) submitConfirmed(ctx context.Context, partition int32, questions []question) {
	refuse := func() {
		for _, q := range questions {
			q.refuse(kerr.NotCoordinator.Code)
		}
	}
	s := c.shards.Shard(partition)
	if s == nil {
		refuse()
		return
	}
	c.opt.Log.Confirm(ctx, partition, s.Epoch, func(err error) {
		if err != nil {
			refuse()
			return
		}
		for _, q := range questions {
			s.Submit(ctx, q.request, q.done, q.refuse)
		}
	})
}

// full reports whether nothing new may be taken.
func (c *Coordinator) full() bool {
	return c.groups.Load() >= int64(c.opt.MaxGroups) || c.bytes.Load() >= c.opt.MaxState
}

func newUUID() string { return uuid.NewString() }
