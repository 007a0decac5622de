package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/roles/broker/filing"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/pace"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/broker/telemetry"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

// Broker serves the Kafka API. It is the handler of the Kafka servers of its
// process: see [Broker.Serve].
type Broker struct {
	opt       Options
	log       *slog.Logger
	store     *log.Store
	apis      map[int16]*api
	topicKeys []configs.TopicKey // with this broker's defaults
	defaults  map[string]string  // of topics, that were given to brokers while they run; of follow

	ignoredKeys []configs.IgnoredTopicKey
	quotas      quota.Quotas
	arrivals    arrivals

	authorization *authorization // nil: every client may do everything
	nobody        *acl.Client    // may do nothing
	audit         audit.Recorder

	registration  *registration
	images        *images
	table         *table
	undropped     map[storage.TopicID]bool // deleted topics whose records are there still, for an error; of follow
	leaderless    []metadata.PartitionEnd  // what is to be said of partitions that lost their leader; of follow
	unsaid        unsaid
	undone        map[storage.PartitionID]*partition // ours, and not as the image has it, for an error; of follow
	rebuilds      rebuilds                           // of partitions to be led whose acks wait for the bucket; the map is follow's
	connections   *connections
	sessions      *sessionBudget
	fetchMemory   *fetchMemory
	fetches       sync.Pool // of *fetchRequest; their timers are of one clock
	wide          wideParts // of those of many partitions
	producerIDs   *producerIDs
	groups        *group.Coordinator
	topicsVersion atomic.Uint64 // counts changes of what groups can be assigned
	transactions  *txn.Coordinator
	replication   *replicas // nil: this broker is alone
	verifier      transactionVerifier
	groupMarkers  [coordinatorPartitions]atomic.Int64 // under way to the groups
	peerMemory    atomic.Int64                        // of requests of other brokers that are being served, decoded
	inside        atomic.Pointer[func(net.Conn)]      // serves connections of this broker to itself
	peeks         chan struct{}                       // holds a token for each look that is under way
	tails         chan struct{}                       // of those, for each of a tail
	throttle      *throttle
	transforms    *transforms
	telemetry     *telemetry.Table
	uploader      *upload.Uploader // nil without a bucket, as is cold
	releaser      *releaser        // nil where the store holds nothing
	bucketMet     atomic.Bool      // the bucket was found to be the cluster's
	cold          *cold.Reader
	pacer         *pace.Pacer        // of what reads the bucket
	compactor     *compact.Compactor // nil without a bucket, or without compaction
	filer         *filing.Filer      // nil without a bucket, or where nothing is filed
	cleaner       *clean.Cleaner     // nil without a bucket, or without compaction by key
	live          atomic.Pointer[Live]
	damages       damages
	healing       *healing
	full          fullLog
	metrics       *metrics

	ctx         context.Context // ends when Close begins
	stop        context.CancelFunc
	unsubscribe func()
	stopBeats   context.CancelFunc // of Leave; heartbeats end with ctx too
	beatsEnded  chan struct{}      // closed when they have
	left        atomic.Bool        // it is out of service by its own wish, or has tried in vain
	caughtUp    atomic.Bool        // all of its replicas have been in sync since it began
	done        sync.WaitGroup     // goroutines of the broker
	requests    sync.WaitGroup     // goroutines of requests
}

// Open registers the broker with the controller and returns when it serves the
// partitions that it was given. ctx bounds the opening.
func Open(ctx context.Context, opt Options) (*Broker, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	b := &Broker{
		opt:          opt,
		log:          opt.Log,
		store:        opt.Store,
		topicKeys:    topicKeys(opt.MessageMaxBytes),
		ignoredKeys:  configs.IgnoredTopicKeys(),
		registration: newRegistration(opt.NodeID),
		images:       newImages(opt.Controller.Image()),
		table:        newTable(),
		undone:       map[storage.PartitionID]*partition{},
		undropped:    map[storage.TopicID]bool{},
		rebuilds:     newRebuilds(),
		connections:  newConnections(),
		sessions:     newSessionBudget(),
		fetchMemory:  newFetchMemory(opt.FetchMemory),
		producerIDs:  newProducerIDs(),
		throttle:     newThrottle(opt.Store, opt.Now),
		transforms:   newTransforms(),
		damages:      damages{now: opt.Now},
		healing:      newHealing(),
		full:         fullLog{now: opt.Now},
		telemetry:    telemetry.New(telemetry.Options{Series: opt.TelemetrySeries}),
		peeks:        make(chan struct{}, peeksAtOnce),
		tails:        make(chan struct{}, tailsAtOnce),

		authorization: newAuthorization(opt.Authorization, opt.Controller.Image()),
		nobody:        newNobody(), audit: opt.Audit,
	}
	b.SetLive(Live{AutoCreate: opt.AutoCreate, MaxConnectionRate: opt.MaxConnectionRate, Configs: opt.Configs})
	b.apis, b.metrics = apisByKey(), newMetrics(b)
	b.ctx, b.stop = context.WithCancel(context.Background())
	if err := b.register(ctx); err != nil {
		b.stop()
		return nil, err
	}
	var err error
	if b.groups, err = b.openGroups(); err != nil {
		b.stop()
		return nil, err
	}
	if b.transactions, err = b.openTransactions(); err != nil {
		b.stop()
		return nil, errors.Join(err, b.groups.Close())
	}
	b.verifier = coordinatorVerifier{b}
	b.openReplication()
	if b.replication != nil || opt.Tier != nil {
		b.done.Go(func() { b.expireAppends(b.ctx) })
	}
	if err := b.openCold(); err != nil {
		b.stop()
		return nil, errors.Join(err, b.closeReplication(), b.transactions.Close(), b.groups.Close())
	}
	if t := opt.Tier; t != nil && t.Shipped != nil {
		b.releaser = newReleaser(releaserOptions{
			Now: func() uint64 { return opt.Controller.Image().Offset() }, Shipped: t.Shipped, Hurry: t.HurryLog,
			Fullness: func() float64 { return opt.Store.Stats().Fullness },
		})
		b.done.Go(func() { b.releaser.run(b.ctx) })
	}
	b.done.Go(func() { b.follow(b.ctx) })
	if b.authorization != nil {
		b.done.Go(func() { b.authorization.follow(b.ctx) }) // blocks on images
	}
	b.unsubscribe = opt.Controller.Subscribe(b.offer)
	if err := b.enter(ctx); err != nil {
		b.Close()
		return nil, err
	}
	beats, stopBeats := context.WithCancel(b.ctx)
	b.stopBeats, b.beatsEnded = stopBeats, make(chan struct{})
	b.done.Go(func() {
		defer close(b.beatsEnded)
		b.beat(beats)
	})
	b.done.Go(func() { b.tellLoad(b.ctx) })     // blocks on the controller
	b.done.Go(func() { b.clampOffsets(b.ctx) }) // blocks on other brokers
	b.startTier()
	return b, nil
}

// offer hands over an image. It does not block.
func (b *Broker) offer(image *metadata.Image) {
	if b.authorization != nil {
		b.authorization.images.offer(image)
	}
	b.images.offer(image)
}

// Serve starts a request and returns; the answer may come later, from any
// goroutine. It waits for admission to the WAL, for memory to expand records in, for room in
// a lane, and for reads of the WAL's files. The transport calls it in order of arrival for
// each connection, with versions that Versions announces.
func (b *Broker) Serve(r *kafka.Request) {
	api, ok := b.apis[r.Key]
	if !ok || r.Version < api.min || r.Version > api.max {
		r.Close(unservedError{r.Key, r.Version})
		return
	}
	if r.Conn.Internal() && !guard.Check("broker.internal-apis", servedInside(r.Key)) {
		r.Close(errNotInside(r.Key))
		return
	}
	client := b.quotaOf(r)
	if !client.Holds(quota.Request) {
		api.serve(b, r)
		return
	}
	begun := b.opt.Now()
	waited := api.serve(b, r)
	now := b.opt.Now()
	client.Take(quota.Request, now, 100*max(now.Sub(begun)-waited, 0).Seconds()) // r may be gone
}

// ConnClosed forgets a connection; its waiting fetches end.
func (b *Broker) ConnClosed(c *kafka.Conn) {
	if b.opt.Logins != nil {
		b.opt.Logins.Closed(c.ID())
	}
	if gone := b.connections.closed(c); gone != nil && b.cold != nil {
		b.cold.Forget(gone)
	}
}

// Health reports why this broker cannot do its work, nil when it can: its WAL
// is dead, another process has taken its node id, or its own cannot go on.
func (b *Broker) Health() error {
	if b.opt.Failed != nil {
		if err := b.opt.Failed(); err != nil {
			return err
		}
	}
	if b.registration.lost.Load() {
		return errDeposed
	}
	return b.store.Err()
}

// Metrics is a collector of what the broker does.
func (b *Broker) Metrics() prometheus.Collector { return b.metrics }

// Drain ends what waits, and lets nothing wait from now on: fetches are answered
// with what there is, members of groups are told that their coordinator is gone.
// A server can then answer all that it has read, and shut down. When ctx ends before
// the coordinators have, it returns without them.
func (b *Broker) Drain(ctx context.Context) error {
	b.connections.close()
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(b.transactions.Close(), b.groups.Close()) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("end the coordinators: %w", ctx.Err())
	}
}

// Close ends the broker as Drain does, gives up requests that wait for the
// controller, and takes it out of service there. Every goroutine has ended when
// it returns; nothing bounds how long that takes. The servers that call Serve are closed
// before, the store after.
func (b *Broker) Close() error {
	b.stop()
	if b.unsubscribe != nil {
		b.unsubscribe()
	}
	err := b.Drain(context.Background())
	if b.filer != nil {
		err = errors.Join(err, b.filer.Close())
	}
	if b.cleaner != nil {
		err = errors.Join(err, b.cleaner.Close())
	}
	if b.compactor != nil {
		err = errors.Join(err, b.compactor.Close())
	}
	if b.uploader != nil {
		err = errors.Join(err, b.uploader.Close())
	}
	if b.cold != nil {
		err = errors.Join(err, b.cold.Close())
		b.pacer.Close()
	}
	b.endRequests()
	b.transforms.workers.close()
	b.done.Wait()
	b.leave()
	err = errors.Join(err, b.closeReplication())
	return err
}
