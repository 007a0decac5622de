package roles

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/cache"
	"rustmq.dev/rustmq/storage/disk"
)

// bucketDir is the bucket in the data directory, where none is named.
const bucketDir = "bucket"

// Limits of uploads that no key sets.
const (
	// objectRanges keeps what names an object's ranges, about 40 bytes each, well
	// within one command.
	objectRanges = 10_000
	// uploadUrgent is the share of the WAL from which on nothing waits for its
	// interval.
	uploadUrgent = 0.5
	// uploadsOutrun, as a divisor of the WAL's memory: when as much waits, the oldest will
	// have left it before its object is written.
	uploadsOutrun = 2

	// unuploadedShare of the WAL is what one partition may hold that the bucket has
	// not taken: while the bucket is away a busy one goes on for long, and the others
	// have room to go on after it.
	unuploadedShare = 0.8

	// What spares an ill store is its circuit, which fails uploads without asking it.
	// A longer pause of their own would only keep a full log full after an outage.
	uploadRetryMin = time.Second
	uploadRetryMax = 10 * time.Second

	// settleWait is how long a stop waits for uploads under way.
	settleWait = 500 * time.Millisecond
)

// store is the bucket of this process, with what watches over it.
type store struct {
	bucket  *bucket.Resilient
	counted *bucket.Counted
	where   string    // as people are told
	since   time.Time // requests are counted
}

// openBucket opens the bucket that the configuration names.
func (n *Node) openBucket(ctx context.Context) error {
	c, used, id := n.config.Storage, "", n.id.now()
	if id.BucketNonce != "" {
		used = controller.NonceKey(c.Prefix, id.ClusterID)
	}
	inner, where, err := n.cloud.bucketAt(ctx, c, n.dir, n.root, used, n.ephemeral)
	if err != nil {
		return fmt.Errorf("open the bucket: %w", err)
	}
	counted := bucket.NewCounted(inner, int64(c.PartSize))
	n.bucket = &store{bucket: bucket.NewResilient(counted, bucket.ResilientOptions{OnSlow: n.bucketIsSlow}), counted: counted, where: where, since: time.Now()}
	n.opened("bucket", func(context.Context) error { return n.bucket.bucket.Close() })
	return nil
}

// bucketIsSlow says so in the log, once a spell, before a request is given up.
func (n *Node) bucketIsSlow(op, key string, waited time.Duration) {
	n.log.Warn("the bucket does not answer; produce and the reading of the log go on", "op", op, "key", key, "waited", waited.Round(time.Millisecond).String())
}

// Cloud opens the bucket of a cloud that the configuration names: Open of package
// roles/cloud, unless a program does without.
type Cloud func(context.Context, configs.Storage) (bucket.Bucket, error)

// bucketAt opens a bucket. home is the data directory, at root, which holds the bucket
// where none is named; used is a key of a bucket that was used before: a directory without it
// is not made, for it is not mounted; ephemeral says that the bucket may end with the
// process.
func (open Cloud) bucketAt(ctx context.Context, c configs.Storage, home disk.FS, root, used string, ephemeral bool) (b bucket.Bucket, where string, err error) {
	if c.URL == "" {
		is := func() error { _, err := home.Stat(path.Join(bucketDir, used)); return err }
		at := path.Join(root, bucketDir)
		b, err = directory(at, used, is, func() (bucket.Bucket, error) { return bucket.NewDir(home, bucketDir) })
		return b, "file://" + at, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, "", fmt.Errorf("object_storage.url: %w", err)
	}
	switch u.Scheme {
	case "file":
		is := func() error { _, err := os.Stat(path.Join(u.Path, used)); return err }
		b, err = directory(u.Path, used, is, func() (bucket.Bucket, error) {
			dir, err := disk.OpenOS(u.Path)
			if err != nil {
				return nil, fmt.Errorf("object_storage.url %s: %w", c.URL, err)
			}
			return bucket.NewDir(dir, ".")
		})
		return b, c.URL, err
	case "mem":
		if !ephemeral {
			return nil, "", fmt.Errorf("object_storage.url %s: what is uploaded would be gone with the process; use it with --ephemeral", c.URL)
		}
		return bucket.NewMemory(), c.URL, nil
	}
	if open == nil {
		return nil, "", fmt.Errorf("object_storage.url %s: this program was built without the clouds' drivers; give it roles/cloud.Open", u.Redacted())
	}
	b, err = open(ctx, c)
	u.RawQuery, u.User = "", nil // it may hold what is nobody's business
	return b, u.String(), err
}

// directory opens the bucket in a directory. One that was used, which its file is in, is
// waited for where it is not there: nothing is made below a mount point, and the process
// serves its log.
func directory(at, used string, is func() error, open func() (bucket.Bucket, error)) (bucket.Bucket, error) {
	if used == "" {
		return open()
	}
	there := func() (bucket.Bucket, error) {
		if err := is(); err != nil {
			return nil, fmt.Errorf("the bucket that was used is not in %s (is its file system mounted, is object_storage.prefix what it was?): %w", at, err)
		}
		return open()
	}
	b, err := there()
	if err != nil {
		return bucket.NewAwaited(there), nil
	}
	return b, nil
}

// bucketOptions are the controller's.
func (n *Node) bucketOptions() *controller.BucketOptions {
	c := n.config.Storage
	return &controller.BucketOptions{
		Bucket: n.bucket.bucket, Prefix: c.Prefix,
		Deadline: time.Duration(c.UploadTimeout), Grace: time.Duration(c.Grace), Audit: time.Duration(c.CheckInterval),
		Retention: time.Duration(c.RetentionInterval), MetadataLog: time.Duration(c.MetadataLogInterval),
	}
}

// tier is the broker's.
func (n *Node) tier() (*broker.Tier, error) {
	c := n.config.Storage
	t := &broker.Tier{
		Bucket: n.bucket.bucket, Prefix: c.Prefix, IDAge: time.Duration(c.UploadTimeout) / 4,
		Upload: upload.Limits{
			AckInterval: time.Duration(n.config.WAL.AckInterval), AckBytes: int64(n.config.WAL.AckBytes),
			Interval: time.Duration(n.config.WAL.UploadInterval), ObjectBytes: int64(n.config.WAL.UploadBytes),
			OwnBytes: int64(n.config.WAL.UploadBytes) / 2, ObjectRanges: objectRanges, Parallel: c.Parallel,
			RetryMin: uploadRetryMin, RetryMax: uploadRetryMax, Urgent: uploadUrgent,
			Outrun: int64(n.config.WAL.Memory) / uploadsOutrun,
		},
		Cold: cold.Options{
			Policy: cache.Policy(n.config.Cache.Policy), TTL: cacheTTL(n.config.Cache.TTL),
			IndexCache: int64(n.config.Cache.Indexes), BlockCache: int64(n.config.Cache.Capacity), ReadAhead: int64(n.config.Cache.ReadAhead),
		},
		Maintenance: time.Duration(n.config.Cache.MaintenanceInterval),
		Shipped:     n.door.Shipped, HurryLog: n.door.HurryLog, ShippedOnce: n.door.ShippedOnce,
		Remember: func(nonce [16]byte) error {
			return n.id.change(func(id *identity) {
				id.ClusterID, id.BucketNonce = n.door.Image().ClusterID(), hex.EncodeToString(nonce[:])
			})
		},
	}
	if z := n.config.Compaction; z.Parallel > 0 {
		limits := compact.DefaultLimits()
		limits.MinObject, limits.TargetObject, limits.Parallel = int64(z.MinObject), int64(z.TargetObject), z.Parallel
		limits.FileRanges = c.ManifestRanges
		t.Compact = &broker.Compaction{Limits: limits, Interval: time.Duration(z.Interval), Bandwidth: int64(z.Bandwidth)}
	}
	file := filing.DefaultLimits()
	file.Ranges, file.Large = c.ManifestRanges, 0
	if t.Compact != nil {
		file.Large = t.Compact.TargetObject / 2
	}
	t.File = &broker.Filing{Limits: file, Interval: time.Duration(n.config.Compaction.Interval)}
	if z := n.config.Compaction; z.KeyMemory > 0 {
		limits := clean.DefaultLimits()
		limits.KeyMemory, limits.TargetObject, limits.Patience = int64(z.KeyMemory), int64(z.TargetObject), time.Duration(z.KeyPatience)
		t.Clean = &broker.Cleaning{Limits: limits, Interval: time.Duration(z.KeyInterval), Bandwidth: int64(z.Bandwidth)}
	}
	var err error
	t.Nonce, err = n.id.now().bucketNonce()
	return t, err
}

// cacheTTL of 0 is none.
func cacheTTL(d configs.Duration) time.Duration {
	if d == 0 {
		return 1 << 62
	}
	return time.Duration(d)
}
