package broker

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/transport/kafka"
)

// Replicas and leaders are where the controller has put them: without replication
// there is nowhere to move them to. Tools that ask are told what stands, and what
// they ask for beside that is refused by its reason.

// electLeaders answers that the leader is the one that is asked for, or why it
// cannot be. Asked for all partitions, it tells of those only that need another.
func (b *Broker) electLeaders(_ *kafka.Request, q *kmsg.ElectLeadersRequest) *kmsg.ElectLeadersResponse {
	p := q.ResponseKind().(*kmsg.ElectLeadersResponse)
	const preferred, unclean = 0, 1
	if q.ElectionType != preferred && q.ElectionType != unclean {
		p.ErrorCode = kerr.InvalidRequest.Code
		return p
	}
	image := b.follower.image()
	result := func(topic string, index int32) (out kmsg.ElectLeadersResponseTopicPartition) {
		out = kmsg.NewElectLeadersResponseTopicPartition()
		out.Partition = index
		out.ErrorCode, out.ErrorMessage = codeAndMessage(election(image, topic, index, q.ElectionType == unclean))
		return out
	}
	if q.Topics == nil {
		for t := range image.Topics() {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Name
			for i := range int32(t.Partitions.Len()) {
				if r := result(t.Name, i); r.ErrorCode != kerr.ElectionNotNeeded.Code {
					out.Partitions = append(out.Partitions, r)
				}
			}
			if len(out.Partitions) > 0 {
				p.Topics = append(p.Topics, out)
			}
		}
		return p
	}
	type topic = kmsg.ElectLeadersRequestTopic
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
	for _, t := range q.Topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		for _, i := range t.Partitions {
			out.Partitions = append(out.Partitions, result(t.Topic, i))
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

// election says why a partition gets no other leader.
func election(image *metadata.Image, topic string, index int32, unclean bool) error {
	t, ok := image.Topic(topic)
	if !ok || t.Partition(index) == nil {
		return errUnknownTopic
	}
	return electionOf(image, t, index, unclean)
}

func electionOf(image *metadata.Image, t *metadata.Topic, index int32, unclean bool) error {
	p := t.Partition(index)
	first := p.Replicas[0]
	switch {
	case unclean && p.Leader != metadata.NoLeader, !unclean && p.Leader == first:
		return kerr.ElectionNotNeeded
	case unclean:
		return explained{kerr.EligibleLeadersNotAvailable, "no replica is in service"}
	case slices.Contains(offline(image, p.Replicas), first) || !slices.Contains(p.ISR, first):
		return explained{kerr.PreferredLeaderNotAvailable, fmt.Sprintf("broker %d, the preferred leader, is not in service or not in sync", first)}
	}
	return explained{kerr.PreferredLeaderNotAvailable, fmt.Sprintf("broker %d cannot be given what broker %d leads: replication is not served yet", first, p.Leader)}
}

// alterPartitionAssignments takes the replicas that a partition has, and refuses
// others.
func (b *Broker) alterPartitionAssignments(_ *kafka.Request, q *kmsg.AlterPartitionAssignmentsRequest) *kmsg.AlterPartitionAssignmentsResponse {
	p := q.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	p.AllowReplicationFactorChange = q.AllowReplicationFactorChange
	image := b.follower.image()
	type (
		topic     = kmsg.AlterPartitionAssignmentsRequestTopic
		partition = kmsg.AlterPartitionAssignmentsRequestTopicPartition
	)
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]partition { return &t.Partitions },
		func(p partition) int32 { return p.Partition })
	for _, t := range q.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for _, part := range t.Partitions {
			r := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			r.Partition = part.Partition
			r.ErrorCode, r.ErrorMessage = codeAndMessage(reassignment(image, t.Topic, part))
			out.Partitions = append(out.Partitions, r)
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

// reassignment says why a partition cannot have those replicas; nil: it has them.
func reassignment(image *metadata.Image, topic string, want kmsg.AlterPartitionAssignmentsRequestTopicPartition) error {
	t, ok := image.Topic(topic)
	if !ok || t.Partition(want.Partition) == nil {
		return errUnknownTopic
	}
	if want.Replicas == nil { // cancel
		return kerr.NoReassignmentInProgress
	}
	if len(want.Replicas) == 0 {
		return explained{kerr.InvalidReplicaAssignment, "no replica is named"}
	}
	seen := map[int32]bool{}
	for _, id := range want.Replicas {
		switch _, registered := image.Broker(id); {
		case seen[id]:
			return explained{kerr.InvalidReplicaAssignment, fmt.Sprintf("broker %d is named twice", id)}
		case !registered:
			return explained{kerr.InvalidReplicaAssignment, fmt.Sprintf("broker %d is not registered", id)}
		}
		seen[id] = true
	}
	if has := t.Partition(want.Partition).Replicas; !slices.Equal(has, want.Replicas) {
		return explained{kerr.InvalidReplicaAssignment, fmt.Sprintf("the replicas are %v; others are not served yet", has)}
	}
	return nil
}

// listPartitionReassignments lists those that are under way.
func (b *Broker) listPartitionReassignments(_ *kafka.Request, q *kmsg.ListPartitionReassignmentsRequest) *kmsg.ListPartitionReassignmentsResponse {
	return q.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
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
