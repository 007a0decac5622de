package controller

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Registration is one start of a broker.
type Registration struct {
	BrokerID    int32
	ClusterID   string   // that the broker believes it belongs to; empty before its first registration
	Incarnation [16]byte // random, new with every start
	Directory   [16]byte // of its data directory
	Listeners   []metadata.Listener
	Rack        string
	BucketNonce [16]byte // that it read in its bucket; zero while the cluster has none

	// MaxFeatureLevel is the highest that its binary knows: the cluster's is not raised
	// beyond it. 0: not said, and nothing is raised.
	MaxFeatureLevel uint32
	// UncleanEnd: its last process did not end by its own wish, or that is not known.
	// AcksBeforeSync: that process acknowledged before the sync, whatever the topic
	// (wal.sync = interval). With both the broker leaves every ISR and ELR that has
	// others in it, and with the first those of topics of durability memory.
	UncleanEnd     bool
	AcksBeforeSync bool
	// CutTail: its log ended in what was not whole, and may lack what it had on disk. Where
	// others are eligible too it leads only by what they and it have.
	CutTail bool
}

// LogStart asks for the log start of one partition to move forward.
type LogStart struct {
	Partition   storage.PartitionID
	LeaderEpoch storage.Epoch
	Offset      storage.Offset
}

// RegisterBroker makes the broker known and returns the epoch of this
// registration. The broker is fenced until its first heartbeat under it; every
// partition that it led before has a higher leader epoch when this returns.
func (c *Controller) RegisterBroker(ctx context.Context, r Registration) (epoch int64, err error) {
	end, err := c.change(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	if err := c.leads(); err != nil {
		return 0, err
	}
	if is := c.state.Image().ClusterID(); r.ClusterID != "" && r.ClusterID != is {
		return 0, metadata.Errorf(metadata.InconsistentClusterID, "broker %d belongs to cluster %s, this is %s", r.BrokerID, r.ClusterID, is)
	}
	command := &pb.RegisterBroker{
		BrokerId: r.BrokerID, Incarnation: r.Incarnation[:], Directory: r.Directory[:], Rack: r.Rack,
	}
	if r.BucketNonce != [16]byte{} {
		command.BucketNonce = r.BucketNonce[:]
	}
	if c.state.Image().FeatureLevel() >= metadata.ClusterFeatureLevel {
		command.MaxFeatureLevel, command.UncleanEnd, command.AcksBeforeSync = r.MaxFeatureLevel, r.UncleanEnd, r.AcksBeforeSync
	}
	command.CutTail = r.CutTail && c.state.Image().FeatureLevel() >= metadata.RecoveryFeatureLevel
	for _, l := range r.Listeners {
		command.Listeners = append(command.Listeners, &pb.Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol})
	}
	result, err := c.propose(ctx, command)
	if err != nil {
		return 0, err
	}
	return int64(result.(metadata.BrokerEpoch)), nil
}

// Heartbeat says that a registration is alive, and puts it into service if it
// is fenced: the broker begins when it has applied the image of its own
// registration, and then comes at least three times in a session. When it returns
// without an error, a majority of the controllers has confirmed, after it was called,
// that this one leads: what the broker then takes for granted, until its lease is out, no
// controller that was cut off has told it.
func (c *Controller) Heartbeat(ctx context.Context, brokerID int32, epoch int64) error {
	if err := c.leads(); err != nil {
		return err
	}
	b, ok := c.state.Image().Broker(brokerID)
	if !ok {
		return metadata.Errorf(metadata.BrokerIDNotRegistered, "broker %d", brokerID)
	}
	if b.Epoch != epoch {
		return metadata.Errorf(metadata.StaleBrokerEpoch, "broker %d sends epoch %d, it is registered with %d", brokerID, epoch, b.Epoch)
	}
	c.hear(brokerID, epoch)
	if b.Fenced { // what a majority has committed since the heartbeat came confirms this leader, too
		_, err := c.propose(ctx, &pb.FenceBroker{BrokerId: brokerID, BrokerEpoch: epoch, Fenced: false})
		return err
	}
	return c.confirmed(ctx)
}

// FenceBroker takes a registration out of service, as when it shuts down: what
// it leads gets other leaders, or none. A later heartbeat puts it back.
func (c *Controller) FenceBroker(ctx context.Context, brokerID int32, epoch int64) error {
	_, err := c.propose(ctx, &pb.FenceBroker{BrokerId: brokerID, BrokerEpoch: epoch, Fenced: true})
	return err
}

// Hear notes that a registration is alive. A broker tells so every controller, as often as
// it sends a heartbeat to the one that leads: who leads next knows then who lives. It puts
// nobody into service, and gives no lease.
func (c *Controller) Hear(brokerID int32, epoch int64) {
	if b, ok := c.state.Image().Broker(brokerID); ok && guard.Check("controller.hear-registered", b.Epoch == epoch) {
		c.hear(brokerID, epoch)
	}
}

func (c *Controller) hear(brokerID int32, epoch int64) {
	c.sessionsMu.Lock()
	defer c.sessionsMu.Unlock()
	c.sessions.hear(c.opt.Now(), brokerID, epoch)
}

// Broke notes that the line broke over which a registration was heard. That is a hint: if
// it is not heard again within two heartbeats, it is taken for dead.
func (c *Controller) Broke(brokerID int32, epoch int64) {
	c.sessionsMu.Lock()
	defer c.sessionsMu.Unlock()
	c.sessions.broke(c.opt.Now(), brokerID, epoch)
}

// looks is how often sessions are looked at: often enough that a break of a line ends
// one in time, and that a pause of this process is noticed.
func (c *Controller) looks() *time.Ticker {
	return time.NewTicker(min(c.opt.BrokerSession, 2*c.opt.BrokerHeartbeat) / 8)
}

// attend keeps the sessions, whoever leads.
func (c *Controller) attend(ctx context.Context) {
	ticker := c.looks()
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		inService := c.inService()
		c.sessionsMu.Lock()
		c.sessions.look(c.opt.Now(), inService)
		c.sessionsMu.Unlock()
	}
}

// watch fences brokers that have fallen silent, or have gone. It is the leader's.
func (c *Controller) watch(ctx context.Context) {
	ticker := c.looks()
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if c.Ended() != nil {
			continue
		}
		inService := c.inService()
		c.sessionsMu.Lock()
		fence := c.sessions.judge(c.opt.Now(), inService)
		c.sessionsMu.Unlock()
		for _, s := range fence {
			what := "broker fell silent and is fenced"
			if s.gone {
				what = "broker has gone, for its connection broke, and is fenced"
			}
			c.log.Warn(what, "broker", s.broker, "epoch", s.epoch)
			if err := c.FenceBroker(ctx, s.broker, s.epoch); err != nil {
				c.log.Warn("fencing failed; the next round tries again", "broker", s.broker, "error", err)
			}
		}
	}
}

// inService are the registrations that are not fenced.
func (c *Controller) inService() map[int32]int64 {
	inService := map[int32]int64{}
	for b := range c.state.Image().Brokers() {
		if !b.Fenced {
			inService[b.ID] = b.Epoch
		}
	}
	return inService
}

// AdvanceLogStart moves log starts forward, each for the leader of the epoch
// that asks; errors are in order of the request.
func (c *Controller) AdvanceLogStart(ctx context.Context, brokerID int32, brokerEpoch int64, starts []LogStart) []error {
	command := &pb.AdvanceLogStart{BrokerId: brokerID, BrokerEpoch: brokerEpoch}
	for _, s := range starts {
		command.Entries = append(command.Entries, &pb.AdvanceLogStart_Entry{
			TopicId: s.Partition.Topic[:], Partition: s.Partition.Index, LeaderEpoch: int32(s.LeaderEpoch), Offset: int64(s.Offset),
		})
	}
	result, err := c.propose(ctx, command)
	if err == nil {
		return result.(metadata.LogStarts)
	}
	results := make([]error, len(starts))
	for i := range results {
		results[i] = err
	}
	return results
}

// producerIDBlock is how many ids a broker is given at a time, as in Kafka.
const producerIDBlock = 1000

// AllocateProducerIDs gives a block of producer ids that nobody else is given.
func (c *Controller) AllocateProducerIDs(ctx context.Context, brokerID int32, brokerEpoch int64) (first int64, count int32, err error) {
	result, err := c.propose(ctx, &pb.AllocateProducerIds{BrokerId: brokerID, BrokerEpoch: brokerEpoch, Count: producerIDBlock})
	if err != nil {
		return 0, 0, err
	}
	block := result.(metadata.ProducerIDs)
	return block.First, block.Count, nil
}
