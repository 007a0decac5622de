package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Limits of one call of a check.
const (
	// CheckBudget is about how long one call may take, whatever it does: read
	// manifests, list, look at objects. A caller who waits sees it move, and none holds
	// a request for hours. What is begun is ended: a request for each reader.
	CheckBudget = 10 * time.Second
	// maxChecked keys are held in memory.
	maxChecked = 100_000
	// maxVerified keys are listed at once, a page of a store, when all of their objects
	// are to be read: that takes longer than any call.
	maxVerified = 1000
	// checkReaders objects are read at once: a store answers many as fast as one, and
	// each reader holds two windows.
	checkReaders = 4
	// MaxFindings of each kind are told; all are counted.
	MaxFindings = 1000
	// notBegun is where a check goes on that has not read all manifests yet, and has
	// looked at no key: no store has a key like that.
	notBegun = "\x00"
)

// CheckRequest says what to check.
type CheckRequest struct {
	After    string        `json:"after,omitempty" maxLength:"1024" doc:"where to go on: next of the answer before"`
	Verify   bool          `json:"verify,omitempty" doc:"read every byte of what the catalogue names, and compare it with its checksums"`
	Repair   bool          `json:"repair,omitempty" doc:"delete orphans that two listings have shown, object_storage.grace apart; nothing else ever is"`
	Findings int           `json:"findings,omitempty" minimum:"0" maximum:"1000" doc:"of each kind that are told; 0: 20"`
	Budget   time.Duration `json:"-"` // 0: CheckBudget
}

// CheckReport is what a check of a part of the bucket has shown.
type CheckReport struct {
	Next string `json:"next" doc:"pass it as after to go on; empty: all was looked at"`
	Compared
	Verified Tally     `json:"verified" doc:"objects that were read"`
	Corrupt  Tally     `json:"corrupt" doc:"of them, those that are damaged"`
	Deleted  Tally     `json:"deleted" doc:"orphans that were removed"`
	Findings []Finding `json:"findings" doc:"the first of each kind"`
}

// Damaged reports whether records are lost, or cannot be read.
func (r *CheckReport) Damaged() bool {
	return r.Missing.Objects+r.WrongSize.Objects+r.Corrupt.Objects > 0
}

// Add puts what was found further on behind what r has, at most MaxFindings of a
// kind.
func (r *CheckReport) Add(more *CheckReport) {
	r.Next = more.Next
	for _, t := range []struct{ to, from *Tally }{
		{&r.Committed, &more.Committed}, {&r.Prepared, &more.Prepared}, {&r.Condemned, &more.Condemned}, {&r.Orphans, &more.Orphans},
		{&r.Unjudged, &more.Unjudged}, {&r.Foreign, &more.Foreign}, {&r.Missing, &more.Missing}, {&r.WrongSize, &more.WrongSize},
		{&r.Verified, &more.Verified}, {&r.Corrupt, &more.Corrupt}, {&r.Deleted, &more.Deleted},
	} {
		t.to.Objects += t.from.Objects
		t.to.Bytes += t.from.Bytes
	}
	r.Findings = FirstOfEach(append(r.Findings, more.Findings...), MaxFindings)
}

// FirstOfEach returns the first findings of each kind, in place.
func FirstOfEach(all []Finding, most int) []Finding {
	told := map[string]int{}
	return slices.DeleteFunc(all, func(f Finding) bool {
		told[f.Kind]++
		return told[f.Kind] > most
	})
}

// CheckBucket compares a part of the bucket with the catalogue. It begins where
// r.After says and goes as far as its budget allows, by one object at least, or by a
// manifest: then Next is where it began.
func (c *Controller) CheckBucket(ctx context.Context, r CheckRequest) (*CheckReport, error) {
	k := c.keeper()
	if k == nil {
		return nil, errors.New("this controller has no bucket")
	}
	if err := k.mayCheck(ctx, r.Repair); err != nil {
		return nil, err
	}
	if r.Budget == 0 {
		r.Budget = CheckBudget
	}
	data := object.DataPrefix(k.o.Prefix, c.Image().ClusterID(), FirstIncarnation)
	check := &bucketCheck{k: k, r: r, part: stretch{after: data + r.After}, until: time.Now().Add(r.Budget)}
	if r.After == "" || r.After == notBegun {
		check.part.after = "" // a listing begins with its prefix
	}
	return check.onShelf(ctx, data)
}

// onShelf runs a call with what the calls before have read of manifests.
func (b *bucketCheck) onShelf(ctx context.Context, data string) (report *CheckReport, err error) {
	if b.shelf, err = b.k.shelves.take(time.Now(), b.r.After); err != nil {
		return nil, err
	}
	if b.shelf == nil || !b.shelf.begin(b.part.after, b.k.key) {
		b.shelf = newShelf(b.part.after, b.k.key, cmp.Or(b.k.shelves.most, maxShelved))
	}
	next := b.r.After
	defer func() { b.k.shelves.put(time.Now(), next, b.shelf) }()
	if report, err = b.run(ctx, data); err != nil {
		return nil, err // whoever tries again finds what was read
	}
	next = report.Next
	return report, nil
}

// mayCheck makes sure that the bucket is the cluster's, and this controller the one
// that may delete there.
func (k *keeper) mayCheck(ctx context.Context, repair bool) error {
	is, set := k.c.Image().Bucket()
	if !set {
		return errors.New("the cluster has not reached its bucket yet: there is nothing to compare")
	}
	there, err := ReadNonce(ctx, k.o.Bucket, k.o.Prefix, k.c.Image().ClusterID())
	if errors.Is(err, bucket.ErrNotFound) {
		return &WrongBucketError{Want: is.Nonce}
	}
	if err != nil {
		return err
	}
	if there != is.Nonce {
		return &WrongBucketError{Found: there, Want: is.Nonce}
	}
	if !repair {
		return nil
	}
	if err := k.c.leads(); err != nil {
		return fmt.Errorf("a repair is for the leading controller: %w", err)
	}
	return k.shipper.Fenced()
}

// bucketCheck is one call of a check.
type bucketCheck struct {
	k     *keeper
	r     CheckRequest
	part  stretch
	until time.Time
	shelf *shelf
	image *metadata.Image // not older than the listing
	filed *filedPart      // what its manifests list in the stretch

	verified, corrupt, deleted Tally
}

func (b *bucketCheck) late() bool { return time.Now().After(b.until) }

// cut ends the stretch at a key: what lies behind is the next call's.
func (b *bucketCheck) cut(key string) { b.part.upTo = key }

func (b *bucketCheck) run(ctx context.Context, data string) (*CheckReport, error) {
	unfinished := &CheckReport{Next: cmp.Or(b.r.After, notBegun), Findings: []Finding{}}
	// What takes long comes before the listing, which would be in vain.
	if all, err := b.shelf.fill(ctx, b.k, b.k.c.state.Image(), b.late); err != nil || !all {
		return unfinished, err
	}
	listed, err := b.list(ctx, data)
	if err != nil {
		return nil, err
	}
	if b.image, err = b.k.fresh(ctx); err != nil {
		return nil, err
	}
	// What was filed meanwhile may list what the catalogue knows no more.
	if all, err := b.shelf.fill(ctx, b.k, b.image, b.late); err != nil || !guard.Check("controller.check-reads-all", all) {
		return unfinished, err
	}
	if end := b.shelf.end(b.k.key); end != "" && (b.part.upTo == "" || end < b.part.upTo) {
		b.cut(end)
	}
	b.filed = b.shelf.part(b.part, b.k.key)
	c := b.compare(listed)
	looked, err := b.look(ctx, c)
	if err != nil {
		return nil, err
	}
	if b.part.upTo != "" {
		c = b.compare(listed) // it may have been cut
	}
	if err := b.settle(ctx, &c, looked); err != nil {
		return nil, err
	}
	report := &CheckReport{Next: strings.TrimPrefix(b.part.upTo, data), Compared: c.Compared, Verified: b.verified, Corrupt: b.corrupt, Deleted: b.deleted, Findings: []Finding{}}
	if !b.r.Verify { // else they were read with the rest
		for id := range b.filed.damaged {
			if damages := b.damagedManifest(id); b.part.has(b.k.key(id)) && len(damages) > 0 {
				report.Corrupt.add(damages[0].Size)
				c.findings = append(c.findings, damages...)
			}
		}
	}
	slices.SortStableFunc(c.findings, byKey)
	report.Findings = append(report.Findings, FirstOfEach(c.findings, cmp.Or(b.r.Findings, 20))...)
	return report, nil
}

func (b *bucketCheck) compare(listed []bucket.Info) comparison {
	return compare(b.image, b.filed, b.k.key, b.k.parse, b.part, listed)
}

// list reads the keys of the stretch, which ends where half of the time that is left is
// gone, or with the shelf.
func (b *bucketCheck) list(ctx context.Context, data string) (listed []bucket.Info, err error) {
	half, most, end := time.Now().Add(time.Until(b.until)/2), maxChecked, b.shelf.end(b.k.key)
	if b.r.Verify {
		most = maxVerified
	}
	more := false
	err = b.k.o.Bucket.List(ctx, data, b.part.after, func(i bucket.Info) bool {
		if end != "" && i.Key > end {
			return false
		}
		if more = len(listed) > 0 && (len(listed) >= most || time.Now().After(half)); more {
			return false
		}
		listed = append(listed, i)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list the bucket: %w", err)
	}
	if more {
		b.cut(listed[len(listed)-1].Key)
	}
	return listed, nil
}

// fresh is a catalogue that is not older than the call.
func (k *keeper) fresh(ctx context.Context) (*metadata.Image, error) {
	if err := k.c.node.Barrier(ctx); err != nil {
		return nil, fmt.Errorf("wait for the metadata log: %w", clientError(err))
	}
	return k.c.state.Image(), nil
}

// parse reads a key of an object of this cluster, in this incarnation.
func (k *keeper) parse(key string) (storage.ObjectID, error) {
	p, err := object.ParseKey(k.o.Prefix, key)
	if err == nil && k.key(p.ID) != key {
		err = fmt.Errorf("key %q is of another cluster", key)
	}
	return p.ID, err
}

// look is what the store says of one key, and what reading its object has shown, or
// what became of an orphan.
type look struct {
	suspect bool
	orphan  bool
	deleted bool
	finding Finding
	missing bool
	info    bucket.Info
	damages []Finding
}

// look asks the store for each suspect, removes orphans and reads objects if that is
// wanted, in order of key until the time is up; there it cuts the stretch.
func (b *bucketCheck) look(ctx context.Context, c comparison) ([]look, error) {
	todo := make([]look, 0, len(c.suspects)+len(c.orphans))
	for _, f := range c.orphans {
		todo = append(todo, look{orphan: true, finding: f})
	}
	for _, f := range c.suspects {
		todo = append(todo, look{suspect: true, finding: f})
	}
	var named map[storage.ObjectID][]namedRange
	if b.r.Verify {
		ids := map[storage.ObjectID]struct{}{}
		for _, f := range c.whole {
			ids[f.id] = struct{}{}
			todo = append(todo, look{finding: f})
		}
		named = rangesByObject(b.image, ids)
		for _, f := range c.whole {
			if f.filed != nil {
				named[f.id] = []namedRange{b.rangeOf(f.filed)}
			}
		}
	}
	slices.SortFunc(todo, func(x, y look) int { return byKey(x.finding, y.finding) })
	// Whoever took one ends it, so that what was looked at is the first of them.
	var (
		mu    sync.Mutex
		taken int
		errs  []error
	)
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		if taken == len(todo) || taken > 0 && b.late() || len(errs) > 0 {
			return -1
		}
		taken++
		return taken - 1
	}
	var readers sync.WaitGroup
	for range min(checkReaders, len(todo)) {
		readers.Go(func() {
			for i := take(); i >= 0; i = take() {
				if err := b.lookAt(ctx, &todo[i], named); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	readers.Wait()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	if taken > 0 && taken < len(todo) {
		b.cut(todo[taken-1].finding.Key)
	}
	return todo[:taken], nil
}

// lookAt asks the store for one key.
func (b *bucketCheck) lookAt(ctx context.Context, l *look, named map[storage.ObjectID][]namedRange) (err error) {
	if l.orphan {
		l.deleted, err = b.repair(ctx, l.finding.id)
		return err
	}
	if l.suspect {
		l.info, err = b.k.o.Bucket.Stat(ctx, l.finding.Key)
	} else {
		l.info.Size = l.finding.Size
		l.damages, err = b.read(ctx, l.finding, named[l.finding.id])
	}
	if errors.Is(err, bucket.ErrNotFound) {
		l.missing, err = true, nil
	}
	return err
}

// rangeOf is what a manifest says of an object.
func (b *bucketCheck) rangeOf(is *filedObject) namedRange {
	return namedRange{is.partition, b.topicName(is.partition), metadata.RangeOf(&is.Filed)}
}

// topicName is a topic's name, or its id once it is deleted.
func (b *bucketCheck) topicName(of storage.PartitionID) string {
	if t, ok := b.image.TopicByID(of.Topic); ok {
		return t.Name
	}
	return of.Topic.String()
}

// damagedManifest says what is wrong with a manifest that is there.
func (b *bucketCheck) damagedManifest(id storage.ObjectID) []Finding {
	d, damaged := b.filed.damaged[id]
	if !damaged || d.missing {
		return nil
	}
	f := Finding{Kind: FoundCorrupt, Key: b.k.key(id), Object: id.String(), Size: d.manifest.Size(), Detail: d.err.Error(), id: id}
	if c, ok := errors.AsType[*object.CorruptionError](d.err); ok {
		f.Position = c.Position
	}
	f.Range = b.records(&f)
	return []Finding{f}
}

// read reads an object whole.
func (b *bucketCheck) read(ctx context.Context, f Finding, named []namedRange) ([]Finding, error) {
	if o, known := b.image.Object(f.id); known && o.Manifest {
		return b.damagedManifest(f.id), nil // it was read before all else
	}
	want := object.Header{ID: f.id, Cluster: b.image.ClusterID(), Incarnation: FirstIncarnation}
	w := &windows{size: f.Size, read: func(p []byte, off int64) error { return b.k.o.Bucket.ReadAt(ctx, f.Key, p, off) }}
	damages, err := verify(f, want, named, w.readAt)
	if errors.Is(err, io.ErrUnexpectedEOF) { // it is shorter than it was
		f.Kind, f.Detail = FoundCorrupt, err.Error()
		return []Finding{f}, nil
	}
	return damages, err
}

// settle counts what was looked at, unless the catalogue has let go of it
// meanwhile: then it may be gone.
func (b *bucketCheck) settle(ctx context.Context, c *comparison, looked []look) error {
	if len(looked) == 0 {
		return nil
	}
	now, err := b.k.fresh(ctx)
	if err != nil {
		return err
	}
	for _, l := range looked {
		f := l.finding
		if l.deleted {
			b.deleted.add(f.Size)
		}
		if l.orphan {
			continue
		}
		if !stillNamed(now, &f) {
			// A manifest may list what lies below the log start: nobody misses that.
			if f.filed != nil && l.missing && !l.suspect {
				c.Committed.Objects--
				c.Committed.Bytes -= f.Size
			} else if f.filed != nil && !l.suspect {
				b.verified.add(f.Size)
			}
			continue
		}
		f.Range = b.records(&f)
		switch {
		case l.suspect:
			c.confirm(f, l.info, l.missing)
		case l.missing:
			c.Committed.Objects--
			c.Committed.Bytes -= f.Size
			c.confirm(f, l.info, true)
		default:
			b.verified.add(f.Size)
			if len(l.damages) > 0 {
				b.corrupt.add(f.Size)
				c.findings = append(c.findings, l.damages...)
			}
		}
	}
	return nil
}

// records says whose records are concerned when an object is not there; nil: they may
// be many partitions'.
func (b *bucketCheck) records(f *Finding) *FindingRange {
	if f.filed != nil {
		n := b.rangeOf(f.filed)
		return &FindingRange{n.topic, n.partition.Index, n.Base, n.End}
	}
	if d, is := b.filed.damaged[f.id]; is {
		return &FindingRange{b.topicName(d.partition), d.partition.Index, d.manifest.Base, d.manifest.End}
	}
	return nil
}

// stillNamed reports whether an image names what an earlier one did. A range that was
// filed stays in manifests as long as the log start allows.
func stillNamed(now *metadata.Image, f *Finding) bool {
	if f.filed != nil {
		_, p := now.Partition(f.filed.partition)
		return p != nil && p.LogStart < f.filed.End
	}
	o, known := now.Object(f.id)
	return known && o.State == metadata.Committed
}

// repair takes note of an orphan, and deletes it if it has been seen for long enough
// and that is wanted.
func (b *bucketCheck) repair(ctx context.Context, id storage.ObjectID) (deleted bool, err error) {
	b.k.collecting.Lock()
	may := b.k.collector.shown(time.Now(), id, b.image, b.filed)
	b.k.collecting.Unlock()
	if !may || !guard.Check("controller.check-dry-run", b.r.Repair) {
		return false, nil
	}
	if err := b.k.delete(ctx, id); err != nil {
		return false, err
	}
	b.k.c.log.Info("an object that came after its deletion is removed by a repair", "object", id)
	return true, nil
}

// windows reads an object in large requests: one window follows its data, the
// other what lies behind them.
type windows struct {
	size int64
	read object.ReadAt
	is   [2]window // the last used first
}

type window struct {
	at    int64
	bytes []byte
}

// windowBytes is what one request reads.
const windowBytes = 4 << 20

func (w *windows) readAt(p []byte, off int64) error {
	if len(p) > windowBytes {
		return w.read(p, off)
	}
	for i, have := range w.is {
		if off < have.at || off+int64(len(p)) > have.at+int64(len(have.bytes)) {
			continue
		}
		if i > 0 {
			w.is[0], w.is[i] = w.is[i], w.is[0]
		}
		copy(p, have.bytes[off-have.at:])
		return nil
	}
	length := min(windowBytes, w.size-off)
	if length < int64(len(p)) { // beyond the end: the store says what is wrong
		return w.read(p, off)
	}
	bytes := w.is[1].bytes
	w.is[1], w.is[0] = w.is[0], window{}
	bytes = slices.Grow(bytes[:0], int(length))[:length]
	if err := w.read(bytes, off); err != nil {
		return err
	}
	w.is[0] = window{off, bytes}
	copy(p, bytes)
	return nil
}

// BucketState is how far the bucket is behind this controller.
type BucketState struct {
	Applied uint64 // log index of the last command
	Shipped uint64 // up to which the bucket has the metadata log
	Err     error  // why nothing is committed, deleted or retained; or nil
}

// BucketState returns the present state, zero without a bucket.
func (c *Controller) BucketState() BucketState {
	k := c.keeper()
	if k == nil {
		return BucketState{}
	}
	return BucketState{Applied: c.state.Image().Offset(), Shipped: k.shipper.Shipped(), Err: c.BucketHealth()}
}
