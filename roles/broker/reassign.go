package broker

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// Replicas and leaders are where the controller has put them. What asks for what stands
// is answered from the image; what is to change, the controller decides.

// changedAtOnce is how many partitions the controller is asked to change by one command.
const changedAtOnce = 1000

// electLeaders has the controller give partitions to their preferred leaders, or to any
// where nobody leads and that is asked for. Asked for all partitions, it tells of those
// only that needed another.
func (b *Broker) electLeaders(ctx context.Context, _ *kafka.Request, q *kmsg.ElectLeadersRequest) *kmsg.ElectLeadersResponse {
	p := q.ResponseKind().(*kmsg.ElectLeadersResponse)
	const preferred, unclean = 0, 1
	if q.ElectionType != preferred && q.ElectionType != unclean {
		p.ErrorCode = kerr.InvalidRequest.Code
		return p
	}
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	image := b.images.image()
	type place struct{ topic, partition int }
	var elections []controller.LeaderElection
	var places []place
	add := func(out *kmsg.ElectLeadersResponseTopic, t *metadata.Topic, index int32, err error) {
		r := kmsg.NewElectLeadersResponseTopicPartition()
		r.Partition = index
		if r.ErrorCode, r.ErrorMessage = codeAndMessage(err); err == nil {
			is := t.Partition(index)
			e := controller.LeaderElection{Partition: storage.PartitionID{Topic: t.ID, Index: index}, Leader: metadata.NoLeader, Unclean: q.ElectionType == unclean}
			if !e.Unclean {
				e.Leader = is.Replicas[0]
			}
			elections, places = append(elections, e), append(places, place{len(p.Topics), len(out.Partitions)})
		}
		out.Partitions = append(out.Partitions, r)
	}
	if q.Topics == nil {
		for t := range image.Topics() {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Name
			for i := range int32(t.Partitions.Len()) {
				if err := electionOf(image, t, i, q.ElectionType == unclean); err != kerr.ElectionNotNeeded {
					add(&out, t, i, err)
				}
			}
			if len(out.Partitions) > 0 {
				p.Topics = append(p.Topics, out)
			}
		}
	} else {
		type topic = kmsg.ElectLeadersRequestTopic
		q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
		for _, asked := range q.Topics {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = asked.Topic
			for _, i := range asked.Partitions {
				t, ok := image.Topic(asked.Topic)
				if !ok || t.Partition(i) == nil {
					add(&out, nil, i, errUnknownTopic)
				} else {
					add(&out, t, i, electionOf(image, t, i, q.ElectionType == unclean))
				}
			}
			p.Topics = append(p.Topics, out)
		}
	}
	for i, err := range inParts(elections, func(part []controller.LeaderElection) []error { return b.opt.Controller.ElectLeaders(ctx, part) }) {
		if q.ElectionType == preferred && metadata.CodeOf(err) == metadata.EligibleLeadersNotAvailable {
			err = explained{kerr.PreferredLeaderNotAvailable, err.Error()}
		}
		r := &p.Topics[places[i].topic].Partitions[places[i].partition]
		r.ErrorCode, r.ErrorMessage = codeAndMessage(err)
	}
	b.settleChanges(ctx, len(elections))
	return p
}

// inParts asks the controller in parts, and returns the errors of all.
func inParts[T any](all []T, ask func([]T) []error) (errs []error) {
	for part := range slices.Chunk(all, changedAtOnce) {
		errs = append(errs, ask(part)...)
	}
	return errs
}

// settleChanges is settle, if there was a change.
func (b *Broker) settleChanges(ctx context.Context, changes int) {
	if changes > 0 {
		b.settle(ctx)
	}
}

// electionOf says why a partition gets no other leader; nil: the controller is to elect
// one.
func electionOf(image *metadata.Image, t *metadata.Topic, index int32, unclean bool) error {
	p := t.Partition(index)
	first := p.Replicas[0]
	away := offline(image, p.Replicas)
	switch {
	case unclean && p.Leader != metadata.NoLeader, !unclean && p.Leader == first:
		return kerr.ElectionNotNeeded
	case unclean && len(away) == len(p.Replicas):
		return explained{kerr.EligibleLeadersNotAvailable, "no replica is in service"}
	case !unclean && (slices.Contains(away, first) || !slices.Contains(p.ISR, first)):
		return explained{kerr.PreferredLeaderNotAvailable, fmt.Sprintf("broker %d, the preferred leader, is not in service or not in sync", first)}
	}
	return nil
}

// alterPartitionAssignments has the controller begin to move replicas, or end that.
func (b *Broker) alterPartitionAssignments(ctx context.Context, _ *kafka.Request, q *kmsg.AlterPartitionAssignmentsRequest) *kmsg.AlterPartitionAssignmentsResponse {
	p := q.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	p.AllowReplicationFactorChange = q.AllowReplicationFactorChange
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	image := b.images.image()
	type (
		topic     = kmsg.AlterPartitionAssignmentsRequestTopic
		partition = kmsg.AlterPartitionAssignmentsRequestTopicPartition
		place     struct{ topic, partition int }
	)
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]partition { return &t.Partitions },
		func(p partition) int32 { return p.Partition })
	var moves []controller.Reassignment
	var places []place
	for i, asked := range q.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = asked.Topic
		for j, want := range asked.Partitions {
			r := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			r.Partition = want.Partition
			move, err := reassignment(image, asked.Topic, want, q.Version < 1 || q.AllowReplicationFactorChange)
			r.ErrorCode, r.ErrorMessage = codeAndMessage(err)
			if move != nil {
				moves, places = append(moves, *move), append(places, place{i, j})
			}
			out.Partitions = append(out.Partitions, r)
		}
		p.Topics = append(p.Topics, out)
	}
	for i, err := range inParts(moves, func(part []controller.Reassignment) []error { return b.opt.Controller.ReassignPartitions(ctx, part) }) {
		r := &p.Topics[places[i].topic].Partitions[places[i].partition]
		r.ErrorCode, r.ErrorMessage = codeAndMessage(err)
	}
	b.settleChanges(ctx, len(moves))
	return p
}

// reassignment returns what the controller is to be asked for, or why a partition cannot
// have those replicas; neither: it has them.
func reassignment(image *metadata.Image, topic string, want kmsg.AlterPartitionAssignmentsRequestTopicPartition, resize bool) (*controller.Reassignment, error) {
	t, ok := image.Topic(topic)
	if !ok || t.Partition(want.Partition) == nil {
		return nil, errUnknownTopic
	}
	p := t.Partition(want.Partition)
	moving := len(p.Adding)+len(p.Removing) > 0
	move := &controller.Reassignment{Partition: storage.PartitionID{Topic: t.ID, Index: p.Index}, Replicas: want.Replicas}
	switch {
	case want.Replicas == nil && !moving: // cancel
		return nil, kerr.NoReassignmentInProgress
	case want.Replicas == nil:
		return move, nil
	case len(want.Replicas) == 0:
		return nil, explained{kerr.InvalidReplicaAssignment, "no replica is named"}
	}
	seen := map[int32]bool{}
	for _, id := range want.Replicas {
		switch _, registered := image.Broker(id); {
		case seen[id]:
			return nil, explained{kerr.InvalidReplicaAssignment, fmt.Sprintf("broker %d is named twice", id)}
		case !registered:
			return nil, explained{kerr.InvalidReplicaAssignment, fmt.Sprintf("broker %d is not registered", id)}
		}
		seen[id] = true
	}
	if has := len(p.Replicas) - len(p.Adding); !guard.Check("broker.replication-factor", resize || len(want.Replicas) == has) {
		return nil, explained{kerr.InvalidReplicationFactor, fmt.Sprintf("it has %d replicas, and would have %d", has, len(want.Replicas))} // KIP-860
	}
	if !moving && slices.Equal(p.Replicas, want.Replicas) {
		return nil, nil
	}
	return move, nil
}

// listPartitionReassignments lists those that are under way.
func (b *Broker) listPartitionReassignments(_ *kafka.Request, q *kmsg.ListPartitionReassignmentsRequest) *kmsg.ListPartitionReassignmentsResponse {
	p := q.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	image := b.images.image()
	add := func(t *metadata.Topic, indexes func(yield func(int32) bool)) {
		out := kmsg.NewListPartitionReassignmentsResponseTopic()
		out.Topic = t.Name
		for i := range indexes {
			is := t.Partition(i)
			if is == nil || len(is.Adding)+len(is.Removing) == 0 {
				continue
			}
			r := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			r.Partition, r.Replicas = i, is.Replicas
			r.AddingReplicas, r.RemovingReplicas = append([]int32{}, is.Adding...), append([]int32{}, is.Removing...)
			out.Partitions = append(out.Partitions, r)
		}
		if len(out.Partitions) > 0 {
			p.Topics = append(p.Topics, out)
		}
	}
	if q.Topics == nil {
		for t := range image.Topics() {
			add(t, func(yield func(int32) bool) {
				for i := range int32(t.Partitions.Len()) {
					if !yield(i) {
						return
					}
				}
			})
		}
		return p
	}
	type topic = kmsg.ListPartitionReassignmentsRequestTopic
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
	for _, asked := range q.Topics {
		if t, ok := image.Topic(asked.Topic); ok {
			add(t, slices.Values(asked.Partitions))
		}
	}
	return p
}

// maxFeatureUpdates are answered one by one; Kafka has fewer features.
const maxFeatureUpdates = 100

// updateFeatures takes the levels that are announced, and refuses others: a version of
// rustmq has one level of each feature, which is always in effect.
func (b *Broker) updateFeatures(_ *kafka.Request, q *kmsg.UpdateFeaturesRequest) *kmsg.UpdateFeaturesResponse {
	p := q.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	if len(q.FeatureUpdates) > maxFeatureUpdates {
		p.ErrorCode = kerr.InvalidRequest.Code
		return p
	}
	features := b.Features()
	defer func() {
		if p.ErrorCode != 0 {
			p.Results = nil // none is updated, so none has an answer of its own
		}
	}()
	for _, u := range q.FeatureUpdates {
		var refused error
		i := slices.IndexFunc(features, func(f kafka.Feature) bool { return f.Name == u.Feature })
		if i < 0 {
			refused = explained{kerr.InvalidUpdateVersion, fmt.Sprintf("there is no feature %q here", u.Feature)}
		} else if level := features[i].InUse; level != u.MaxVersionLevel {
			refused = explained{kerr.InvalidUpdateVersion, fmt.Sprintf("%s is always at %d in this version of rustmq, and cannot be set to %d", u.Feature, level, u.MaxVersionLevel)}
		}
		if refused != nil && p.ErrorCode == 0 {
			p.ErrorCode, p.ErrorMessage = codeAndMessage(refused)
		}
		if q.Version >= 2 { // has no place for each
			continue
		}
		out := kmsg.NewUpdateFeaturesResponseResult()
		out.Feature = u.Feature
		out.ErrorCode, out.ErrorMessage = codeAndMessage(refused)
		p.Results = append(p.Results, out)
	}
	return p
}
