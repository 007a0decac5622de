package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// DefaultBrokerSession is how long a broker may be silent before it is fenced.
const DefaultBrokerSession = 10 * time.Second

// memoryLogCapacity is that of a log in memory.
const memoryLogCapacity = 8 << 20

// Options of a controller.
type Options struct {
	NodeID    int32             // of this member, at least 1
	Directory [16]byte          // id of its data directory
	ClusterID string            // that this node is known to belong to; empty makes a new one at the first start
	Peers     []uint64          // ids of the other first controllers
	Network   consensus.Network // nil without peers
	// Joined says that this directory has had a metadata log: an empty one is a lost one.
	// Without Join, ClusterID says it too.
	Joined bool
	// Join says that an empty log begins no group with the peers, but waits until theirs
	// adds this controller.
	Join bool
	// OnJoined is called where there are peers and Joined is false, once it is durable that
	// there is a log, and before others count on that; nil: nothing is to be done.
	OnJoined func() error

	// FS is the data directory: raft/ and snapshots/ in it belong to the
	// controller. Nil keeps everything in memory, for tests.
	FS disk.FS
	// Beside are directories that hold files only after this node has belonged
	// to a cluster (wal/). An empty raft/ beside one of them was lost, and is
	// refused; so a controller opens before the broker of its process.
	Beside      []string
	LogCapacity int64 // bytes of raft/; 0 is the default

	Tick            time.Duration // of raft; this and what follows: 0 is consensus's default
	ElectionTicks   int
	HeartbeatTicks  int
	SnapshotEntries uint64
	SnapshotBytes   uint64

	// HighestFeatureLevel is beyond which the feature level does not rise, unless the metadata
	// says another (configs: controller.feature_level); 0: as far as every node knows.
	HighestFeatureLevel uint32

	DefaultPartitions int32 // of a topic that asks for -1; 0 is 1
	MaxPartitions     int   // of the cluster, beyond which clients get none; 0 is DefaultMaxPartitions

	// ValidateTopicConfig and ValidateBrokerConfig say why a key cannot have a
	// value. Nil accepts everything.
	ValidateTopicConfig  func(key, value string) error
	ValidateBrokerConfig func(key, value string) error
	// ValidateTopicConfigs says why a topic cannot have its own values together, over
	// what all brokers were given as defaults. Nil accepts everything.
	ValidateTopicConfigs func(own, ofBrokers map[string]string) error
	// ValidateGroupConfigs says why a group cannot have those values together. Nil
	// accepts everything.
	ValidateGroupConfigs func(values map[string]string) error
	// ValidateClientMetrics says why a subscription to metrics of clients cannot have
	// those values together. Nil accepts everything.
	ValidateClientMetrics func(values map[string]string) error
	// ListConfig tells which keys are lists, that can be appended to and
	// subtracted from, and their default. Nil: none.
	ListConfig func(key string) (defaultValue string, isList bool)

	Bucket *BucketOptions // nil: there is none, as in some tests

	// MovesPerMinute bounds how many leaderships are moved in a minute so that brokers are
	// loaded alike; 0: none is.
	MovesPerMinute int
	// GrowAfter is for how long a broker must be in service before partitions are given
	// replicas there that nobody asked for; 0 is DefaultGrowAfter.
	GrowAfter time.Duration
	// SpreadMovesPerMinute bounds how many partitions are given other replicas in a minute so
	// that brokers which have few come to have their share; 0: none is. SpreadAfter is for how long
	// such a broker must have been in service; 0 is DefaultSpreadAfter.
	SpreadMovesPerMinute int
	SpreadAfter          time.Duration

	BrokerSession time.Duration // silence after which a broker is fenced; 0 is DefaultBrokerSession
	// BrokerHeartbeat is how often brokers are heard; 0 is a fifth of BrokerSession. One whose
	// line breaks is fenced when it is not heard for two of them.
	BrokerHeartbeat time.Duration
	Now             func() time.Time
	// Mono is how long ago some moment was, steadily, and while the machine slept
	// too where the system can tell: a sleep that it does not count is a jump of
	// Now. Nil is the monotonic clock of the process.
	Mono   func() time.Duration
	Rand   io.Reader // of topic ids; nil is crypto/rand
	Log    *slog.Logger
	OnDead func(error) // called once when the controller cannot go on
}

// Controller is one controller of the cluster.
type Controller struct {
	opt    Options
	log    *slog.Logger
	state  *metadata.State
	node   *consensus.Node
	images *publisher
	rules  rules
	live   atomic.Pointer[Live]

	troubles troubles // of nodes, while this controller leads
	turns    *turns   // of changes
	quota    quota
	stop     context.CancelFunc
	done     sync.WaitGroup

	ships *ships
	kept  atomic.Pointer[keeper] // see keeper
	clock clock                  // by the keeper loaded, if there is one

	bell   *bell         // rung when who waits for a leader, or for the cluster, should look
	reign  atomic.Uint64 // the last term in which this controller led and knew all before; no term comes twice
	ready  chan struct{} // closed once it has arrived, see Ready
	failed chan error    // why it cannot go on; has room for one

	sessionsMu sync.Mutex
	sessions   *sessions // guarded by sessionsMu

	confirmations *confirmations
	running       context.Context // until Close

	balanceMu sync.Mutex
	balance   *balancer     // guarded by balanceMu
	flee      chan struct{} // holds one token while leaderships are to leave a disk that has become slow
}

// Open starts a controller; ctx bounds the opening. One that is alone in its group leads
// when Open returns. With others it waits for openPatience at most, for they may not be
// there: see [Controller.Ready].
func Open(ctx context.Context, opt Options) (*Controller, error) {
	if opt.NodeID < 1 {
		return nil, fmt.Errorf("controller: node id %d: at least 1", opt.NodeID)
	}
	opt.fill()
	c := &Controller{
		opt: opt, log: opt.Log, state: metadata.NewState(), sessions: newSessions(opt.BrokerSession, 2*opt.BrokerHeartbeat),
		turns: newTurns(), balance: newBalancer(opt.MovesPerMinute), flee: make(chan struct{}, 1), ships: new(ships),
		confirmations: newConfirmations(), bell: newBell(), ready: make(chan struct{}), failed: make(chan error, 1),
	}
	now := opt.live()
	c.live.Store(&now)
	c.quota.bound(opt.MaxPartitions)
	c.images = newPublisher(c.Image)
	c.rules = rules{opt.DefaultPartitions, opt.ValidateTopicConfig, opt.ValidateTopicConfigs, opt.ValidateBrokerConfig, opt.ValidateGroupConfigs, opt.ValidateClientMetrics, opt.ListConfig}
	node, err := consensus.Open(ctx, c.consensusOptions())
	if err != nil {
		return nil, fmt.Errorf("open the metadata log: %w", err)
	}
	c.node = node
	running, cancel := context.WithCancel(context.Background())
	c.stop, c.running = cancel, running
	c.done.Go(func() { c.images.run(running) })                           // blocks on a subscriber at most
	c.done.Go(func() { c.follow(running) })                               // blocks on the end of a reign, which that does on proposals
	c.done.Go(func() { c.attend(running) })                               // blocks on nothing
	c.done.Go(func() { c.confirmations.run(running, c.askWhetherLeads) }) // blocks on the other controllers
	c.done.Go(func() { c.arrive(running) })                               // blocks on the bucket, for a while, and on the log
	if err := c.await(ctx, running); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// fill gives what was not said its default.
func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mono == nil {
		begun := time.Now()
		o.Mono = func() time.Duration { return time.Since(begun) }
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.FS == nil {
		o.FS = disk.NewMem(disk.MemOptions{})
		o.LogCapacity = memoryLogCapacity
	}
	if o.DefaultPartitions == 0 {
		o.DefaultPartitions = 1
	}
	if o.MaxPartitions == 0 {
		o.MaxPartitions = DefaultMaxPartitions
	}
	if o.BrokerSession == 0 {
		o.BrokerSession = DefaultBrokerSession
	}
	if o.BrokerHeartbeat == 0 {
		o.BrokerHeartbeat = o.BrokerSession / 5
	}
	if o.GrowAfter == 0 {
		o.GrowAfter = DefaultGrowAfter
	}
	if o.SpreadAfter == 0 {
		o.SpreadAfter = DefaultSpreadAfter
	}
	acceptAll := func(string, string) error { return nil }
	if o.ValidateTopicConfig == nil {
		o.ValidateTopicConfig = acceptAll
	}
	if o.ValidateBrokerConfig == nil {
		o.ValidateBrokerConfig = acceptAll
	}
	if o.ValidateTopicConfigs == nil {
		o.ValidateTopicConfigs = func(map[string]string, map[string]string) error { return nil }
	}
	if o.ValidateGroupConfigs == nil {
		o.ValidateGroupConfigs = func(map[string]string) error { return nil }
	}
	if o.ValidateClientMetrics == nil {
		o.ValidateClientMetrics = func(map[string]string) error { return nil }
	}
	if o.OnDead == nil {
		o.OnDead = func(error) {}
	}
	if o.ListConfig == nil {
		o.ListConfig = func(string) (string, bool) { return "", false }
	}
}

// consensusOptions are those of the metadata log.
func (c *Controller) consensusOptions() consensus.Options {
	return consensus.Options{
		NodeID:          uint64(c.opt.NodeID),
		Directory:       c.opt.Directory,
		Peers:           c.opt.Peers,
		Network:         c.opt.Network,
		StateMachine:    published{c.state, c.images, c.ships, c.bell},
		OnLeader:        c.bell.ring,
		FS:              c.opt.FS,
		Joined:          c.opt.Joined || c.opt.ClusterID != "" && !c.opt.Join,
		Join:            c.opt.Join,
		OnJoined:        c.opt.OnJoined,
		Beside:          c.opt.Beside,
		LogCapacity:     c.opt.LogCapacity,
		Tick:            c.opt.Tick,
		ElectionTicks:   c.opt.ElectionTicks,
		HeartbeatTicks:  c.opt.HeartbeatTicks,
		SnapshotEntries: c.opt.SnapshotEntries,
		SnapshotBytes:   c.opt.SnapshotBytes,
		Log:             c.opt.Log,
		OnDead:          c.fail,
	}
}

// Image returns the metadata as applied here.
func (c *Controller) Image() *metadata.Image {
	image := c.state.Image()
	if c.node == nil {
		return image
	}
	return image.WithController(int32(c.node.Leader()))
}

// Subscribe calls f with the present image and then after every change, always
// on one goroutine, in order. It must not block long. A call that is running
// may end after cancel has returned; none begins.
func (c *Controller) Subscribe(f func(*metadata.Image)) (cancel func()) { return c.images.subscribe(f) }

// Close stops the controller.
func (c *Controller) Close() error {
	c.stop()
	c.done.Wait()
	return c.node.Close()
}

// propose encodes a command, refuses early what the present image refuses
// anyway, and returns its result once it is applied here.
func (c *Controller) propose(ctx context.Context, body proto.Message) (any, error) {
	pending, err := c.start(body)
	if err != nil {
		return nil, err
	}
	return c.finish(ctx, pending)
}

func (c *Controller) start(body proto.Message) (*consensus.Proposal, error) {
	if err := c.leads(); err != nil {
		return nil, err
	}
	command, err := encode(c.state.Image(), body)
	if err != nil {
		return nil, err
	}
	return c.node.Start(command), nil
}

// proposeFirst is propose for what comes before a reign has begun.
func (c *Controller) proposeFirst(ctx context.Context, body proto.Message) (any, error) {
	command, err := encode(c.state.Image(), body)
	if err != nil {
		return nil, err
	}
	return c.finish(ctx, c.node.Start(command))
}

// encode returns the bytes of a command that the image would not refuse.
func encode(image *metadata.Image, body proto.Message) ([]byte, error) {
	command, err := metadata.Encode(image, body)
	if err != nil {
		return nil, err
	}
	return command, image.Check(command)
}

func (c *Controller) finish(ctx context.Context, pending *consensus.Proposal) (any, error) {
	result, err := pending.Wait(ctx)
	if err != nil {
		if !pending.Settled() {
			c.turns.leave(pending)
		}
		return nil, clientError(err)
	}
	if refused := metadata.Refused(result); refused != nil {
		return nil, refused
	}
	return result, nil
}

// clientError gives the log's own errors a code that clients know.
func clientError(err error) error {
	code := metadata.CodeOf(err)
	if code != metadata.UnknownServerError {
		return err
	}
	_, notLeader := errors.AsType[*consensus.NotLeaderError](err)
	_, dead := errors.AsType[*consensus.DeadError](err)
	switch {
	case notLeader, errors.Is(err, consensus.ErrLeadershipLost):
		code = metadata.NotController
	case dead, errors.Is(err, wal.ErrFull), errors.Is(err, wal.ErrNoSegment):
		code = metadata.KafkaStorageError
	case errors.Is(err, consensus.ErrBusy):
		code = metadata.ThrottlingQuotaExceeded
	case errors.Is(err, consensus.ErrClosed):
		code = metadata.BrokerNotAvailable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return metadata.Errorf(metadata.RequestTimedOut, "the change was proposed and may still happen: %v", err)
	}
	return metadata.Errorf(code, "%v", err)
}

// published is the state machine, telling the publisher of each change.
type published struct {
	*metadata.State
	images *publisher
	ships  *ships
	bell   *bell
}

// ships passes commands on to the shipper, once there is one.
type ships struct{ to atomic.Pointer[shipper] }

func (p published) Apply(index uint64, command []byte) (any, error) {
	known := p.State.Image().ClusterID() != ""
	result, err := p.State.Apply(index, command)
	if !known {
		p.bell.ring() // by now the cluster may be
	}
	if s := p.ships.to.Load(); s != nil {
		if _, announces := result.(metadata.EntryIndex); announces {
			image := p.State.Image()
			s.Announced(index, command, func() []byte { return image.WithoutSecrets().Snapshot() })
		} else {
			s.Applied(index, metadata.WithoutSecrets(command))
		}
	}
	p.images.changed()
	return result, err
}

func (p published) Restore(snapshot []byte) error {
	err := p.State.Restore(snapshot)
	if s := p.ships.to.Load(); s != nil {
		s.stopGathering() // commands in it did not pass here
	}
	p.bell.ring()
	p.images.changed()
	return err
}
