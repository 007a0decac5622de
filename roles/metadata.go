package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/telemetry"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/controller/door"
	"rustmq.dev/rustmq/storage/wal"
)

const (
	// waitTold is how long a start waits for other controllers before a person is told.
	waitTold = 3 * time.Second
	// handOverShare is the part of a stop that another controller may take to lead.
	handOverShare = 0.25
)

// metadataDoor is the way to the controller that leads: the only one, in this process,
// or a door to those of a cluster.
type metadataDoor interface {
	broker.Controller
	admin.Cluster
	admin.Brokers
	admin.Controllers
	CheckBucket(context.Context, controller.CheckRequest) (*controller.CheckReport, error)
	BucketState() controller.BucketState
	ConfirmClock(context.Context) (was, err error)
	Shipped() uint64
	ShippedOnce() uint64
	HurryLog()
	Refresh(context.Context) error
	ReportTroubles(ctx context.Context, node int32, found []controller.Trouble) error
	TakeSnapshot(context.Context) (index uint64, err error)
	RegisterController(context.Context, metadata.ControllerNode) error
	SpendTransformBudget(ctx context.Context, name string, version uint32, by, reason string) error
}

// nearDoor is the way to a controller that is alone.
type nearDoor struct{ *controller.Controller }

// Refresh implements metadataDoor: who is alone always knows.
func (d nearDoor) Refresh(context.Context) error { return nil }

func (d nearDoor) ConfirmClock(context.Context) (was, err error) {
	return d.Controller.ConfirmClock(), nil
}

// openMetadata opens the bucket, what of the metadata is in this process, and the way to
// the rest. When it returns the node knows its cluster, unless it is a controller that
// waits to be added to one.
func (n *Node) openMetadata(ctx context.Context) error {
	if n.config.Clustered() {
		if err := n.openPeers(); err != nil {
			return err
		}
	}
	if err := n.openBucket(ctx); err != nil {
		return err
	}
	if !n.config.Clustered() {
		if err := n.openController(ctx); err != nil {
			return err
		}
		n.door = nearDoor{n.controller}
		return n.knowCluster(n.door.Image().ClusterID())
	}
	told := time.AfterFunc(waitTold, func() {
		n.log.Warn("still starting: the controllers that controller.peers names are waited for; for the first start of a cluster all of them, later most of them",
			"peers", n.config.Controller.Peers)
	})
	defer told.Stop()
	if n.has("controller") {
		if err := n.openController(ctx); err != nil {
			return err
		}
	}
	return n.openDoor(ctx)
}

// knowCluster remembers the cluster that this node belongs to from now on.
func (n *Node) knowCluster(cluster string) error {
	if cluster == "" || n.id.now().ClusterID == cluster {
		return nil
	}
	return n.id.change(func(id *identity) {
		id.ClusterID = cluster
		if id.Raft == "" && n.controller == nil {
			id.Raft = raftNone
		}
	})
}

func (n *Node) openController(ctx context.Context) error {
	id := n.id.now()
	directory, err := id.memberID()
	if err != nil {
		return err
	}
	raft := n.config.Controller.Raft
	options := controller.Options{
		NodeID: n.config.Broker.ID, Directory: directory, ClusterID: id.ClusterID,
		FS: n.dir, Beside: []string{walDir},
		Tick:            time.Duration(raft.Heartbeat),
		HeartbeatTicks:  1,
		ElectionTicks:   int(raft.ElectionTimeout / raft.Heartbeat),
		SnapshotEntries: uint64(n.config.Controller.Snapshot.Entries),
		SnapshotBytes:   uint64(n.config.Controller.Snapshot.Bytes),

		MaxPartitions:         n.config.Controller.MaxPartitions,
		DefaultPartitions:     n.config.Broker.NumPartitions,
		HighestFeatureLevel:   uint32(n.config.Controller.FeatureLevel),
		ValidateTopicConfig:   configs.ValidateTopicConfig,
		ValidateTopicConfigs:  configs.ValidateTopicConfigs,
		ListConfig:            configs.ListTopicConfig,
		ValidateBrokerConfig:  configs.ValidateBrokerConfig,
		ValidateGroupConfigs:  n.config.ValidateGroupConfigs,
		ValidateClientMetrics: telemetry.Validate,
		Bucket:                n.bucketOptions(),
		BrokerSession:         time.Duration(n.config.Liveness().HeartbeatTimeout),
		BrokerHeartbeat:       time.Duration(n.config.Liveness().HeartbeatInterval),
		Mono:                  n.machine.mono(),
		Log:                   n.log.With("room", "controller"),
		OnDead:                n.fail,
	}
	balance := n.config.Controller.Balance
	options.GrowAfter = time.Duration(balance.GrowAfter)
	options.SpreadAfter = time.Duration(balance.SpreadAfter)
	if balance.Enabled {
		options.MovesPerMinute = balance.MovesPerMinute
	}
	if balance.SpreadEnabled {
		options.SpreadMovesPerMinute = balance.SpreadMovesPerMinute
	}
	if n.peers != nil {
		n.joinGroup(&options, id)
	}
	ctl, err := controller.Open(ctx, options)
	if err != nil {
		return fmt.Errorf("start the controller: %w%s", err, n.raftRemedy(err))
	}
	n.controller = ctl
	if n.peers != nil {
		image := ctl.Image
		n.peers.image.Store(&image)
	}
	n.metrics.MustRegister(newControllerMetrics(uint64(n.config.Broker.ID), ctl.Status, ctl.Members), newClusterMetrics(ctl.Image))
	n.opened("controller", func(ctx context.Context) error {
		n.handOver(ctx)
		return ctl.Close()
	})
	return nil
}

// raftRemedy says what a person may do about a metadata log that is damaged, "" for other errors.
func (n *Node) raftRemedy(err error) string {
	if !errors.As(err, new(*wal.CorruptionError)) && !errors.As(err, new(*consensus.CorruptionError)) {
		return ""
	}
	const away = "; put that file back as it was, or keep a copy, move raft/ and snapshots/ away, and "
	if n.peers == nil {
		return away + "bring the metadata back from the bucket: `rustmq admin cluster recover --from URL` (docs/cluster.md, When the controllers' disks are lost)"
	}
	id := n.config.Broker.ID
	return fmt.Sprintf("%sas long as most controllers have theirs: `rustmq admin cluster recover --join --node-id %d --data-dir %s`, start this node, then `rustmq admin controllers remove %d` and `add %d`",
		away, id, n.config.Broker.DataDir, id, id)
}

// joinGroup says who the other controllers are, and what an empty raft/ means: one that
// is to begin a group with them, one that waits to be added to theirs, or one that was
// lost.
func (n *Node) joinGroup(o *controller.Options, id identity) {
	for _, p := range n.config.Peers() {
		if p.ID != n.config.Broker.ID {
			o.Peers = append(o.Peers, uint64(p.ID))
		}
	}
	o.Network = n.peers.raft
	o.Joined = id.joined()
	_, first := n.config.Self()
	// A node that has a cluster and has had no part in its controllers is no first one,
	// whatever its configuration says by now. What stands in wal/ is a broker's.
	if o.Join = !o.Joined && (!first || id.ClusterID != ""); o.Join {
		o.Beside = nil
	}
	o.OnJoined = func() error {
		return n.id.change(func(id *identity) { id.Raft = raftJoined })
	}
}

// handOver has another controller lead while this one is still there: the others need not
// notice its silence.
func (n *Node) handOver(ctx context.Context) {
	if n.peers == nil || n.failure() != nil {
		return
	}
	ctx, cancel := share(ctx, handOverShare)
	defer cancel()
	if err := n.controller.HandOver(ctx); err != nil {
		n.log.Info("no other controller took over before the stop; they will elect one", "error", err)
	}
}

// clusterID is the cluster as far as this process knows it, "" before it does.
func (n *Node) clusterID() string {
	if id := n.id.now().ClusterID; id != "" {
		return id
	}
	if image := n.peers.image.Load(); image != nil {
		return (*image)().ClusterID()
	}
	return ""
}

// openDoor opens the way to whichever controller leads, and that of others to the
// controller of this process.
func (n *Node) openDoor(ctx context.Context) error {
	o := door.Options{
		Broker: metadata.NoBroker, Addresses: n.peers.book.controllers, Cluster: n.clusterID, Mutual: n.peers.secure, Dial: n.machine.dial(),
		HeartbeatPatience: time.Duration(n.config.Liveness().HeartbeatTimeout), Log: n.log.With("room", "door"), OnDead: n.fail,
	}
	if n.has("broker") {
		o.Broker, o.Beat = n.config.Broker.ID, time.Duration(n.config.Liveness().HeartbeatInterval)
	}
	if n.controller != nil && n.controller.Status().Member {
		o.Local = n.controller
	} else if n.controller != nil { // it has no metadata, and asks the others for it
		n.log.Warn(fmt.Sprintf("the controller of this node is no member of the group, and waits: `rustmq admin controllers add %d`", n.config.Broker.ID))
	}
	if n.controller != nil {
		server := door.Serve(n.peers.controllerServer, n.controller)
		n.opened("answers to brokers", func(context.Context) error {
			err := server.Close()
			n.peers.controllerServer.Stop()
			return err
		})
		n.servePeers(n.peers.controllerServer)
	}
	d := door.New(o)
	n.door = d
	n.opened("door to the controllers", func(context.Context) error { return d.Close() })
	image := d.Image
	n.peers.image.Store(&image)
	if n.controller != nil {
		running, stop := context.WithCancel(context.Background())
		n.opened("registration of the controller", func(context.Context) error { stop(); return nil })
		n.serving.Go(func() { n.keepRegistered(running) }) // blocks on the controller that leads
	}
	if err := d.Ready(ctx); err != nil {
		return err
	}
	return n.knowCluster(d.Image().ClusterID())
}
