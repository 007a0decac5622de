package broker

import (
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// reportEnds says what this broker has on disk of partitions whose ISR is not known: the
// cluster was brought back from its bucket, and who has the most is to lead.
func (b *Broker) reportEnds(ctx context.Context, epoch int64) error {
	ends := b.asked(b.follower.image())
	if len(ends) == 0 {
		return nil
	}
	if err := b.persist(ctx, func(ctx context.Context) error {
		return b.opt.Controller.ReportEnds(ctx, b.opt.NodeID, epoch, ends)
	}); err != nil {
		return err
	}
	b.log.Info("partitions that lost their controllers were told what this broker has of them", "partitions", len(ends))
	return nil
}

// asked is what this broker has of partitions that ask their replicas.
func (b *Broker) asked(image *metadata.Image) (ends []metadata.PartitionEnd) {
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			if p.AsksReplicas() && slices.Contains(p.Replicas, b.opt.NodeID) {
				ends = append(ends, b.endOf(storage.PartitionID{Topic: t.ID, Index: p.Index}))
			}
		}
	}
	return ends
}

// endOf is what this broker has of a partition: nothing, too, of one that it cannot serve.
func (b *Broker) endOf(id storage.PartitionID) metadata.PartitionEnd {
	nothing := metadata.PartitionEnd{Partition: id, Epoch: storage.NoEpoch}
	l, there := b.store.Log(id)
	if !there || l.Err() != nil {
		return nothing
	}
	end := l.End()
	if end == 0 {
		return nothing
	}
	return metadata.PartitionEnd{Partition: id, Epoch: l.EpochAt(end - 1), End: end}
}
