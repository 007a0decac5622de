package hour

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/kafka"
)

// Waits are short, so that an hour holds many of each.
const (
	prefix   = "p"
	deadline = 90 * time.Second
	grace    = 30 * time.Second
	auditing = 100 * time.Second
)

// life is a process.
type life struct {
	w      *world
	disk   *disk.Mem
	handle *handle
	how    ending        // once left has come to nothing
	left   atomic.Int64  // changes of the disk, before it ends
	once   sync.Once     // it ends
	ended  chan struct{} // closed when it has
	c      *controller.Controller
	store  *log.Store
	b      *broker.Broker
	server *kafka.Server
	over   atomic.Bool // nobody believes what it still says
}

// keep is what a configuration says of retention.
func keep(configs map[string]string) controller.Retention {
	r := controller.Retention{Age: -1, Bytes: -1}
	if ms, err := strconv.ParseInt(configs["retention.ms"], 10, 64); err == nil && ms >= 0 {
		r.Age = time.Duration(ms) * time.Millisecond
	}
	if n, err := strconv.ParseInt(configs["retention.bytes"], 10, 64); err == nil {
		r.Bytes = n
	}
	return r
}

const ages = 1 << 40 // changes of the disk: never

// begin starts a process on the disk as it is found. It may end as it starts, after
// so many changes of the disk.
func (w *world) begin(ctx context.Context, how ending, after int64) (l *life, err error) {
	l = &life{w: w, disk: w.fs, handle: &handle{w.sky, make(chan struct{})}, how: how, ended: make(chan struct{})}
	l.left.Store(after)
	fs := disk.NewFaulty(l.disk, disk.Rule{Op: disk.OpChange, Hook: l.change})
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	b := bucket.NewResilient(l.handle, bucket.ResilientOptions{})
	l.c, err = controller.Open(ctx, controller.Options{
		NodeID: 1, Directory: [16]byte{1}, FS: fs, ClusterID: w.cluster, Tick: time.Second, LogCapacity: 8 << 20,
		Bucket: &controller.BucketOptions{
			Bucket: b, Prefix: prefix, Deadline: deadline, Grace: grace, Audit: auditing,
			Retention: 10 * time.Second, MetadataLog: 2 * time.Second, Keep: keep,
		},
	})
	if err != nil {
		return l, fmt.Errorf("open the controller: %w", err)
	}
	if err := w.remember(l, func() { w.cluster = l.c.Image().ClusterID() }); err != nil {
		return l, err
	}
	l.store, err = log.Open(ctx, log.Options{FS: fs, Dir: "wal", Tiered: true, WAL: wal.Options{
		Capacity: 8 << 20, SegmentSize: 512 << 10, Memory: 2 << 20, MaxPayload: 128 << 10,
	}})
	if err != nil {
		return l, fmt.Errorf("open the log: %w", err)
	}
	compaction := compact.DefaultLimits()
	compaction.MinObject, compaction.TargetObject, compaction.Fanout, compaction.MaxRanges, compaction.SaveRanges, compaction.MaxMixed = 16<<10, 128<<10, 4, 4, 2, 4
	compaction.Parallel, compaction.RetryMin, compaction.RetryMax = 2, time.Second, 20*time.Second
	files := filing.DefaultLimits()
	files.Ranges, files.ManifestRanges, files.Large, files.DropAfter = 2, 6, compaction.TargetObject/2, time.Minute
	files.RetryMin, files.RetryMax, compaction.FileRanges = time.Second, 20*time.Second, files.Ranges
	l.b, err = broker.Open(ctx, broker.Options{
		NodeID: 1, Store: l.store, Controller: l.c, ClusterID: w.cluster, Directory: [16]byte{1},
		Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: 9092, Protocol: "PLAINTEXT"}},
		Tier: &broker.Tier{
			Bucket: b, Prefix: prefix, IDAge: deadline / 4, Nonce: w.remembered(),
			Remember: func(nonce [16]byte) error { return w.remember(l, func() { w.nonce = nonce }) },
			Upload: upload.Limits{
				Interval: 2 * time.Second, ObjectBytes: 256 << 10, OwnBytes: 64 << 10, ObjectRanges: 100, Parallel: 2,
				RetryMin: time.Second, RetryMax: 5 * time.Second, Urgent: 0.5,
			},
			Cold:    cold.Options{IndexCache: 256 << 10, BlockCache: 1 << 20, ReadAhead: 512 << 10},
			Compact: &broker.Compaction{Limits: compaction, Interval: 5 * time.Second},
			File:    &broker.Filing{Limits: files, Interval: 5 * time.Second},
		},
	})
	if err != nil {
		return l, fmt.Errorf("open the broker: %w", err)
	}
	l.server = kafka.New(kafka.Options{Handler: l.b, EarlyOK: broker.EarlyOK})
	return l, nil
}

// remember changes what the data directory keeps, unless the process has ended.
func (w *world) remember(l *life, change func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.over.Load() {
		return errGone
	}
	change()
	return nil
}

// close ends all that there is of a process.
func (l *life) close() error {
	var errs []error
	if l.server != nil {
		errs = append(errs, l.server.Close())
	}
	if l.b != nil {
		errs = append(errs, l.b.Close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	if l.c != nil {
		errs = append(errs, l.c.Close())
	}
	return errors.Join(errs...)
}

// ending is how a process ends.
type ending int

const (
	stopped ending = iota
	killed         // what it wrote stays
	cut            // of what it did not sync, anything may stay
	endings
)

func (e ending) String() string { return [...]string{"stopped", "killed", "cut"}[e] }

// change is a moment before something changes on the disk, or is synced, which takes
// its time. The process may end there.
func (l *life) change(op disk.Op, _ string) {
	if l.left.Add(-1) == 0 {
		l.end()
	}
	if op&(disk.OpSync|disk.OpSyncDir) == 0 || l.over.Load() {
		return
	}
	l.w.sky.mu.Lock()
	takes := time.Duration(l.w.sky.rng.IntN(3000)) * time.Microsecond
	if l.w.sky.rng.IntN(300) == 0 {
		takes *= 300
	}
	l.w.sky.mu.Unlock()
	pass(takes)
}

// end is the moment of an end without a word. What the process does from then on
// counts for nothing.
func (l *life) end() {
	l.once.Do(func() {
		w := l.w
		w.mu.Lock() // nobody takes an answer for true meanwhile
		defer w.mu.Unlock()
		l.over.Store(true)
		close(l.handle.ended)
		if l.how == killed {
			w.fs = l.disk.Clone()
		} else {
			w.fs = l.disk.Crash(w.dice)
		}
		if w.now == l {
			w.now = nil
		}
		close(l.ended)
	})
}

// end ends a process, and returns when nothing is left of it.
func (w *world) end(l *life, how ending) error {
	if how == stopped {
		w.leave()
		return l.stop()
	}
	l.how = how
	w.mu.Lock()
	n := w.dice.Int64N(300) + 1
	w.mu.Unlock()
	l.left.Store(n)
	select {
	case <-l.ended:
	case <-time.After(20 * time.Second): // it has little to do
		l.end()
	}
	_ = l.close() // it has no disk, or one that nobody reads any more
	return nil
}

// stop ends a process as a signal does.
func (l *life) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := l.b.Drain(ctx)
	if late := l.server.Shutdown(ctx); !errors.Is(late, context.DeadlineExceeded) {
		err = errors.Join(err, late)
	}
	l.server = nil
	l.over.Store(true)
	_ = l.b.Settle(ctx) // what is not uploaded then is on disk
	err = errors.Join(err, l.close())
	close(l.handle.ended)
	return err
}

// dial connects a client.
func (l *life) dial() net.Conn {
	near, far := net.Pipe()
	go l.server.ServeConn(far, kafka.Info{Listener: "kafka", Transport: "tcp"}) // ends with either end
	return near
}

// key is where an object is.
func (w *world) key(id storage.ObjectID) string {
	return object.Key(prefix, w.cluster, controller.FirstIncarnation, id)
}
