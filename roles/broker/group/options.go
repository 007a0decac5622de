package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// Log is the topic __consumer_offsets.
type Log interface {
	coordinator.Log
	// Append appends b to a partition led under epoch, with acks=all. done is
	// called exactly once, from any goroutine, perhaps before Append returns:
	// with the offset behind b when b is committed, else with why it never will be.
	// Appends of one partition are committed in the order of the calls. Append must
	// not block: heartbeats wait behind it. It may keep b. Errors are answered by
	// [coordinator.CodeOf].
	// A transactional batch needs what its producer's transaction was verified by,
	// unless that has written to the partition before.
	Append(partition int32, epoch storage.Epoch, b batch.Batch, verified log.Guard, done func(next storage.Offset, err error))
	// AppendMarker appends the end of a producer's transaction, as Append appends
	// batches, and in one order with them.
	AppendMarker(partition int32, epoch storage.Epoch, m log.Marker, done func(next storage.Offset, err error))
	// Confirm calls done with nil once it is certain that when Confirm was called nobody had
	// led the partition, and committed to it, under a later epoch; else with why that is not
	// known. It must not block; done is called once, from any goroutine, perhaps before
	// Confirm returns.
	Confirm(ctx context.Context, partition int32, epoch storage.Epoch, done func(error))
}

// Topics says which topics exist.
type Topics interface {
	// Partitions returns the number of partitions, 0 for a topic that is not there.
	Partitions(name string) int32
	// TopicID returns the id of a topic, zero for one that is not there.
	TopicID(name string) storage.TopicID
	// TopicName returns the name of the topic with that id, or "".
	TopicName(id storage.TopicID) string
	// Newest returns the id of the topic that has a name by the newest that is known,
	// zero when none has: what offsets were committed for that is not this topic was
	// deleted. It is asked of names that offsets were committed for, by whichever
	// coordinator the partition had until it was given to this one, and knows what they
	// knew.
	Newest(name string) storage.TopicID
}

// Defaults of Options. Sessions, metadata and the size of a member in Kafka are
// the same, unlimited where nothing is said of it here.
const (
	DefaultMinSession  = 6 * time.Second
	DefaultMaxSession  = 30 * time.Minute
	DefaultMaxMetadata = 4096

	DefaultOffsetRetention = 7 * 24 * time.Hour
	DefaultOffsetCheck     = 10 * time.Minute

	// A figure above it is a mistake in a client, not a large group.
	DefaultMaxGroupSize = 5000
	// 1,000 groups of 100 members that each hold a kilobyte take a tenth of it.
	DefaultMaxState  = 1 << 30
	DefaultMaxGroups = 100_000
	// Subscriptions of all assignors of one member: its join request must not
	// cost more than the record that will hold it may have.
	DefaultMaxMember = 256 << 10
	// Requests that wait for a core; at a million steps a second, 10 ms.
	DefaultMaxQueue = 10_000
)

// Options of a coordinator. Log is needed; zero means the default elsewhere.
type Options struct {
	Log    Log
	Topics Topics // nil: every topic exists, ids are unknown

	MinSession, MaxSession time.Duration // group.min.session.timeout.ms, group.max.session.timeout.ms

	// InitialRebalanceDelay is how long the first members of an empty group wait
	// for others (group.initial.rebalance.delay.ms). The default is 0, as in the
	// server.properties that Kafka ships: a lone consumer starts at once, and one
	// that follows costs a rebalance. Kafka's built-in default is 3 s.
	InitialRebalanceDelay time.Duration

	Consumer ConsumerOptions // of the consumer protocol

	// Life returns the leader epoch under which, or a later one, this life of the cluster
	// leads what it took over from the one before; 0, or nil: there was none.
	Life func() storage.Epoch

	// Catalogue returns which topics there are now; nil: none that members of the
	// consumer protocol could be given.
	Catalogue func() Catalogue

	// OffsetRetention is how long a committed offset is kept of a group that does not
	// consume its topic, and of one without members since it has none
	// (offsets.retention.minutes). Each OffsetCheck it is looked for such
	// (offsets.retention.check.interval.ms).
	OffsetRetention, OffsetCheck time.Duration

	MaxGroupSize int // members, joining ones included (group.max.size)
	MaxMetadata  int // bytes of an offset commit's metadata (offset.metadata.max.bytes)
	MaxMember    int // bytes of a member's names and subscriptions
	// Authorised says that clients have [Rights]: members get no topic by a pattern before
	// theirs are known.
	Authorised bool

	// Together, over all partitions: groups, and bytes of state as estimated.
	// Beyond either, what exists goes on and nothing new is taken.
	MaxGroups int
	MaxState  int64

	// CompactBytes is how far the log of a partition may grow, besides twice what
	// its groups take, before it is written anew.
	CompactBytes int64

	MaxQueue int // requests waiting for one partition's core

	NewID func() string    // of members, behind their client id; nil: a random UUID
	Now   func() time.Time // wall clock of records; nil: time.Now
	// Believed is the time that offsets expire by; false: none does now. nil: Now, always.
	Believed func() (time.Time, bool)
	Logger   *slog.Logger // nil: none
}

func (o *Options) setDefaults() error {
	if o.Log == nil {
		return errors.New("group coordinator: no log")
	}
	o.MinSession = or(o.MinSession, DefaultMinSession)
	o.MaxSession = or(o.MaxSession, DefaultMaxSession)
	o.OffsetRetention = or(o.OffsetRetention, DefaultOffsetRetention)
	o.OffsetCheck = or(o.OffsetCheck, DefaultOffsetCheck)
	o.MaxGroupSize = or(o.MaxGroupSize, DefaultMaxGroupSize)
	o.MaxMetadata = or(o.MaxMetadata, DefaultMaxMetadata)
	o.MaxMember = or(o.MaxMember, DefaultMaxMember)
	o.MaxGroups = or(o.MaxGroups, DefaultMaxGroups)
	o.MaxState = or(o.MaxState, DefaultMaxState)
	o.MaxQueue = or(o.MaxQueue, DefaultMaxQueue)
	o.CompactBytes = or(o.CompactBytes, coordinator.DefaultCompactBytes)
	if o.MinSession < 0 || o.MaxSession < o.MinSession {
		return fmt.Errorf("group coordinator: sessions from %v to %v", o.MinSession, o.MaxSession)
	}
	if o.OffsetRetention < 0 || o.OffsetCheck < 0 {
		return fmt.Errorf("group coordinator: offsets are kept for %v, looked at every %v", o.OffsetRetention, o.OffsetCheck)
	}
	if o.InitialRebalanceDelay < 0 {
		return fmt.Errorf("group coordinator: initial rebalance delay %v", o.InitialRebalanceDelay)
	}
	if err := o.Consumer.setDefaults(); err != nil {
		return err
	}
	if o.Catalogue == nil {
		o.Catalogue = func() Catalogue { return nothing{} }
	}
	if o.NewID == nil {
		o.NewID = newUUID
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

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
