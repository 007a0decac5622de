package admin

import (
	"context"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/storage"
)

// Holdings asks the leaders of partitions what they hold, and answers in the order of the
// questions.
type Holdings interface {
	Holdings(context.Context, []broker.PartitionNamed) []broker.Holding
}

// partitionHeld is what is known of what a partition holds.
type partitionHeld struct {
	PartitionState
	BucketShare
	unknown string // why its leader does not say; "": it does
}

// held is what the partitions of topics hold, one topic after the other: as their leaders say,
// or else as this process knows.
func (a api) held(ctx context.Context, topics ...*metadata.Topic) []partitionHeld {
	var named []broker.PartitionNamed
	var out []partitionHeld
	for _, t := range topics {
		for i := range t.Partitions.Len() {
			id := storage.PartitionID{Topic: t.ID, Index: int32(i)}
			named, out = append(named, broker.PartitionNamed{Topic: t.Name, ID: id}), append(out, a.heldHere(id, t.Partitions.At(i)))
		}
	}
	if a.holdings == nil || len(named) == 0 {
		return out
	}
	for i, is := range a.holdings.Holdings(ctx, named) {
		if is.Unknown != "" {
			out[i].unknown = is.Unknown
			continue
		}
		out[i].PartitionState = PartitionState{is.LogStart, is.HighWatermark, is.WALBytes, is.MemoryBytes, is.LocalStart}
		out[i].BucketShare = BucketShare{is.BucketBytes, is.BucketEnd, is.CleanedEnd}
	}
	return out
}

// heldHere is what this process knows: what is not here, or not followed any more, is there at
// least as far as the bucket has it.
func (a api) heldHere(id storage.PartitionID, p *metadata.Partition) (is partitionHeld) {
	if a.partition != nil {
		is.PartitionState, _ = a.partition(id)
	}
	is.BucketShare = BucketShare{p.TieredBytes(), p.CommittedEnd(), p.Cleaning().To}
	is.LogStart = max(is.LogStart, p.LogStart)
	is.HighWatermark = max(is.HighWatermark, p.CommittedEnd(), is.LogStart)
	return is
}

type (
	partitionsQuery struct {
		Name string `path:"name" maxLength:"249"`
		PageQuery
	}
	partitionsOutput struct {
		Body struct {
			Partitions []Partition `json:"partitions" doc:"in order of their numbers"`
			NextPage
		}
	}
)

// listPartitions lists those of a topic, in parts if that is asked for.
func (a api) listPartitions(ctx context.Context, in *partitionsQuery) (*partitionsOutput, error) {
	t, ok := a.cluster.Image().Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	out := &partitionsOutput{}
	part, next, err := partOf(in.PageQuery, a.shown(ctx, t)[0].PartitionList, func(p Partition) string { return numberKey(p.Partition) })
	out.Body.Partitions, out.Body.NextPage = part, next
	if part == nil {
		out.Body.Partitions = []Partition{}
	}
	return out, err
}
