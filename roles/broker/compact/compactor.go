package compact

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// Limits of a compactor that no option sets.
const (
	// idsAtOnce is how many ids are asked for: objects are few, and an id that is
	// left over is condemned in time.
	idsAtOnce = 2

	// DefaultMemory is what data of one object under way may take.
	DefaultMemory = 64 << 20

	// DefaultIndexes is what is kept of indexes between jobs. An index has 200 bytes: it
	// is that of 40,000 ranges, which come to 12 GiB with 300 KiB each.
	DefaultIndexes = 8 << 20
)

// Catalogue is the controller, as a compactor sees it.
type Catalogue interface {
	// Prepare issues ids, the first of which it returns.
	Prepare(ctx context.Context, count int) (first storage.ObjectID, err error)
	// Replace names the ranges of an object that stands in the bucket in the place
	// of others: the results are nil or an error for each.
	Replace(ctx context.Context, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error)
}

// Options of a compactor.
type Options struct {
	Limits
	Interval  time.Duration // between two looks while there is nothing to do
	Bandwidth int64         // bytes a second that are read; about as many are written. 0: no bound
	// Pace says how long n bytes have to wait before they are read, beside Bandwidth;
	// nil: not at all.
	Pace    func(n int64) time.Duration
	Memory  int64 // bytes of data that one object under way holds; 0: DefaultMemory
	Indexes int64 // bytes of indexes that are kept for other objects to be made; 0: DefaultIndexes

	Image     func() *metadata.Image // the newest; nil: none yet
	Broker    int32                  // whose partitions are compacted
	Catalogue Catalogue
	Bucket    bucket.Bucket
	Key       func(storage.ObjectID) string
	// Header is what objects say of their maker; the id is set for each.
	Header object.Header
	// IDAge is how long an id that was issued may be used: well below the time
	// after which the controller condemns it.
	IDAge time.Duration
	// Busy returns the partitions whose ranges something else is rewriting; nil:
	// nothing does.
	Busy func() map[storage.PartitionID]struct{}
	// Hold reports whether something more urgent needs the bucket: nothing is begun
	// then. nil: never.
	Hold func() bool
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Stats counts what a compactor did.
type Stats struct {
	Objects       int64 // committed
	Bytes         int64 // of them
	RangesIn      int64 // that were replaced
	RangesOut     int64 // that took their place
	Reads         int64 // of the bucket
	ReadBytes     int64
	Failures      int64 // objects that were not committed
	RefusedRanges int64 // that the catalogue, or their damage, kept as they are
	Running       int64
	Queued        int64 // objects that are planned and wait for their turn
	LastError     string
	FailingSince  time.Time // zero: the last object made it
}

// Compactor rewrites objects until it is closed.
type Compactor struct {
	o          Options
	ctx        context.Context
	stop       context.CancelFunc
	done       sync.WaitGroup
	wake       chan struct{} // holds a token when there is a reason to look
	objects    *tiering.Objects
	bandwidth  tiering.Bandwidth
	read, gets atomic.Int64
	shelf      *shelf

	mu      sync.Mutex
	planner *planner // guarded by mu
	stats   Stats    // guarded by mu
}

// New returns a compactor that does nothing until it is started.
func New(o Options) *Compactor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Indexes == 0 {
		o.Indexes = DefaultIndexes
	}
	c := &Compactor{o: o, wake: make(chan struct{}, 1), planner: newPlanner(o.Limits), bandwidth: tiering.Bandwidth{Rate: o.Bandwidth, Now: o.Now, Pace: o.Pace}, shelf: newShelf(o.Indexes)}
	c.objects = tiering.NewObjects(tiering.ObjectOptions{
		Prepare: o.Catalogue.Prepare, Block: idsAtOnce, Age: o.IDAge, Now: o.Now,
		Bucket: o.Bucket, Key: o.Key, Header: o.Header,
	})
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Start begins to compact. It is called once.
func (c *Compactor) Start() { c.done.Go(func() { tiering.Look(c.ctx, c.o.Interval, c.wake, c.begin) }) }

// Close gives up objects under way and waits for their goroutines. Nothing is
// lost: they are planned anew.
func (c *Compactor) Close() error {
	c.stop()
	c.done.Wait()
	return nil
}

// Stats returns the present figures.
func (c *Compactor) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Reads, s.ReadBytes = c.gets.Load(), c.read.Load()
	s.Running, s.Queued = int64(c.planner.running), int64(len(c.planner.queue))
	return s
}

// Rewriting returns the partitions whose ranges are being rewritten, or are about to.
func (c *Compactor) Rewriting() map[storage.PartitionID]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.planner.busy)
}

// begin looks at the catalogue and starts what is due.
func (c *Compactor) begin() {
	image := c.o.Image()
	if image == nil || c.o.Hold != nil && c.o.Hold() {
		return
	}
	view := c.view(image)
	if c.o.Busy != nil {
		busy := c.o.Busy() // before the lock: it takes another
		view.Busy = func(id storage.PartitionID) bool { _, is := busy[id]; return is }
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	begun := c.planner.plan(c.o.Now(), view)
	c.shelf.retain(c.planner.mixed)
	for _, j := range begun {
		c.done.Go(func() { c.compact(j) }) // blocks on the controller and the bucket
	}
}

// view is what this broker leads in an image.
func (c *Compactor) view(image *metadata.Image) View {
	mixed := map[storage.ObjectID]bool{} // looked up once, not for each range
	return View{
		Partitions: func(yield func(Partition) bool) {
			for t := range image.Topics() {
				for p := range t.Partitions.All() {
					if p.Leader != c.o.Broker || p.Ranges().Len() == 0 {
						continue
					}
					if !yield(Partition{storage.PartitionID{Topic: t.ID, Index: p.Index}, p.LeaderEpoch, p.Ranges().All()}) {
						return
					}
				}
			}
		},
		From: func(id storage.PartitionID, offset storage.Offset) Partition {
			_, p := image.Partition(id)
			if p == nil || p.Leader != c.o.Broker {
				return Partition{ID: id, Ranges: func(func(metadata.Range) bool) {}}
			}
			return Partition{id, p.LeaderEpoch, p.Ranges().From(offset)}
		},
		Mixed: func(id storage.ObjectID) bool {
			is, known := mixed[id]
			if !known {
				o, ok := image.Object(id)
				is = ok && o.Mixed
				mixed[id] = is
			}
			return is
		},
	}
}

// compact makes one object, and tells the planner how it went.
func (c *Compactor) compact(j Job) {
	w, s, err := c.rewrite(j)
	image := c.o.Image()
	c.mu.Lock()
	c.planner.done(c.o.Now(), j, w.refused, err != nil)
	c.planner.forget(func(id storage.PartitionID) bool {
		_, p := image.Partition(id)
		return p != nil && p.Leader == c.o.Broker
	})
	c.stats.RefusedRanges += int64(len(w.refused))
	switch {
	case err == nil:
		c.stats.FailingSince, c.stats.LastError = time.Time{}, ""
		for _, run := range w.runs {
			if !w.refused[run.Partition] {
				c.stats.RangesIn += int64(len(run.Ranges))
				c.stats.RangesOut++
			}
		}
		if s != nil {
			c.stats.Objects++
			c.stats.Bytes += s.Size
		}
	case c.ctx.Err() == nil:
		c.stats.Failures++
		c.stats.LastError = err.Error()
		if c.stats.FailingSince.IsZero() {
			c.stats.FailingSince = c.o.Now()
			c.o.Log.Warn("objects in the bucket could not be compacted; they stay as they are, and it is tried again", "error", err)
		}
	}
	c.mu.Unlock()
	tiering.Leave(c.wake)
}

// SetBandwidth changes [Options].Bandwidth.
func (c *Compactor) SetBandwidth(rate int64) { c.bandwidth.Set(rate) }
