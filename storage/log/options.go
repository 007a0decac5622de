package log

import (
	"fmt"
	"log/slog"
	"time"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// Defaults of a store's limits.
const (
	// defaultIndexMemory holds eight million batches: at 1 KiB each, what fits
	// in a WAL of 8 GiB.
	defaultIndexMemory = 256 << 20
	// defaultMaxProducers is bounded by memory: a producer takes 100 to 300
	// bytes.
	defaultMaxProducers = 100_000
	// defaultProducerExpiry is Kafka's.
	defaultProducerExpiry = 24 * time.Hour
	// defaultUnuploadedShare: see Options.
	defaultUnuploadedShare = 0.5
)

// frameOverhead is what a batch takes in the WAL besides its bytes: the frame's
// header and its padding.
const frameOverhead = 72

// Options of a store.
type Options struct {
	FS  disk.FS
	Dir string // of the WAL

	// WAL sets sizes, budgets and syncing of the WAL. FS, Dir, Owner and Log in
	// it are set by the store.
	WAL wal.Options

	IndexMemory    int64         // bytes for where batches lie; beyond it nothing is admitted. 0: 256 MiB
	ProducerExpiry time.Duration // an idempotent producer is forgotten so long after its last batch. 0: 24 h
	MaxProducers   int           // remembered by all logs, one for each log it writes to; beyond it new ones are refused. 0: 100,000
	// MaxTopicProducers of them may be of the logs of one topic, so that who writes to one keeps
	// nobody from the others. 0: MaxProducers, or half of its default.
	MaxTopicProducers int

	// Tiered says that what is committed is uploaded: see [Log.SetUploaded].
	Tiered bool
	// Hold keeps in the WAL what is uploaded until [Log.Release] says that it need not
	// be there: the catalogue that names it is not safe yet.
	Hold bool
	// MaxUnuploadedShare of the WAL's capacity is what one partition may hold
	// there that the bucket has not; beyond it nothing is appended to it. 0: 0.5,
	// so that a partition which cannot upload leaves the others as much, and can
	// be copied forward at the price of writing twice. Only if Tiered.
	MaxUnuploadedShare float64

	// Heal has a start go on without what was synced and cannot be read back. Partitions
	// that may have had some of it are corrupt, and only they; for others have replicas of
	// them to begin anew from. Until [Store.SettleLosses] that is found anew. false: Open
	// refuses with a *wal.CorruptionError.
	Heal bool
	// Heals reports whether states may say what lets a refused log be healed from the bucket.
	// Versions of before that refuse a partition whose state says so. nil: they may.
	Heals func() bool

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
}

func (o *Options) fill() error {
	if o.FS == nil {
		return fmt.Errorf("open the store in %q: no file system", o.Dir)
	}
	if o.IndexMemory == 0 {
		o.IndexMemory = defaultIndexMemory
	}
	if o.ProducerExpiry == 0 {
		o.ProducerExpiry = defaultProducerExpiry
	}
	if o.MaxProducers == 0 {
		o.MaxProducers = defaultMaxProducers
		if o.MaxTopicProducers == 0 {
			o.MaxTopicProducers = defaultMaxProducers / 2
		}
	}
	if o.MaxTopicProducers == 0 {
		o.MaxTopicProducers = o.MaxProducers
	}
	if o.MaxUnuploadedShare == 0 {
		o.MaxUnuploadedShare = defaultUnuploadedShare
	}
	if o.MaxUnuploadedShare < 0 || o.MaxUnuploadedShare > 1 {
		return fmt.Errorf("open the store in %q: a partition may hold %v of the WAL: want more than 0, at most 1", o.Dir, o.MaxUnuploadedShare)
	}
	if o.IndexMemory < 0 || o.ProducerExpiry < 0 || o.MaxProducers < 0 || o.MaxTopicProducers < 0 {
		return fmt.Errorf("open the store in %q: index memory %d, producer expiry %s, %d producers: want none below 0",
			o.Dir, o.IndexMemory, o.ProducerExpiry, o.MaxProducers)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Config is what a topic asks of its logs. The zero value takes what the format
// allows and stores it as it came.
type Config struct {
	MaxMessageBytes int // of a batch as sent; 0: what the WAL takes
	// TimestampType LogAppendTime stamps every batch with the broker's time.
	TimestampType batch.TimestampType
	// TimestampAfterMax and TimestampBeforeMax bound how far producers'
	// timestamps may lie from the broker's. They do not apply with LogAppendTime.
	TimestampAfterMax, TimestampBeforeMax batch.Bound
	// Recompress stores batches with Codec (at Level) whatever they came with;
	// false keeps the producer's.
	Recompress bool
	// Keyed refuses producers' records without a key: the topic is compacted.
	Keyed bool
	// ExpectOffset reads conditions of producers: see [Condition]. Without it no record
	// is looked at for one.
	ExpectOffset bool
	Codec        batch.Codec
	Level        int
	// KeepLocal keeps in the WAL what the bucket has too: the log is read whole while
	// the bucket is away (RULES 4.4). What it does not need goes with the log start.
	KeepLocal bool
	// EarlyAcks has what a replica has in memory count as had: appends are answered, and
	// become readable, before the sync, and a power cut may lose them. Whoever was ahead of
	// the leader that then is elected begins anew. It is not taken back.
	EarlyAcks bool
	// BucketAcks has the high watermark stop where the bucket's part ends: appends, of
	// acks=1 too, are answered and become readable once [Log.SetUploaded] says that they
	// are there. It is for logs without other replicas, and not taken back.
	BucketAcks bool
	// MinInSync replicas must have a record before it is visible, or answered
	// to acks=all; 0 is 1.
	MinInSync int
}
