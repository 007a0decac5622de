package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
)

var groupDenied = kerr.GroupAuthorizationFailed.Code

func gateJoinGroup(_ *Broker, c *acl.Client, q *kmsg.JoinGroupRequest) (is ruling[*kmsg.JoinGroupResponse]) {
	if !may(c, acl.Read, acl.Group, q.Group) {
		p := q.ResponseKind().(*kmsg.JoinGroupResponse)
		p.ErrorCode, p.Generation = groupDenied, -1
		return refusedWith(p)
	}
	return is
}

func gateSyncGroup(_ *Broker, c *acl.Client, q *kmsg.SyncGroupRequest) (is ruling[*kmsg.SyncGroupResponse]) {
	if !may(c, acl.Read, acl.Group, q.Group) {
		p := q.ResponseKind().(*kmsg.SyncGroupResponse)
		p.ErrorCode, p.MemberAssignment = groupDenied, []byte{}
		return refusedWith(p)
	}
	return is
}

func gateHeartbeat(_ *Broker, c *acl.Client, q *kmsg.HeartbeatRequest) (is ruling[*kmsg.HeartbeatResponse]) {
	if !may(c, acl.Read, acl.Group, q.Group) {
		p := q.ResponseKind().(*kmsg.HeartbeatResponse)
		p.ErrorCode = groupDenied
		return refusedWith(p)
	}
	return is
}

func gateLeaveGroup(_ *Broker, c *acl.Client, q *kmsg.LeaveGroupRequest) (is ruling[*kmsg.LeaveGroupResponse]) {
	if !may(c, acl.Read, acl.Group, q.Group) {
		p := q.ResponseKind().(*kmsg.LeaveGroupResponse)
		p.ErrorCode = groupDenied
		return refusedWith(p)
	}
	return is
}

// gateConsumerGroupHeartbeat hides topics that the client may not describe any more: what a
// pattern matches is given to it by its rights, and may be of a moment before.
func gateConsumerGroupHeartbeat(b *Broker, c *acl.Client, q *kmsg.ConsumerGroupHeartbeatRequest) ruling[*kmsg.ConsumerGroupHeartbeatResponse] {
	p := q.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	switch {
	case !may(c, acl.Read, acl.Group, q.Group):
		p.ErrorCode = groupDenied
		return refusedWith(p)
	case slices.ContainsFunc(q.SubscribedTopicNames, func(name string) bool { return !may(c, acl.Describe, acl.Topic, name) }):
		p.ErrorCode = topicDenied
		return refusedWith(p)
	}
	return amendedBy(func(p *kmsg.ConsumerGroupHeartbeatResponse) {
		if p.Assignment == nil {
			return
		}
		p.Assignment.Topics = slices.DeleteFunc(slices.Clone(p.Assignment.Topics), func(t kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic) bool {
			name, known := b.topicNamed("", t.TopicID)
			return !known || !sees(c, acl.Describe, acl.Topic, name)
		})
	})
}

func gateDescribeGroups(_ *Broker, c *acl.Client, q *kmsg.DescribeGroupsRequest) ruling[*kmsg.DescribeGroupsResponse] {
	refused := divide(&q.Groups, func(group *string) bool { return may(c, acl.Describe, acl.Group, *group) })
	return amendedBy(func(p *kmsg.DescribeGroupsResponse) {
		for i := range p.Groups {
			if g := &p.Groups[i]; q.IncludeAuthorizedOperations {
				g.AuthorizedOperations = operations(c, acl.Group, g.Group)
			}
		}
		for _, group := range unique(refused, func(g string) string { return g }) {
			out := kmsg.NewDescribeGroupsResponseGroup()
			out.Group, out.ErrorCode = group, groupDenied
			p.Groups = append(p.Groups, out)
		}
	})
}

// gateConsumerGroupDescribe tells no members of a group if one of its topics may not be
// described, as in Kafka.
func gateConsumerGroupDescribe(_ *Broker, c *acl.Client, q *kmsg.ConsumerGroupDescribeRequest) ruling[*kmsg.ConsumerGroupDescribeResponse] {
	refused := divide(&q.Groups, func(group *string) bool { return may(c, acl.Describe, acl.Group, *group) })
	return amendedBy(func(p *kmsg.ConsumerGroupDescribeResponse) {
		hidden := func(a kmsg.Assignment) bool {
			return slices.ContainsFunc(a.TopicPartitions, func(t kmsg.AssignmentTopicPartition) bool { return !sees(c, acl.Describe, acl.Topic, t.Topic) })
		}
		for i := range p.Groups {
			g := &p.Groups[i]
			if q.IncludeAuthorizedOperations {
				g.AuthorizedOperations = operations(c, acl.Group, g.Group)
			}
			if slices.ContainsFunc(g.Members, func(m kmsg.ConsumerGroupDescribeResponseGroupMember) bool {
				return hidden(m.Assignment) || hidden(m.TargetAssignment) ||
					slices.ContainsFunc(m.SubscribedTopics, func(name string) bool { return !sees(c, acl.Describe, acl.Topic, name) })
			}) {
				g.ErrorCode, g.Members = topicDenied, []kmsg.ConsumerGroupDescribeResponseGroupMember{}
				g.ErrorMessage = kmsg.StringPtr("the group has topics that the client may not describe")
			}
		}
		for _, group := range unique(refused, func(g string) string { return g }) {
			out := kmsg.NewConsumerGroupDescribeResponseGroup()
			out.Group, out.ErrorCode, out.Members = group, groupDenied, []kmsg.ConsumerGroupDescribeResponseGroupMember{}
			p.Groups = append(p.Groups, out)
		}
	})
}

func gateListGroups(_ *Broker, c *acl.Client, _ *kmsg.ListGroupsRequest) (is ruling[*kmsg.ListGroupsResponse]) {
	if seesCluster(c, acl.Describe) {
		return is
	}
	return amendedBy(func(p *kmsg.ListGroupsResponse) {
		p.Groups = slices.DeleteFunc(p.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return !sees(c, acl.Describe, acl.Group, g.Group) })
	})
}

func gateDeleteGroups(_ *Broker, c *acl.Client, q *kmsg.DeleteGroupsRequest) ruling[*kmsg.DeleteGroupsResponse] {
	refused := divide(&q.Groups, func(group *string) bool { return may(c, acl.Delete, acl.Group, *group) })
	return amendedBy(func(p *kmsg.DeleteGroupsResponse) {
		for _, group := range unique(refused, func(g string) string { return g }) {
			out := kmsg.NewDeleteGroupsResponseGroup()
			out.Group, out.ErrorCode = group, groupDenied
			p.Groups = append(p.Groups, out)
		}
	})
}

func gateOffsetCommit(b *Broker, c *acl.Client, q *kmsg.OffsetCommitRequest) ruling[*kmsg.OffsetCommitResponse] {
	code, all := topicDenied, !may(c, acl.Read, acl.Group, q.Group)
	if all {
		code = groupDenied
	}
	refused := divide(&q.Topics, func(t *kmsg.OffsetCommitRequestTopic) bool {
		name, known := b.topicNamed(t.Topic, idFrom(10, q.Version, t.TopicID))
		return !all && (!known || may(c, acl.Read, acl.Topic, name))
	})
	add := func(p *kmsg.OffsetCommitResponse) {
		for _, t := range refused {
			out := kmsg.NewOffsetCommitResponseTopic()
			out.Topic, out.TopicID = t.Topic, t.TopicID
			for _, want := range t.Partitions {
				part := kmsg.NewOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = want.Partition, code
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	}
	if all || len(q.Topics) == 0 && len(refused) > 0 {
		p := q.ResponseKind().(*kmsg.OffsetCommitResponse)
		add(p)
		return refusedWith(p)
	}
	return amendedBy(add)
}

// idFrom is the id that a request names a topic by: it does, from that version on.
func idFrom(first, version int16, id [16]byte) [16]byte {
	if version < first {
		return [16]byte{}
	}
	return id
}

func gateOffsetFetch(b *Broker, c *acl.Client, q *kmsg.OffsetFetchRequest) ruling[*kmsg.OffsetFetchResponse] {
	if q.Version < 8 {
		return gateOffsetFetchOfOne(c, q)
	}
	refused := divide(&q.Groups, func(g *kmsg.OffsetFetchRequestGroup) bool { return may(c, acl.Describe, acl.Group, g.Group) })
	all := map[string]bool{}                                   // groups of which all topics are asked for
	denied := map[string][]kmsg.OffsetFetchRequestGroupTopic{} // topics, by group
	for i := range q.Groups {
		g := &q.Groups[i]
		if g.Topics == nil {
			all[g.Group] = true
			continue
		}
		denied[g.Group] = append(denied[g.Group], divide(&g.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) bool {
			name, known := b.topicNamed(t.Topic, idFrom(10, q.Version, t.TopicID))
			return !known || may(c, acl.Describe, acl.Topic, name)
		})...)
	}
	amend := func(p *kmsg.OffsetFetchResponse) {
		for i := range p.Groups {
			g := &p.Groups[i]
			if all[g.Group] {
				g.Topics = slices.DeleteFunc(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool {
					name, known := b.topicNamed(t.Topic, idFrom(10, q.Version, t.TopicID))
					return !known || !sees(c, acl.Describe, acl.Topic, name)
				})
			}
			if g.ErrorCode == 0 {
				g.Topics = append(g.Topics, deniedOffsets(denied[g.Group])...)
			}
		}
		for _, g := range unique(refused, func(g kmsg.OffsetFetchRequestGroup) string { return g.Group }) {
			out := kmsg.NewOffsetFetchResponseGroup()
			out.Group, out.ErrorCode, out.Topics = g.Group, groupDenied, []kmsg.OffsetFetchResponseGroupTopic{}
			p.Groups = append(p.Groups, out)
		}
	}
	if len(q.Groups) == 0 && len(refused) > 0 {
		p := q.ResponseKind().(*kmsg.OffsetFetchResponse)
		amend(p)
		return refusedWith(p)
	}
	return amendedBy(amend)
}

func deniedOffsets(topics []kmsg.OffsetFetchRequestGroupTopic) (out []kmsg.OffsetFetchResponseGroupTopic) {
	for _, t := range topics {
		ot := kmsg.NewOffsetFetchResponseGroupTopic()
		ot.Topic, ot.TopicID = t.Topic, t.TopicID
		for _, index := range t.Partitions {
			part := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch, part.Metadata, part.ErrorCode = index, -1, -1, kmsg.StringPtr(""), topicDenied
			ot.Partitions = append(ot.Partitions, part)
		}
		out = append(out, ot)
	}
	return out
}

// gateOffsetFetchOfOne is of versions that ask for one group.
func gateOffsetFetchOfOne(c *acl.Client, q *kmsg.OffsetFetchRequest) ruling[*kmsg.OffsetFetchResponse] {
	add := func(p *kmsg.OffsetFetchResponse, topics []kmsg.OffsetFetchRequestTopic, code int16) {
		for _, t := range topics {
			out := kmsg.NewOffsetFetchResponseTopic()
			out.Topic = t.Topic
			for _, index := range t.Partitions {
				part := kmsg.NewOffsetFetchResponseTopicPartition()
				part.Partition, part.Offset, part.LeaderEpoch, part.Metadata, part.ErrorCode = index, -1, -1, kmsg.StringPtr(""), code
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	}
	if !may(c, acl.Describe, acl.Group, q.Group) {
		p := q.ResponseKind().(*kmsg.OffsetFetchResponse)
		if p.ErrorCode = groupDenied; q.Version < 2 { // has no place for it
			add(p, q.Topics, groupDenied)
		}
		return refusedWith(p)
	}
	if q.Topics == nil && q.Version >= 2 {
		return amendedBy(func(p *kmsg.OffsetFetchResponse) {
			p.Topics = slices.DeleteFunc(p.Topics, func(t kmsg.OffsetFetchResponseTopic) bool { return !sees(c, acl.Describe, acl.Topic, t.Topic) })
		})
	}
	refused := divide(&q.Topics, func(t *kmsg.OffsetFetchRequestTopic) bool { return may(c, acl.Describe, acl.Topic, t.Topic) })
	return amendedBy(func(p *kmsg.OffsetFetchResponse) { add(p, refused, topicDenied) })
}

func gateOffsetDelete(_ *Broker, c *acl.Client, q *kmsg.OffsetDeleteRequest) ruling[*kmsg.OffsetDeleteResponse] {
	p := q.ResponseKind().(*kmsg.OffsetDeleteResponse)
	if !may(c, acl.Delete, acl.Group, q.Group) {
		p.ErrorCode = groupDenied
		return refusedWith(p)
	}
	refused := divide(&q.Topics, func(t *kmsg.OffsetDeleteRequestTopic) bool { return may(c, acl.Read, acl.Topic, t.Topic) })
	add := func(p *kmsg.OffsetDeleteResponse) {
		for _, t := range refused {
			out := kmsg.NewOffsetDeleteResponseTopic()
			out.Topic = t.Topic
			for _, want := range t.Partitions {
				part := kmsg.NewOffsetDeleteResponseTopicPartition()
				part.Partition, part.ErrorCode = want.Partition, topicDenied
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	}
	return amendedBy(add)
}
