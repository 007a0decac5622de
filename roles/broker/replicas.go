package broker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/replication"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// DefaultLease is how long a broker that the controller does not answer takes for itself
// that nobody else leads what it leads.
const DefaultLease = time.Second

// Replication is how a broker pushes to others, and takes what they push.
type Replication struct {
	Mutual  *pki.Mutual       // of connections to others; nil: neither side proves who it is
	Dial    []grpc.DialOption // more of them
	LagTime time.Duration     // 0: replication.DefaultLagTime
	Lease   time.Duration     // 0: DefaultLease, or three heartbeats if that is longer
}

// replicas is this broker among others.
type replicas struct {
	leader        *replication.Leader
	follower      *replication.Follower
	tail, catchUp *rpc.Pushes
	peers         map[int32]replication.Peer // of follow
	lease         lease
}

func (b *Broker) openReplication() {
	o := b.opt.Replication
	if o == nil {
		return
	}
	pushes := func() *rpc.Pushes {
		return rpc.NewPushes(rpc.PushesOptions{Cluster: b.clusterID, Mutual: o.Mutual, Dial: o.Dial})
	}
	r := &replicas{tail: pushes(), catchUp: pushes()}
	r.lease.begin(cmp.Or(o.Lease, max(DefaultLease, 3*b.opt.Heartbeat)), b.opt.Now(), b.opt.Mono())
	self := func() rpc.Incarnation {
		return rpc.Incarnation{Broker: b.opt.NodeID, Epoch: b.registration.epoch.Load()}
	}
	r.leader = replication.NewLeader(replication.LeaderOptions{
		Self: self, Tail: r.tail, CatchUp: r.catchUp, Controller: b.opt.Controller, LagTime: o.LagTime, Log: b.log,
	})
	r.follower = replication.NewFollower(replication.FollowerOptions{
		Self: self, Store: b.store, Await: b.images.wait, Registered: b.registeredEpoch, Following: b.followedLog, Counted: b.counted, Log: b.log,
	})
	b.replication = r
	b.store.OnDamage(b.unreadable)
	b.done.Go(func() { b.heal(b.ctx) })
}

// expireLook is the time between two looks for appends that have waited for their
// followers, or for the bucket, as long as their clients allow.
const expireLook = 500 * time.Millisecond

// appendDeadline is until when an append may wait for followers, or for the bucket; none
// where it waits for neither. Who allows no time waits no longer than until the next look.
func (b *Broker) appendDeadline(p *partition, now time.Time, timeoutMillis int32) time.Time {
	if b.replication == nil && !p.role.Load().awaitsBucket {
		return time.Time{}
	}
	return now.Add(time.Duration(max(timeoutMillis, 0)) * time.Millisecond)
}

// expireAppends answers those whose time is over, until ctx ends.
func (b *Broker) expireAppends(ctx context.Context) {
	ticker := time.NewTicker(expireLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b.expire(b.opt.Now())
	}
}

func (b *Broker) expire(now time.Time) {
	for _, id := range b.store.Partitions() {
		if l, ok := b.store.Log(id); ok {
			l.Expire(now)
		}
	}
}

// endRequests waits for all requests at the end of the broker. Appends that wait for
// followers are answered as if their time was over: a broker that has stopped is told
// nothing any more.
func (b *Broker) endRequests() {
	ended := make(chan struct{})
	go func() { // ends with the requests, as this does
		b.requests.Wait()
		close(ended)
	}()
	ticker := time.NewTicker(expireLook)
	defer ticker.Stop()
	for {
		if b.replication != nil || b.opt.Tier != nil {
			b.expire(b.opt.Now().Add(math.MaxInt64))
		}
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
	}
}

func (b *Broker) closeReplication() error {
	r := b.replication
	if r == nil {
		return nil
	}
	return errors.Join(r.leader.Close(), r.tail.Close(), r.catchUp.Close())
}

// ServeReplication makes s, a server of [rpc.NewCodec], take what other brokers push.
// Without Options.Replication it does nothing.
func (b *Broker) ServeReplication(s grpc.ServiceRegistrar) {
	if b.replication != nil {
		rpc.RegisterReplication(s, b.clusterID, b.replication.follower)
	}
}

func (b *Broker) clusterID() string { return b.opt.Controller.Image().ClusterID() }

func (b *Broker) registeredEpoch(id int32) (epoch int64, ok bool) {
	broker, ok := b.images.image().Broker(id)
	if !ok {
		return 0, false
	}
	return broker.Epoch, true
}

func (b *Broker) followedLog(id storage.PartitionID) (*log.Log, int32, storage.Epoch) {
	tp := b.table.byID(id.Topic)
	if tp == nil {
		return nil, metadata.NoLeader, storage.NoEpoch
	}
	p := tp.partition(id.Index)
	if p == nil {
		return nil, metadata.NoLeader, storage.NoEpoch
	}
	r := p.role.Load()
	return r.replica, r.leader, r.epoch
}

// counted reports whether this broker is held to have all of a partition that was
// acknowledged.
func (b *Broker) counted(id storage.PartitionID) bool {
	_, p := b.images.image().Partition(id)
	return p != nil && (slices.Contains(p.ISR, b.opt.NodeID) || slices.Contains(p.ELR, b.opt.NodeID))
}

// changePeers tells the leader which brokers there are by an image.
func (b *Broker) changePeers(image *metadata.Image) {
	r := b.replication
	if r == nil {
		return
	}
	peers := map[int32]replication.Peer{}
	for other := range image.Brokers() {
		if address, ok := peerAddress(other); ok && other.ID != b.opt.NodeID {
			peers[other.ID] = replication.Peer{Incarnation: rpc.Incarnation{Broker: other.ID, Epoch: other.Epoch}, Address: address}
		}
	}
	if !maps.Equal(peers, r.peers) {
		r.peers = peers
		r.leader.SetPeers(peers)
	}
}

// followLeader makes the partition's log ready to be fed by who leads it, under the
// image's epoch, and reports whether it is.
func (b *Broker) followLeader(p *partition, t *metadata.Topic, is *metadata.Partition, was, now *role) bool {
	l, again := was.replica, was.replica != nil && was.epoch == is.LeaderEpoch
	var err error
	ok := again
	if !again {
		if l, ok = b.store.Log(p.id()); !ok {
			l, err = b.store.Create(p.id(), b.logConfig(b.withDefaults(t), is))
		}
	}
	if ok && b.replication != nil {
		var anew bool
		l, anew, err = b.beginAnew(l, p, is, b.logConfig(b.withDefaults(t), is))
		again = again && !anew
	}
	if err == nil && (!again || was.partitionEpoch != is.PartitionEpoch) {
		l.SetConfig(b.logConfig(b.withDefaults(t), is))
	}
	if err == nil && !again {
		// Before anything is said of the log start: what it has behind its high watermark
		// may not be the leader's.
		err = l.BecomeFollower(is.LeaderEpoch)
	}
	if err == nil {
		now.replica = l
		err = errors.Join(l.SetLogStart(is.LogStart), l.SetUploaded(is.CommittedEnd()))
		b.releaseShipped(l, is)
		b.releaser.named(l, is.CommittedEnd())
	}
	if _, undone := b.undone[p.id()]; err != nil && !undone {
		b.log.Error("a replica does not follow its leader; trying on", "topic", t.Name, "partition", p.index, "leader", is.Leader, "epoch", is.LeaderEpoch, "error", err)
	}
	return err == nil
}

// changeReplication has a partition pushed to its replicas if it is led here, and ends
// what it is fed by under another epoch.
func (b *Broker) changeReplication(p *partition, t *metadata.Topic, is *metadata.Partition, now *role) {
	r := b.replication
	if r == nil {
		if now.log != nil {
			now.log.SetReplicas(log.Replicas{InSync: others(is.ISR, b.opt.NodeID)})
		}
		return
	}
	if now.replica != nil {
		r.follower.Changed(p.id(), now.epoch)
	} else {
		r.follower.Changed(p.id(), storage.NoEpoch)
	}
	if now.log == nil || len(is.Replicas) == 1 {
		r.leader.Unlead(p.id())
	}
	switch {
	case now.log == nil:
	case len(is.Replicas) == 1:
		now.log.SetReplicas(log.Replicas{})
	default:
		r.leader.Lead(time.Now(), replication.Partition{
			ID: p.id(), Log: now.log, LeaderEpoch: is.LeaderEpoch, PartitionEpoch: is.PartitionEpoch, Replicas: is.Replicas, ISR: is.ISR,
			MinInSync: b.withDefaults(t).MinISR(is), MetadataOffset: b.images.newest.Load().Offset(), Fullest: &p.fullest,
		})
	}
}

func (b *Broker) endReplication(p *partition) {
	if r := b.replication; r != nil {
		r.follower.Changed(p.id(), storage.NoEpoch)
		r.leader.Unlead(p.id())
	}
}

// dropReplica drops the log of a partition that this broker holds no replica of, by an
// image that knows its registration: one that lacks it merely may know less.
func (b *Broker) dropReplica(p *partition) {
	l, ok := b.store.Log(p.id())
	if !ok {
		return
	}
	l.Resign() // who waits is sent to the next leader
	if err := b.store.DropPartition(p.id()); err != nil {
		b.log.Warn("a replica that this broker is to give up was not dropped; trying on", "partition", p.id(), "error", err)
		b.undone[p.id()] = p
		return
	}
	b.healing.forget(p.id())
	delete(b.rebuilds.unmet, p.id())
}

// kept is the log of the role, led or followed; nil: none.
func (r *role) kept() *log.Log {
	if r.log != nil {
		return r.log
	}
	return r.replica
}

// others is who is in a set besides this broker.
func others(ids []int32, self int32) (out []int32) {
	for _, id := range ids {
		if id != self {
			out = append(out, id)
		}
	}
	return out
}
