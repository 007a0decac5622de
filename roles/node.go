package roles

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	storagelog "rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// listenerName is that of the Kafka listeners; both transports share it, so
// that a client stays on the one it came by.
const listenerName = "kafka"

// Directories in the data directory.
const (
	walDir   = "wal"
	certsDir = "certs"
)

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
	// Machine is what the node runs on; zero: this one.
	Machine Machine
}

// Node is a running process: a data directory and the roles over it.
type Node struct {
	config  *configs.Config
	log     *slog.Logger
	failed  func(error)
	metrics *prometheus.Registry

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
	broker     *broker.Broker
	kafka      *kafka.Server
	quic       *quic.Listener
	http       *admin.Server

	kafkaAddr, httpAddr string
	caFile              string
	certificates        *pki.Keeper // nil: neither TLS nor QUIC
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
	n := &Node{config: o.Config, log: o.Log, failed: o.Failed, ephemeral: o.Ephemeral, cloud: o.Cloud, machine: o.Machine, metrics: prometheus.NewRegistry()}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.failed == nil {
		n.failed = func(error) {}
	}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.mu.Lock()
	n.ready = true
	n.mu.Unlock()
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	if err := transport.GuardListen(n.config.Network.Bind, n.config.Security.AllowInsecure); err != nil {
		return err
	}
	if err := n.openDirectory(); err != nil {
		return err
	}
	if n.has("broker") {
		accept := n.config.WAL.AcceptLost
		if err := n.id.saved(func(id *identity) error { return id.checkWAL(n.dir, accept) }); err != nil {
			return err
		}
	}
	if err := n.openMetadata(ctx); err != nil {
		return err
	}
	if n.has("broker") {
		if err := n.openBroker(ctx); err != nil {
			return err
		}
	}
	if n.bucket != nil {
		n.metrics.MustRegister(newBucketMetrics(n), newCleaningMetrics(n))
	}
	return n.openHTTP()
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

// walBudget is the configured capacity and reserve, cut to what the disk has.
func (n *Node) walBudget() (capacity, reserve int64, err error) {
	free, _, err := n.dir.Space(".")
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the free space of the data directory: %w", err)
	}
	held, err := n.heldByWAL()
	if err != nil {
		return 0, 0, err
	}
	c := n.config.WAL
	capacity, reserve = cutWAL(c, held, free)
	if err := fitsWAL(c, held, free, capacity); err != nil {
		return 0, 0, fmt.Errorf("make the log in %s: %w", n.root, err)
	}
	if capacity != int64(c.Capacity) {
		n.log.Warn("wal.capacity is more than half of the free disk; it is cut", "wanted_bytes", int64(c.Capacity), "bytes", capacity)
	}
	if reserve != int64(c.Reserve) {
		n.log.Warn("wal.reserve is cut with wal.capacity", "wanted_bytes", int64(c.Reserve), "bytes", reserve)
	}
	return capacity, reserve, nil
}

// cutWAL returns capacity and reserve of a log that holds so many bytes on a disk with
// so many free: never more than half of what is free, what the log holds counted as
// free, or its share would grow with each restart; and never less than it holds. The
// reserve stays below half.
func cutWAL(c configs.WAL, held, free int64) (capacity, reserve int64) {
	capacity, reserve = int64(c.Capacity), int64(c.Reserve)
	segment := int64(c.SegmentSize)
	if limit := (held + free) / 2; capacity > limit {
		capacity = min(capacity, max(limit, held, 8*segment))
		reserve = min(reserve, capacity/2-segment)
	}
	return capacity, reserve
}

// fitsWAL refuses to begin a log that meets the end of the disk before its own. One that
// is there is served, however full the disk is.
func fitsWAL(c configs.WAL, held, free, capacity int64) error {
	if held > 0 || capacity <= free {
		return nil
	}
	return fmt.Errorf("it has eight segments of wal.segment_size, %v, at least, and the disk has %d bytes free: make room, or set wal.segment_size", c.SegmentSize, free)
}

func (n *Node) heldByWAL() (int64, error) {
	var held int64
	names, err := n.dir.List(walDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look into the log: %w", err)
	}
	for _, name := range names {
		if info, err := n.dir.Stat(path.Join(walDir, name)); err == nil {
			held += info.Size
		}
	}
	return held, nil
}

func (n *Node) openBroker(ctx context.Context) error {
	directory, err := n.id.now().directoryID()
	if err != nil {
		return err
	}
	capacity, reserve, err := n.walBudget()
	if err != nil {
		return err
	}
	c := n.config.WAL
	sync := wal.SyncAlways
	if c.Sync == "interval" {
		sync = wal.SyncInterval
		n.log.Warn("wal.sync = interval: acks come before the disk; a power cut can lose what was acked", "interval", c.SyncInterval.String())
	}
	store, err := storagelog.Open(ctx, storagelog.Options{
		FS: n.dir, Dir: walDir, Log: n.log.With("room", "log"), Tiered: true, Hold: true, MaxUnuploadedShare: unuploadedShare,
		WAL: wal.Options{
			Capacity: capacity, Reserve: reserve, SegmentSize: int(c.SegmentSize), Memory: int64(c.Memory),
			Sync: sync, SyncInterval: time.Duration(c.SyncInterval), OnDead: n.fail,
		},
	})
	if err != nil {
		id := n.id.now()
		return fmt.Errorf("open the log: %w%s", err, id.remedy(err))
	}
	n.store = store
	n.opened("log", func(context.Context) error {
		err := store.Close()
		if err == nil && n.peers != nil && n.failure() == nil {
			err = n.id.change(func(id *identity) { id.LastRun = runClean })
		}
		return err
	})
	if err := n.id.saved(func(id *identity) error { return id.keepWALID(n.dir) }); err != nil {
		return err
	}

	network := n.config.Network
	tcp, udp, err := n.machine.listenKafka(network.Bind, network.KafkaPort, network.QUIC.Enabled, n.config.Security.AllowInsecure)
	if err != nil {
		return err
	}
	// Until the listeners serve, they are closed here; afterwards by the server.
	n.opened("sockets", func(context.Context) error {
		if udp != nil {
			_ = udp.Close() // closed twice when QUIC has served
		}
		if err := tcp.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	n.kafkaAddr = tcp.Addr().String()
	advertised, err := n.advertised()
	if err != nil {
		return err
	}
	listeners := []metadata.Listener{advertised}
	if n.peers != nil {
		peer, err := n.peerListener()
		if err != nil {
			return err
		}
		listeners = append(listeners, peer)
	}
	tier, err := n.tier()
	if err != nil {
		return err
	}
	last := n.id.now()
	others, err := n.openReplication()
	if err != nil {
		return err
	}
	groups := n.config.Broker.Groups
	b, err := broker.Open(ctx, broker.Options{
		NodeID: n.config.Broker.ID, Store: store, Controller: n.door,
		ClusterID: n.door.Image().ClusterID(), Directory: directory, Rack: n.config.Broker.Rack,
		DataDir: n.root, Space: func() (free, total int64, err error) { return n.dir.Space(".") },
		Listeners:       listeners,
		Configs:         configs.BrokerValues(n.config),
		AutoCreate:      n.autoCreate(),
		MessageMaxBytes: int(n.config.Broker.MessageMaxBytes),
		LargestBatch:    n.largestBatch(),
		FetchMemory:     int64(network.ResponseMemory),
		LagPartitions:   int(groups.LagPartitions),
		TelemetrySeries: int(n.config.Broker.TelemetrySeries),
		Groups: group.Options{
			MinSession: time.Duration(groups.MinSessionTimeout), MaxSession: time.Duration(groups.MaxSessionTimeout),
			InitialRebalanceDelay: time.Duration(groups.InitialRebalanceDelay), MaxGroupSize: int(groups.MaxSize),
			OffsetRetention: time.Duration(groups.OffsetsRetention),
			Consumer: group.ConsumerOptions{
				Session: time.Duration(groups.ConsumerSessionTimeout), Heartbeat: time.Duration(groups.ConsumerHeartbeatInterval),
				MaxSize: int(groups.ConsumerMaxSize), Assignors: groups.AssignorList(), Migration: group.Migration(groups.ConsumerMigrationPolicy),
			},
		},
		Transactions: txn.Options{
			MaxTimeout:   time.Duration(n.config.Broker.Transactions.MaxTimeout),
			IDExpiration: time.Duration(n.config.Broker.Transactions.IDExpiration),
		},
		Heartbeat: time.Duration(n.config.Liveness().HeartbeatInterval),
		Failed:    n.failure,
		Tier:      tier,

		UncleanEnd: last.LastRun != runClean, AckedBeforeSync: last.AckedBeforeSync,
		Peers: others.asked, Replication: others.pushed,
		Log: n.log.With("room", "broker"),
	})
	if metadata.CodeOf(err) == metadata.InvalidRegistration && n.peers != nil {
		err = fmt.Errorf("%w: set object_storage.url (--bucket) and object_storage.prefix to what the other nodes have, and mount what they share", err)
	}
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	n.broker = b
	n.opened("broker", func(context.Context) error { return b.Close() })
	n.answerPeers()
	n.metrics.MustRegister(b.Metrics(), newStorageMetrics(store))
	if err := n.serveKafka(tcp, udp); err != nil {
		return err
	}
	n.leaveFirst()
	return nil
}

// autoCreate resolves broker.auto_create_topics.
func (n *Node) autoCreate() bool {
	if v := n.config.Broker.AutoCreateTopics; v != "auto" {
		return v == "true"
	}
	return n.config.Loopback()
}

// advertised is what clients are told to dial.
func (n *Node) advertised() (metadata.Listener, error) {
	host, port, err := net.SplitHostPort(n.kafkaAddr)
	if err != nil {
		return metadata.Listener{}, err
	}
	if host, err = n.reachableHost(host); err != nil {
		return metadata.Listener{}, err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return metadata.Listener{}, err
	}
	protocol := "PLAINTEXT"
	if n.config.Network.TLS == "on" {
		protocol = "SSL"
	}
	return metadata.Listener{Name: listenerName, Host: host, Port: int32(number), Protocol: protocol}, nil
}

// reachableHost is what is dialled from elsewhere for a host that is bound.
func (n *Node) reachableHost(bound string) (string, error) {
	if n.config.Network.AdvertisedHost != "" {
		return n.config.Network.AdvertisedHost, nil
	}
	ip := net.ParseIP(bound)
	if ip == nil || !ip.IsUnspecified() {
		return bound, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("network.bind is every address: set network.advertised_host to what clients dial (the host name is not known: %w)", err)
	}
	return host, nil
}

// serveKafka starts to accept clients.
func (n *Node) serveKafka(tcp net.Listener, udp *net.UDPConn) error {
	network := n.config.Network
	counts := newKafkaMetrics(n.broker.Versions())
	n.kafka = kafka.New(kafka.Options{
		Handler:  n.broker,
		EarlyOK:  broker.EarlyOK,
		Features: n.broker.Features(),
		Identity: func() (string, int32) { return n.door.Image().ClusterID(), n.config.Broker.ID },
		Metrics:  counts,
		Log:      n.log.With("room", "kafka"),
		Limits: kafka.Limits{
			MaxFrame: int(network.MaxFrame), ConnMemory: int64(network.ConnectionMemory), TotalMemory: int64(network.RequestMemory), TotalUnsent: int64(network.ResponseMemory),
			MaxConns: network.MaxConnections, PerIP: network.MaxConnectionsPerIP, IdleTimeout: time.Duration(network.IdleTimeout),
		},
	})
	counts.inUse = n.kafka.InUse
	n.metrics.MustRegister(counts)
	var secure *tls.Config
	if udp != nil || network.TLS == "on" {
		if err := n.keepCertificate(); err != nil {
			return err
		}
		secure = n.certificates.ServerConfig()
	}
	if udp != nil {
		l, err := quic.Listen(quic.Options{
			Conn: udp, TLS: secure, Server: n.kafka, Name: listenerName,
			IdleTimeout: time.Duration(network.QUIC.IdleTimeout), MaxStreams: network.QUIC.MaxStreams, WindowMemory: int64(network.QUIC.ReceiveMemory),
			ZeroRTT: network.QUIC.ZeroRTT, Log: n.log.With("room", "quic"),
		})
		if err != nil {
			return err
		}
		n.quic = l
		n.opened("QUIC", func(context.Context) error { return l.Close() })
	}
	n.opened("Kafka", n.drain)
	listener := tcp
	if network.TLS == "on" {
		listener = tls.NewListener(tcp, secure)
	}
	server := n.kafka
	n.serving.Go(func() {
		if err := server.ServeListener(listener, listenerName); !errors.Is(err, kafka.ErrServerClosed) {
			n.fail(err)
		}
	})
	return nil
}

// drain ends the Kafka server once all that it has read is answered: clients
// that wait for records are told that there are none.
func (n *Node) drain(ctx context.Context) error {
	ctx, cancel := share(ctx, kafkaShare)
	defer cancel()
	coordinators, ended := share(ctx, drainShare)
	defer ended()
	err := n.broker.Drain(coordinators)
	if e := n.kafka.Shutdown(ctx); errors.Is(e, context.DeadlineExceeded) {
		n.log.Warn("some clients did not take their last answers in time", "error", e)
	} else if e != nil {
		err = errors.Join(err, e)
	}
	settle, settled := context.WithTimeout(ctx, settleWait)
	defer settled()
	if e := n.broker.Settle(settle); e != nil {
		n.log.Info("an upload to the bucket was ended by the stop; it is made anew at the next start", "error", e)
	}
	return err
}

// certificate says how to load that of the operator, or the development CA's.
func (n *Node) certificate() (load func() (tls.Certificate, error), err error) {
	if files := n.config.Security.TLS; files.CertFile != "" {
		return func() (tls.Certificate, error) {
			cert, err := pki.Load(files.CertFile, files.KeyFile, time.Now())
			if err != nil {
				return cert, fmt.Errorf("security.tls.cert_file and key_file: %w", err)
			}
			return cert, nil
		}, nil
	}
	dir := filepath.Join(n.root, certsDir)
	host, _, err := net.SplitHostPort(n.kafkaAddr)
	if err != nil {
		return nil, err
	}
	hosts := append(n.names(), host)
	n.caFile = filepath.Join(dir, pki.CAFile)
	return func() (tls.Certificate, error) { return pki.Development(dir, slices.Clone(hosts), time.Now()) }, nil
}

// names are what this node is called, as far as it knows.
func (n *Node) names() (names []string) {
	if h := n.config.Network.AdvertisedHost; h != "" {
		names = append(names, h)
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		names = append(names, h)
	}
	return names
}

// Reload loads the certificates again, that of TLS and QUIC and that by which servers
// know each other, which connections from now on see; those that are open stay as they
// are. It reports whether there is one: with neither there is nothing to load. On an
// error the one before goes on.
func (n *Node) Reload() (loaded bool, err error) {
	var failed error
	if n.certificates != nil {
		loaded, failed = true, n.certificates.Reload()
	}
	if n.peers != nil && n.peers.secure != nil {
		loaded, failed = true, errors.Join(failed, n.peers.secure.Reload())
	}
	if failed != nil {
		return false, fmt.Errorf("%w; the one before goes on", failed)
	}
	return loaded, nil
}

// openHTTP starts metrics and health, and the API where there is a controller.
func (n *Node) openHTTP() error {
	listener, err := n.machine.listenTCP(n.config.Network.Bind, n.config.Network.HTTPPort, "network.http_port", n.config.Security.AllowInsecure)
	if err != nil {
		return err
	}
	n.httpAddr = listener.Addr().String()
	options := admin.Options{
		Metrics: n.metrics, Ready: n.Ready, Healthy: n.Healthy, Warnings: n.warnings, Status: n.status, Version: Version(), Log: n.log.With("room", "http"),
		Names: n.names(), Reachable: !listener.Addr().(*net.TCPAddr).IP.IsLoopback(),
	}
	if n.servesAPI() {
		options.Cluster, options.AckBeforeSync = n.door, n.ackBeforeSync()
		options.Brokers, options.Controllers = n.door, n.door
		if n.controller != nil {
			options.TakeSnapshot = n.controller.TakeSnapshot
		}
		options.Bucket = bucketDoor{n}
		if n.broker != nil {
			options.Groups = n.broker
		}
	}
	if n.store != nil {
		options.Partition = n.partition
	}
	n.http = admin.New(options)
	server := n.http
	n.opened("HTTP", func(ctx context.Context) error {
		ctx, cancel := share(ctx, httpShare)
		defer cancel()
		err := server.Close(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			n.log.Warn("some HTTP clients did not take their last answers in time", "error", err)
			return nil
		}
		return err
	})
	n.serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			n.fail(err)
		}
	})
	return nil
}

func (n *Node) servesAPI() bool {
	return n.door != nil && (n.has("controller") || n.has("admin"))
}

// partition answers the admin API from the store.
func (n *Node) partition(id storage.PartitionID) (admin.PartitionState, bool) {
	l, ok := n.store.Log(id)
	if !ok {
		return admin.PartitionState{}, false
	}
	f := l.Footprint()
	return admin.PartitionState{LogStart: l.LogStart(), HighWatermark: l.HighWatermark(), LocalStart: l.LocalStart(), WALBytes: f.WAL, MemoryBytes: f.Memory}, true
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
	if n.broker != nil {
		return n.broker.Health()
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

// banner is what serve says of the node.
func (n *Node) banner(started time.Duration) banner {
	acks := "every ack means: synced to this disk (wal.sync = always)"
	switch before := n.ackBeforeSync(); {
	case n.broker == nil:
		acks = ""
	case before > 0:
		acks = fmt.Sprintf("acks come BEFORE the disk; a power cut can lose the last %v (wal.sync = interval)", before)
	}
	b := banner{
		Kafka: n.kafkaAddr, TLS: n.config.Network.TLS == "on", HTTP: n.httpAddr, DataDir: n.DataDir(), CA: n.caFile, Acks: acks,
		Roles: strings.Join(n.config.RoleList(), ", "), Node: n.config.Broker.ID, PID: os.Getpid(), Version: Version(),
		Startup: started.Round(time.Millisecond).String(),
		program: programName(os.Args[0]), api: n.servesAPI(), autoCreate: n.autoCreate(), trusted: client.TrustsByDefault(n.caFile),
	}
	if n.quic != nil {
		b.QUIC = n.quic.Addr().String()
	}
	return b
}
