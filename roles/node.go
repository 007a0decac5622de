package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/roles/logring"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/sasl/jwks"
	"rustmq.dev/rustmq/storage/disk"
	storagelog "rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// Directories in the data directory.
const (
	walDir   = "wal"
	certsDir = "certs"
)

// keptLog is how much of the log is kept in memory, for /debug/logs: some 10,000 lines.
const keptLog = 2 << 20

// NodeOptions of a [Node].
type NodeOptions struct {
	Config *configs.Config
	Log    *slog.Logger
	// Failed is called once when the node cannot go on: a log of its is dead, or a
	// listener ended. It must not wait for the node, whose goroutine calls it.
	Failed func(error)
	// Cloud opens buckets that are neither a directory nor memory; nil: this program
	// has no way to them.
	Cloud Cloud
	// Ephemeral says that the data directory goes with the process.
	Ephemeral bool
	// LogLevel brings Log to the level of a configuration, which may change while the node
	// runs; nil: Log has its own.
	LogLevel func(*configs.Config)
	// Machine is what the node runs on; zero: this one.
	Machine Machine
}

// Node is a running process: a data directory and the roles over it.
type Node struct {
	config  *configs.Config
	log     *slog.Logger
	failed  func(error)
	metrics *prometheus.Registry
	logs    *logring.Ring // the last lines of log

	live     *live                 // what of config is obeyed now
	logLevel func(*configs.Config) // nil: the log has its own

	ephemeral bool
	cloud     Cloud
	machine   Machine

	dir        disk.FS
	root       string // absolute path of dir
	id         *kept
	bucket     *store
	controller *controller.Controller // nil where it runs in other processes only
	door       metadataDoor           // to whichever controller leads; nil without metadata
	peers      *peers                 // nil: a node alone
	store      *storagelog.Store
	transforms *transforms
	broker     *broker.Broker
	kafka      *kafka.Server
	// kafkaCounts is nil until clients are served.
	kafkaCounts atomic.Pointer[kafkaMetrics]
	quic        *quic.Listener
	http        *admin.Server
	async       *async.Runner // of transforms; nil without the role broker

	audit   audit.Recorder // of what is to be recorded
	account *audit.Log     // nil: audit does not go to the topic

	kafkaAddr, httpAddr string
	caFile              string
	certificates        *pki.Keeper  // nil: neither TLS nor QUIC
	clients             *clients     // nil: their certificates say nothing
	logins              *login.Table // nil: clients are not asked who they are
	httpLogins          *login.Table // of the admin API, where there are no logins; nil: it asks nobody
	tokenKeys           *jwks.Source // nil: no tokens are taken from them
	serving             sync.WaitGroup
	closers             []closer // in order of opening

	mu    sync.Mutex
	ready bool  // guarded by mu
	dead  error // guarded by mu
}

// closer is one thing that was opened.
type closer struct {
	what  string
	close func(context.Context) error
}

// Start opens a node and returns once it can be used; ctx bounds the opening.
func Start(ctx context.Context, o NodeOptions) (*Node, error) {
	n := &Node{config: o.Config, live: newLive(o.Config), logLevel: o.LogLevel, log: o.Log, failed: o.Failed, ephemeral: o.Ephemeral, cloud: o.Cloud, machine: o.Machine, metrics: prometheus.NewRegistry(), audit: audit.Discard}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.logs = logring.New(keptLog)
	n.log = slog.New(n.logs.Handler(n.log.Handler(), slog.String("node", strconv.Itoa(int(n.config.Broker.ID)))))
	if n.failed == nil {
		n.failed = func(error) {}
	}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newBuildMetric())
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.mu.Lock()
	n.ready = true
	n.mu.Unlock()
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	if err := transport.GuardListen(n.config.Network.Bind, n.mayBind()); err != nil {
		return err
	}
	if err := n.openDirectory(); err != nil {
		return err
	}
	n.openAudit()
	if n.has("broker") {
		accept := n.config.WAL.AcceptLost
		if err := n.id.saved(func(id *identity) error { return id.checkWAL(n.dir, accept) }); err != nil {
			return err
		}
	}
	if err := n.openMetadata(ctx); err != nil {
		return err
	}
	n.openTransforms()
	if n.has("broker") {
		if err := n.openBroker(ctx); err != nil {
			return err
		}
	}
	if err := n.prepareHTTP(); err != nil {
		return err
	}
	n.watchRevocations()
	n.watchCertificateFiles()
	if n.bucket != nil {
		n.metrics.MustRegister(newBucketMetrics(n), newCleaningMetrics(n), newCostMetrics(n.bucket.counted.Counts, func() int64 { return storedBytes(n.door.Image()) }, n.config.Storage.ListedPrices()))
	}
	n.keepCertificateEnds()
	if err := n.openHTTP(); err != nil {
		return err
	}
	n.openLive()
	n.tellTroubles()
	return nil
}

func (n *Node) has(role string) bool { return slices.Contains(n.config.RoleList(), role) }

func (n *Node) opened(what string, close func(context.Context) error) {
	n.closers = append(n.closers, closer{what, close})
}

// openDirectory takes the data directory for this process.
func (n *Node) openDirectory() error {
	var options disk.OSOptions
	if err := options.IO.UnmarshalText([]byte(n.config.WAL.IO)); err != nil {
		return fmt.Errorf("wal.io: %w", err)
	}
	dir, root, err := n.machine.open(n.config.Broker.DataDir, options)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	n.dir, n.root = dir, root
	lock, err := dir.Lock("lock")
	if err != nil {
		var held *disk.LockedError
		if errors.As(err, &held) {
			return fmt.Errorf("the data directory %s is in use: %w; stop that process, or name another --data-dir", root, err)
		}
		return fmt.Errorf("lock the data directory: %w", err)
	}
	n.opened("directory lock", func(context.Context) error { return lock.Close() })
	id, err := loadIdentity(dir, n.config.Broker.ID)
	n.id = &kept{dir: dir, id: id}
	return err
}

// fail records why the node cannot go on, and tells its owner once. Nothing is ended
// here: serve closes the node at once, a program that embeds it decides by itself,
// and until then health says why, and reads are answered.
func (n *Node) fail(err error) {
	n.mu.Lock()
	first := n.dead == nil
	if first {
		n.dead = err
	}
	n.mu.Unlock()
	if first {
		n.log.Error("this node cannot go on", "error", err)
		n.failed(err)
	}
}

// failure says why the node cannot go on, or nil.
func (n *Node) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// Ready says why the node cannot serve, or nil. What it died of comes before that it
// is stopped for it.
func (n *Node) Ready() error {
	if err := n.Healthy(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		return errors.New("starting or stopping")
	}
	return nil
}

// Healthy says why the node needs a person, or nil.
func (n *Node) Healthy() error {
	if err := n.failure(); err != nil {
		return err
	}
	if err := n.ended(); err != nil {
		return err
	}
	if n.broker != nil {
		return n.broker.Health()
	}
	return nil
}

// ended says that the cluster has another life than the one that this node is of, or nil.
func (n *Node) ended() error {
	switch {
	case n.controller != nil:
		return n.controller.Ended()
	case n.door != nil:
		return n.door.Image().Ended()
	}
	return nil
}

// Kafka is the host:port of the Kafka listeners, "" without the role broker.
func (n *Node) Kafka() string { return n.kafkaAddr }

// HTTP is the host:port of metrics, health and API.
func (n *Node) HTTP() string { return n.httpAddr }

// CAFile is what clients of TLS and QUIC trust; "" when the operator's own
// certificate is used.
func (n *Node) CAFile() string { return n.caFile }

// DataDir is the absolute path of the data directory.
func (n *Node) DataDir() string { return n.root }

// ackBeforeSync is how long before the disk an ack may come; 0: it comes after it.
func (n *Node) ackBeforeSync() time.Duration {
	if n.config.WAL.Sync == "interval" {
		return time.Duration(n.config.WAL.SyncInterval)
	}
	return 0
}
