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
// idle. It is not in the log: a controller that begins to lead hears it anew.
func (c *Controller) ReportLoad(_ context.Context, brokerID int32, brokerEpoch int64, loads []PartitionLoad) error {
	if err := c.leads(); err != nil {
		return err
	}
	image := c.state.Image()
	if b, ok := image.Broker(brokerID); !ok || b.Epoch != brokerEpoch {
		return metadata.Errorf(metadata.StaleBrokerEpoch, "broker %d reports load under epoch %d, which is not that of its registration", brokerID, brokerEpoch)
	}
	c.balanceMu.Lock()
	defer c.balanceMu.Unlock()
	c.balance.report(c.opt.Now(), image, brokerID, loads)
	return nil
}

// even moves leaderships to where less is led, and gives partitions the replicas that they
// lack, until ctx ends. It is the leader's.
func (c *Controller) even(ctx context.Context) {
	ticker := time.NewTicker(evenPause)
	defer ticker.Stop()
	led := time.Duration(0) // how long this controller leads
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		image := c.state.Image()
		if !c.Leads() || image.FeatureLevel() < metadata.ClusterFeatureLevel {
			continue
		}
		if led += evenPause; led < evenAfter {
			continue
		}
		if moves := grow(image); len(moves) > 0 {
			c.said(ctx, "partitions are given more replicas", c.ReassignPartitions(ctx, moves))
		}
		c.balanceMu.Lock()
		moves := c.balance.plan(c.opt.Now(), image)
		c.balanceMu.Unlock()
		if len(moves) > 0 {
			c.said(ctx, "leaderships move to where less is led", c.ElectLeaders(ctx, moves))
		}
	}
}

// said logs what became of changes that nobody asked for.
func (c *Controller) said(ctx context.Context, what string, results []error) {
	var failed error
	n := 0
	for _, err := range results {
		if err == nil {
			n++
		} else {
			failed = err
		}
	}
	c.log.Info(what, "partitions", n)
	if failed != nil && ctx.Err() == nil {
		c.log.Warn("not all of them did; a later round sees", "refused", len(results)-n, "one", failed)
	}
}
