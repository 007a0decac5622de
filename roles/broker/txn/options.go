package txn

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Log is the topic __transaction_state.
type Log interface {
	coordinator.Log
	// Append appends b to a partition led under epoch, with acks=all. done is
	// called exactly once, from any goroutine, perhaps before Append returns:
	// with the offset behind b when b is committed, else with why it never will
	// be. Appends of one partition are committed in the order of the calls.
	// Append must not block. It may keep b. Errors are answered by
	// [coordinator.CodeOf].
	Append(partition int32, epoch storage.Epoch, b batch.Batch, done func(next storage.Offset, err error))
}

// Markers ends transactions where they wrote.
type Markers interface {
	// WriteMarkers writes one marker to each partition. done is called once, from
	// any goroutine, when every marker is committed or known never to be: with
	// those that are to be tried again. What does not exist any more is not among
	// them. WriteMarkers must not block.
	WriteMarkers(m Marker, done func(left []Partition))
}

// Topics says which topics exist.
type Topics interface {
	// Partitions returns the number of partitions, 0 for a topic that is not there.
	Partitions(name string) int32
}

// Partition names a partition that a transaction writes to.
type Partition struct {
	Topic string
	Index int32
}

func (p Partition) compare(q Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Index, q.Index))
}

// Marker is how a transaction ended.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch storage.Epoch
	Commit           bool
	// Version is the producer's transaction version. From 2 on the marker's epoch
	// is above that of the transaction's records (KIP-890), so that a marker which
	// comes late finds nothing of the next transaction.
	Version    int16
	Partitions []Partition
}

// Defaults of Options; the first two are Kafka's.
const (
	DefaultMaxTimeout   = 15 * time.Minute
	DefaultIDExpiration = 7 * 24 * time.Hour

	// An idle id takes half a kilobyte, so that the ids take half of the state.
	DefaultMaxIDs   = 1_000_000
	DefaultMaxState = 1 << 30
	// Requests that wait for a core; at a million steps a second, 10 ms.
	DefaultMaxQueue = 10_000
)

// Options of a coordinator. Log, Markers and NewProducerID are needed; zero means
// the default elsewhere.
type Options struct {
	Log     Log
	Markers Markers
	Topics  Topics // nil: every topic exists

	// NewProducerID gets an id that nobody has had. It must not block; done is
	// called once, from any goroutine.
	NewProducerID func(done func(id int64, err error))

	MaxTimeout   time.Duration // the longest that a producer may ask for (transaction.max.timeout.ms)
	IDExpiration time.Duration // of an id without a transaction since (transactional.id.expiration.ms)

	// Together, over all partitions: transactional ids, and bytes of state as
	// estimated. Beyond either, what exists goes on and nothing new is taken.
	MaxIDs   int
	MaxState int64

	// CompactBytes is how far the log of a partition may grow, besides twice what
	// its ids take, before it is written anew.
	CompactBytes int64

	MaxQueue int // requests waiting for one partition's core

	Now func() time.Time // wall clock of records; nil: time.Now
	// Believed is the time that ids expire by; false: none does now. nil: Now, always.
	Believed func() (time.Time, bool)
	Logger   *slog.Logger // nil: none
}

func (o *Options) setDefaults() error {
	if o.Log == nil || o.Markers == nil || o.NewProducerID == nil {
		return errors.New("transaction coordinator: a log, markers and producer ids are needed")
	}
	o.MaxTimeout = cmp.Or(o.MaxTimeout, DefaultMaxTimeout)
	o.IDExpiration = cmp.Or(o.IDExpiration, DefaultIDExpiration)
	o.MaxIDs = cmp.Or(o.MaxIDs, DefaultMaxIDs)
	o.MaxState = cmp.Or(o.MaxState, DefaultMaxState)
	o.MaxQueue = cmp.Or(o.MaxQueue, DefaultMaxQueue)
	o.CompactBytes = cmp.Or(o.CompactBytes, coordinator.DefaultCompactBytes)
	if o.MaxTimeout < 0 || o.IDExpiration < 0 {
		return fmt.Errorf("transaction coordinator: time-outs to %v, ids expire after %v", o.MaxTimeout, o.IDExpiration)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Believed == nil {
		now := o.Now
		o.Believed = func() (time.Time, bool) { return now(), true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
