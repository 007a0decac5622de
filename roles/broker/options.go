package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/transport/rpc"
)

// Controller is what a broker asks of the controller: [*controller.Controller]
// when both run in one process. Errors carry codes of package metadata.
type Controller interface {
	Image() *metadata.Image
	Subscribe(func(*metadata.Image)) (cancel func())
	RegisterBroker(context.Context, controller.Registration) (epoch int64, err error)
	Heartbeat(ctx context.Context, brokerID int32, epoch int64) error
	FenceBroker(ctx context.Context, brokerID int32, epoch int64) error
	ReportLoad(ctx context.Context, brokerID int32, brokerEpoch int64, syncs time.Duration, loads []controller.PartitionLoad) error
	ReportEnds(ctx context.Context, brokerID int32, brokerEpoch int64, ends []metadata.PartitionEnd) error
	GiveUpReplicas(ctx context.Context, brokerID int32, brokerEpoch int64, partitions []storage.PartitionID) []error
	CreateTopics(context.Context, []controller.NewTopic, bool) []controller.TopicResult
	DeleteTopics(context.Context, []controller.TopicRef) []controller.TopicResult
	CreatePartitions(ctx context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error
	AlterConfigs(ctx context.Context, changes []controller.ConfigChange, validateOnly bool) []error
	AlterClientQuotas(ctx context.Context, changes []controller.QuotaChange, validateOnly bool) []error
	AlterUsers(ctx context.Context, changes []metadata.UserChange) []error
	AdvanceLogStart(ctx context.Context, brokerID int32, brokerEpoch int64, starts []controller.LogStart) []error
	PrepareObjects(ctx context.Context, brokerID int32, brokerEpoch int64, count int) (first storage.ObjectID, err error)
	ReplaceRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error)
	FileRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error
	RecordCleaning(ctx context.Context, brokerID int32, brokerEpoch int64, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error
	CommitObject(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) (results []error, err error)
	AlterACLs(ctx context.Context, changes []controller.ACLChange) []error
	AlterPartitions(ctx context.Context, brokerID int32, brokerEpoch int64, changes []metadata.PartitionChange) []error
	ElectLeaders(ctx context.Context, elections []controller.LeaderElection) []error
	ReassignPartitions(ctx context.Context, moves []controller.Reassignment) []error
	AllocateProducerIDs(ctx context.Context, brokerID int32, brokerEpoch int64) (first int64, count int32, err error)
	BelievedTime() (now time.Time, ok bool)
}

// Peers is the way to other brokers: [*rpc.Peers]. Errors are those of package rpc.
type Peers interface {
	Call(ctx context.Context, address string, c *rpc.PeerCall) ([]byte, error)
}

// PeerConns opens connections to other brokers, on which this one speaks as a client:
// [*rpc.Peers]. Errors are those of package rpc.
type PeerConns interface {
	Connect(ctx context.Context, address string, c *rpc.PeerCall) (net.Conn, error)
}

// DefaultHeartbeat is the time between two heartbeats: five in the shortest
// session that the controller grants by default.
const DefaultHeartbeat = 2 * time.Second

// DefaultFetchMemory is room for five clients that take the most that a response
// holds and read none of it.
const DefaultFetchMemory = 256 << 20

// Tier is the bucket as a broker uses it.
type Tier struct {
	Bucket bucket.Bucket
	Prefix string // of all keys
	Upload upload.Limits
	Cold   cold.Options // Bucket and Key in it are set by the broker
	// Maintenance is the time between two sweeps of the caches; 0: a minute.
	Maintenance time.Duration
	IDAge       time.Duration // how long an object id may be used after it was issued
	// Compact says how objects are rewritten; nil: they are not.
	Compact *Compaction
	// File says how ranges move into manifests; nil: they stay in the metadata.
	File *Filing
	// Clean says how topics are compacted by key; nil: they are not.
	Clean *Cleaning
	// Nonce is what the bucket was known by, for a start that cannot reach it, and
	// Remember keeps what was read.
	Nonce    [16]byte
	Remember func([16]byte) error
	// Shipped is the index up to which the bucket has the metadata log, and HurryLog
	// has what it has not put there soon: with a store that holds what is uploaded
	// until then. Nil: it does not.
	Shipped  func() uint64
	HurryLog func()
	// ShippedOnce is such an index too, and known after a start that has not reached
	// the bucket. Nil: none is.
	ShippedOnce func() uint64
}

// Compaction is what a configuration says of it.
type Compaction struct {
	compact.Limits
	Interval  time.Duration
	Bandwidth int64 // bytes a second; 0: no bound
}

// Filing is what a configuration says of it.
type Filing struct {
	filing.Limits
	Interval time.Duration
}

// Cleaning is what a configuration says of compaction by key.
type Cleaning struct {
	clean.Limits
	Interval  time.Duration
	Bandwidth int64 // bytes a second; 0: no bound
}

// Options of a broker.
type Options struct {
	NodeID     int32 // at least 1
	Store      *log.Store
	Controller Controller
	Peers      Peers // nil: no other broker is asked

	// MetricDetail is what the series of topics and groups tell apart.
	MetricDetail MetricDetail
	// Tracer is told of batches, fetches and uploads; nil: nobody is.
	Tracer Tracer
	// SlowRequest is from when on a request is slow, which is told to the log; 0: none is.
	// [Broker.SetSlowRequest] changes it.
	SlowRequest time.Duration
	// MaxConnectionRate is how many connections are taken a second, ten seconds' worth at
	// once; 0: any.
	MaxConnectionRate float64

	ClusterID string   // that the data directory belongs to; empty before the first start
	Directory [16]byte // id of the data directory
	Rack      string

	// Failed says why the process cannot go on, for what is not the broker's own, or
	// nil: that its controller is dead, say. nil: nothing is known of that.
	Failed func() error

	// DataDir is what clients are told of the data directory, and Space how much
	// room its file system has; nil: clients are not told.
	DataDir string
	Space   func() (free, total int64, err error)

	// Listeners are the addresses that clients are told. A client is told those
	// whose name is that of the listener it came through, and of no broker that has none.
	Listeners []metadata.Listener

	// AcceptDamage names damaged partitions that go on at the end of what the bucket has,
	// without what their logs alone have, as their refusals name them: topic/partition@offset.
	AcceptDamage []string

	Authorization *Authorization // of clients; nil: each may do everything

	// AutoCreate makes topics that a client asks the metadata of, with the
	// controller's defaults, when the client allows it.
	AutoCreate bool
	// Configs are the broker's by its configuration, under Kafka's names, for clients
	// that ask; nil: those of the default configuration.
	Configs []configs.BrokerValue
	// MessageMaxBytes is a topic's max.message.bytes where it has none of its
	// own; 0: that of package configs.
	MessageMaxBytes int
	// LargestBatch is the most that max.message.bytes of a topic may be; 0: what a WAL of
	// the default segment size takes.
	LargestBatch int

	// FetchMemory bounds the bytes of records in responses that slow clients
	// have not taken yet; 0 is DefaultFetchMemory.
	FetchMemory int64

	// Transforms returns the modules that batches pass before they are appended; nil: none
	// do. It is asked for each batch, and does not block.
	Transforms func() *pipeline.Set

	Tier *Tier // the bucket; nil: records stay in the WAL

	// LagPartitions is of how many partitions of groups the lag is exported as metrics,
	// at most; 0 is DefaultLagPartitions.
	LagPartitions int

	// TelemetrySeries is how many series of metrics that clients push are kept, at most;
	// 0 is telemetry.DefaultSeries.
	TelemetrySeries int

	// UncleanEnd says that the last process of this data directory did not end by its own
	// wish, or that this is not known; AckedBeforeSync that it acknowledged before the sync.
	UncleanEnd, AckedBeforeSync bool

	// Strays are the topics whose records were found, and kept, when this data directory was
	// first used in a life of the cluster that was brought back from its bucket; nil
	// RememberStrays: nothing outlasts a start, and no record of an unknown topic is dropped
	// there. RememberStrays makes them durable.
	Strays         Strays
	RememberStrays func(Strays) error

	Replication *Replication // how other brokers are reached; nil: this one is alone

	Audit     audit.Recorder            // of what is to be recorded; nil: nothing is
	AuditData bool                      // the first use of each topic by a connection is to be recorded
	AuditHead func() (audit.Head, bool) // how far this node's account has come; nil: it has none

	// Tell answers what operators ask about this process that is no broker's to know; what is a
	// name, and the answer goes out as JSON. nil: nothing is told.
	Tell func(ctx context.Context, what string) (any, error)

	Logins *login.Table // of clients that have to say who they are; nil: none has to

	Groups       group.Options // coordinators of consumer groups; zero values are Kafka's defaults
	Transactions txn.Options   // coordinators of transactions; zero values are Kafka's defaults
	Heartbeat    time.Duration // between two; 0 is DefaultHeartbeat

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
	// Mono is how long ago some moment was, steadily, and while the machine slept as well.
	// nil: it never sleeps, as far as is known.
	Mono func() time.Duration
}

func (o *Options) validate() error {
	var errs []error
	if o.NodeID < 1 {
		errs = append(errs, fmt.Errorf("node id %d: at least 1", o.NodeID))
	}
	if o.Store == nil || o.Controller == nil {
		errs = append(errs, errors.New("a store and a controller are needed"))
	}
	if len(o.Listeners) == 0 {
		errs = append(errs, errors.New("no listener: clients must be told an address"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("broker options: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mono == nil {
		began := o.Now()
		o.Mono = func() time.Duration { return o.Now().Sub(began) }
	}
	if o.Configs == nil {
		o.Configs = configs.BrokerValues(configs.Default())
	}
	if o.Audit == nil {
		o.Audit = audit.Discard
	}
	if o.FetchMemory == 0 {
		o.FetchMemory = DefaultFetchMemory
	}
	if o.LagPartitions == 0 {
		o.LagPartitions = DefaultLagPartitions
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	return nil
}
