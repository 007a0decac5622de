package roles

import (
	"context"
	"errors"
	"fmt"
	urls "net/url"
	"os"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// leaderWait is how long a process without a broker waits for the leading controller's word.
const leaderWait = time.Second

// bucketDoor is what the admin API sees of the node's bucket.
type bucketDoor struct{ n *Node }

// State implements admin.Bucket.
func (d bucketDoor) State() admin.BucketState {
	n := d.n
	asking, cancel := context.WithTimeout(context.Background(), leaderWait)
	if err := n.door.Refresh(asking); err != nil {
		n.log.Debug("the leading controller does not say how it stands to the bucket", "error", err)
	}
	cancel()
	image, health, log := n.door.Image(), n.bucket.bucket.State(), n.door.BucketState()
	s := admin.BucketState{
		Where: n.bucket.where, Prefix: object.ClusterPrefix(n.config.Storage.Prefix, image.ClusterID()),
		Circuit: health.Circuit.String(), CircuitSince: health.Since,
		Slow: health.Slow, SlowSince: health.SlowSince,
		LastErrorAt: health.LastErrorAt, LastSuccessAt: health.LastSuccessAt, Retries: health.Retries, Refused: health.Refused,
		Objects: map[string]controller.Tally{}, Ranges: image.NumRanges() + image.FiledRanges(), Filed: image.FiledRanges(), Manifests: image.NumManifests(), RecordBytes: image.LiveBytes(),
		MetadataLog: admin.MetadataLogState{Applied: log.Applied, Shipped: log.Shipped},
		Since:       n.bucket.since, Requests: admin.RequestCounts(n.bucket.counted.Counts()),
	}
	if health.LastError != nil {
		s.LastError = health.LastError.Error()
	}
	for state := metadata.Prepared; state <= metadata.Condemned; state++ {
		s.Objects[state.String()] = controller.Tally{Objects: int64(image.NumObjects(state)), Bytes: image.ObjectBytes(state)}
	}
	s.WAL, s.Upload, s.Damage = n.walState(), n.uploadState(), n.damageState()
	s.Warn(log.Err, time.Now())
	return s
}

// walState is the room of this broker's log; nil: it has none.
func (n *Node) walState() *admin.WALState {
	if n.store == nil {
		return nil
	}
	w := n.store.Stats()
	s := &admin.WALState{Capacity: w.Capacity, Used: w.Used, Fullness: w.Fullness}
	if w.WAL.Short != nil {
		s.Short = w.WAL.Short.Error()
	}
	if n.broker != nil {
		r := n.broker.Refusals()
		s.Refused, s.RefusedPartition = refused(r.Log), refused(r.Partition)
	}
	return s
}

// uploadState is what this broker has put into the bucket, and has to; nil: it is none.
func (n *Node) uploadState() *admin.UploadState {
	if n.broker == nil {
		return nil
	}
	u, ok := n.broker.Uploads()
	if !ok {
		return nil
	}
	return &admin.UploadState{
		WaitingBytes: u.Waiting, WaitingSince: u.WaitingSince, Partitions: u.Partitions, Running: u.Running,
		Objects: u.Objects, Bytes: u.Bytes, Failures: u.Failures, RefusedRanges: u.RefusedRanges,
		LastError: u.LastError, FailingSince: u.FailingSince, Interval: time.Duration(n.live.now.Load().WAL.UploadInterval).Seconds(),
	}
}

// damageState is what this broker cannot serve; nil: it is none.
func (n *Node) damageState() *admin.DamageState {
	if n.broker == nil {
		return nil
	}
	d := n.broker.Damage()
	s := &admin.DamageState{CorruptPartitions: d.Corrupt, LastErrorAt: d.LastAt}
	if d.CorruptError != nil {
		s.CorruptError = d.CorruptError.Error()
	}
	if d.Last != nil {
		s.LastError = d.Last.Error()
	}
	return s
}

func refused(r broker.Refusing) *admin.RefusedState {
	if r.Since.IsZero() {
		return nil
	}
	return &admin.RefusedState{Since: r.Since, Last: r.Last, Error: r.Err.Error()}
}

// Probe implements admin.Bucket. The circuit is left out, for it would answer in
// the store's place.
func (d bucketDoor) Probe(ctx context.Context) admin.Probe {
	prefix := object.ClusterPrefix(d.n.config.Storage.Prefix, d.n.door.Image().ClusterID())
	return probe(ctx, d.n.bucket.counted, d.n.bucket.where, prefix)
}

// probe asks each thing once, and bounds how long it waits.
func probe(ctx context.Context, b bucket.Bucket, where, prefix string) admin.Probe {
	const never = 1 << 30
	once := bucket.NewResilient(b, bucket.ResilientOptions{Attempts: 1, OpenAfter: never, OpenMin: never})
	return admin.NewProbe(where, bucket.Probe(ctx, once, prefix))
}

// probe implements admin.ProbeURL: it opens a bucket as a node with that
// configuration does.
func (open Cloud) probe(ctx context.Context, url, file string, set []string) (p admin.Probe, err error) {
	c, err := configs.Load(configs.Sources{
		File: file, Environ: os.Environ(), Set: set,
		Flags: []configs.Setting{{Key: "object_storage.url", Value: url, Origin: "the command line"}},
	})
	if err != nil {
		return p, err
	}
	if url == "" {
		return p, &admin.UsageError{Message: "an empty URL names no bucket; leave it out to have the server probe its own"}
	}
	if u, err := urls.Parse(url); err == nil && u.Scheme == "file" {
		// A server makes the directory. A typing error is not to be told that it is well.
		if _, err := os.Stat(u.Path); err != nil {
			return p, fmt.Errorf("open the bucket: %w", err)
		}
	}
	b, where, err := open.bucketAt(ctx, c.Storage, nil, "", "", true)
	if err != nil {
		return p, fmt.Errorf("open the bucket: %w", err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return probe(ctx, b, where, c.Storage.Prefix), nil
}

// Check implements admin.Bucket.
func (d bucketDoor) Check(ctx context.Context, r controller.CheckRequest) (*controller.CheckReport, error) {
	return d.n.door.CheckBucket(ctx, r)
}

// ConfirmClock implements admin.Bucket.
func (d bucketDoor) ConfirmClock(ctx context.Context) (was, err error) {
	return d.n.door.ConfirmClock(ctx)
}

// Cost implements admin.Bucket.
func (d bucketDoor) Cost() admin.Cost {
	image := d.n.door.Image()
	u := admin.Usage{
		Since: d.n.bucket.since, Now: time.Now(), Counts: d.n.bucket.counted.Counts(),
		Records: image.LiveBytes(), Prices: d.n.config.Storage.ListedPrices(),
	}
	if d.n.broker != nil {
		if uploads, ok := d.n.broker.Uploads(); ok {
			u.Uploaded = uploads.Bytes
		}
	}
	u.Stored = storedBytes(image)
	return admin.CostOf(u)
}

// storedBytes is what all objects take in the bucket.
func storedBytes(image *metadata.Image) (bytes int64) {
	for state := metadata.Prepared; state <= metadata.Condemned; state++ {
		bytes += image.ObjectBytes(state)
	}
	return bytes
}
