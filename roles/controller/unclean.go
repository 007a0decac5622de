package controller

import (
	"context"
	"fmt"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// UncleanWait is how long an unclean election waits for the bucket: partitions that nobody leads
// cannot wait for the end of an outage.
const UncleanWait = 5 * time.Second

// endUploads condemns, before unclean elections, the ids under which replicas of those partitions
// may have uploads under way, and waits until the bucket knows. A recovery from the bucket
// that does not know of the election would else take such an upload, which has what the election has
// given up, in place of what the elected leader has acknowledged since (docs/design/0018). The brokers' uploads that
// are refused for it are made anew.
func (c *Controller) endUploads(ctx context.Context, elections []LeaderElection) {
	if c.opt.Bucket == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, UncleanWait)
	defer cancel()
	image := c.state.Image()
	mayUpload := map[int32]bool{}
	for _, e := range elections {
		if _, p := image.Partition(e.Partition); e.Unclean && p != nil && p.Leader == metadata.NoLeader {
			for _, id := range p.Replicas {
				mayUpload[id] = true
			}
		}
	}
	if len(mayUpload) == 0 {
		return
	}
	var ids []storage.ObjectID
	for o := range image.ObjectsIn(metadata.Prepared) {
		if mayUpload[o.Broker] {
			ids = append(ids, o.ID)
		}
	}
	waits, shipped := len(ids) > 0, c.Shipped()
	for o := range image.ObjectsIn(metadata.Condemned) { // another may have ended them, and the bucket does not know
		waits = waits || mayUpload[o.Broker] && o.Since > shipped
	}
	if guard.Check("controller.unclean-ends-uploads", !waits) {
		return // whoever uploads has an id
	}
	_, err := c.CondemnObjects(ctx, ids)
	if err == nil {
		err = c.issued(ctx, func(s *shipper, ctx context.Context) error { return s.Await(ctx, c.state.Image().Offset()) })
	}
	if err != nil {
		c.log.Warn("an unclean election does not wait for the bucket any longer: should the controllers' disks be lost before the bucket knows of it, a recovery may take what was uploaded before it",
			"error", fmt.Errorf("end the uploads under way: %w", err))
	}
}
