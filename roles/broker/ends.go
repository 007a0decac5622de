package broker

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// reportEnds says what this broker has on disk of partitions that nobody leads. It counts
// where their ISR is not known, for the cluster was brought back from its bucket, or where
// who is eligible has cut its tail: who has the most is to lead.
func (b *Broker) reportEnds(ctx context.Context, epoch int64) error {
	return b.sayEnds(ctx, epoch, b.asked(b.follower.image()))
}

func (b *Broker) sayEnds(ctx context.Context, epoch int64, ends []metadata.PartitionEnd) error {
	if len(ends) == 0 {
		return nil
	}
	if err := b.persist(ctx, func(ctx context.Context) error {
		return b.opt.Controller.ReportEnds(ctx, b.opt.NodeID, epoch, ends)
	}); err != nil {
		return err
	}
	b.log.Info("said what this broker has of partitions that nobody leads", "partitions", len(ends))
	return nil
}

// missed notes that a partition has lost its leader, or another one that this broker never
// saw, if it is to hear what is here.
func (b *Broker) missed(p *partition, is *metadata.Partition, was, now *role) {
	if was.epoch != storage.NoEpoch && was.epoch != is.LeaderEpoch && now.replica != nil && is.AsksReplicas() {
		b.leaderless = append(b.leaderless, b.endOf(p.id(), is.LeaderEpoch))
	}
}

// sayMissed says what was noted since the last image. Nobody waits for it; what is not
// said now is said when this broker starts again.
func (b *Broker) sayMissed(image *metadata.Image) {
	ends := b.leaderless
	b.leaderless = nil
	if len(ends) == 0 || image.FeatureLevel() < metadata.RecoveryFeatureLevel {
		return
	}
	b.done.Go(func() {
		if err := b.sayEnds(b.ctx, b.registration.epoch.Load(), ends); err != nil && b.ctx.Err() == nil {
			b.log.Warn("the controller was not told what this broker has of partitions that nobody leads", "partitions", len(ends), "error", err)
		}
	})
}

// asked is what this broker has of partitions that ask their replicas.
func (b *Broker) asked(image *metadata.Image) (ends []metadata.PartitionEnd) {
	if image.FeatureLevel() < metadata.RecoveryFeatureLevel {
		return nil // nobody would understand
	}
	for t := range image.Topics() {
		if awaitsBucket(t) {
			continue // what counts of it is in the bucket
		}
		for p := range t.Partitions.All() {
			if p.AsksReplicas() && slices.Contains(p.Replicas, b.opt.NodeID) {
				ends = append(ends, b.endOf(storage.PartitionID{Topic: t.ID, Index: p.Index}, p.LeaderEpoch))
			}
		}
	}
	return ends
}

// endOf is what this broker has of a partition, that nobody leads as of a leader epoch: nothing, too, of one that it cannot serve.
func (b *Broker) endOf(id storage.PartitionID, leader storage.Epoch) metadata.PartitionEnd {
	nothing := metadata.PartitionEnd{Partition: id, Epoch: storage.NoEpoch, LeaderEpoch: leader}
	l, there := b.store.Log(id)
	if !there || l.Err() != nil {
		return nothing
	}
	end := l.End()
	if end == 0 {
		return nothing
	}
	return metadata.PartitionEnd{Partition: id, Epoch: l.EpochAt(end - 1), End: end, LeaderEpoch: leader}
}
