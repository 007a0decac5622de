package roles

import (
	"context"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
)

const (
	// registerPatience is how long one try to make a controller known may take, and
	// registerPause is between two.
	registerPatience = 5 * time.Second
	registerPause    = time.Second
)

// keepRegistered makes this controller known where the cluster does not know it as it is:
// others learn from it where it is reached, and whether it may be added. It blocks on the
// controller that leads.
func (n *Node) keepRegistered(ctx context.Context) {
	directory, err := n.id.now().memberID()
	if err != nil {
		return // the start has refused it
	}
	self := metadata.ControllerNode{
		ID: uint64(n.config.Broker.ID), Directory: directory, Raft: n.peers.raftAddr, Controller: n.peers.controllerAddr, MaxFeatureLevel: metadata.LatestFeatureLevel,
	}
	changed := make(chan struct{}, 1)
	cancel := n.door.Subscribe(func(*metadata.Image) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	ticker := time.NewTicker(registerPause)
	defer ticker.Stop()
	var told time.Time
	for {
		image := n.door.Image()
		is, known := image.ControllerNode(self.ID)
		due := image.FeatureLevel() >= metadata.ClusterFeatureLevel && !(known && *is == self)
		if due {
			try, done := context.WithTimeout(ctx, registerPatience)
			err := n.door.RegisterController(try, self)
			done()
			if err != nil && ctx.Err() == nil && time.Since(told) > time.Minute {
				told = time.Now()
				n.log.Warn("this controller could not make itself known to the cluster; trying on", "error", err)
			}
		}
		// What changes is looked at no more often than this.
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !due {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}
