package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// reportEnds says what this broker has on disk of partitions that nobody leads. It counts
// where their ISR is not known, for the cluster was brought back from its bucket, or where
// who is eligible has cut its tail: who has the most is to lead.
func (b *Broker) reportEnds(ctx context.Context, epoch int64) error {
	return b.sayEnds(ctx, epoch, b.asked(b.images.image()))
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
// saw, if it is to hear what is here: once the replica takes no more of the one before.
func (b *Broker) missed(p *partition, is *metadata.Partition, was, now *role) {
	news := was.epoch != is.LeaderEpoch || was.replica == nil
	if was.epoch != storage.NoEpoch && news && now.replica != nil && is.AsksReplicas() {
		if end, ok := b.endOf(p.id(), is); ok {
			b.leaderless = append(b.leaderless, end)
		}
	}
}

// unsaid is what is to be said of partitions once more, for the controller did not take it.
type unsaid struct {
	mu    sync.Mutex // guards both
	of    []metadata.PartitionEnd
	tries int // in vain, one after the other
}

// maxSayAgain bounds the wait between tries to say what is here.
const maxSayAgain = 30 * time.Second

// sayMissed says what was noted since the last image, and what could not be said before.
// Nobody waits for it.
func (b *Broker) sayMissed(image *metadata.Image) {
	ends := append(b.leaderless, b.stillAsked(image)...)
	b.leaderless = nil
	if len(ends) == 0 || image.FeatureLevel() < metadata.RecoveryFeatureLevel {
		return
	}
	b.done.Go(func() {
		err := b.sayEnds(b.ctx, b.registration.epoch.Load(), ends)
		if b.ctx.Err() == nil {
			b.saidEnds(ends, err)
		}
	})
}

// saidEnds has what the controller did not take said again, later. It waits until then.
func (b *Broker) saidEnds(ends []metadata.PartitionEnd, err error) {
	u := &b.unsaid
	u.mu.Lock()
	if err == nil {
		u.tries = 0
		u.mu.Unlock()
		return
	}
	tries := u.tries
	u.tries++
	u.mu.Unlock()
	if tries == 0 {
		b.log.Warn("the controller was not told what this broker has of partitions that nobody leads; trying on", "partitions", len(ends), "error", err)
	}
	select {
	case <-b.ctx.Done():
		return
	case <-time.After(min(leadAgain<<min(tries, 10), maxSayAgain)):
	}
	u.mu.Lock()
	u.of = append(u.of, ends...)
	u.mu.Unlock()
	b.images.again()
}

// stillAsked is what is to be said once more of partitions that are as they were then.
func (b *Broker) stillAsked(image *metadata.Image) (ends []metadata.PartitionEnd) {
	b.unsaid.mu.Lock()
	again := b.unsaid.of
	b.unsaid.of = nil
	b.unsaid.mu.Unlock()
	for _, e := range again {
		_, is := image.Partition(e.Partition)
		if is == nil || !is.AsksReplicas() || is.LeaderEpoch != e.LeaderEpoch {
			continue
		}
		if tp := b.table.byID(e.Partition.Topic); tp != nil {
			if r := tp.partition(e.Partition.Index).role.Load(); r.replica != nil && r.epoch == e.LeaderEpoch {
				if end, ok := b.endOf(e.Partition, is); ok {
					ends = append(ends, end)
				}
			}
		}
	}
	return ends
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
				if end, ok := b.endOf(storage.PartitionID{Topic: t.ID, Index: p.Index}, p); ok {
					ends = append(ends, end)
				}
			}
		}
	}
	return ends
}

// endOf is what this broker has of a partition that nobody leads. Where nobody is known to
// have been in sync, of a log that cannot be read nothing is said, ok is false: it may be
// the longest, and damage is not absence. Elsewhere who cannot serve it has nothing.
func (b *Broker) endOf(id storage.PartitionID, is *metadata.Partition) (end metadata.PartitionEnd, ok bool) {
	nothing := metadata.PartitionEnd{Partition: id, Epoch: storage.NoEpoch, LeaderEpoch: is.LeaderEpoch}
	l, there := b.store.Log(id)
	if there && l.Err() != nil {
		return nothing, guard.Check("broker.damage-says-nothing", len(is.ELR) > 0)
	}
	if !there || l.End() == 0 {
		return nothing, true
	}
	return metadata.PartitionEnd{Partition: id, Epoch: l.EpochAt(l.End() - 1), End: l.End(), LeaderEpoch: is.LeaderEpoch}, true
}
