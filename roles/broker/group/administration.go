package group

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Types of groups, since KIP-848.
const (
	classic      = "classic"
	consumerType = "consumer"
)

func (c *Core) describe(q *DescribeGroup) *kmsg.DescribeGroupsResponseGroup {
	resp := kmsg.NewDescribeGroupsResponseGroup()
	resp.Group = q.Group
	g := c.groups[q.Group]
	if g == nil || g.consumer != nil {
		resp.State = "Dead"
		if q.Version >= 6 { // KIP-1043
			resp.ErrorCode = kerr.GroupIDNotFound.Code
			resp.ErrorMessage = kmsg.StringPtr("group " + q.Group + " not found")
			if g != nil {
				resp.ErrorMessage = kmsg.StringPtr("group " + q.Group + " is not a classic group")
			}
		}
		return &resp
	}
	resp.State, resp.ProtocolType = g.state.String(), g.protocolType
	if g.state == stable {
		resp.Protocol = g.protocol
	}
	for _, m := range g.ordered() {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.id, m.instance, m.clientID, m.clientHost
		rm.MemberAssignment = m.assignment // in a rebalance: what it had before
		if g.state == stable {
			rm.ProtocolMetadata = m.metadata(g.protocol)
		}
		resp.Members = append(resp.Members, rm)
	}
	return &resp
}

func (c *Core) list(q *ListGroups) []kmsg.ListGroupsResponseGroup {
	wanted := func(filter []string, is string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, is) })
	}
	all := []kmsg.ListGroupsResponseGroup{}
	for _, g := range c.sorted() {
		kind, state := classic, g.state.String()
		if g.consumer != nil {
			kind, state = consumerType, g.consumer.stateName()
		}
		if wanted(q.Types, kind) && wanted(q.States, state) {
			rg := kmsg.NewListGroupsResponseGroup()
			rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = g.id, g.protocolType, state, kind
			all = append(all, rg)
		}
	}
	return all
}

// delete answers once tombstones for all that the log has of a group are
// committed. Until then the group takes nothing new.
func (c *Core) delete(r Request, q *DeleteGroup) {
	g := c.groups[q.Group]
	switch {
	case g == nil:
		c.answer(r.Call, kerr.GroupIDNotFound.Code)
		return
	case g.deleting || !g.settled():
		c.answer(r.Call, kerr.CoordinatorNotAvailable.Code)
		return
	case !guard.Check("group.delete-empty", !g.peopled()):
		c.answer(r.Call, kerr.NonEmptyGroup.Code)
		return
	}
	g.takeAllBack(func(err error) { c.answer(r.Call, coordinator.CodeOf(err, kerr.UnknownServerError.Code)) })
}

// takeAllBack writes tombstones for all that the log has of a group without
// members, and drops it when they are committed.
func (g *group) takeAllBack(then func(err error)) {
	c := g.core
	g.deleting = true
	slots := g.slots(func(slot) bool { return true })
	var records []Record
	for _, s := range slots {
		records = append(records, Record{Key: commitKey(g.id, s)})
	}
	records = append(records, Record{Key: groupKey(g.id)})
	records = append(records, g.bury()...)
	g.writeAll(records, nil, func(from, to int, err error) {
		if err == nil {
			for _, s := range slots[from:min(to, len(slots))] {
				g.forget(s)
			}
		}
	}, func(err error) {
		g.deleting = false
		if err == nil {
			g.note("group deleted", nil)
			c.drop(g)
		}
		then(err)
	})
}

// deleteOffsets takes back committed offsets, but not of topics that the group
// consumes now.
func (c *Core) deleteOffsets(r Request, q *DeleteOffsets) {
	resp := q.Request.ResponseKind().(*kmsg.OffsetDeleteResponse)
	g := c.groups[q.Request.Group]
	switch {
	case q.Request.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
	case g == nil:
		resp.ErrorCode = kerr.GroupIDNotFound.Code
	case g.deleting:
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
	case g.peopled() && g.protocolType != consumerProtocol:
		resp.ErrorCode = kerr.NonEmptyGroup.Code
	}
	if resp.ErrorCode != 0 {
		c.answer(r.Call, resp)
		return
	}
	asked := map[slot]bool{}
	for _, t := range q.Request.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = p.Partition
			switch {
			case q.Partitions != nil && (p.Partition < 0 || p.Partition >= q.Partitions[t.Topic]):
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case g.consumes(t.Topic):
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			default:
				asked[slot{t.Topic, p.Partition}] = true
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	slots := g.slots(func(s slot) bool { return asked[s] })
	if len(slots) == 0 {
		c.answer(r.Call, resp)
		return
	}
	g.takeBack(slots, func(err error) {
		if code := coordinator.CodeOf(err, kerr.UnknownServerError.Code); code != 0 {
			resp.ErrorCode, resp.Topics = code, nil
		}
		c.answer(r.Call, resp)
	})
}

// forgetTopics takes back what any group has committed for topics that are no more.
func (c *Core) forgetTopics(gone func(topic string, id storage.TopicID) bool) {
	type named struct {
		topic string
		id    storage.TopicID
	}
	known := map[named]bool{}
	asked := func(topic string, id storage.TopicID) bool {
		is, ok := known[named{topic, id}]
		if !ok {
			is = gone(topic, id)
			known[named{topic, id}] = is
		}
		return is
	}
	for _, g := range c.sorted() {
		if g.deleting {
			continue
		}
		if slots := g.slots(func(s slot) bool { return g.outlivesTopic(s, asked) }); len(slots) > 0 {
			g.takeBack(slots, func(error) {}) // what is left is looked at again
		}
	}
}

// outlivesTopic reports whether all that a slot holds, or is about to, is of topics that
// are no more. A tombstone would take back with it what is committed for the topic that
// has the name now; what stays for that is never told, and looked at again.
func (g *group) outlivesTopic(s slot, gone func(topic string, id storage.TopicID) bool) bool {
	var dead, live bool
	look := func(id storage.TopicID) {
		is := gone(s.topic, id)
		dead, live = dead || is, live || !is
	}
	if g.flying[s] > 0 {
		look(storage.TopicID{}) // it is not noted of which topic it is
	}
	if o, ok := g.offsets[s.topic][s.partition]; ok {
		look(o.topicID)
	}
	for _, t := range g.transactions {
		if o, ok := t.offsets[s]; ok {
			look(o.topicID)
		}
	}
	return dead && guard.Check("group.tombstone-topic", !live)
}
