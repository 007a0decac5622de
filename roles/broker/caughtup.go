package broker

import (
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
)

// CaughtUp says why another broker should not be stopped yet: this one began a while ago, and
// has replicas that are not in sync since. Once all of them have been it returns nil, whatever
// comes later: a replica that lags in the middle of a life is told by other means, and is no
// reason to send clients elsewhere. Replicas of partitions that nobody leads do not count, for
// there is nobody to catch up with.
func (b *Broker) CaughtUp() error {
	if b.caughtUp.Load() {
		return nil
	}
	behind, of := replicasBehind(b.images.image(), b.opt.NodeID)
	if behind > 0 {
		return fmt.Errorf("%d of the %d replicas of this broker are not in sync yet", behind, of)
	}
	b.caughtUp.Store(true)
	return nil
}

// replicasBehind counts the replicas of a broker, of partitions that have a leader, and those
// of them that are not in sync.
func replicasBehind(image *metadata.Image, broker int32) (behind, of int) {
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			if p.Leader == metadata.NoLeader || !slices.Contains(p.Replicas, broker) {
				continue
			}
			of++
			if !slices.Contains(p.ISR, broker) {
				behind++
			}
		}
	}
	return behind, of
}
