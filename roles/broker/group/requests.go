package group

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/pattern"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// The entry points below take a decoded request and a function that gets the
// response, exactly once, from any goroutine, perhaps before the entry point
// returns; it must not block. The request, and the bytes it points to, must
// stay as they are until then. A response may share strings and bytes with its
// request. ctx ends with the client's connection: a member whose connection is
// gone before its join is looked at does not join.
//
// Responses carry no throttle time and no authorised operations: both are the
// caller's business.

// JoinGroup serves versions 0 to 9.
func (c *Coordinator) JoinGroup(ctx context.Context, clientID, clientHost string, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	c.submit(ctx, req.Group, Request{ClientID: clientID, ClientHost: clientHost, Body: req}, coordinator.Deliver(answer), func(code int16) {
		answer(joinRefused(req, req.MemberID, code))
	})
}

// SyncGroup serves versions 0 to 5.
func (c *Coordinator) SyncGroup(ctx context.Context, req *kmsg.SyncGroupRequest, answer func(*kmsg.SyncGroupResponse)) {
	c.submit(ctx, req.Group, Request{Body: req}, coordinator.Deliver(answer), func(code int16) {
		answer(syncRefused(req, code))
	})
}

// Heartbeat serves versions 0 to 4.
func (c *Coordinator) Heartbeat(ctx context.Context, req *kmsg.HeartbeatRequest, answer func(*kmsg.HeartbeatResponse)) {
	c.submit(ctx, req.Group, Request{Body: req}, coordinator.Deliver(answer), func(code int16) {
		answer(heartbeatResponse(req, code))
	})
}

// LeaveGroup serves versions 0 to 5.
func (c *Coordinator) LeaveGroup(ctx context.Context, req *kmsg.LeaveGroupRequest, answer func(*kmsg.LeaveGroupResponse)) {
	c.submit(ctx, req.Group, Request{Body: req}, coordinator.Deliver(answer), func(code int16) {
		answer(leaveRefused(req, code))
	})
}

// ConsumerGroupHeartbeat serves versions 0 and 1. rights are the client's now; nil, where
// [Options.Authorised] is not set.
func (c *Coordinator) ConsumerGroupHeartbeat(ctx context.Context, clientID, clientHost string, rights Rights, req *kmsg.ConsumerGroupHeartbeatRequest, answer func(*kmsg.ConsumerGroupHeartbeatResponse)) {
	refuse := func(code int16) { answer(consumerRefused(req, code)) }
	r := Request{ClientID: clientID, ClientHost: clientHost, Rights: rights, Body: req}
	if source := req.SubscribedTopicRegex; source == nil || *source == "" || len(*source) > maxKeyString {
		c.submit(ctx, req.Group, r, coordinator.Deliver(answer), refuse)
		return
	}
	c.matcher.ask(ctx, strings.Clone(*req.SubscribedTopicRegex), func(m *Matched, err error) {
		if err != nil && err != errPattern && err != pattern.ErrTooLong {
			refuse(kerr.CoordinatorNotAvailable.Code)
			return
		}
		r.Matched = m
		c.submit(ctx, req.Group, r, coordinator.Deliver(answer), refuse)
	})
}

// OffsetCommit serves versions 1 to 10. Partitions that do not exist are
// answered so, and the others committed.
func (c *Coordinator) OffsetCommit(ctx context.Context, req *kmsg.OffsetCommitRequest, answer func(*kmsg.OffsetCommitResponse)) {
	known, merge := c.commitOfKnown(req)
	if known == nil {
		answer(merge(nil))
		return
	}
	done := func(part *kmsg.OffsetCommitResponse) { answer(merge(part)) }
	c.submit(ctx, req.Group, Request{Body: known}, coordinator.Deliver(done), func(code int16) { done(commitRefused(known, code)) })
}

// TxnOffsetCommit serves versions 0 to 6. verified is what the producer's
// transaction was verified by in the partition of the group.
func (c *Coordinator) TxnOffsetCommit(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, verified log.Guard, answer func(*kmsg.TxnOffsetCommitResponse)) {
	offsets := offsetsOf(req)
	known, merge := c.commitOfKnown(offsets)
	done := func(part *kmsg.OffsetCommitResponse) { answer(txnCommitResponse(req, merge(part))) }
	if known == nil {
		done(nil)
		return
	}
	q := &TxnCommit{Offsets: known, ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch, Verified: verified}
	c.submit(ctx, req.Group, Request{Body: q}, coordinator.Deliver(done), func(code int16) { done(commitRefused(known, code)) })
}

// RefuseTxnOffsetCommit answers with an error for each partition.
func RefuseTxnOffsetCommit(req *kmsg.TxnOffsetCommitRequest, code int16) *kmsg.TxnOffsetCommitResponse {
	return txnCommitResponse(req, commitRefused(offsetsOf(req), code))
}

// offsetsOf is what a transaction commits, as a commit without one.
func offsetsOf(req *kmsg.TxnOffsetCommitRequest) *kmsg.OffsetCommitRequest {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Version = 9 // topics by name
	if req.Version >= 6 {
		q.Version = 10 // by id
	}
	q.Group, q.Generation, q.MemberID, q.InstanceID = req.Group, req.Generation, req.MemberID, req.InstanceID
	for _, t := range req.Topics {
		qt := kmsg.NewOffsetCommitRequestTopic()
		qt.Topic, qt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			qp := kmsg.NewOffsetCommitRequestTopicPartition()
			qp.Partition, qp.Offset, qp.LeaderEpoch, qp.Metadata = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata
			qt.Partitions = append(qt.Partitions, qp)
		}
		q.Topics = append(q.Topics, qt)
	}
	return q
}

func txnCommitResponse(req *kmsg.TxnOffsetCommitRequest, of *kmsg.OffsetCommitResponse) *kmsg.TxnOffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, t := range of.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// EndTransaction ends a producer's transaction in a partition of [Topic]: offsets
// in it are committed, or forgotten. done is called once, from any goroutine: with
// nil when the marker is committed. It must not block.
func (c *Coordinator) EndTransaction(ctx context.Context, partition int32, m log.Marker, done func(error)) {
	c.shards.Submit(ctx, partition, Request{Body: &EndTransaction{Marker: m}},
		func(body any) { done(body.(ended).err) },
		func(code int16) { done(kerr.ErrorForCode(code)) })
}

// commitOfKnown returns req without the partitions that do not exist (nil when
// nothing is left), and what makes the whole response of the rest's.
func (c *Coordinator) commitOfKnown(req *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitRequest, func(*kmsg.OffsetCommitResponse) *kmsg.OffsetCommitResponse) {
	known := *req
	known.Topics = nil
	whole := commitRefused(req, 0)
	left := 0
	for i := range req.Topics {
		t := req.Topics[i]
		unknown := kerr.UnknownTopicOrPartition.Code
		if req.Version >= 10 {
			unknown = kerr.UnknownTopicID.Code
			t.Topic = c.topicName(t.TopicID)
		} else {
			t.TopicID = c.topicID(t.Topic)
		}
		// The shard looks whether it is still this topic that has the name.
		there := c.opt.Topics == nil || t.TopicID != [16]byte{}
		t.Partitions = nil
		for j, p := range req.Topics[i].Partitions {
			if there && c.exists(t.Topic, p.Partition) {
				t.Partitions = append(t.Partitions, p)
				left++
			} else {
				whole.Topics[i].Partitions[j].ErrorCode = unknown
			}
		}
		if len(t.Partitions) > 0 {
			known.Topics = append(known.Topics, t)
		}
	}
	merge := func(part *kmsg.OffsetCommitResponse) *kmsg.OffsetCommitResponse {
		if part == nil {
			return whole
		}
		var codes []int16
		for _, t := range part.Topics {
			for _, p := range t.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
		for i := range whole.Topics {
			for j := range whole.Topics[i].Partitions {
				if p := &whole.Topics[i].Partitions[j]; p.ErrorCode == 0 {
					p.ErrorCode, codes = codes[0], codes[1:]
				}
			}
		}
		return whole
	}
	if left == 0 && len(req.Topics) > 0 {
		return nil, merge
	}
	return &known, merge
}

// OffsetFetch serves versions 0 to 10.
func (c *Coordinator) OffsetFetch(ctx context.Context, req *kmsg.OffsetFetchRequest, answer func(*kmsg.OffsetFetchResponse)) {
	if req.Version < 8 {
		part := &FetchOffsets{Group: req.Group, All: req.Version >= 2 && req.Topics == nil, Stable: req.RequireStable, Epoch: -1}
		for _, t := range req.Topics {
			part.Topics = append(part.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
		}
		done := func(g *kmsg.OffsetFetchResponseGroup) { answer(fetchResponseV7(req, g)) }
		refuse := func(code int16) { done(fetchRefused(part, code)) }
		c.submitConfirmed(ctx, Partition(req.Group), []question{{Request{Body: part}, coordinator.Deliver(done), refuse}})
		return
	}
	parts := make([]*FetchOffsets, len(req.Groups))
	for i, g := range req.Groups {
		parts[i] = c.fetchOfKnown(req.Version, g)
		parts[i].Stable = req.RequireStable
	}
	asked := map[int32][]question{} // by partition: what waits takes little of what a request can name
	coordinator.Collect(len(parts),
		func(i int, put func(*kmsg.OffsetFetchResponseGroup)) {
			refuse := func(code int16) { put(fetchRefused(parts[i], code)) }
			at := Partition(parts[i].Group)
			asked[at] = append(asked[at], question{Request{Body: parts[i]}, coordinator.Deliver(put), refuse})
		},
		func(all []*kmsg.OffsetFetchResponseGroup) {
			resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
			for i, g := range all {
				if req.Version >= 10 {
					c.nameByID(req.Groups[i].Topics, g)
				}
				resp.Groups = append(resp.Groups, *g)
			}
			answer(resp)
		})
	for partition, questions := range asked {
		c.submitConfirmed(ctx, partition, questions)
	}
}

// fetchOfKnown is the question for one group, topics by name.
func (c *Coordinator) fetchOfKnown(version int16, g kmsg.OffsetFetchRequestGroup) *FetchOffsets {
	part := &FetchOffsets{Group: g.Group, All: g.Topics == nil, Topics: g.Topics, Member: g.MemberID, Epoch: g.MemberEpoch}
	if version < 9 {
		part.Member, part.Epoch = nil, -1
	}
	if version < 10 {
		return part
	}
	part.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(g.Topics))
	for i, t := range g.Topics {
		t.Topic = c.topicName(t.TopicID)
		part.Topics[i] = t
	}
	return part
}

// nameByID makes of an answer by topic names one by topic ids. asked is nil when
// all topics were asked for: those that are no more are then left out.
func (c *Coordinator) nameByID(asked []kmsg.OffsetFetchRequestGroupTopic, g *kmsg.OffsetFetchResponseGroup) {
	if asked == nil {
		g.Topics = slices.DeleteFunc(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool { return c.topicID(t.Topic) == storage.TopicID{} })
		for i := range g.Topics {
			g.Topics[i].TopicID = c.topicID(g.Topics[i].Topic)
		}
		return
	}
	for i := range g.Topics {
		t := &g.Topics[i]
		t.TopicID = asked[i].TopicID
		if t.Topic == "" {
			for j := range t.Partitions {
				t.Partitions[j].ErrorCode = kerr.UnknownTopicID.Code
			}
		}
	}
}

// fetchResponseV7 puts one group's offsets into the response of versions that
// ask for one group. Before version 2 an error is told per partition.
func fetchResponseV7(req *kmsg.OffsetFetchRequest, g *kmsg.OffsetFetchResponseGroup) *kmsg.OffsetFetchResponse {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	resp.ErrorCode = g.ErrorCode
	for _, gt := range g.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = gt.Topic
		for _, gp := range gt.Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = gp.Partition, gp.Offset, gp.LeaderEpoch, gp.Metadata, gp.ErrorCode
			if p.ErrorCode == 0 {
				p.ErrorCode = g.ErrorCode
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// DescribeGroups serves versions 0 to 6.
func (c *Coordinator) DescribeGroups(ctx context.Context, req *kmsg.DescribeGroupsRequest, answer func(*kmsg.DescribeGroupsResponse)) {
	gather(ctx, c, req.Groups,
		func(i int) any { return &DescribeGroup{Group: req.Groups[i], Version: req.Version} },
		func(i int, code int16) *kmsg.DescribeGroupsResponseGroup {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = req.Groups[i], code
			return &g
		},
		func(all []*kmsg.DescribeGroupsResponseGroup) {
			resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
			for _, g := range all {
				resp.Groups = append(resp.Groups, *g)
			}
			answer(resp)
		})
}

// ConsumerGroupDescribe serves versions 0 and 1.
func (c *Coordinator) ConsumerGroupDescribe(ctx context.Context, req *kmsg.ConsumerGroupDescribeRequest, answer func(*kmsg.ConsumerGroupDescribeResponse)) {
	gather(ctx, c, req.Groups,
		func(i int) any { return &DescribeConsumerGroup{Group: req.Groups[i]} },
		func(i int, code int16) *kmsg.ConsumerGroupDescribeResponseGroup {
			g := kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode = req.Groups[i], code
			return &g
		},
		func(all []*kmsg.ConsumerGroupDescribeResponseGroup) {
			resp := req.ResponseKind().(*kmsg.ConsumerGroupDescribeResponse)
			for _, g := range all {
				resp.Groups = append(resp.Groups, *g)
			}
			answer(resp)
		})
}

// TopicsChanged tells the groups that topics or partitions came or went. They see
// it at the latest when they are asked something.
func (c *Coordinator) TopicsChanged() {
	for _, s := range c.shards.All() {
		s.Wake()
	}
}

// DeleteGroups serves versions 0 to 3.
func (c *Coordinator) DeleteGroups(ctx context.Context, req *kmsg.DeleteGroupsRequest, answer func(*kmsg.DeleteGroupsResponse)) {
	gather(ctx, c, req.Groups,
		func(i int) any { return &DeleteGroup{Group: req.Groups[i]} },
		func(_ int, code int16) int16 { return code },
		func(codes []int16) {
			resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
			for i, code := range codes {
				g := kmsg.NewDeleteGroupsResponseGroup()
				g.Group, g.ErrorCode = req.Groups[i], code
				resp.Groups = append(resp.Groups, g)
			}
			answer(resp)
		})
}

// ListGroups serves versions 0 to 5: the groups of the partitions loaded here.
// While a partition loads, the response says so, and holds the others' groups.
func (c *Coordinator) ListGroups(ctx context.Context, req *kmsg.ListGroupsRequest, answer func(*kmsg.ListGroupsResponse)) {
	type part struct {
		groups []kmsg.ListGroupsResponseGroup
		code   int16
	}
	here := c.shards.All()
	coordinator.Collect(len(here), func(i int, put func(part)) {
		here[i].Submit(ctx, Request{Body: &ListGroups{States: req.StatesFilter, Types: req.TypesFilter}},
			func(body any) { put(part{groups: body.([]kmsg.ListGroupsResponseGroup)}) },
			func(code int16) { put(part{code: code}) })
	}, func(parts []part) {
		resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
		all := 0
		for _, p := range parts {
			all += len(p.groups)
		}
		resp.Groups = make([]kmsg.ListGroupsResponseGroup, 0, all)
		for _, p := range parts {
			resp.Groups = append(resp.Groups, p.groups...)
			if p.code != 0 && p.code != kerr.NotCoordinator.Code {
				resp.ErrorCode = p.code
			}
		}
		slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
		answer(resp)
	})
}

// OffsetDelete serves version 0.
func (c *Coordinator) OffsetDelete(ctx context.Context, req *kmsg.OffsetDeleteRequest, answer func(*kmsg.OffsetDeleteResponse)) {
	part := &DeleteOffsets{Request: req}
	if c.opt.Topics != nil {
		part.Partitions = map[string]int32{}
		for _, t := range req.Topics {
			part.Partitions[t.Topic] = c.opt.Topics.Partitions(t.Topic)
		}
	}
	c.submit(ctx, req.Group, Request{Body: part}, coordinator.Deliver(answer), func(code int16) {
		resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
		resp.ErrorCode = code
		answer(resp)
	})
}

// TopicDeleted forgets the offsets that groups have committed for a topic, so
// that one made later under its name does not begin with them: also those of logs that
// are still being read. Partitions that are loaded from now on ask [Topics].
func (c *Coordinator) TopicDeleted(name string) {
	name = strings.Clone(name)
	for _, s := range c.shards.All() {
		s.Post(func() { s.forget(func(topic string, _ storage.TopicID) bool { return topic == name }) })
	}
}

func (c *Coordinator) exists(topic string, partition int32) bool {
	if topic == "" || partition < 0 {
		return false
	}
	return c.opt.Topics == nil || partition < c.opt.Topics.Partitions(topic)
}

func (c *Coordinator) topicID(name string) storage.TopicID {
	if c.opt.Topics == nil {
		return storage.TopicID{}
	}
	return c.opt.Topics.TopicID(name)
}

func (c *Coordinator) topicName(id [16]byte) string {
	if c.opt.Topics == nil {
		return ""
	}
	return c.opt.Topics.TopicName(storage.TopicID(id))
}

// gather asks one question per group and answers with all that came back, in
// the order of the groups.
func gather[T any](ctx context.Context, c *Coordinator, groups []string, ask func(i int) any, refuse func(i int, code int16) T, answer func([]T)) {
	coordinator.Collect(len(groups), func(i int, put func(T)) {
		c.submit(ctx, groups[i], Request{Body: ask(i)}, coordinator.Deliver(put), func(code int16) { put(refuse(i, code)) })
	}, answer)
}
