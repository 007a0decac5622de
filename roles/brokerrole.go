package roles

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/broker/txn"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	storagelog "rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// openBroker opens the log, binds the ports of clients, starts the broker over them, and
// serves: other brokers first, then clients.
func (n *Node) openBroker(ctx context.Context) error {
	if err := n.openStore(ctx); err != nil {
		return err
	}
	if err := n.openLogins(); err != nil {
		return err
	}
	bound, err := n.bindKafka()
	if err != nil {
		return err
	}
	options, err := n.brokerOptions()
	if err != nil {
		return err
	}
	if options.Tracer, err = n.openTracing(ctx); err != nil {
		return err
	}
	b, err := broker.Open(ctx, options)
	if metadata.CodeOf(err) == metadata.InvalidRegistration && n.peers != nil {
		err = fmt.Errorf("%w: set object_storage.url (--bucket) and object_storage.prefix to what the other nodes have, and mount what they share", err)
	}
	if metadata.CodeOf(err) == metadata.DuplicateBrokerRegistration {
		err = fmt.Errorf("%w: give this node an id of its own (broker.id, --node-id), or stop the other one", err)
	}
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	n.broker = b
	n.opened("broker", func(context.Context) error { return b.Close() })
	n.answerPeers()
	n.metrics.MustRegister(b.Metrics(), newStorageMetrics(n.store))
	if err := n.serveKafka(bound); err != nil {
		return err
	}
	n.leaveFirst()
	n.openAsync()
	n.writeAudit()
	return nil
}

// openStore opens the log of the broker.
func (n *Node) openStore(ctx context.Context) error {
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
		FS: n.dir, Dir: walDir, Log: n.log.With("room", "log"), Tiered: true, Hold: true, Heal: true, MaxUnuploadedShare: unuploadedShare,
		Heals: func() bool { return n.door.Image().FeatureLevel() >= metadata.OperationsFeatureLevel },
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
	return n.id.saved(func(id *identity) error { return id.keepWALID(n.dir) })
}

// brokerOptions says from the configuration, and from what is open by now, how the broker is.
func (n *Node) brokerOptions() (o broker.Options, err error) {
	directory, err := n.id.now().directoryID()
	if err != nil {
		return o, err
	}
	listeners, err := n.listeners()
	if err != nil {
		return o, err
	}
	tier, err := n.tier()
	if err != nil {
		return o, err
	}
	kept, err := n.id.now().strays()
	if err != nil {
		return o, err
	}
	last := n.id.now() // before openReplication notes that this run has begun
	others, err := n.openReplication()
	if err != nil {
		return o, err
	}
	groups := n.config.Broker.Groups
	return broker.Options{
		MetricDetail:      metricDetail(n.config.Metrics.Partitions),
		SlowRequest:       time.Duration(n.config.Operations.SlowRequest),
		MaxConnectionRate: float64(n.config.Network.MaxConnectionRate),
		NodeID:            n.config.Broker.ID, Store: n.store, Controller: followedDoor{n.door, n.transforms.host}, Transforms: n.transforms.host.Set,
		ClusterID: n.door.Image().ClusterID(), Directory: directory, Rack: n.config.Broker.Rack,
		DataDir: n.root, Space: func() (free, total int64, err error) { return n.dir.Space(".") },
		Listeners:       listeners,
		AcceptDamage:    n.config.WAL.AcceptDamageList(),
		Configs:         configs.BrokerValues(n.config),
		Authorization:   n.authorization(),
		AutoCreate:      autoCreate(n.config),
		MessageMaxBytes: int(n.config.Broker.MessageMaxBytes),
		LargestBatch:    n.largestBatch(),
		FetchMemory:     int64(n.config.Network.ResponseMemory),
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
		Strays: kept, RememberStrays: func(found broker.Strays) error {
			return n.id.change(func(id *identity) { id.setStrays(found) })
		},
		Audit: n.audit, AuditData: slices.Contains(n.config.AuditClasses(), string(audit.ClassData)), AuditHead: n.auditHead(), Tell: n.tell,
		Logins: n.logins, Peers: others.asked, Replication: others.pushed,
		Log: n.log.With("room", "broker"), Mono: n.machine.mono(),
	}, nil
}

// metricDetail is what metrics.partitions asks for.
func metricDetail(partitions string) broker.MetricDetail {
	switch partitions {
	case "all":
		return broker.PerPartition
	case "off":
		return broker.PerNode
	}
	return broker.PerTopic
}

// authorization says by what clients are authorised; nil: they are not.
func (n *Node) authorization() *broker.Authorization {
	if !n.config.Authorizes() {
		return nil
	}
	return &broker.Authorization{SuperUsers: n.superUsers()}
}

// superUsers are principals, as connections have them.
func (n *Node) superUsers() (principals []string) {
	for _, name := range n.config.Security.Authorization.SuperUserList() {
		if principal, err := acl.ParsePrincipal(name); err == nil { // which the configuration was checked for
			principals = append(principals, principal)
		}
	}
	return principals
}

// autoCreate resolves broker.auto_create_topics.
func autoCreate(c *configs.Config) bool {
	if v := c.Broker.AutoCreateTopics; v != "auto" {
		return v == "true"
	}
	return c.Loopback()
}
