package group

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

// refusal is why a heartbeat is not taken.
type refusal struct {
	err *kerr.Error
	why string
}

func refused(err *kerr.Error, format string, args ...any) *refusal {
	return &refusal{err, fmt.Sprintf(format, args...)}
}

func (r *refusal) response(req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := consumerRefused(req, r.err.Code)
	resp.ErrorMessage = &r.why
	return resp
}

func consumerRefused(req *kmsg.ConsumerGroupHeartbeatRequest, code int16) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.ErrorCode = code
	return resp
}

func (c *Core) consumerHeartbeat(now time.Time, r Request, req *kmsg.ConsumerGroupHeartbeatRequest) {
	no := c.invalidHeartbeat(r, req)
	if no == nil {
		switch req.MemberEpoch {
		case leaveEpoch, leaveStaticEpoch:
			no = c.leaveConsumer(now, r, req)
		default:
			no = c.beatConsumer(now, r, req)
		}
	}
	if no != nil {
		c.answer(r.Call, no.response(req))
	}
}

// maxKeyString is the longest string that a key of the log has room for.
const maxKeyString = math.MaxInt16

// invalidHeartbeat looks at what no state of the group would allow.
func (c *Core) invalidHeartbeat(r Request, req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	switch {
	case req.Group == "" || len(req.Group) > maxKeyString:
		return refused(kerr.InvalidRequest, "GroupId can't be empty.")
	case req.MemberID == "" && (req.Version >= 1 || req.MemberEpoch != joinEpoch):
		return refused(kerr.InvalidRequest, "MemberId can't be empty.")
	case len(req.MemberID) > maxKeyString:
		return refused(kerr.InvalidRequest, "MemberId is too long.")
	case blank(req.InstanceID):
		return refused(kerr.InvalidRequest, "InstanceId can't be empty.")
	case blank(req.RackID):
		return refused(kerr.InvalidRequest, "RackId can't be empty.")
	case slices.Contains(req.SubscribedTopicNames, ""):
		return refused(kerr.InvalidRequest, "SubscribedTopicNames can't contain empty names.")
	case req.MemberEpoch < leaveStaticEpoch:
		return refused(kerr.InvalidRequest, "MemberEpoch is invalid.")
	case req.ServerAssignor != nil && !c.opt.Consumer.assigns(*req.ServerAssignor):
		return refused(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.",
			*req.ServerAssignor, strings.Join(c.opt.Consumer.Assignors, ", "))
	case req.SubscribedTopicRegex != nil && *req.SubscribedTopicRegex != "" &&
		(len(*req.SubscribedTopicRegex) > maxKeyString || r.Matched == nil || r.Matched.Source != *req.SubscribedTopicRegex):
		return refused(kerr.InvalidRegularExpression, "SubscribedTopicRegex is not a valid regular expression, too large, or takes too long.")
	}
	if req.MemberEpoch != joinEpoch {
		return nil
	}
	switch {
	case req.RebalanceTimeoutMillis == -1:
		return refused(kerr.InvalidRequest, "RebalanceTimeoutMs must be provided in first request.")
	case req.Topics == nil || len(req.Topics) > 0:
		return refused(kerr.InvalidRequest, "TopicPartitions must be empty when (re-)joining.")
	case req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return refused(kerr.InvalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	}
	return nil
}

// beatConsumer takes a heartbeat of one who is or becomes a member.
func (c *Core) beatConsumer(now time.Time, r Request, req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	joins := req.MemberEpoch == joinEpoch
	g := c.groups[req.Group]
	cg, no := c.consumersOf(g, joins)
	if no != nil {
		return no
	}
	m, no := cg.heartbeatOf(r, req)
	if no != nil {
		return no
	}
	// Nothing is refused from here on.
	if g == nil {
		g = c.make(req.Group)
		cg.group = g
	}
	fresh := g.consumer == nil
	if fresh {
		g.upgrade(now, cg)
	}
	if joins {
		m = cg.admit(req, m)
	}
	if cg.stale {
		cg.refresh()
	}
	had := m.assigned
	if m.update(r, req) {
		cg.touched[m.id] = true
	}
	heard := m.rights != nil
	saw := cg.see(m, r.Rights)
	topics, source := m.topics, m.pattern
	if req.SubscribedTopicNames != nil {
		topics = sortedTopics(req.SubscribedTopicNames)
	}
	if req.SubscribedTopicRegex != nil {
		source = strings.Clone(*req.SubscribedTopicRegex)
	}
	if cg.subscribe(m, topics, source, r.Matched) {
		cg.touched[m.id] = true
		cg.advance("subscription of a member", m)
	} else if fresh {
		cg.advance("first member of the protocol", m)
	} else if saw {
		cg.advance("rights of a member", m)
	} else if !heard && m.pattern != "" && !cg.unheard() {
		cg.compare() // what came while it was not known who may know of it
	}
	cg.reconcile(now, m, ownedBy(req.Topics), req.Topics != nil)
	cg.beat(now, m)

	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	resp.MemberID, resp.MemberEpoch = &m.id, m.epoch
	_, interval := c.opt.Consumer.times(g.id)
	resp.HeartbeatIntervalMillis = int32(interval.Milliseconds())
	whole := req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.Topics != nil
	if joins || whole || !m.assigned.equal(had) {
		resp.Assignment = m.assigned.toHeartbeat()
	}
	id := m.id // a static member may be given another before the answer goes out
	resp.MemberID = &id
	g.persist(now, func(_ time.Time, err error) {
		if err != nil {
			c.answer(r.Call, consumerRefused(req, coordinator.CodeOf(err, kerr.UnknownServerError.Code)))
			return
		}
		c.answer(r.Call, resp)
	})
	return nil
}

// consumersOf returns the consumer group that g is, or could become for one who
// joins; g may be nil.
func (c *Core) consumersOf(g *group, joins bool) (*consumerGroup, *refusal) {
	switch {
	case g == nil && joins:
		return newConsumerGroup(&group{core: c}, 0), nil
	case g == nil:
		return nil, refused(kerr.GroupIDNotFound, "Consumer group not found.")
	case g.deleting:
		return nil, refused(kerr.CoordinatorNotAvailable, "The group is being deleted.")
	case g.consumer != nil:
		return g.consumer, nil
	case !joins:
		return nil, refused(kerr.GroupIDNotFound, "Group %s is not a consumer group.", g.id)
	}
	return g.upgraded()
}

// heartbeatOf finds the member that a heartbeat is from, nil for one who joins
// anew, and sees whether it may go on.
func (cg *consumerGroup) heartbeatOf(r Request, req *kmsg.ConsumerGroupHeartbeatRequest) (*consumerMember, *refusal) {
	m := cg.members[req.MemberID]
	joins := req.MemberEpoch == joinEpoch
	if req.InstanceID != nil {
		static := cg.instances[*req.InstanceID]
		switch {
		case static == nil && !joins:
			return nil, refused(kerr.UnknownMemberID, "Instance id %s is unknown.", *req.InstanceID)
		case static != nil && !joins && !guard.Check("group.consumer-instance-fenced", static.id == req.MemberID):
			return nil, refused(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, static.id)
		case static != nil && joins && static.id != req.MemberID && static.classic == nil &&
			!guard.Check("group.instance-released", static.epoch == leaveStaticEpoch):
			return nil, refused(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by member %s.",
				req.MemberID, *req.InstanceID, static.id)
		case static != nil && joins && static.id != req.MemberID && !guard.Check("group.member-id-once", m == nil):
			return nil, refused(kerr.UnreleasedInstanceID, "Member %s cannot join the group with instance id %s, which was member %s's, because it is another member already.",
				req.MemberID, *req.InstanceID, static.id)
		}
		if static != nil {
			m = static
		}
	}
	opt := cg.group.core.opt
	size := len(r.ClientID) + len(r.ClientHost) + len(req.MemberID)
	for _, t := range req.SubscribedTopicNames {
		size += topicBytes + len(t)
	}
	for _, s := range []*string{req.InstanceID, req.RackID, req.SubscribedTopicRegex} {
		if s != nil {
			size += len(*s)
		}
	}
	switch {
	case size > opt.MaxMember:
		return nil, refused(kerr.GroupMaxSizeReached, "The member's names and subscription take more than %d bytes.", opt.MaxMember)
	case m == nil && !joins:
		return nil, refused(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, req.Group)
	case m == nil && (r.Full || len(cg.members) >= opt.Consumer.MaxSize || cg.size()+size > maxGroupBytes):
		return nil, refused(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", opt.Consumer.MaxSize)
	case m != nil && !joins:
		return m, m.fenced(req)
	}
	return m, nil
}

// size is what all members take.
func (cg *consumerGroup) size() int {
	n := 0
	for _, m := range cg.members {
		n += m.size()
	}
	return n
}

// fenced refuses an epoch that the member does not have. The one before is taken
// if the member owns nothing but what it was given: it has not heard of the new
// one.
func (m *consumerMember) fenced(req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	lost := req.MemberEpoch == m.previous && req.MemberEpoch < m.epoch && req.Topics != nil && ownedBy(req.Topics).within(m.assigned)
	if guard.Check("group.member-epoch", req.MemberEpoch == m.epoch || lost) {
		return nil
	}
	than := "smaller"
	if req.MemberEpoch > m.epoch {
		than = "greater"
	}
	return refused(kerr.FencedMemberEpoch, "The consumer group member has a %s member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.",
		than, req.MemberEpoch, m.epoch)
}

// admit makes whoever joins a member: a new one, or was, who comes back or is
// replaced under its instance id.
func (cg *consumerGroup) admit(req *kmsg.ConsumerGroupHeartbeatRequest, was *consumerMember) *consumerMember {
	id := strings.Clone(req.MemberID)
	if id == "" {
		id = cg.group.core.opt.NewID()
	}
	switch {
	case was == nil:
		was = &consumerMember{id: id}
		if req.InstanceID != nil {
			was.instance = new(strings.Clone(*req.InstanceID))
		}
		cg.add(was)
		cg.note("member joined", was)
	case was.id != id || was.epoch == leaveStaticEpoch:
		cg.rename(was, id)
		cg.note("static member replaced", was)
	}
	return was
}

// update notes what a heartbeat says of its sender but for the subscription, and
// reports whether that is news.
func (m *consumerMember) update(r Request, req *kmsg.ConsumerGroupHeartbeatRequest) bool {
	news := m.clientID != r.ClientID || m.clientHost != r.ClientHost || m.classic != nil
	if news {
		m.clientID, m.clientHost = strings.Clone(r.ClientID), strings.Clone(r.ClientHost)
		m.classic, m.joinBy, m.syncBy = nil, time.Time{}, time.Time{}
	}
	if req.RackID != nil && (m.rack == nil || *m.rack != *req.RackID) {
		m.rack, news = new(strings.Clone(*req.RackID)), true
	}
	if wait := time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond; wait >= 0 && wait != m.rebalance {
		m.rebalance, news = wait, true
	}
	if req.ServerAssignor != nil && *req.ServerAssignor != m.assignor {
		m.assignor, news = strings.Clone(*req.ServerAssignor), true
	}
	return news
}

// leaveConsumer takes a member out, or lets a static one go for a while: its
// partitions wait for it as long as its session lasts.
func (c *Core) leaveConsumer(now time.Time, r Request, req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	cg, no := c.consumersOf(c.groups[req.Group], false)
	if no != nil {
		return no
	}
	m := cg.members[req.MemberID]
	if req.InstanceID != nil {
		m = cg.instances[*req.InstanceID]
	}
	switch {
	case m == nil:
		return refused(kerr.UnknownMemberID, "Member %s is not a member of group %s.", req.MemberID, req.Group)
	case m.id != req.MemberID:
		return refused(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", req.MemberID, *req.InstanceID, m.id)
	}
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	id := m.id
	resp.MemberID, resp.MemberEpoch = &id, req.MemberEpoch
	then := func(_ time.Time, err error) {
		if err != nil {
			resp = consumerRefused(req, coordinator.CodeOf(err, kerr.UnknownServerError.Code))
		}
		c.answer(r.Call, resp)
	}
	if req.MemberEpoch == leaveStaticEpoch && m.instance != nil { // franz-go does not repeat its instance id here
		cg.note("static member left for a while", m)
		cg.own(m, m.assigned, nil)
		cg.move(m, leaveStaticEpoch, memberStable)
		m.revokeBy = time.Time{}
		cg.group.persist(now, then)
		return nil
	}
	cg.note("member left", m)
	cg.remove(m)
	cg.afterRemoval(now, m, "member left", then)
	return nil
}
