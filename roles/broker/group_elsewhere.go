package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/transport/rpc"
)

// Groups are coordinated by the leaders of the partitions of their topic, and consume
// partitions that others lead: what an operator asks of a group goes to its coordinator
// as a whole, and that asks the leaders.

// partitionsAtOnce is how many partitions a leader is asked about at once: a request of
// half a megabyte, with names of a usual length.
const partitionsAtOnce = 2000

// groupAsked names a group; Reset is of peerResetOffsets.
type groupAsked struct {
	Group string       `json:"group"`
	Reset *OffsetReset `json:"reset,omitempty"`
	Topic string       `json:"topic,omitempty"`
}

// partitionAsked is a partition of a group, with what it has committed there.
type partitionAsked struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed,omitempty"`
}

// movesAsked are moves that are to be planned.
type movesAsked struct {
	Reset OffsetReset  `json:"reset"`
	Moves []OffsetMove `json:"moves"`
}

// ownPeerRequest returns who serves one of the brokers' own requests; nil: it is none.
func (b *Broker) ownPeerRequest(key int16) func(context.Context, []byte) ([]byte, error) {
	switch key {
	case peerListGroups:
		return own(func(ctx context.Context, _ struct{}) ([]GroupSummary, error) { return b.listGroupsHere(ctx) })
	case peerDescribeGroup:
		return own(func(ctx context.Context, q groupAsked) (*GroupDescription, error) {
			return b.describeGroup(ctx, q.Group)
		})
	case peerDeleteGroup:
		return own(func(ctx context.Context, q groupAsked) (struct{}, error) {
			return struct{}{}, b.deleteGroup(ctx, q.Group)
		})
	case peerResetOffsets:
		return own(func(ctx context.Context, q groupAsked) (*OffsetPlan, error) {
			if q.Reset == nil {
				return nil, &GroupError{kerr.InvalidRequest, "no reset is asked for"}
			}
			return b.resetOffsets(ctx, q.Group, *q.Reset)
		})
	case peerGroupPartitions:
		return own(func(_ context.Context, q []partitionAsked) ([]GroupPartition, error) {
			out := make([]GroupPartition, len(q))
			for i, p := range q {
				out[i] = b.groupPartition(p.Topic, p.Partition, p.Committed)
			}
			return out, nil
		})
	case peerLifeBegan:
		return own(func(_ context.Context, q []partitionAsked) ([]lifeBegan, error) { return b.lifesBeganHere(q), nil })
	case peerOffsetMoves:
		return own(func(ctx context.Context, q movesAsked) ([]OffsetMove, error) {
			for i := range q.Moves {
				if err := b.plan(ctx, &q.Moves[i], q.Reset); err != nil {
					return nil, err
				}
			}
			return q.Moves, nil
		})
	}
	if serve := b.operatorRequest(key); serve != nil {
		return serve
	}
	return b.ownAuditRequest(key)
}

// otherCoordinators returns the other brokers that coordinate groups, in order of their
// ids.
func (b *Broker) otherCoordinators() (ids []int32) {
	t, ok := b.images.image().Topic(offsetsTopic)
	if !ok {
		return nil
	}
	for i := range t.Partitions.Len() {
		if at := t.Partitions.At(i).Leader; at != metadata.NoLeader && at != b.opt.NodeID {
			ids = append(ids, at)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// unaskedGroups says what it means to an operator that another broker did not answer;
// what it did answer stays as it is.
func unaskedGroups(at int32, err error, what string, args ...any) error {
	if !errors.Is(err, rpc.ErrPeerUnreachable) && !errors.Is(err, rpc.ErrPeerRefused) {
		return err
	}
	return &GroupError{kerr.CoordinatorNotAvailable, fmt.Sprintf(what, args...) + fmt.Sprintf(": %v; see that broker %d runs, and try again", err, at)}
}

// positions says how far a group is where it has committed offsets.
func (b *Broker) positions(ctx context.Context, committed []group.Committed) []GroupPartition {
	asked := make([]partitionAsked, len(committed))
	for i := range committed {
		o := &committed[i]
		asked[i] = partitionAsked{o.Topic, o.Partition, &o.Offset}
	}
	return b.groupPartitions(ctx, asked)
}

// groupPartitions asks the leaders of partitions, and says of which it had no answer. The
// answers are in the order of the questions.
func (b *Broker) groupPartitions(ctx context.Context, asked []partitionAsked) []GroupPartition {
	out := make([]GroupPartition, len(asked))
	name := func(i int) topicPartition { return topicPartition{asked[i].Topic, asked[i].Partition} }
	for at, places := range b.placesByLeader(len(asked), name) {
		for part := range slices.Chunk(places, partitionsAtOnce) {
			if at == b.opt.NodeID {
				for _, i := range part {
					out[i] = b.groupPartition(asked[i].Topic, asked[i].Partition, asked[i].Committed)
				}
				continue
			}
			var q []partitionAsked
			for _, i := range part {
				q = append(q, asked[i])
			}
			p, err := askOwn[[]GroupPartition](ctx, b, at, peerGroupPartitions, q)
			if err == nil && len(p) != len(part) {
				err = errNoAnswer
			}
			for n, i := range part {
				if err != nil {
					out[i] = GroupPartition{Topic: asked[i].Topic, Partition: asked[i].Partition, Committed: asked[i].Committed, Note: fmt.Sprintf("not known: %v", err)}
				} else {
					out[i] = p[n]
				}
			}
		}
	}
	return out
}

// planAll finds out where offsets are to go, from the leaders of their partitions.
func (b *Broker) planAll(ctx context.Context, moves []OffsetMove, r OffsetReset) error {
	name := func(i int) topicPartition { return topicPartition{moves[i].Topic, moves[i].Partition} }
	for at, places := range b.placesByLeader(len(moves), name) {
		for part := range slices.Chunk(places, partitionsAtOnce) {
			if at == b.opt.NodeID {
				for _, i := range part {
					if err := b.plan(ctx, &moves[i], r); err != nil {
						return err
					}
				}
				continue
			}
			q := movesAsked{Reset: r}
			for _, i := range part {
				q.Moves = append(q.Moves, moves[i])
			}
			p, err := askOwn[[]OffsetMove](ctx, b, at, peerOffsetMoves, q)
			if err == nil && len(p) != len(part) {
				err = errNoAnswer
			}
			if err != nil {
				return unaskedGroups(at, err, "the offsets of %d partitions that broker %d leads are not known now, and nothing was reset", len(part), at)
			}
			for n, i := range part {
				moves[i] = p[n]
			}
		}
	}
	return nil
}

// placesByLeader divides n partitions by who leads them, as byLeader does.
func (b *Broker) placesByLeader(n int, name func(i int) topicPartition) map[int32][]int {
	image := b.images.image()
	by := map[int32][]int{}
	for i := range n {
		p := name(i)
		at, elsewhere := ledElsewhere(image, b.opt.NodeID, p.Topic, p.Index)
		if !elsewhere {
			at = b.opt.NodeID
		}
		by[at] = append(by[at], i)
	}
	return by
}
