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

// partitionOf is a partition of a topic.
type partitionOf struct {
	topic *metadata.Topic
	index int32
}

func (p partitionOf) id() storage.PartitionID {
	return storage.PartitionID{Topic: p.topic.ID, Index: p.index}
}

// partitionsOf are those of topics, one topic after the other.
func partitionsOf(topics ...*metadata.Topic) (all []partitionOf) {
	for _, t := range topics {
		for i := range t.Partitions.Len() {
			all = append(all, partitionOf{t, int32(i)})
		}
	}
	return all
}

// partitions shows partitions with what they hold: as their leaders say, or else as this
// process knows.
func (a api) partitions(ctx context.Context, wanted []partitionOf) []Partition {
	named, out := make([]broker.PartitionNamed, len(wanted)), make([]Partition, len(wanted))
	for i, w := range wanted {
		named[i], out[i] = broker.PartitionNamed{Topic: w.topic.Name, ID: w.id()}, a.partitionHere(w)
	}
	if a.holdings == nil || len(named) == 0 {
		return out
	}
	for i, is := range a.holdings.Holdings(ctx, named) {
		if is.Unknown != "" {
			out[i].Unknown = is.Unknown
			continue
		}
		out[i].PartitionState = PartitionState{is.LogStart, is.HighWatermark, is.WALBytes, is.MemoryBytes, is.LocalStart}
		out[i].BucketShare = BucketShare{is.BucketBytes, is.BucketEnd, is.CleanedEnd}
	}
	return out
}

// partitionHere is a partition as this process knows it: what is not here, or not followed any more, is there at
// least as far as the bucket has it.
func (a api) partitionHere(of partitionOf) Partition {
	p := of.topic.Partitions.At(int(of.index))
	is := Partition{
		Partition: of.index, Leader: p.Leader, LeaderEpoch: int32(p.LeaderEpoch), Replicas: p.Replicas, ISR: p.ISR,
		BucketShare: BucketShare{p.TieredBytes(), p.CommittedEnd(), p.Cleaning().To},
	}
	if a.partition != nil {
		is.PartitionState, _ = a.partition(of.id())
	}
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
	part, next, err := partOf(in.PageQuery, partitionsOf(t), func(p partitionOf) string { return numberKey(p.index) })
	if err != nil {
		return nil, err
	}
	out := &partitionsOutput{}
	out.Body.Partitions, out.Body.NextPage = a.partitions(ctx, part), next
	return out, nil
}
