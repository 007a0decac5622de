package controller

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
)

const (
	// evenPause is between two looks at how brokers are loaded.
	evenPause = 2 * time.Second
	// evenAfter is how long a controller that begins to lead hears of load before it
	// moves anything by it.
	evenAfter = 5 * time.Second
)

// ReportLoad takes what a broker says of the partitions that it leads, those that are not
// idle, and how long its syncs took of late, 0 if it made none. It is not in the log: a
// controller that begins to lead hears it anew.
func (c *Controller) ReportLoad(_ context.Context, brokerID int32, brokerEpoch int64, syncs time.Duration, loads []PartitionLoad) error {
	if err := c.leads(); err != nil {
		return err
	}
	image := c.state.Image()
	if b, ok := image.Broker(brokerID); !ok || b.Epoch != brokerEpoch {
		return metadata.Errorf(metadata.StaleBrokerEpoch, "broker %d reports load under epoch %d, which is not that of its registration", brokerID, brokerEpoch)
	}
	c.balanceMu.Lock()
	c.balance.report(c.opt.Now(), image, brokerID, loads)
	changed := c.balance.disks.report(c.opt.Now(), brokerID, brokerEpoch, syncs)
	slow := c.balance.disks.slow(brokerID)
	c.balanceMu.Unlock()
	switch {
	case changed && slow:
		select {
		case c.flee <- struct{}{}:
		default:
		}
		c.log.Warn("the disk of a broker is ten times slower than those of others: it is to lead nothing", "broker", brokerID, "sync", syncs)
	case changed:
		c.log.Info("the disk of a broker is as quick as those of others again", "broker", brokerID, "sync", syncs)
	}
	return nil
}

// even moves leaderships to where less is led, and away from slow disks, and gives
// partitions the replicas that they lack, until ctx ends. It is the leader's.
func (c *Controller) even(ctx context.Context) {
	ticker := time.NewTicker(evenPause)
	defer ticker.Stop()
	led := time.Duration(0) // how long this controller leads
	spreads := newSpreader(0)
	var here tenures
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			led += evenPause
		case <-c.flee:
		}
		image := c.state.Image()
		spreads.movesAMinute = c.live.Load().SpreadMovesPerMinute
		if c.leads() != nil || image.FeatureLevel() < metadata.ClusterFeatureLevel {
			continue
		}
		here = here.see(c.opt.Now(), image)
		if led < evenAfter {
			continue
		}
		if moves := grow(image, here.before(c.opt.Now().Add(-c.opt.GrowAfter))); len(moves) > 0 {
			c.said(ctx, "partitions are given more replicas", c.ReassignPartitions(ctx, moves))
		} else if moves := spreads.plan(c.opt.Now(), image, here.before(c.opt.Now().Add(-c.opt.SpreadAfter))); len(moves) > 0 {
			c.spread(ctx, moves)
		}
		c.balanceMu.Lock()
		moves := c.balance.plan(c.opt.Now(), image)
		c.balanceMu.Unlock()
		if len(moves) > 0 {
			c.said(ctx, "leaderships move to where less is led, or to quicker disks", c.ElectLeaders(ctx, moves))
		}
	}
}

// spread begins moves of replicas, and says what is sent for them.
func (c *Controller) spread(ctx context.Context, moves []PlannedMove) {
	c.tails(moves)
	var all []Reassignment
	var sent, stays int64
	for _, m := range moves {
		all = append(all, Reassignment{Partition: m.Partition, Replicas: m.To})
		sent, stays = sent+m.Sent(), stays+m.InBucket
	}
	c.said(ctx, "replicas move to brokers that have few; the tails alone are sent", c.ReassignPartitions(ctx, all), "sent-bytes", sent, "stay-in-the-bucket", stays)
}

// said logs what became of changes that nobody asked for.
func (c *Controller) said(ctx context.Context, what string, results []error, more ...any) {
	var failed error
	n := 0
	for _, err := range results {
		if err == nil {
			n++
		} else {
			failed = err
		}
	}
	c.log.Info(what, append([]any{"partitions", n}, more...)...)
	if failed != nil && ctx.Err() == nil {
		c.log.Warn("not all of them did; a later round sees", "refused", len(results)-n, "one", failed)
	}
}
