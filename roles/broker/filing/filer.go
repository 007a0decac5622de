package filing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// idsAtOnce is how many ids are asked for: manifests are few.
const idsAtOnce = 1

// Catalogue is the controller, as a filer sees it.
type Catalogue interface {
	// Prepare issues ids, the first of which it returns.
	Prepare(ctx context.Context, count int) (first storage.ObjectID, err error)
	// File names a manifest that stands in the bucket in the place of what it lists.
	File(ctx context.Context, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error
}

// Options of a filer.
type Options struct {
	Limits
	Interval time.Duration // between two looks

	Image     func() *metadata.Image     // the newest; nil: none yet
	Broker    int32                      // whose partitions are filed
	Files     func(*metadata.Topic) bool // whether more of a topic is filed
	Catalogue Catalogue
	Bucket    bucket.Bucket
	Key       func(storage.ObjectID) string
	// Header is what manifests say of their maker; the id is set for each.
	Header object.Header
	// IDAge is how long an id that was issued may be used: well below the time
	// after which the controller condemns it.
	IDAge time.Duration
	// Hold reports whether something more urgent needs the bucket. nil: never.
	Hold func() bool
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Stats counts what a filer did.
type Stats struct {
	Manifests    int64 // that were named
	Ranges       int64 // that moved into them
	Dropped      int64 // that left them, below the log start
	Failures     int64 // manifests that were not named
	LastError    string
	FailingSince time.Time // zero: the last manifest made it
}

// Filer files ranges until it is closed.
type Filer struct {
	o       Options
	ctx     context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup
	objects *tiering.Objects
	planner *planner // used by look alone

	mu    sync.Mutex
	stats Stats // guarded by mu
}

// Start begins to file.
func Start(o Options) *Filer {
	f := newFiler(o)
	f.done.Go(func() { tiering.Look(f.ctx, f.o.Interval, nil, func() { f.look() }) })
	return f
}

func newFiler(o Options) *Filer {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Filer{o: o, planner: newPlanner(o.Limits)}
	f.objects = tiering.NewObjects(tiering.ObjectOptions{
		Prepare: o.Catalogue.Prepare, Block: idsAtOnce, Age: o.IDAge, Now: o.Now,
		Bucket: o.Bucket, Key: o.Key, Header: o.Header,
	})
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Close gives up a manifest that is under way. Nothing is lost: it is planned anew.
func (f *Filer) Close() error {
	f.stop()
	f.done.Wait()
	return nil
}

// Stats returns the present figures.
func (f *Filer) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// look does what is due by the newest image, and reports how many manifests that were.
func (f *Filer) look() (jobs int) {
	image := f.o.Image()
	if image == nil || image.FeatureLevel() < metadata.ManifestsFeatureLevel {
		return 0
	}
	f.planner.forget(func(id storage.PartitionID) bool {
		_, p := image.Partition(id)
		return p != nil && p.Leader == f.o.Broker
	})
	for _, j := range f.planner.plan(f.o.Now(), f.view(image)) {
		if f.ctx.Err() != nil || f.o.Hold != nil && f.o.Hold() {
			return jobs
		}
		jobs++
		f.file(&j)
	}
	return jobs
}

// view is what this broker may file of an image.
func (f *Filer) view(image *metadata.Image) View {
	return View{
		Object: image.Object, NextObject: image.NextObjectID(),
		Partitions: func(yield func(Partition) bool) {
			for t := range image.Topics() {
				stays := !f.o.Files(t)
				for p := range t.Partitions.All() {
					if p.Leader == f.o.Broker && !yield(Partition{storage.PartitionID{Topic: t.ID, Index: p.Index}, t.Name, p, stays}) {
						return
					}
				}
			}
		},
	}
}

// file makes one manifest, and tells the planner how it went.
func (f *Filer) file(j *Job) {
	filing, id, err := f.make(j)
	if errors.Is(err, errNothing) {
		f.planner.nothing(j)
		return
	}
	if f.ctx.Err() != nil {
		return
	}
	f.planner.done(f.o.Now(), j, id, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.stats.Manifests++
		f.stats.Ranges += int64(len(filing.Moved))
		f.stats.Dropped += int64(len(filing.Dropped))
		f.stats.FailingSince, f.stats.LastError = time.Time{}, ""
		return
	}
	f.stats.Failures++
	f.stats.LastError = err.Error()
	switch metadata.CodeOf(err) {
	case metadata.Conflict, metadata.FencedLeaderEpoch, metadata.NotLeaderOrFollower, metadata.UnknownTopicID:
		return // something was quicker
	}
	if f.stats.FailingSince.IsZero() {
		f.stats.FailingSince = f.o.Now()
		f.o.Log.Warn("ranges could not be filed in the bucket; the metadata keeps them, and it is tried again", "partition", j.Partition, "error", err)
	}
}

// errNothing says that no range lies below the log start.
var errNothing = errors.New("nothing to drop")

// make writes a manifest and has it named.
func (f *Filer) make(j *Job) (*metadata.Filing, storage.ObjectID, error) {
	filing := &metadata.Filing{Partition: j.Partition, LeaderEpoch: j.Epoch}
	var ranges []object.Filed
	if j.Replaced != nil {
		was, err := f.read(j.Partition, j.Replaced)
		if err != nil {
			return nil, 0, err
		}
		filing.Replaced, ranges = j.Replaced.ID, was
		n := 0
		for j.Drop && n < len(was)-1 && was[n].End <= j.LogStart {
			n++
		}
		filing.Dropped, ranges = was[:n:n], was[n:]
		if n == 0 && len(j.Move) == 0 {
			return nil, 0, errNothing
		}
	}
	image := f.o.Image()
	for i := range j.Move {
		o, ok := image.Object(j.Move[i].Object)
		if !ok {
			return nil, 0, metadata.Errorf(metadata.Conflict, "object %s of %s is gone", j.Move[i].Object, j.Partition)
		}
		filing.Moved = append(filing.Moved, metadata.FiledRange(&j.Move[i], o.Size))
	}
	h, err := f.objects.Next(f.ctx)
	if err != nil {
		return nil, 0, err
	}
	m := object.Manifest{Header: h, Partition: j.Partition, Topic: j.Topic, Ranges: append(ranges[:len(ranges):len(ranges)], filing.Moved...)}
	b, ref, err := m.Encode()
	if err != nil {
		return nil, 0, err
	}
	if err := f.objects.Put(f.ctx, h.ID, bucket.Bytes(b)); err != nil {
		return nil, 0, fmt.Errorf("manifest of %s: %w", j.Partition, err)
	}
	_, err = f.objects.Commit(f.ctx, h.ID, 0, func() ([]error, error) { return nil, f.o.Catalogue.File(f.ctx, h.ID, ref, filing) })
	if err != nil {
		return nil, 0, fmt.Errorf("manifest of %s: %w", j.Partition, err)
	}
	return filing, h.ID, nil
}

// read reads a manifest and checks it. What is damaged on its way is right when it is
// read again, with the next try.
func (f *Filer) read(of storage.PartitionID, is *metadata.Manifest) ([]object.Filed, error) {
	b := make([]byte, is.Size())
	if err := f.o.Bucket.ReadAt(f.ctx, f.o.Key(is.ID), b, 0); err != nil {
		return nil, fmt.Errorf("read manifest %s of %s: %w", is.ID, of, err)
	}
	m, err := object.DecodeManifest(b, is.ID, of, is.ManifestRef)
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", of, err)
	}
	return m.Ranges, nil
}
