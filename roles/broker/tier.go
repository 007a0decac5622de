package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// nonceWait is how long a start waits for the bucket to say which one it is.
	nonceWait = 3 * time.Second
	// nonceRetry is between two tries to hear it after that.
	nonceRetry = time.Second
)

// errBucketUnknown is why nothing is uploaded yet.
var errBucketUnknown = errors.New("it is not known yet whether the bucket is the cluster's")

// bucketNonce is what this broker knows its bucket by: what stands there, or,
// while it cannot be reached, what was remembered (RULES 5.1).
func (b *Broker) bucketNonce(ctx context.Context) ([16]byte, error) {
	t := b.opt.Tier
	cluster := b.opt.Controller.Image().ClusterID()
	if t == nil || cluster == "" {
		return [16]byte{}, nil
	}
	wait, cancel := context.WithTimeout(ctx, nonceWait)
	defer cancel()
	nonce, err := controller.ReadNonce(wait, t.Bucket, t.Prefix, cluster)
	switch {
	case errors.Is(err, bucket.ErrNotFound) && t.Nonce == [16]byte{}:
		return [16]byte{}, nil // a cluster that has a bucket refuses this one
	case err != nil && t.Nonce == [16]byte{}:
		b.log.Warn("the bucket was not reached; it is tried on", "error", err)
		return t.Nonce, nil
	case err != nil:
		// One that this broker has used, and that is not there, is away: not mounted, or
		// looked for elsewhere. Nothing is uploaded until it is back.
		b.log.Warn("the bucket was not reached, or is not there; the one that was used last is taken for it", "error", err)
		return t.Nonce, nil
	case nonce != t.Nonce && t.Remember != nil:
		if err := t.Remember(nonce); err != nil {
			return nonce, fmt.Errorf("remember the bucket: %w", err)
		}
	}
	return nonce, nil
}

// meetBucket tries until the bucket that this broker reaches has said that it is
// the cluster's: nothing is uploaded before, and what it is known by is remembered
// for a start that cannot reach it. It blocks on the bucket.
func (b *Broker) meetBucket(ctx context.Context) {
	ticker := time.NewTicker(nonceRetry)
	defer ticker.Stop()
	warned := false
	for {
		err := b.checkBucket(ctx)
		if err == nil {
			b.bucketMet.Store(true)
			return
		}
		if _, wrong := errors.AsType[*controller.WrongBucketError](err); wrong && !warned {
			b.log.Error("nothing is uploaded: a bucket in a directory must be one that all brokers share", "error", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// checkBucket compares the bucket with the one that the cluster stores in.
func (b *Broker) checkBucket(ctx context.Context) error {
	t, image := b.opt.Tier, b.opt.Controller.Image()
	is, set := image.Bucket()
	if !set {
		return errBucketUnknown
	}
	there, err := controller.ReadNonce(ctx, t.Bucket, t.Prefix, image.ClusterID())
	absent := errors.Is(err, bucket.ErrNotFound)
	if err != nil && !absent {
		return err
	}
	if !guard.Check("broker.uploads-into-own-bucket", !absent && there == is.Nonce) {
		return &controller.WrongBucketError{Found: there, Want: is.Nonce}
	}
	if there != t.Nonce && t.Remember != nil {
		if err := t.Remember(there); err != nil {
			b.log.Warn("the bucket could not be remembered; a start that does not reach it will be refused", "error", err)
		}
	}
	return nil
}

// startTier begins to move what is committed into the bucket, to rewrite what is
// there, and to file it.
func (b *Broker) startTier() {
	t := b.opt.Tier
	if t == nil {
		return
	}
	b.done.Go(func() { b.meetBucket(b.ctx) })
	cluster := b.opt.Controller.Image().ClusterID()
	key := func(id storage.ObjectID) string { return b.objectKey(cluster, id) }
	header := object.Header{Cluster: cluster, Incarnation: controller.FirstIncarnation, Broker: b.opt.NodeID}
	var uploaded func(*upload.Done)
	if b.opt.Tracer != nil {
		uploaded = b.opt.Tracer.Uploaded
	}
	b.uploader = upload.Start(upload.Options{
		Limits: t.Upload, Store: b.store, Partitions: tieredPartitions{b}, Catalogue: catalogue{b},
		Bucket: t.Bucket, IDAge: t.IDAge, Log: b.log, Now: b.opt.Now,
		Key: key, Header: header, Told: uploaded,
	})
	// While the WAL fills up, the bucket is the uploads'.
	hold := func() bool { return b.store.Stats().Fullness >= t.Upload.Urgent }
	if t.File != nil {
		b.filer = filing.Start(filing.Options{
			Limits: t.File.Limits, Interval: t.File.Interval, Files: b.files,
			Image: b.images.image, Broker: b.opt.NodeID, Catalogue: catalogue{b}, Bucket: t.Bucket, Key: key, Header: header,
			IDAge: t.IDAge, Log: b.log, Now: b.opt.Now, Hold: hold,
		})
	}
	// Neither begins with a partition that the other rewrites: one of them would do so
	// for nothing. Both look when they plan, and are there by then.
	if z := t.Compact; z != nil {
		b.compactor = compact.New(compact.Options{
			Limits: z.Limits, Interval: z.Interval, Bandwidth: z.Bandwidth, Pace: b.pacer.Meter().Take,
			Image: b.images.image, Broker: b.opt.NodeID, Catalogue: catalogue{b}, Bucket: t.Bucket, Key: key, Header: header,
			IDAge: t.IDAge, Log: b.log, Now: b.opt.Now, Hold: hold,
			Busy: func() map[storage.PartitionID]struct{} {
				if b.cleaner == nil {
					return nil
				}
				return b.cleaner.Rewriting()
			},
		})
	}
	if z := t.Clean; z != nil {
		b.cleaner = clean.New(clean.Options{
			Limits: z.Limits, Interval: z.Interval, Bandwidth: z.Bandwidth, Pace: b.pacer.Meter().Take, Policy: b.cleaningPolicy,
			Image: b.images.image, Broker: b.opt.NodeID, Catalogue: catalogue{b}, Bucket: t.Bucket, Key: key, Header: header,
			IDAge: t.IDAge, Log: b.log, Now: b.opt.Now, Believed: b.opt.Controller.BelievedTime, Hold: hold,
			Busy: func() map[storage.PartitionID]struct{} {
				if b.compactor == nil {
					return nil
				}
				return b.compactor.Rewriting()
			},
		})
		b.cleaner.Start()
	}
	if b.compactor != nil {
		b.compactor.Start()
	}
}

// files reports whether ranges of a topic move into manifests: compaction by key
// looks at all of them, however old.
func (b *Broker) files(t *metadata.Topic) bool {
	_, compacted := b.cleaningPolicy(t)
	return !t.SelfKept() && !compacted
}

func (b *Broker) objectKey(cluster string, id storage.ObjectID) string {
	return object.Key(b.opt.Tier.Prefix, cluster, controller.FirstIncarnation, id)
}

// tieredPartitions shows the uploader what is led here.
type tieredPartitions struct{ b *Broker }

// Led implements upload.Partitions.
func (t tieredPartitions) Led(id storage.PartitionID) (upload.Led, bool) {
	tp := t.b.table.byID(id.Topic)
	if tp == nil {
		return upload.Led{}, false
	}
	p := tp.partition(id.Index)
	if p == nil {
		return upload.Led{}, false
	}
	l, r, err := p.leading()
	return upload.Led{Log: l, Topic: tp.name, Epoch: r.epoch, Sifted: r.sifted}, err == nil
}

// catalogue is the controller, asked under this broker's registration.
type catalogue struct{ b *Broker }

// Prepare implements the catalogues of uploads and of those who rewrite or file.
// Without an id nothing is written.
func (c catalogue) Prepare(ctx context.Context, count int) (storage.ObjectID, error) {
	if !c.b.bucketMet.Load() {
		return 0, errBucketUnknown
	}
	return c.b.opt.Controller.PrepareObjects(ctx, c.b.opt.NodeID, c.b.registration.epoch.Load(), count)
}

// Commit implements upload.Catalogue.
func (c catalogue) Commit(ctx context.Context, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) ([]error, error) {
	return c.b.opt.Controller.CommitObject(ctx, c.b.opt.NodeID, c.b.registration.epoch.Load(), id, size, ranges)
}

// Replace implements compact.Catalogue and clean.Catalogue.
func (c catalogue) Replace(ctx context.Context, id storage.ObjectID, size int64, replacements []metadata.Replacement) ([]error, error) {
	return c.b.opt.Controller.ReplaceRanges(ctx, c.b.opt.NodeID, c.b.registration.epoch.Load(), id, size, replacements)
}

// File implements filing.Catalogue.
func (c catalogue) File(ctx context.Context, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	return c.b.opt.Controller.FileRanges(ctx, c.b.opt.NodeID, c.b.registration.epoch.Load(), id, ref, f)
}

// Uploads counts what went into the bucket, and what waits for it; false: there is
// no bucket.
func (b *Broker) Uploads() (upload.Stats, bool) {
	if b.uploader == nil {
		return upload.Stats{}, false
	}
	return b.uploader.Stats(), true
}

// Compactions counts what was rewritten in the bucket; false: nothing is.
func (b *Broker) Compactions() (compact.Stats, bool) {
	if b.compactor == nil {
		return compact.Stats{}, false
	}
	return b.compactor.Stats(), true
}

// Filings counts what moved into manifests; false: nothing does.
func (b *Broker) Filings() (filing.Stats, bool) {
	if b.filer == nil {
		return filing.Stats{}, false
	}
	return b.filer.Stats(), true
}

// RecordCleaning implements clean.Catalogue.
func (c catalogue) RecordCleaning(ctx context.Context, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error {
	return c.b.opt.Controller.RecordCleaning(ctx, c.b.opt.NodeID, c.b.registration.epoch.Load(), p, epoch, is)
}

// Cleanings counts what was compacted by key; false: nothing is.
func (b *Broker) Cleanings() (clean.Stats, bool) {
	if b.cleaner == nil {
		return clean.Stats{}, false
	}
	return b.cleaner.Stats(), true
}

// Settle ends uploads: it begins no more, and waits for those under way as long as
// ctx allows. What is not in the bucket is on disk.
func (b *Broker) Settle(ctx context.Context) error {
	if b.uploader == nil {
		return nil
	}
	return b.uploader.Settle(ctx)
}
