package broker

import (
	"context"
	"errors"
	"fmt"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// dropParted has logs begin anew, where the bucket ends, that parted from what it has. In a
// cluster that was brought back from its bucket nobody leads who would have them truncated:
// such a log might be the longest that is left. It blocks on the bucket, once for each
// partition that asks its replicas and was uploaded under another epoch than it was written.
func (b *Broker) dropParted(ctx context.Context, image *metadata.Image) error {
	is, _ := image.Bucket()
	if is.Incarnation <= controller.FirstIncarnation || b.opt.Tier == nil || image.FeatureLevel() < metadata.RecoveryFeatureLevel {
		return nil
	}
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			id := storage.PartitionID{Topic: t.ID, Index: p.Index}
			last, ranged := p.Ranges().Last()
			l, here := b.store.Log(id)
			if !p.AsksReplicas() || !ranged || !here || l.Err() != nil || l.End() < last.End {
				continue
			}
			has := l.EpochAt(last.End - 1)
			if has == storage.NoEpoch || has == last.Epoch {
				continue // it was let go of here as of there; or is what the uploader wrote itself
			}
			wrote, err := b.bucketEpoch(ctx, image.ClusterID(), id, last)
			if damage, damaged := errors.AsType[*object.CorruptionError](err); damaged {
				b.log.Warn("a log cannot be compared with what the bucket has of its partition", "topic", t.Name, "partition", p.Index, "error", damage)
				continue
			}
			if err != nil {
				return fmt.Errorf("compare %s-%d with what the bucket has: %w", t.Name, p.Index, err)
			}
			if guard.Check("broker.parted-begins-anew", wrote == has) {
				continue
			}
			b.log.Warn("a log parted from what the bucket has, and begins anew where that ends", "topic", t.Name, "partition", p.Index,
				"end", l.End(), "bucket-end", last.End, "epoch", has, "bucket-epoch", wrote)
			if err := b.store.DropPartition(id); err != nil {
				return fmt.Errorf("have the log of %s-%d begin anew: %w", t.Name, p.Index, err)
			}
		}
	}
	return nil
}

// goOnFromBucket has a log begin anew at the committed end that this broker is to lead, where it cannot go on
// from what it has: it ends before what the bucket has, or it parted from that, for this broker may have been
// elected out of sync, as somebody asked for. What was acknowledged and is there stays what it is, with what the bucket
// knows of producers and open transactions. The log is neither led nor followed. It is errRebuilding until the bucket
// was asked. One that cannot be asked keeps nobody from leading.
func (b *Broker) goOnFromBucket(p *partition, t *metadata.Topic, is *metadata.Partition, l *log.Log) error {
	lacks := b.lacksOfBucket(is, l)
	if !lacks && guard.Check("broker.unclean-meets-bucket", !b.mayHaveParted(p.id(), is, l)) {
		delete(b.rebuilds.unmet, p.id())
		return nil
	}
	b.rebuilds.unmet[p.id()] = true
	last, _ := is.Ranges().Last()
	end, was, has, cluster := is.CommittedEnd(), l.End(), l.EpochAt(last.End-1), b.clusterID()
	_, err := b.rebuild(p.id(), is, func(state []byte) error {
		if lacks {
			b.log.Warn("a log ends before what the bucket has, and begins anew where that ends", "topic", t.Name, "partition", p.index, "end", was, "bucket-end", end)
			return l.RestartFromBucket(end, state)
		}
		wrote, err := b.bucketEpoch(b.ctx, cluster, p.id(), last)
		if err != nil || wrote == has {
			return err
		}
		b.log.Warn("a log parted from what the bucket has, and begins anew where that ends: this broker was elected out of sync", "topic", t.Name, "partition", p.index,
			"end", was, "bucket-end", end, "epoch", has, "bucket-epoch", wrote)
		return l.RestartFromBucket(end, state)
	})
	if errors.Is(err, errRebuilding) {
		return err
	}
	delete(b.rebuilds.unmet, p.id())
	if err == nil {
		return nil
	}
	delete(b.rebuilds.of, p.id())
	if lacks {
		b.log.Error("a log ends before what the bucket has, and is led from where that ends without what the bucket knows of its producers and open transactions",
			"topic", t.Name, "partition", p.index, "end", was, "bucket-end", end, "error", err)
		return nil
	}
	b.log.Error("this broker was elected out of sync, and its log is led though it may have parted from what the bucket has", "topic", t.Name, "partition", p.index,
		"end", was, "bucket-end", end, "epoch", has, "error", err)
	return nil
}

// lacksOfBucket reports whether a log ends before what the bucket has of it: its disk is another one, or was
// never in sync.
func (b *Broker) lacksOfBucket(is *metadata.Partition, l *log.Log) bool {
	last, ranged := is.Ranges().Last()
	return ranged && b.opt.Tier != nil && l.Err() == nil && !guard.Check("broker.short-log-meets-bucket", l.End() >= last.End)
}

// noteUnmet notes that this broker, by an image that is about to be carried out, is held to have all of
// a partition that was acknowledged, and was not by the image before, under another leader epoch: it may
// have been elected out of sync. That stays so until its log was compared with the bucket, though others are
// elected meanwhile, or it is again.
func (b *Broker) noteUnmet(id storage.PartitionID, t *metadata.Topic, is *metadata.Partition) {
	image := b.images.image()
	if image == nil || awaitsBucket(t) || !is.Counts(b.opt.NodeID) {
		return
	}
	_, before := image.Partition(id)
	if before != nil && before.Recovery() == nil && before.LeaderEpoch != is.LeaderEpoch && before.Leader != b.opt.NodeID && !before.Counts(b.opt.NodeID) {
		b.rebuilds.unmet[id] = true
	}
}

// mayHaveParted reports whether this broker may lead a partition though it was not held to have
// all that was acknowledged, and its log may differ from what the bucket has. One that has a record
// of the epoch that the newest range was committed under, or of a later one, is in line with who led that.
func (b *Broker) mayHaveParted(id storage.PartitionID, is *metadata.Partition, l *log.Log) bool {
	image := b.images.image()
	last, ranged := is.Ranges().Last()
	if image == nil || !ranged || l.Err() != nil || l.End() < last.End || l.LocalStart() >= last.End {
		return false
	}
	if latest := l.EpochAt(l.End() - 1); latest >= last.Epoch && l.EpochAt(last.End-1) <= last.Epoch {
		return false
	}
	_, before := image.Partition(id)
	missed := before != nil && before.Recovery() == nil && is.LeaderEpoch > before.LeaderEpoch+1 // who led between, and who was in sync then
	return missed || b.rebuilds.unmet[id]
}

// bucketEpoch is the leader epoch of the last batch of a range.
func (b *Broker) bucketEpoch(ctx context.Context, cluster string, id storage.PartitionID, r metadata.Range) (storage.Epoch, error) {
	raw := make([]byte, r.IndexLength)
	if err := b.opt.Tier.Bucket.ReadAt(ctx, b.objectKey(cluster, r.Object), raw, r.IndexPosition); err != nil {
		return storage.NoEpoch, err
	}
	x, err := object.DecodeIndex(raw, r.Object, object.Entry{
		Partition: id, Base: r.Base, End: r.End, Index: object.Extent{Position: r.IndexPosition, Length: r.IndexLength, CRC: r.IndexCRC},
	})
	if err != nil {
		return storage.NoEpoch, err
	}
	if n := len(x.Epochs); n > 0 {
		return x.Epochs[n-1].Epoch, nil
	}
	return storage.NoEpoch, &object.CorruptionError{Object: r.Object, Position: r.IndexPosition, Reason: "no epoch of any batch"}
}
