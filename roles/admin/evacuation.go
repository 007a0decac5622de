package admin

import (
	"context"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
)

// Evacuation is what a decommission of a broker would do.
type Evacuation struct {
	ID       int32         `json:"id"`
	State    string        `json:"state" doc:"of the broker, as it is listed"`
	Leads    int           `json:"leads" doc:"partitions that others would come to lead"`
	Replicas int           `json:"replicas" doc:"replicas that it has"`
	Moving   int           `json:"moving" doc:"of them, those that a reassignment moves already"`
	Moves    []ReplicaMove `json:"moves" doc:"replicas that others would be given in its place"`
	// Brokers are those that would be given some.
	Brokers   []BrokerReplicas `json:"brokers" doc:"how many replicas the other brokers in service have, before and afterwards"`
	SentBytes int64            `json:"sent_bytes" doc:"what new replicas would be sent: records that are not in the bucket yet, as leaders say"`
	KeptBytes int64            `json:"kept_bytes" doc:"bytes of these partitions in the bucket, which do not move"`
	Stuck     []string         `json:"stuck,omitempty" doc:"partitions that no other broker in service can take"`
	Unknown   []string         `json:"unknown,omitempty" doc:"partitions of which it is not known what would be sent, for their leaders do not say: the first ten"`
	Forgets   bool             `json:"forgets" doc:"it has nothing and does not serve: DELETE takes it out of the cluster"`
}

// planDecommission says what a decommission would do.
func (a brokersAPI) planDecommission(ctx context.Context, in *brokerID) (*evacuationOutput, error) {
	is, err := a.describe(ctx, in)
	if err != nil {
		return nil, err
	}
	b := is.Body
	image := a.cluster.Image()
	moves, stuck := controller.Evacuate(image, in.ID)
	out := &evacuationOutput{Evacuation{
		ID: b.ID, State: b.State, Leads: b.Leads, Replicas: b.Replicas, Moving: b.Moving, Moves: []ReplicaMove{}, Brokers: []BrokerReplicas{},
		Forgets: b.Replicas == 0 && b.State == "fenced",
	}}
	e := &out.Body
	for _, id := range stuck {
		if t, ok := image.TopicByID(id.Topic); ok {
			e.Stuck = append(e.Stuck, fmt.Sprintf("%s-%d", t.Name, id.Index))
		}
	}
	held := a.tails(ctx, image, moves)
	gains := map[int32]int{}
	for i, m := range moves {
		t, p := image.Partition(m.Partition)
		if p == nil {
			continue
		}
		move := ReplicaMove{Topic: t.Name, Partition: p.Index, From: p.Replicas, To: m.Replicas, KeptBytes: p.TieredBytes()}
		for _, id := range m.Replicas {
			if !slices.Contains(p.Replicas, id) {
				gains[id]++
				move.SentBytes += held[i].TailBytes
			}
		}
		if held[i].Unknown != "" && len(e.Unknown) < namedPartitions {
			e.Unknown = append(e.Unknown, fmt.Sprintf("%s-%d: %s", t.Name, p.Index, held[i].Unknown))
		}
		e.Moves = append(e.Moves, move)
		e.SentBytes += move.SentBytes
		e.KeptBytes += move.KeptBytes
	}
	e.Brokers = others(image, in.ID, gains)
	return out, nil
}

// tails asks the leaders of partitions that would move what the bucket does not have of them.
func (a brokersAPI) tails(ctx context.Context, image *metadata.Image, moves []controller.Reassignment) []broker.Holding {
	if a.holdings == nil || len(moves) == 0 {
		return make([]broker.Holding, len(moves))
	}
	named := make([]broker.PartitionNamed, len(moves))
	for i, m := range moves {
		named[i].ID = m.Partition
		if t, _ := image.Partition(m.Partition); t != nil {
			named[i].Topic = t.Name
		}
	}
	return a.holdings.Holdings(ctx, named)
}

// others are the brokers in service but one, with the replicas that they have, and would have.
func others(image *metadata.Image, but int32, gains map[int32]int) []BrokerReplicas {
	has := map[int32]int{}
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			for _, id := range p.Replicas {
				has[id]++
			}
		}
	}
	all := []BrokerReplicas{}
	for b := range image.Brokers() {
		if b.ID != but && !b.Fenced && !b.Draining {
			all = append(all, BrokerReplicas{ID: b.ID, Before: has[b.ID], After: has[b.ID] + gains[b.ID]})
		}
	}
	slices.SortFunc(all, func(a, b BrokerReplicas) int { return int(a.ID) - int(b.ID) })
	return all
}
