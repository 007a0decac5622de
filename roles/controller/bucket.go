package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// FirstIncarnation is a cluster's first life in its bucket; recovery from the bucket
	// begins another. Objects of all lives are called as those of the first: what tells
	// them apart is that no id is given out twice (docs/design/0018-recovery.md).
	FirstIncarnation = 1

	// identityWait is how long a start waits for the bucket before it goes on
	// without: it needs nothing from there (promise 8).
	identityWait = 3 * time.Second
	// unmetAfter is how long the bucket may be unknown before that is a warning.
	unmetAfter = 10 * time.Second
	// keepTick is how often the bucket's keeper looks for something to do.
	keepTick = time.Second
	// collectBatch bounds what is deleted between two looks.
	collectBatch = 1000
	// maxCondemned bounds the condemned ids that a topic's deletion brings at once.
	maxCondemned = 20_000
)

// BucketOptions say how the controller keeps the cluster's bucket.
type BucketOptions struct {
	Bucket bucket.Bucket
	Prefix string // of all keys

	Deadline    time.Duration // of an upload, from when its id was first seen
	Grace       time.Duration // between condemnation and deletion
	Audit       time.Duration // between two comparisons of bucket and catalogue
	Retention   time.Duration // between two looks for what is past its retention
	MetadataLog time.Duration // between two entries of the metadata log
	// Keep returns a topic's retention, by its configs; nil: what Kafka's keys say.
	Keep func(configs map[string]string) Retention
}

// keeper is the controller's side of the bucket: it makes sure which bucket it
// is, ships the metadata log, and carries out what collector, auditor and retainer
// decide. One goroutine, keep, does all of that, and one ships.
type keeper struct {
	c        *Controller
	o        BucketOptions
	shipper  *shipper
	shipped  *shippedFile
	retainer *retainer // used by keep alone
	opened   time.Time
	foreign  int // keys of ids that were never issued, in the last listing

	shelves shelves          // of checks
	modules *moduleCollector // used by keep alone

	collecting sync.Mutex // never held during a call to the bucket
	collector  *collector // guarded by collecting

	// ours: the bucket was found to be the cluster's. Nothing but its nonce is
	// written there before, and nothing is deleted.
	ours  atomic.Bool
	wrong atomic.Pointer[WrongBucketError] // what was found instead, when last asked
	unmet atomic.Pointer[UnmetBucketError] // why it is not known yet, when last asked
}

// UnmetBucketError says that the bucket has not been reached since the start, or does
// not say which one it is.
type UnmetBucketError struct {
	Since time.Time
	Err   error
}

// Error says what waits for it.
func (e *UnmetBucketError) Error() string {
	return fmt.Sprintf("the bucket was not reached since the start, %s ago; nothing is uploaded or deleted before: %v", time.Since(e.Since).Round(time.Second), e.Err)
}

// Unwrap returns why.
func (e *UnmetBucketError) Unwrap() error { return e.Err }

// WrongBucketError says that the bucket is not the one the cluster stores in.
type WrongBucketError struct {
	Found, Want [16]byte // nonces; Found is zero when there is none
}

// Error says what to do.
func (e *WrongBucketError) Error() string {
	found := "no nonce"
	if e.Found != [16]byte{} {
		found = fmt.Sprintf("nonce %x", e.Found)
	}
	return fmt.Sprintf("the bucket has %s, the cluster stores in the one with %x: set object_storage.url and object_storage.prefix back, or mount what is not mounted", found, e.Want)
}

// openBucket prepares the keeper. It waits a little for a bucket that was not
// reached yet, so that a first start ends with one.
func (c *Controller) openBucket(ctx context.Context) *keeper {
	o := *c.opt.Bucket
	if o.Keep == nil {
		o.Keep = retentionOf
	}
	o.Bucket = &lookingFirst{Bucket: o.Bucket, log: c.log}
	incarnation := c.incarnation()
	k := &keeper{
		c: c, o: o, opened: time.Now(),
		collector: newCollector(collectorLimits{Deadline: o.Deadline, Grace: o.Grace, Batch: collectBatch, Condemned: maxCondemned}),
		retainer:  newRetainer(),
		modules:   newModuleCollector(o.Grace),
		shipped:   openShippedFile(c.opt.FS, c.Image().ClusterID(), incarnation, c.state.Image().Offset(), c.log),
	}
	k.shipper = newShipper(shipperOptions{
		Bucket: o.Bucket, Incarnation: incarnation, Writer: rand.Uint64(),
		Prefix: LogPrefix(o.Prefix, c.Image().ClusterID(), incarnation),
		Leads: func() (uint64, bool) {
			term, leads := c.reigns()
			return term, leads && guard.Check("controller.ships-into-own-bucket", k.ours.Load()) && c.Image().EndedBy() == 0
		},
		Barrier: c.node.Barrier,
		Applied: func() uint64 { return c.state.Image().Offset() },
		Snapshot: func() (uint64, []byte) {
			image := c.state.Image()
			return image.Offset(), image.WithoutSecrets().Snapshot()
		},
		Lineage: func() (lineage, bool) {
			image := c.state.Image()
			return image, image.FeatureLevel() >= metadata.LineageFeatureLevel
		},
		Announce: c.announceEntry,
		Wrote:    k.shipped.wrote,
		Ended:    c.endLife,
		Name:     fmt.Sprintf("controller %d", c.opt.NodeID),
		Interval: o.MetadataLog, Log: c.log,
	})
	c.kept.Store(k)
	c.ships.to.Store(k.shipper)
	if _, leads := c.reigns(); !leads {
		return k // whoever leads finds out, and so does this one when it does
	}
	wait, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	if err := k.identify(wait); err != nil {
		c.log.Warn("the bucket was not reached; it is tried on", "error", err)
	}
	return k
}

// incarnation is which life of the cluster this is.
func (c *Controller) incarnation() uint32 {
	if is, set := c.state.Image().Bucket(); set {
		return uint32(is.Incarnation)
	}
	return FirstIncarnation
}

// LogPrefix begins the keys of the metadata log of one life of a cluster; the number of an
// entry follows, in 16 hex digits.
func LogPrefix(prefix, cluster string, incarnation uint32) string {
	return object.ClusterPrefix(prefix, cluster) + fmt.Sprintf("%08x/meta/", incarnation)
}

// LogKey is where an entry of the metadata log stands.
func LogKey(logPrefix string, number uint64) string { return fmt.Sprintf("%s%016x", logPrefix, number) }

// ParseLogKey returns the number of the entry that stands at a key; false: it is of none.
func ParseLogKey(logPrefix, key string) (number uint64, ok bool) {
	if len(key) != len(logPrefix)+16 {
		return 0, false
	}
	n, err := strconv.ParseUint(key[len(logPrefix):], 16, 64)
	return n, err == nil && LogKey(logPrefix, n) == key
}

// identify makes sure that this is the cluster's bucket, or makes it so.
func (k *keeper) identify(ctx context.Context) error {
	err := k.identified(ctx)
	wrong, _ := errors.AsType[*WrongBucketError](err)
	k.wrong.Store(wrong)
	var unmet *UnmetBucketError
	if err != nil && wrong == nil {
		unmet = &UnmetBucketError{Since: k.opened, Err: err}
	}
	k.unmet.Store(unmet)
	if err == nil {
		k.ours.Store(true)
		k.shipper.Hurry()
	}
	return err
}

func (k *keeper) identified(ctx context.Context) error {
	cluster := k.c.Image().ClusterID()
	is, set := k.c.Image().Bucket()
	there, err := ReadNonce(ctx, k.o.Bucket, k.o.Prefix, cluster)
	switch {
	case err != nil && !errors.Is(err, bucket.ErrNotFound):
		return err
	case set && guard.Check("controller.bucket-nonce", err == nil && there == is.Nonce):
		return nil
	case set:
		return &WrongBucketError{Found: there, Want: is.Nonce}
	case err != nil: // there is none
		if there, err = k.claim(ctx, cluster); err != nil {
			return err
		}
	}
	return k.c.SetBucket(ctx, metadata.Bucket{Nonce: there, Incarnation: FirstIncarnation})
}

// claim writes a nonce into a bucket that has none. Whoever wrote first is right.
func (k *keeper) claim(ctx context.Context, cluster string) (nonce [16]byte, err error) {
	if _, err := io.ReadFull(k.c.opt.Rand, nonce[:]); err != nil {
		return nonce, fmt.Errorf("make a nonce: %w", err)
	}
	err = k.o.Bucket.PutIfAbsent(ctx, NonceKey(k.o.Prefix, cluster), nonceText(nonce))
	if err != nil && !errors.Is(err, bucket.ErrExists) {
		return nonce, fmt.Errorf("write the bucket's nonce: %w", err)
	}
	return ReadNonce(ctx, k.o.Bucket, k.o.Prefix, cluster)
}

// keep does what is due until ctx ends. It blocks on the bucket and on proposals.
func (k *keeper) keep(ctx context.Context) {
	ticker := time.NewTicker(keepTick)
	defer ticker.Stop()
	var collected, retained, modules time.Time
	audited := time.Now() // the first comes an interval after the start
	warned := map[string]bool{}
	do := func(what string, at *time.Time, every time.Duration, work func(context.Context) error) {
		now := time.Now()
		if now.Sub(*at) < every || ctx.Err() != nil {
			return
		}
		*at = now
		err := work(ctx)
		if err != nil && ctx.Err() == nil && !warned[what] {
			k.c.log.Warn("keeping the bucket failed; trying on", "work", what, "error", err)
		}
		warned[what] = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			k.stopClock(ctx)
			return
		case <-ticker.C:
		}
		k.shelves.expire(time.Now())
		if k.c.leads() != nil || k.shipper.Fenced() != nil {
			k.c.clock.forget()
			continue
		}
		if !k.ours.Load() {
			if err := k.identify(ctx); err != nil {
				if !warned["identify"] && ctx.Err() == nil {
					k.c.log.Warn("it is not known yet whether this is the cluster's bucket; nothing is deleted there", "error", err)
				}
				warned["identify"] = true
				continue
			}
			k.c.log.Info("the bucket was reached, and is the cluster's")
		}
		do("retention", &retained, k.c.live.Load().Retention, k.retain)
		do("collection", &collected, min(k.o.Grace/4, 10*time.Second), k.collect)
		do("modules", &modules, min(k.o.Grace/4, 10*time.Second), k.collectModules)
		do("audit", &audited, k.c.live.Load().Audit, func(ctx context.Context) error { return errors.Join(k.audit(ctx), k.listModules(ctx)) })
	}
}

// collect carries out one step of the collector.
func (k *keeper) collect(ctx context.Context) error {
	if err := k.c.node.Barrier(ctx); err != nil {
		return err
	}
	k.collecting.Lock()
	do := k.collector.step(time.Now(), k.c.state.Image(), k.shipper.Shipped())
	k.collecting.Unlock()
	var errs []error
	if len(do.Condemn) > 0 {
		n, err := k.c.CondemnObjects(ctx, do.Condemn)
		if n > 0 {
			k.c.log.Info("uploads that were not committed in time are given up", "objects", n)
		}
		errs = append(errs, err)
	}
	for _, d := range do.Dissolve {
		errs = append(errs, k.dissolve(ctx, d))
	}
	if do.Ship > k.shipper.Shipped() {
		k.shipper.Hurry()
	}
	for _, id := range do.Delete {
		if err := k.delete(ctx, id); err != nil {
			errs = append(errs, err)
			break // the bucket is ill: the rest comes with the next step
		}
		k.collecting.Lock()
		k.collector.gone(id)
		k.collecting.Unlock()
	}
	if len(do.Forget) > 0 {
		_, err := k.c.ForgetObjects(ctx, do.Forget)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// delete removes an object, unless somebody else was found to write here since it
// was decided.
func (k *keeper) delete(ctx context.Context, id storage.ObjectID) error {
	if err := k.shipper.Fenced(); !guard.Check("controller.fenced-delete", err == nil) {
		return err
	}
	if err := k.o.Bucket.Delete(ctx, k.key(id)); err != nil {
		return fmt.Errorf("delete object %s: %w", id, err)
	}
	return nil
}

func (k *keeper) key(id storage.ObjectID) string {
	return object.Key(k.o.Prefix, k.c.Image().ClusterID(), FirstIncarnation, id)
}

// audit deletes what landed in the bucket after its id was forgotten.
func (k *keeper) audit(ctx context.Context) error {
	image := k.c.state.Image()
	// Those that the image does not know: in the main what manifests list, which may
	// be millions.
	ids := make([]storage.ObjectID, 0, image.FiledRanges())
	prefix := object.DataPrefix(k.o.Prefix, k.c.Image().ClusterID(), FirstIncarnation)
	err := k.o.Bucket.List(ctx, prefix, "", func(i bucket.Info) bool {
		if parsed, err := object.ParseKey(k.o.Prefix, i.Key); err == nil {
			if _, known := image.Object(parsed.ID); !known {
				ids = append(ids, parsed.ID)
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list the bucket: %w", err)
	}
	// The catalogue must not be older than the listing: an id may have been issued
	// and used meanwhile.
	if err := k.c.node.Barrier(ctx); err != nil {
		return err
	}
	image = k.c.state.Image()
	f, err := k.readFiled(ctx, image, unknownTo(image, ids))
	if err != nil {
		return fmt.Errorf("nothing in the bucket is judged: %w", err)
	}
	for id, d := range f.damaged {
		if d.dead {
			continue
		}
		k.c.log.Error("a manifest is damaged or missing: nothing is called an orphan until it is there", "manifest", id, "partition", d.partition, "error", d.err)
	}
	k.collecting.Lock()
	found := k.collector.listed(time.Now(), f.ids, image, f)
	k.collecting.Unlock()
	if len(found.Foreign) > 0 && len(found.Foreign) != k.foreign {
		k.c.log.Warn("the bucket has objects whose ids were never issued here; they are left", "objects", len(found.Foreign), "first", found.Foreign[0])
	}
	k.foreign = len(found.Foreign)
	for _, id := range found.Orphans {
		if err := k.delete(ctx, id); err != nil {
			return err
		}
		k.c.log.Info("an object that came after its deletion is removed", "object", id)
	}
	return nil
}

// Shipped is the index up to which the bucket has the metadata log.
func (c *Controller) Shipped() uint64 {
	switch k := c.keeper(); {
	case k != nil:
		return k.shipper.Shipped()
	case c.opt.Bucket != nil: // it is not known yet
		return 0
	}
	return math.MaxUint64
}

// HurryLog has what the bucket does not have of the metadata log put there now, and
// not with the next interval. It costs a put.
func (c *Controller) HurryLog() {
	if k := c.keeper(); k != nil {
		k.shipper.Hurry()
	}
}

// BucketHealth says what is wrong between this controller and the bucket, or nil.
func (c *Controller) BucketHealth() error {
	k := c.keeper()
	if k == nil {
		return nil
	}
	fenced := k.shipper.Fenced()
	if fenced == nil {
		fenced = c.Ended()
	}
	errs := []error{fenced, c.clock.stopped()}
	if wrong := k.wrong.Load(); wrong != nil {
		errs = append(errs, wrong)
	}
	if unmet := k.unmet.Load(); unmet != nil && time.Since(unmet.Since) >= unmetAfter {
		errs = append(errs, unmet)
	}
	return errors.Join(errs...)
}

// keeper returns the controller's side of the bucket, nil while there is none: without a
// bucket, and until it is known of which cluster this is.
func (c *Controller) keeper() *keeper { return c.kept.Load() }

// withoutKeeper refuses what needs the bucket where there is one, and it is not open yet.
func (c *Controller) withoutKeeper() error {
	if c.opt.Bucket == nil {
		return nil
	}
	return metadata.Errorf(metadata.NotController, "this controller is starting: it has not looked for its bucket yet")
}

// mayCommit refuses what gives ids out or names objects once somebody else was
// found to write into the bucket (RULES 5.2).
func (c *Controller) mayCommit() error {
	k := c.keeper()
	if k == nil {
		return c.withoutKeeper()
	}
	if err := k.shipper.Fenced(); !guard.Check("controller.fenced-commit", err == nil) {
		return metadata.Errorf(metadata.KafkaStorageError, "%v", err)
	}
	return nil
}
