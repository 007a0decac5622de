package clean

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Catalogue is the controller, as a cleaner sees it.
type Catalogue interface {
	// Prepare issues ids, the first of which it returns.
	Prepare(ctx context.Context, count int) (first storage.ObjectID, err error)
	// Replace names the ranges of an object that stands in the bucket in the place
	// of others: the results are nil or an error for each.
	Replace(ctx context.Context, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error)
	// RecordCleaning notes how far compaction by key has come in a partition.
	RecordCleaning(ctx context.Context, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error
}

// Options of a cleaner.
type Options struct {
	Limits
	Interval  time.Duration // between two looks while there is nothing to do
	Bandwidth int64         // bytes a second that are read; 0: no bound
	// Pace says how long n bytes have to wait before they are read, beside Bandwidth;
	// nil: not at all.
	Pace func(n int64) time.Duration

	Image     func() *metadata.Image // the newest; nil: none yet
	Broker    int32                  // whose partitions are compacted
	Catalogue Catalogue
	Bucket    bucket.Bucket
	Key       func(storage.ObjectID) string
	// Policy says how a topic is compacted by key; false: it is not.
	Policy func(*metadata.Topic) (Policy, bool)
	// Header is what objects say of their maker; the id is set for each.
	Header object.Header
	// IDAge is how long an id that was issued may be used: well below the time
	// after which the controller condemns it.
	IDAge time.Duration
	// Busy returns the partitions whose ranges something else is rewriting; nil:
	// nothing does.
	Busy func() map[storage.PartitionID]struct{}
	// Hold reports whether something more urgent needs the bucket: no object is begun
	// then. nil: never.
	Hold func() bool
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
	// Believed is the time by which records are old, and tombstones have their horizons;
	// false: none is believed, and no round begins. nil: Now, always.
	Believed func() (time.Time, bool)
}

// Stats counts what a cleaner did.
type Stats struct {
	Rounds       int64 // that came to their end
	FullRounds   int64 // of those, where the table of keys was full
	Failures     int64 // rounds that did not
	Objects      int64 // committed
	ReadBytes    int64
	WrittenBytes int64
	Removed      int64 // records that had a later one of the same key, no key, or were aborted
	Tombstones   int64 // that went after their time
	KeyMemory    int64 // bytes of the table of the round under way, or of the last
	Running      int64
	DirtyRatio   float64 // share of new bytes in the partition that has the largest, at the last look
	LastError    string
	FailingSince time.Time // zero: the last round made it
}

// Cleaner compacts by key until it is closed.
type Cleaner struct {
	o         Options
	ctx       context.Context
	stop      context.CancelFunc
	done      sync.WaitGroup
	wake      chan struct{} // holds a token when there is a reason to look
	objects   *tiering.Objects
	bandwidth tiering.Bandwidth
	read      atomic.Int64
	written   atomic.Int64

	// spare is the table of the last round. It belongs to the round under way, and
	// goes when none follows at once.
	spare *keyTable

	mu      sync.Mutex
	planner *planner // guarded by mu
	stats   Stats    // guarded by mu
}

// New returns a cleaner that does nothing until it is started.
func New(o Options) *Cleaner {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Believed == nil {
		now := o.Now
		o.Believed = func() (time.Time, bool) { return now(), true }
	}
	c := &Cleaner{o: o, wake: make(chan struct{}, 1), planner: newPlanner(o.Limits), bandwidth: tiering.Bandwidth{Rate: o.Bandwidth, Now: o.Now, Pace: o.Pace}}
	c.objects = tiering.NewObjects(tiering.ObjectOptions{
		Prepare: o.Catalogue.Prepare, Block: idsAtOnce, Age: o.IDAge, Now: o.Now,
		Bucket: o.Bucket, Key: o.Key, Header: o.Header,
	})
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Start begins to compact. It is called once.
func (c *Cleaner) Start() { c.done.Go(func() { tiering.Look(c.ctx, c.o.Interval, c.wake, c.begin) }) }

// Close gives up the round under way and waits for its goroutines. Nothing is lost:
// what was committed stays, and another round goes on there.
func (c *Cleaner) Close() error {
	c.stop()
	c.done.Wait()
	return nil
}

// Stats returns the present figures.
func (c *Cleaner) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.ReadBytes, s.WrittenBytes = c.read.Load(), c.written.Load()
	s.Running, s.DirtyRatio = int64(len(c.planner.running)), c.planner.dirtiest
	return s
}

// Rewriting returns the partitions whose ranges a round is rewriting.
func (c *Cleaner) Rewriting() map[storage.PartitionID]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	busy := make(map[storage.PartitionID]struct{}, len(c.planner.running))
	for id := range c.planner.running {
		busy[id] = struct{}{}
	}
	return busy
}

// begin looks at the catalogue and starts the round that is due.
func (c *Cleaner) begin() {
	image := c.o.Image()
	if image == nil || image.FeatureLevel() < metadata.CleaningFeatureLevel || c.o.Hold != nil && c.o.Hold() {
		return
	}
	var busy map[storage.PartitionID]struct{}
	if c.o.Busy != nil {
		busy = c.o.Busy() // before the lock: it takes another
	}
	believed, ok := c.o.Believed()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	var j Job
	due := guard.Check("clean.clock-believed", ok)
	if due {
		j, due = c.planner.plan(c.o.Now(), View{
			Partitions: c.partitions(image),
			Busy:       func(id storage.PartitionID) bool { _, is := busy[id]; return is },
			Believed:   believed,
		})
	}
	switch {
	case due:
		c.done.Go(func() { c.clean(j) }) // blocks on the controller and the bucket
	case len(c.planner.running) == 0:
		c.spare = nil
	}
}

// table returns an empty table of keys for the round under way: the one that is there,
// for a second one would be as much memory again until the garbage collector has come.
func (c *Cleaner) table(expected int64) *keyTable {
	if c.spare == nil {
		c.spare = newKeyTable(c.o.KeyMemory, expected)
	} else {
		c.spare.empty(expected)
	}
	return c.spare
}

// partitions walks those of an image that are led here and compacted by key.
func (c *Cleaner) partitions(image *metadata.Image) func(func(Partition) bool) {
	return func(yield func(Partition) bool) {
		for t := range image.Topics() {
			policy, compacted := c.o.Policy(t)
			if !compacted {
				continue
			}
			for p := range t.Partitions.All() {
				if p.Leader != c.o.Broker || p.Ranges().Len() == 0 {
					continue
				}
				if !yield(Partition{storage.PartitionID{Topic: t.ID, Index: p.Index}, p.LeaderEpoch, policy, p.Ranges(), p.Cleaning(), len(p.Filed()) > 0}) {
					return
				}
			}
		}
	}
}

// clean does one round, and tells the planner how it went.
func (c *Cleaner) clean(j Job) {
	r := &round{c: c, ctx: c.ctx, job: j, state: j.Cleaning, now: j.Believed.UnixMilli(), share: 1}
	r.reader = reader{partition: j.ID, fill: c.fill, pace: &c.bandwidth}
	err := r.run()
	image := c.o.Image()
	c.mu.Lock()
	c.planner.done(c.o.Now(), j, outcome{noted: r.state, full: r.full && !r.left, held: r.held, err: err})
	c.planner.forget(func(id storage.PartitionID) bool {
		_, p := image.Partition(id)
		return p != nil && p.Leader == c.o.Broker
	})
	if r.keys != nil {
		c.stats.KeyMemory = r.keys.bytes()
	}
	switch {
	case err == nil:
		c.stats.FailingSince, c.stats.LastError = time.Time{}, ""
		if !r.left {
			c.stats.Rounds++
		}
		if r.full && !r.left {
			c.stats.FullRounds++
		}
	case c.ctx.Err() == nil:
		c.stats.Failures++
		c.stats.LastError = err.Error()
		if c.stats.FailingSince.IsZero() {
			c.stats.FailingSince = c.o.Now()
			c.o.Log.Warn("a partition could not be compacted by key; it is tried again", "partition", j.ID, "error", err)
		}
	}
	c.mu.Unlock()
	tiering.Leave(c.wake)
}

// sifted counts what an object that was committed left out.
func (c *Cleaner) sifted(o *output) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Objects++
	c.stats.Tombstones += o.counts.tombstones
	c.stats.Removed += o.counts.removed() - o.counts.tombstones
}

// fill reads part of an object.
func (c *Cleaner) fill(ctx context.Context, id storage.ObjectID, p []byte, at int64) error {
	if err := c.o.Bucket.ReadAt(ctx, c.o.Key(id), p, at); err != nil {
		return err
	}
	c.read.Add(int64(len(p)))
	return nil
}

// SetBandwidth changes [Options].Bandwidth.
func (c *Cleaner) SetBandwidth(rate int64) { c.bandwidth.Set(rate) }
