package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// Types of members, as descriptions have them.
const (
	classicMemberType  = 0
	consumerMemberType = 1
)

func (c *Core) describeConsumers(q *DescribeConsumerGroup) *kmsg.ConsumerGroupDescribeResponseGroup {
	resp := kmsg.NewConsumerGroupDescribeResponseGroup()
	resp.Group = q.Group
	g := c.groups[q.Group]
	if g == nil || g.consumer == nil {
		resp.ErrorCode = kerr.GroupIDNotFound.Code
		resp.ErrorMessage = kmsg.StringPtr("group " + q.Group + " not found")
		if g != nil {
			resp.ErrorMessage = kmsg.StringPtr("group " + q.Group + " is not a consumer group")
		}
		return &resp
	}
	cg := g.consumer
	resp.State, resp.AssignorName = cg.stateName(), cg.preferred()
	resp.Epoch, resp.AssignmentEpoch = cg.epoch, cg.epoch
	for _, m := range cg.sorted() {
		rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.RackID, rm.MemberEpoch = m.id, m.instance, m.rack, m.epoch
		rm.ClientID, rm.ClientHost, rm.SubscribedTopics = m.clientID, m.clientHost, m.topics
		rm.SubscribedTopicRegex = &m.pattern // empty, not null, where there is none, as Kafka's
		rm.Assignment, rm.TargetAssignment = m.assigned.toDescription(c.catalogue), m.target.toDescription(c.catalogue)
		rm.MemberType = consumerMemberType
		if m.classic != nil {
			rm.MemberType = classicMemberType
		}
		resp.Members = append(resp.Members, rm)
	}
	return &resp
}

// peopled reports whether the group has members, of either protocol.
func (g *group) peopled() bool {
	return g.state != empty || g.consumer != nil && len(g.consumer.members) > 0
}

// mayCommit says why an offset may not be committed; 0: it may.
func (cg *consumerGroup) mayCommit(req *kmsg.OffsetCommitRequest, transactional bool) int16 {
	anonymous := req.Generation < 0 && (len(cg.members) == 0 || transactional && req.MemberID == "" && req.InstanceID == nil)
	if anonymous {
		return 0
	}
	m := cg.members[req.MemberID]
	switch {
	case !guard.Check("group.commit-consumer", m != nil):
		return kerr.UnknownMemberID.Code
	case m == nil:
		return 0
	case m.classic == nil && req.Version < 9 && !transactional:
		return kerr.UnsupportedVersion.Code // it could not tell what STALE_MEMBER_EPOCH means
	}
	if m.classic == nil && !transactional && req.Generation < m.epoch && m.hasHad(cg.catalogue(), req) {
		return 0
	}
	code := m.stale(req.Generation)
	if transactional && code == kerr.StaleMemberEpoch.Code {
		return kerr.IllegalGeneration.Code // a producer would take the other for the end of it
	}
	return code
}

// hasHad reports whether m has had all that it commits for since the epoch that it
// says, without a break: it has only not heard of the newest epoch (KIP-1251).
func (m *consumerMember) hasHad(c Catalogue, req *kmsg.OffsetCommitRequest) bool {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			since, ok := m.since[place{c.TopicID(t.Topic), p.Partition}]
			if !guard.Check("group.commit-since", ok && req.Generation >= since) {
				return false
			}
		}
	}
	return true
}

// stale refuses an epoch that is not the member's.
func (m *consumerMember) stale(epoch int32) int16 {
	switch {
	case guard.Check("group.commit-epoch", epoch == m.epoch):
		return 0
	case m.classic != nil:
		return kerr.IllegalGeneration.Code
	}
	return kerr.StaleMemberEpoch.Code
}

// mayFetch says why a member may not have offsets; 0: it may. The group may be
// nil. Who says nothing of itself may have them.
func (g *group) mayFetch(q *FetchOffsets) int16 {
	if g == nil || g.consumer == nil || q.Member == nil && q.Epoch < 0 {
		return 0
	}
	id := ""
	if q.Member != nil {
		id = *q.Member
	}
	m := g.consumer.members[id]
	if m == nil {
		return kerr.UnknownMemberID.Code
	}
	return m.stale(q.Epoch)
}
