package broker

import (
	"context"
	"math"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// clampLook is between two looks for offsets to be set back, in a cluster that was brought back
// from its bucket.
const clampLook = time.Second

// lifeBegan is where this life of the cluster began to write a partition.
type lifeBegan struct {
	Offset int64 `json:"offset"`
	Known  bool  `json:"known"`
}

// life is the leader epoch from which on this life of the cluster leads what it took over; 0:
// there was none before.
func (b *Broker) life() storage.Epoch {
	if image := b.images.newest.Load(); image != nil {
		return image.LifeEpoch()
	}
	return 0
}

// clampOffsets sets back what groups that are coordinated here had committed in an earlier life
// of the cluster, where it lies behind the end that this life found, until ctx ends. It blocks on other
// brokers. What cannot be told yet, for a partition has no leader, say, is looked at again.
func (b *Broker) clampOffsets(ctx context.Context) {
	ticker := time.NewTicker(clampLook)
	defer ticker.Stop()
	done := map[int32]storage.Epoch{} // partitions of the groups, and under which epoch
	left := map[int32]int{}           // how many the last look at one left
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		image := b.images.image()
		if image == nil || image.LifeEpoch() == 0 {
			continue
		}
		t, ok := image.Topic(offsetsTopic)
		if !ok {
			continue
		}
		for p := range t.Partitions.All() {
			due := p.Leader == b.opt.NodeID && p.LeaderEpoch >= image.LifeEpoch() && p.Index < coordinatorPartitions && done[p.Index] != p.LeaderEpoch
			if !due {
				continue
			}
			n, whole := b.clampPartition(ctx, image, p.Index, left[p.Index])
			if left[p.Index] = n; whole {
				done[p.Index] = p.LeaderEpoch
			}
		}
	}
}

// clampPartition does clampOffsets for the groups of one partition, and reports whether nothing
// is left to do, and how many offsets that are known to lie behind the end are. That those are
// still as many as before is not said again.
func (b *Broker) clampPartition(ctx context.Context, image *metadata.Image, index int32, before int) (left int, done bool) {
	type told struct {
		offsets []group.EarlierOffset
		code    int16
	}
	earlier, err := await(ctx, func(answer func(told)) {
		b.groups.EarlierOffsets(ctx, index, func(offsets []group.EarlierOffset, code int16) { answer(told{offsets, code}) })
	})
	if err != nil || earlier.code != 0 || len(earlier.offsets) == 0 {
		return before, err == nil && earlier.code == 0
	}
	began, whole := b.lifesBegan(ctx, image, earlier.offsets)
	clamps := clampsOf(earlier.offsets, began)
	if len(clamps) == 0 {
		return 0, whole
	}
	result, err := await(ctx, func(answer func(group.Clamped)) { b.groups.ClampOffsets(ctx, index, clamps, answer) })
	if err != nil {
		return before, false
	}
	if result.Left == len(clamps) && result.Left == before {
		return before, false
	}
	one := clamps[0]
	b.log.Warn("committed offsets lay behind the end that is left of their partitions, and were set back", "partition", index, "offsets", len(clamps)-result.Left, "left", result.Left,
		"one-group", one.Group, "topic", one.Topic, "of-partition", one.Partition, "from", one.Offset, "to", one.To)
	return result.Left, whole && result.Left == 0 && result.Code == 0
}

// clampsOf returns the offsets that lie behind where this life began to write their partitions.
func clampsOf(offsets []group.EarlierOffset, began map[topicPartition]int64) (clamps []group.Clamp) {
	for _, o := range offsets {
		to, known := began[topicPartition{o.Topic, o.Partition}]
		if known && !guard.Check("broker.clamp-behind-end", o.Offset <= to) {
			clamps = append(clamps, group.Clamp{EarlierOffset: o, To: to})
		}
	}
	return clamps
}

// lifesBegan asks the leaders of partitions that were taken over where this life began to write them. whole:
// all have said so.
func (b *Broker) lifesBegan(ctx context.Context, image *metadata.Image, of []group.EarlierOffset) (began map[topicPartition]int64, whole bool) {
	began = map[topicPartition]int64{}
	var asked []partitionAsked
	seen := map[topicPartition]bool{}
	for _, o := range of {
		name := topicPartition{o.Topic, o.Partition}
		t, ok := image.Topic(o.Topic)
		if seen[name] || !ok || t.Partition(o.Partition) == nil || t.Partition(o.Partition).LeaderEpoch < image.LifeEpoch() {
			continue // it is gone, or was made in this life
		}
		seen[name] = true
		asked = append(asked, partitionAsked{Topic: o.Topic, Partition: o.Partition})
	}
	for at, places := range b.placesByLeader(len(asked), func(i int) topicPartition { return topicPartition{asked[i].Topic, asked[i].Partition} }) {
		for len(places) > 0 {
			part := places[:min(len(places), partitionsAtOnce)]
			places = places[len(part):]
			var q []partitionAsked
			for _, i := range part {
				q = append(q, asked[i])
			}
			answers, err := b.lifesBeganHere(q), error(nil)
			if at != b.opt.NodeID {
				answers, err = askOwn[[]lifeBegan](ctx, b, at, peerLifeBegan, q)
			}
			if err != nil || len(answers) != len(q) {
				continue // it is asked again
			}
			for i, a := range answers {
				if a.Known {
					began[topicPartition{q[i].Topic, q[i].Partition}] = a.Offset
				}
			}
		}
	}
	return began, len(began) == len(asked)
}

// lifesBeganHere says of partitions that are led here where this life began to write them: at the
// start of the first leader epoch of it, or where the log begins by now, if that is behind.
func (b *Broker) lifesBeganHere(asked []partitionAsked) []lifeBegan {
	out := make([]lifeBegan, len(asked))
	life := b.life()
	for i, p := range asked {
		l, r, err := b.leaderOf(p.Topic, p.Partition, storage.NoEpoch)
		if err != nil || r.epoch < life {
			continue
		}
		out[i] = lifeBegan{Offset: math.MaxInt64, Known: true}
		for _, e := range l.History().Epochs {
			if e.Epoch >= life {
				out[i].Offset = int64(e.Start)
				break
			}
		}
	}
	return out
}
