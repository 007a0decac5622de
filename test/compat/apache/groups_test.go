//go:build suites

package apache

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinOf asks to join a group of the classic protocol.
func joinOf(group, member string, change ...func(*kmsg.JoinGroupRequest)) *kmsg.JoinGroupRequest {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Group, q.MemberID, q.ProtocolType = group, member, "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 30_000, 30_000
	q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{1}}, {Name: "roundrobin", Metadata: []byte{2}}}
	for _, c := range change {
		c(q)
	}
	return q
}

func instance(id string) func(*kmsg.JoinGroupRequest) {
	return func(q *kmsg.JoinGroupRequest) { q.InstanceID = &id }
}

// classic is the life of a group of the classic protocol.
func classic(r *run) {
	group := r.tag + "-g"
	text := kmsg.StringPtr
	sync := func(label string, n int, group, member string, generation int32, assigns ...string) func() kmsg.Response {
		q := kmsg.NewPtrSyncGroupRequest()
		q.Group, q.MemberID, q.Generation = group, member, generation
		q.ProtocolType, q.Protocol = text("consumer"), text("range")
		for _, m := range assigns {
			q.GroupAssignment = append(q.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m, MemberAssignment: []byte("part")})
		}
		return r.start(n, label, q)
	}
	beat := func(label, group, member string, generation int32) {
		q := kmsg.NewPtrHeartbeatRequest()
		q.Group, q.MemberID, q.Generation = group, member, generation
		r.ask(label, q)
	}
	leave := func(label, group string, members ...string) {
		q := kmsg.NewPtrLeaveGroupRequest()
		q.Group = group
		for _, m := range members {
			q.MemberID = m
			q.Members = append(q.Members, kmsg.LeaveGroupRequestMember{MemberID: m})
		}
		r.ask(label, q)
	}
	describe := func(label string, groups ...string) {
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = groups
		r.ask(label, q)
	}
	list := func(label string, states, types []string) {
		q := kmsg.NewPtrListGroupsRequest()
		q.StatesFilter, q.TypesFilter = states, types
		p := r.silent(q).(*kmsg.ListGroupsResponse)
		var mine []kmsg.ListGroupsResponseGroup
		for _, g := range p.Groups { // other sequences' groups are there too
			if g.Group == group {
				mine = append(mine, g)
			}
		}
		p.Groups = mine
		r.note(label, p)
	}
	join := func(label string, q *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
		return r.ask(label, q).(*kmsg.JoinGroupResponse)
	}
	join("no group", joinOf("", ""))
	join("session too short", joinOf(group, "", func(q *kmsg.JoinGroupRequest) { q.SessionTimeoutMillis = 10 }))
	join("session too long", joinOf(group, "", func(q *kmsg.JoinGroupRequest) { q.SessionTimeoutMillis = 100_000_000 }))
	join("unknown member, no group", joinOf(group, "nobody"))
	join("no protocols", joinOf(group, "", func(q *kmsg.JoinGroupRequest) { q.Protocols = nil }))
	join("no protocol type", joinOf(group, "", func(q *kmsg.JoinGroupRequest) { q.ProtocolType = "" }))
	beat("heartbeat, no group", group, "nobody", 1)
	sync("sync, no group", 0, group, "nobody", 1)()
	leave("leave, no group", group, "nobody")
	leave("leave, nobody", group)
	describe("describe, no group", group)
	first := join("first", joinOf(group, ""))
	if first.ErrorCode != 0 { // the server has given an id to come back with
		describe("describe, before the first is in", group)
		first = join("first, with its id", joinOf(group, first.MemberID))
	}
	a, generation := first.MemberID, first.Generation
	beat("heartbeat before sync", group, a, generation)
	describe("describe before sync", group)
	sync("sync of another generation", 0, group, a, generation+1)()
	sync("sync of a stranger", 0, group, "nobody", generation)()
	sync("sync", 0, group, a, generation, a)()
	sync("sync again", 0, group, a, generation)()
	beat("heartbeat", group, a, generation)
	beat("heartbeat of an older generation", group, a, generation-1)
	beat("heartbeat of a later generation", group, a, generation+1)
	beat("heartbeat of a stranger", group, "nobody", generation)
	beat("heartbeat of no group", "", a, generation)
	describe("describe", group)
	list("list", nil, nil)
	list("list the stable", []string{"Stable"}, nil)
	list("list in lower case", []string{"stable"}, nil)
	list("list the empty", []string{"Empty"}, nil)
	list("list of no such state", []string{"Burning"}, nil)
	list("list the classic", nil, []string{"classic"})
	list("list in upper case", nil, []string{"CLASSIC"})
	list("list the consumers", nil, []string{"consumer"})
	list("list of no such type", nil, []string{"burning"})
	q := kmsg.NewPtrSyncGroupRequest()
	q.Group, q.MemberID, q.Generation, q.ProtocolType, q.Protocol = group, a, generation, text("connect"), text("range")
	r.ask("sync of another type", q)
	q.ProtocolType, q.Protocol = text("consumer"), text("sticky")
	r.ask("sync of another protocol", q)
	join("of another type", joinOf(group, "", func(q *kmsg.JoinGroupRequest) { q.ProtocolType = "connect" }))
	join("of another protocol", joinOf(group, "", func(q *kmsg.JoinGroupRequest) {
		q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sticky"}}
	}))
	join("unknown member", joinOf(group, "nobody"))
	drop := kmsg.NewPtrDeleteGroupsRequest()
	drop.Groups = []string{group, r.tag + "-none", ""}
	r.ask("delete, not empty", drop)

	// A second member makes the first join again.
	second := r.start(1, "second", joinOf(group, ""))
	if r.version(int16(kmsg.JoinGroup)) >= 4 {
		id := second().(*kmsg.JoinGroupResponse).MemberID
		second = r.start(1, "second, with its id", joinOf(group, id))
	}
	r.until("rebalance", func() bool {
		h := kmsg.NewPtrHeartbeatRequest()
		h.Group, h.MemberID, h.Generation = group, a, generation
		return r.silent(h).(*kmsg.HeartbeatResponse).ErrorCode != 0
	})
	beat("heartbeat in a rebalance", group, a, generation)
	sync("sync in a rebalance", 0, group, a, generation)()
	describe("describe in a rebalance", group)
	again := join("first again", joinOf(group, a))
	b := second().(*kmsg.JoinGroupResponse).MemberID
	generation = again.Generation
	describe("describe, joined", group)
	follower := sync("follower's sync", 1, group, b, generation)
	sync("leader's sync", 0, group, a, generation, a, b)()
	follower()
	beat("heartbeat of the second", group, b, generation)
	describe("describe two", group)
	leave("leave", group, b)
	leave("leave again", group, b)
	beat("heartbeat after one left", group, a, generation)
	leave("leave, the last", group, a)
	describe("describe, empty", group)
	list("list, empty", nil, nil)
	r.settledDelete("delete", drop)
	describe("describe, deleted", group)
	beat("heartbeat, deleted", group, a, generation)

	if r.version(int16(kmsg.JoinGroup)) < 5 {
		return
	}
	group = r.tag + "-static"
	static := join("static", joinOf(group, "", instance("i")))
	sync("static sync", 0, group, static.MemberID, static.Generation, static.MemberID)()
	back := join("static comes back", joinOf(group, "", instance("i")))
	describe("static, described", group)
	h := kmsg.NewPtrHeartbeatRequest()
	h.Group, h.MemberID, h.Generation, h.InstanceID = group, static.MemberID, static.Generation, text("i")
	r.ask("static, fenced", h)
	h.MemberID = back.MemberID
	r.ask("static, heartbeat", h)
	h.InstanceID = text("j")
	r.ask("static, of a stranger", h)
	join("static, with the older id", joinOf(group, static.MemberID, instance("i")))
	join("static, of another protocol", joinOf(group, "", instance("k"), func(q *kmsg.JoinGroupRequest) {
		q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sticky"}}
	}))
	l := kmsg.NewPtrLeaveGroupRequest()
	l.Group, l.MemberID = group, back.MemberID
	l.Members = []kmsg.LeaveGroupRequestMember{{InstanceID: text("i")}, {InstanceID: text("j")}, {MemberID: "x", InstanceID: text("i")}}
	r.ask("static, leave", l)
}

// committing stores, reads and deletes offsets of a group.
func committing(r *run) {
	group, topic := r.tag+"-g", r.tag+"-a"
	r.topic(topic, 2)
	commit := func(label string, offset int64, change ...func(*kmsg.OffsetCommitRequest)) {
		q := kmsg.NewPtrOffsetCommitRequest()
		q.Group, q.Generation = group, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.LeaderEpoch, p.Metadata = offset, -1, kmsg.StringPtr("note")
		q.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	part := func(q *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitRequestTopicPartition {
		return &q.Topics[0].Partitions[0]
	}
	fetch := func(label, group string, stable bool, topics ...string) {
		q := kmsg.NewPtrOffsetFetchRequest()
		q.Group, q.RequireStable = group, stable
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		for _, t := range topics {
			q.Topics = append(q.Topics, kmsg.OffsetFetchRequestTopic{Topic: t, Partitions: []int32{0, 1, 9}})
			g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t, TopicID: r.id(t), Partitions: []int32{0, 1, 9}})
		}
		q.Groups = append(q.Groups, g)
		r.ask(label, q)
	}
	find := func(label string, kind int8, keys ...string) {
		q := kmsg.NewPtrFindCoordinatorRequest()
		q.CoordinatorType, q.CoordinatorKeys = kind, keys
		if len(keys) > 0 {
			q.CoordinatorKey = keys[0]
		}
		r.ask(label, q)
	}
	find("coordinator of a group", 0, group)
	find("coordinator of transactions", 1, group)
	find("coordinator of a share group", 2, "g:AAAAAAAAAAAAAAAAAAAAAQ:0")
	find("coordinator of no type", 9, group)
	find("coordinator of no key", 0, "")
	find("coordinator of two", 0, group, r.tag+"-h")
	find("coordinator of none", 0)
	fetch("fetch, no group", group, false, topic)
	commit("commit", 5)
	fetch("fetch", group, false, topic)
	fetch("fetch, stable", group, true, topic)
	commit("commit less", 3)
	commit("commit beyond the end", 1000)
	commit("commit -1", -1)
	commit("commit of an epoch", 6, func(q *kmsg.OffsetCommitRequest) { part(q).LeaderEpoch = 0 })
	commit("commit without a note", 7, func(q *kmsg.OffsetCommitRequest) { part(q).Metadata = nil })
	commit("commit of a long note", 7, func(q *kmsg.OffsetCommitRequest) {
		long := string(make([]byte, 5000))
		part(q).Metadata = &long
	})
	commit("commit of a partition there is not", 7, func(q *kmsg.OffsetCommitRequest) { part(q).Partition = 9 })
	commit("commit of a topic there is not", 7, func(q *kmsg.OffsetCommitRequest) {
		q.Topics[0].Topic, q.Topics[0].TopicID = r.tag+"-none", [16]byte{9}
	})
	commit("commit of no group", 7, func(q *kmsg.OffsetCommitRequest) { q.Group = "" })
	commit("commit of a member, no group", 7, func(q *kmsg.OffsetCommitRequest) {
		q.Group, q.MemberID, q.Generation = r.tag+"-none", "nobody", 1
	})
	commit("commit of a stranger", 7, func(q *kmsg.OffsetCommitRequest) { q.MemberID, q.Generation = "nobody", 1 })
	commit("commit of no topics", 7, func(q *kmsg.OffsetCommitRequest) { q.Topics = nil })
	fetch("fetch again", group, false, topic)
	fetch("fetch of no group", "", false, topic)
	fetch("fetch of no topics", group, false)
	if r.version(int16(kmsg.OffsetFetch)) < 10 {
		fetch("fetch of a topic there is not", group, false, r.tag+"-none")
	}
	all := kmsg.NewPtrOffsetFetchRequest()
	all.Group, all.Groups = group, []kmsg.OffsetFetchRequestGroup{{Group: group, MemberEpoch: -1}}
	if r.version(int16(kmsg.OffsetFetch)) >= 2 {
		r.ask("fetch all", all)
	}
	if r.version(int16(kmsg.OffsetFetch)) >= 8 {
		all.Groups = append(all.Groups, kmsg.OffsetFetchRequestGroup{Group: r.tag + "-none", MemberEpoch: -1})
		r.ask("fetch all of two groups", all)
	}
	if r.version(int16(kmsg.OffsetFetch)) >= 9 {
		all.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, MemberID: kmsg.StringPtr("nobody"), MemberEpoch: 3}}
		r.ask("fetch as a stranger", all)
	}
	forget := func(label, group, topic string, partition int32) {
		q := kmsg.NewPtrOffsetDeleteRequest()
		q.Group = group
		q.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: partition}}}}
		r.ask(label, q)
	}
	commit("commit what keeps the group", 5, func(q *kmsg.OffsetCommitRequest) { part(q).Partition = 1 })
	forget("delete an offset", group, topic, 0)
	forget("delete it again", group, topic, 0)
	forget("delete of a topic there is not", group, r.tag+"-none", 0)
	forget("delete of a partition there is not", group, topic, 9)
	forget("delete of no group", r.tag+"-none", topic, 0)
	forget("delete of an empty name", "", topic, 0)
	fetch("fetch, deleted", group, false, topic)
	commit("commit once more", 5)
	drop := kmsg.NewPtrDeleteGroupsRequest()
	drop.Groups = []string{group}
	r.settledDelete("delete the group", drop)
	fetch("fetch, of a deleted group", group, false, topic)
}

// consumers is the life of a group of the consumer protocol (KIP-848).
func consumers(r *run) {
	group, topic := r.tag+"-g", r.tag+"-a"
	r.topic(topic, 2)
	text := kmsg.StringPtr
	beat := func(label, member string, epoch int32, change ...func(*kmsg.ConsumerGroupHeartbeatRequest)) *kmsg.ConsumerGroupHeartbeatResponse {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.MemberEpoch = group, member, epoch
		if epoch == 0 {
			q.RebalanceTimeoutMillis, q.SubscribedTopicNames = 30_000, []string{topic}
			q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		for _, c := range change {
			c(q)
		}
		return r.ask(label, q).(*kmsg.ConsumerGroupHeartbeatResponse)
	}
	describe := func(label string, groups ...string) {
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = groups
		r.ask(label, q)
	}
	owns := func(partitions ...int32) func(*kmsg.ConsumerGroupHeartbeatRequest) {
		return func(q *kmsg.ConsumerGroupHeartbeatRequest) {
			q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{TopicID: r.id(topic), Partitions: partitions}}
		}
	}
	const me = "AAAAAAAAAAAAAAAAAAAAAA"
	const you = "BBBBBBBBBBBBBBBBBBBBBB"
	beat("no group", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group = "" })
	beat("no rebalance timeout", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RebalanceTimeoutMillis = -1 })
	beat("no subscription", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicNames = nil })
	beat("subscription to nothing", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicNames = []string{}; q.Group += "n" })
	beat("joins with partitions", me, 0, owns(0))
	beat("joins with no list of partitions", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Topics = nil })
	beat("unknown assignor", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.ServerAssignor = text("none") })
	beat("empty instance", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.InstanceID = text("") })
	beat("empty rack", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RackID = text("") })
	beat("empty member", "", 3)
	beat("of no group", me, 3)
	beat("leaves no group", me, -1)
	beat("epoch -3", me, -3)
	beat("bad expression", me, 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) {
		q.SubscribedTopicRegex, q.SubscribedTopicNames = text("("), nil
	})
	describe("describe, no group", group)
	first := beat("joins", me, 0)
	if r.version(int16(kmsg.ConsumerGroupHeartbeat)) == 0 {
		beat("joins without an id", "", 0, func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group += "0" })
	} else {
		beat("joins without an id", "", 0)
	}
	epoch := first.MemberEpoch
	beat("beats", me, epoch)
	beat("owns", me, epoch, owns(0, 1))
	beat("beats on", me, epoch)
	beat("beats of a later epoch", me, epoch+1)
	beat("beats of a stranger", you, epoch)
	changed := beat("changes subscription", me, epoch, func(q *kmsg.ConsumerGroupHeartbeatRequest) {
		q.SubscribedTopicNames = []string{topic, r.tag + "-none"}
	})
	describe("describe", group)
	classic := kmsg.NewPtrDescribeGroupsRequest()
	classic.Groups = []string{group}
	r.ask("describe, as a classic one", classic)
	drop := kmsg.NewPtrDeleteGroupsRequest()
	drop.Groups = []string{group}
	r.ask("delete, not empty", drop)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID = group, me
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, TopicID: r.id(topic), Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 5, LeaderEpoch: -1}}}}
	for _, e := range []struct {
		label string
		epoch int32
	}{{"commit of a later epoch", 1000}, {"commit without an epoch", -1}, {"commit of epoch 0", 0}} {
		commit.Generation = e.epoch
		r.ask(e.label, commit)
	}
	commit.MemberID = you
	r.ask("commit of a stranger", commit)
	forget := kmsg.NewPtrOffsetDeleteRequest()
	forget.Group = group
	forget.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
	r.ask("delete an offset of a topic subscribed to", forget)
	now := beat("beats after that", me, changed.MemberEpoch)
	beat("second joins", you, 0)
	beat("second again, epoch 0", you, 0)
	beat("first gives up", me, now.MemberEpoch)
	beat("second leaves", you, -1)
	beat("second leaves again", you, -1)
	beat("leaves", me, -1)
	describe("describe, empty", group)
	r.settledDelete("delete", drop)
	describe("describe, deleted", group)

	group = r.tag + "-static"
	static := func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.InstanceID = text("i") }
	s := beat("static joins", me, 0, static)
	beat("static joins twice", you, 0, static)
	beat("static goes for a while", me, -2, static)
	describe("describe, while it is away", group)
	beat("static comes back", you, 0, static)
	beat("static, fenced", me, s.MemberEpoch, static)
	beat("static leaves", you, -1, static)
	beat("static -2, not there", you, -2, static)

	group = r.tag + "-again"
	again := beat("joins another", me, 0)
	beat("owns there", me, again.MemberEpoch, owns(0, 1))
	beat("another member", you, 0)
	beat("gives up there", me, again.MemberEpoch, owns(0, 1))
	beat("joins again, by epoch 0", me, 0)

	group = r.tag + "-classic"
	c := r.ask("a classic group", joinOf(group, "")).(*kmsg.JoinGroupResponse)
	if c.ErrorCode != 0 {
		r.ask("a classic group, with an id", joinOf(group, c.MemberID))
	}
	describe("describe a classic one", group)
	beat("joins a classic one", me, 0)
	r.ask("a classic member", joinOf(r.tag+"-again", ""))
}

// settledDelete deletes groups as clients do: again, while the coordinator says that
// it is not available to one, for what was written of it before is not durable yet.
func (r *run) settledDelete(label string, q *kmsg.DeleteGroupsRequest) {
	var p *kmsg.DeleteGroupsResponse
	r.until("deletion of groups", func() bool {
		p = r.silent(q).(*kmsg.DeleteGroupsResponse)
		return !slices.ContainsFunc(p.Groups, func(g kmsg.DeleteGroupsResponseGroup) bool {
			return g.ErrorCode == kerr.CoordinatorNotAvailable.Code
		})
	})
	r.note(label, p)
}
