package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// look is how often it is asked what waits. Only partitions with something to
	// upload cost anything then.
	look = 250 * time.Millisecond

	// idsAtOnce is how many ids are asked for: enough that the controller is not
	// asked for each object of a busy broker, few enough that those a stop leaves
	// over are no burden.
	idsAtOnce = 32

	// readStep is how much of the log is pinned, or read from its files, at a time.
	readStep = 1 << 20

	// producersEvery is how many bytes of a partition lie between two ranges that
	// hold its producers' state whole (RULES 5.4), at least: a partition that lags has
	// none until it has caught up.
	producersEvery = 64 << 20

	// producersShare is how many times as many bytes of a partition as its producers take
	// lie between two such ranges where acks wait for the bucket: whoever leads next reads
	// them before it takes a batch.
	producersShare = 16

	// moreForProducers, as a divisor, is how much more than was planned a range takes
	// that is to hold them. By default such an object, index and all, is still below
	// object_storage.part_size: in parts it would be four requests and not one.
	moreForProducers = 5
)

// Catalogue is the controller, as an uploader sees it.
type Catalogue interface {
	// Prepare issues ids, the first of which it returns.
	Prepare(ctx context.Context, count int) (first storage.ObjectID, err error)
	// Commit names the ranges of an object that stands in the bucket: the results
	// are nil or an error for each.
	Commit(ctx context.Context, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) (results []error, err error)
}

// Led is a partition that this broker leads.
type Led struct {
	Log   *log.Log
	Topic string        // its name
	Epoch storage.Epoch // it is led under
	// Sifted: compaction by key takes batches out of what is in the bucket, by which
	// producers would be known.
	Sifted bool
}

// Partitions tells what this broker leads.
type Partitions interface {
	Led(storage.PartitionID) (Led, bool)
}

// Options of an uploader.
type Options struct {
	Limits
	Store      *log.Store
	Partitions Partitions
	Catalogue  Catalogue
	Bucket     bucket.Bucket
	Key        func(storage.ObjectID) string
	// Header is what objects say of their maker; the id is set for each.
	Header object.Header
	// IDAge is how long an id that was issued may be used: well below the time
	// after which the controller condemns it.
	IDAge time.Duration
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
	// Told is told of each object once it is committed, or was not; nil: nobody is. It does
	// not block.
	Told func(*Done)
}

// Done is how the upload of an object ended.
type Done struct {
	Begun, Ended   time.Time
	Bytes          int64
	Parts, Refused int   // ranges, and those of them that the catalogue refused
	Err            error // nil: it is committed
}

// Stats counts what an uploader did.
type Stats struct {
	Objects, Bytes int64 // committed
	Failures       int64 // objects that were not
	RefusedRanges  int64
	Running        int64
	Waiting        int64 // bytes that are committed and not in the bucket, when last looked
	WaitingSince   time.Time
	LastError      string
	FailingSince   time.Time // zero: the last object made it
	Partitions     int
}

// Uploader moves committed records into the bucket until it is closed.
type Uploader struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup
	wake chan struct{} // holds a token when there is a reason to look

	mu      sync.Mutex
	planner *planner // guarded by mu
	stats   Stats    // guarded by mu
	objects *tiering.Objects
	// settling: nothing is begun any more. guarded by mu.
	settling bool
	settled  chan struct{} // gets a token, if it has none, when an object is done
	// producersAt is how many bytes each partition has uploaded since its producers
	// were last written whole; a partition that is not there writes them next.
	producersAt map[storage.PartitionID]written // guarded by mu

	waiting []Waiting // of the planning goroutine, reused
	pending []log.PendingUpload
	busy    busyDisk // of the planning goroutine
}

// written is when producers of a partition were last written whole.
type written struct {
	since int64 // bytes of batches that were uploaded behind
	size  int64 // of what was written
}

// Start begins to upload.
func Start(o Options) *Uploader {
	if o.Now == nil {
		o.Now = time.Now
	}
	u := &Uploader{
		o: o, wake: make(chan struct{}, 1), settled: make(chan struct{}, 1), planner: newPlanner(o.Limits),
		producersAt: map[storage.PartitionID]written{},
	}
	u.objects = tiering.NewObjects(tiering.ObjectOptions{
		Prepare: o.Catalogue.Prepare, Block: idsAtOnce, Age: o.IDAge, Now: o.Now,
		Bucket: o.Bucket, Key: o.Key, Header: o.Header,
	})
	u.ctx, u.stop = context.WithCancel(context.Background())
	u.done.Go(u.look)
	return u
}

// look begins what is due until the uploader is closed.
func (u *Uploader) look() {
	ticker := time.NewTicker(min(look, cmp.Or(u.o.AckInterval, look)))
	defer ticker.Stop()
	soon := time.NewTimer(look)
	defer soon.Stop()
	for {
		select {
		case <-u.ctx.Done():
			return
		case <-ticker.C:
		case <-u.wake:
		case <-soon.C:
		}
		if in := u.begin(); in > 0 {
			soon.Reset(in)
		}
	}
}

// Close ends uploads under way and waits for their goroutines.
func (u *Uploader) Close() error {
	u.stop()
	u.done.Wait()
	return nil
}

// SetPace changes how long records may wait, and how many bytes are uploaded without
// waiting, of [Limits].
func (u *Uploader) SetPace(interval time.Duration, objectBytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := &u.planner.limits
	l.Interval, l.ObjectBytes, l.OwnBytes = interval, objectBytes, objectBytes/2
}

// Stats returns the present figures.
func (u *Uploader) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stats
}

// Settle begins nothing more, and returns when the objects under way are done, or
// ctx ends. What is not uploaded is on disk.
func (u *Uploader) Settle(ctx context.Context) error {
	for {
		u.mu.Lock()
		u.settling = true
		running := u.planner.running
		u.mu.Unlock()
		if running == 0 {
			tiering.Leave(u.settled) // for whoever waits besides
			return nil
		}
		select {
		case <-u.settled: // an object is done
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin looks at what waits and starts what is due. It returns in how long to look again,
// sooner than by itself; 0: there is no need.
func (u *Uploader) begin() (again time.Duration) {
	store := u.o.Store.Stats()
	pressure := Pressure{Fullness: store.Fullness, Busy: u.busy.look(&store.WAL)}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pending = u.o.Store.PendingUpload(u.pending[:0])
	u.waiting = u.waiting[:0]
	u.stats.WaitingSince = time.Time{}
	var bytes int64
	for _, p := range u.pending {
		if _, led := u.o.Partitions.Led(p.Partition); !led {
			continue
		}
		since := time.UnixMilli(p.Since)
		u.waiting = append(u.waiting, Waiting{Partition: p.Partition, From: p.First, Bytes: p.Bytes, Since: since, Awaited: p.Awaited})
		bytes += p.Bytes
		if u.stats.WaitingSince.IsZero() || since.Before(u.stats.WaitingSince) {
			u.stats.WaitingSince = since
		}
	}
	u.stats.Waiting, u.stats.Partitions = bytes, len(u.waiting)
	if u.settling || u.ctx.Err() != nil {
		return 0
	}
	now := u.o.Now()
	for _, j := range u.planner.plan(now, u.waiting, pressure) {
		u.done.Go(func() { u.upload(j) }) // blocks on the controller and the bucket
	}
	u.stats.Running = int64(u.planner.running)
	return u.planner.again(now, u.waiting)
}

// upload makes one object, and tells the planner how it went.
func (u *Uploader) upload(j Job) {
	begun := u.o.Now()
	refused, size, err := u.make(j)
	if u.o.Told != nil && (size > 0 || err != nil) {
		u.o.Told(&Done{Begun: begun, Ended: u.o.Now(), Bytes: size, Parts: len(j.Parts), Refused: len(refused), Err: err})
	}
	u.mu.Lock()
	u.planner.done(u.o.Now(), j, refused, err != nil)
	u.forget()
	u.stats.Running = int64(u.planner.running)
	u.stats.RefusedRanges += int64(len(refused))
	switch {
	case err == nil && size > 0:
		u.stats.Objects++
		u.stats.Bytes += size
		u.stats.FailingSince, u.stats.LastError = time.Time{}, ""
	case err != nil && u.ctx.Err() == nil:
		u.stats.Failures++
		u.stats.LastError = err.Error()
		if u.stats.FailingSince.IsZero() {
			u.stats.FailingSince = u.o.Now()
			u.o.Log.Warn("an upload to the bucket failed; produce goes on while the log has room, and it is tried again", "error", err)
		}
	}
	u.mu.Unlock()
	tiering.Leave(u.wake)
	tiering.Leave(u.settled)
}

// forget drops what is known of partitions that are not led here any more. u.mu
// is held.
func (u *Uploader) forget() {
	leads := func(id storage.PartitionID) bool { _, led := u.o.Partitions.Led(id); return led }
	u.planner.forget(leads)
	for id := range u.producersAt {
		if !leads(id) {
			delete(u.producersAt, id)
		}
	}
}

// source is a partition's part of an object.
type source struct {
	led   Led
	r     object.Range
	bytes int64
}

// make makes one object of size bytes; 0: the catalogue took nothing of it, or
// there was nothing to make it of. refused are the partitions whose range did not
// become part of the catalogue; err says that none did, or that it is not known.
func (u *Uploader) make(j Job) (refused map[storage.PartitionID]bool, size int64, err error) {
	refused = map[storage.PartitionID]bool{}
	sources := make([]source, 0, len(j.Parts))
	for _, part := range j.Parts {
		s, err := u.source(part, j.Awaited)
		if err != nil {
			refused[part.Partition] = true
			u.o.Log.Debug("a partition is left out of an upload", "partition", part.Partition, "error", err)
			continue
		}
		sources = append(sources, s)
	}
	slices.SortFunc(sources, func(a, b source) int { return object.ComparePartitions(a.r.Partition, b.r.Partition) })
	for len(sources) > 0 {
		id, summary, err := u.put(sources)
		if bad, ok := errors.AsType[*object.RangeError](err); ok {
			sources = u.readable(sources, bad, refused)
			continue
		}
		if err != nil {
			return refused, 0, err
		}
		return u.commit(id, summary, sources, refused)
	}
	return refused, 0, nil
}

// readable takes the ranges that cannot be read out of sources: the one that was
// found to be bad, and, so that not each of many costs a try of the whole object,
// the others that are. They must not hold back the rest.
func (u *Uploader) readable(sources []source, bad *object.RangeError, refused map[storage.PartitionID]bool) []source {
	h := u.o.Header
	h.ID = 1 // of no importance, as it goes nowhere
	return slices.DeleteFunc(sources, func(s source) bool {
		var err error = bad
		if s.r.Partition != bad.Partition {
			_, err = object.Write(io.Discard, h, []object.Range{s.r}, object.WriteOptions{})
		}
		if err == nil || u.ctx.Err() != nil {
			return err != nil
		}
		refused[s.r.Partition] = true
		if s.gone(err) {
			u.o.Log.Debug("a partition is left out of an upload", "partition", s.r.Partition, "error", err)
		} else {
			u.o.Log.Error("records cannot be uploaded", "partition", s.r.Partition, "base", s.r.Base, "end", s.r.End, "error", err)
		}
		return true
	})
}

// gone reports whether err means that the records are not to be uploaded any
// more: they, or the log, were deleted meanwhile.
func (s *source) gone(err error) bool {
	var outOfRange *log.OffsetOutOfRangeError
	return errors.As(err, &outOfRange) || errors.Is(err, log.ErrDropped) || errors.Is(err, log.ErrClosed)
}

// source looks up what to upload of a partition: committed batches that follow
// on what the bucket has.
func (u *Uploader) source(part Part, awaited bool) (source, error) {
	led, ok := u.o.Partitions.Led(part.Partition)
	if !ok {
		return source{}, fmt.Errorf("%s is not led here", part.Partition)
	}
	u.mu.Lock()
	last, known := u.producersAt[part.Partition]
	u.mu.Unlock()
	whole := !known || last.since >= producersEvery
	often := awaited && (whole || led.Sifted || last.since >= producersShare*last.size)
	most := part.MaxBytes
	if whole && !awaited { // what came since it was planned, so that the producers fit
		most += most / moreForProducers
		// They are encoded while appends wait: not for a range that will not have them.
		now := led.Log.HighWatermark()
		end, _ := led.Log.Extent(led.Log.Uploaded(), now, most)
		whole = end == now
	}
	point, err := led.Log.UploadPoint(whole && !awaited)
	if err != nil {
		return source{}, err
	}
	end, bytes := led.Log.Extent(point.From, point.HighWatermark, most)
	if end == point.From {
		return source{}, fmt.Errorf("%s has nothing to upload from offset %d on", part.Partition, point.From)
	}
	outcome, err := led.Log.Outcome(point.From, end)
	if err != nil {
		return source{}, err
	}
	r := object.Range{
		Partition: part.Partition, Topic: led.Topic, Base: point.From, End: end, LastStable: outcome.LastStable,
		Batches: func(yield func(batch.Batch) error) error { return readLog(led.Log, point.From, end, yield) },
	}
	for _, a := range outcome.Aborted {
		r.Aborted = append(r.Aborted, object.Aborted(a))
	}
	// The producers are as of the high watermark: no part of a range that ends before it,
	// but where that waits for this range.
	switch {
	case often:
		r.Producers = led.Log.ProducersAsOf(end)
	case end == point.HighWatermark:
		r.Producers = point.Producers
	}
	for _, e := range point.Epochs {
		if e.Start < end {
			r.Epochs = append(r.Epochs, object.EpochStart{Epoch: e.Epoch, Start: e.Start})
		}
	}
	// After a move of the log start into a batch, that batch is the first.
	if base, ok := led.Log.BatchAt(point.From); ok && base < point.From {
		r.Cut = true
	}
	return source{led, r, bytes}, nil
}

// readLog yields the batches of [from, end).
func readLog(l *log.Log, from, end storage.Offset, yield func(batch.Batch) error) error {
	for at := from; at < end; {
		read, err := l.Read(log.ReadRequest{Offset: at, MaxBytes: readStep, MinOne: true, Isolation: log.Uploadable})
		if err != nil {
			return err
		}
		if len(read.Batches) == 0 {
			read.Release()
			return fmt.Errorf("nothing at offset %d, below %d", at, end)
		}
		from := at
		for _, raw := range read.Batches {
			b := batch.Batch(raw)
			if b.BaseOffset() >= end {
				break
			}
			if err = yield(b); err != nil {
				break
			}
			at = b.NextOffset()
		}
		read.Release()
		if err == nil && at <= from {
			err = fmt.Errorf("no batch at offset %d, below %d", at, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// put writes the object under an id of its own, as often as the bucket asks: what is
// committed does not change.
func (u *Uploader) put(sources []source) (storage.ObjectID, *object.Summary, error) {
	ranges := make([]object.Range, len(sources))
	for i := range sources {
		ranges[i] = sources[i].r
	}
	return u.objects.Write(u.ctx, func(w io.Writer, h object.Header) (*object.Summary, error) {
		return object.Write(w, h, ranges, object.WriteOptions{})
	})
}

// commit makes the object's ranges part of the catalogue, and lets the logs know.
// Results are as of make.
func (u *Uploader) commit(id storage.ObjectID, s *object.Summary, sources []source, refused map[storage.PartitionID]bool) (map[storage.PartitionID]bool, int64, error) {
	ranges := make([]metadata.PartitionRange, len(s.Placements))
	for i := range s.Placements {
		p := &s.Placements[i]
		ranges[i] = metadata.PartitionRange{Partition: p.Partition, Range: metadata.NewRange(p, sources[i].led.Epoch)}
	}
	results, err := u.objects.Commit(u.ctx, id, len(ranges), func() ([]error, error) {
		return u.o.Catalogue.Commit(u.ctx, id, s.Size, ranges)
	})
	if err != nil {
		return refused, 0, err
	}
	size := int64(0)
	for i, result := range results {
		source := sources[i]
		if !guard.Check("upload.range-committed", result == nil) {
			refused[source.r.Partition] = true
			u.o.Log.Info("the catalogue refused a range", "object", id, "partition", source.r.Partition, "base", source.r.Base, "error", result)
			continue
		}
		size = s.Size
		u.took(source)
	}
	return refused, size, nil
}

// took lets a log know that the bucket has a range of it.
func (u *Uploader) took(s source) {
	id := s.r.Partition
	if err := s.led.Log.SetUploaded(s.r.End); err != nil && !s.gone(err) {
		u.o.Log.Warn("a log did not take what was uploaded of it", "partition", id, "end", s.r.End, "error", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.r.Producers != nil {
		u.producersAt[id] = written{size: int64(len(s.r.Producers))}
	} else if at, known := u.producersAt[id]; known {
		u.producersAt[id] = written{at.since + s.bytes, at.size}
	}
}
