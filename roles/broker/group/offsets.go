package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// commit is what a group has committed for a partition.
type commit struct {
	offset      int64
	leaderEpoch int32

	// before is of one that an earlier life of the cluster committed: a leader epoch that the log
	// did not reach in that life. 0: it is of this life.
	before storage.Epoch

	metadata  string
	timestamp int64 // wall clock, ms
	expires   int64 // wall clock, ms; -1: with the group

	// topicID is the topic that had the name; zero: a record of before it was noted.
	topicID storage.TopicID

	// order is that of the records in the log. An offset whose transaction commits
	// late does not replace one that was committed behind it.
	order uint64
}

// slot names a partition in a group's offsets.
type slot struct {
	topic     string
	partition int32
}

// commit commits offsets, in a transaction unless txn is nil.
func (c *Core) commit(now time.Time, r Request, req *kmsg.OffsetCommitRequest, txn *TxnCommit) {
	g, code := c.mayCommit(now, r, req, txn != nil)
	if code != 0 {
		c.answer(r.Call, commitRefused(req, code))
		return
	}
	resp := commitRefused(req, 0)
	stamp := r.Wall.UnixMilli()
	expires := int64(-1)
	if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		expires = stamp + req.RetentionTimeMillis
	}
	var slots []slot
	var commits []commit
	var records []Record
	var codes []*int16 // of the response, where each goes
	for i, t := range req.Topics {
		topic, id := strings.Clone(t.Topic), storage.TopicID(t.TopicID)
		for j, p := range t.Partitions {
			code := &resp.Topics[i].Partitions[j].ErrorCode
			metadata := ""
			if p.Metadata != nil {
				metadata = *p.Metadata
			}
			_, known := g.offsets[topic][p.Partition]
			switch {
			case !guard.Check("group.commit-topic", !r.gone(topic, id)):
				*code = kerr.UnknownTopicOrPartition.Code // deleted since it was looked for
				if req.Version >= 10 {
					*code = kerr.UnknownTopicID.Code
				}
				continue
			case len(metadata) > c.opt.MaxMetadata:
				*code = kerr.OffsetMetadataTooLarge.Code
				continue
			case r.Full && !known:
				*code = kerr.CoordinatorNotAvailable.Code
				continue
			}
			s := slot{topic, p.Partition}
			o := commit{p.Offset, p.LeaderEpoch, 0, strings.Clone(metadata), stamp, expires, id, 0}
			if req.Version < 6 {
				o.leaderEpoch = -1
			}
			slots, commits, codes = append(slots, s), append(commits, o), append(codes, code)
			records = append(records, encodeCommit(g.id, s, o))
			g.fly(s, +1)
		}
	}
	if len(records) == 0 {
		c.answer(r.Call, resp)
		c.dropIfBare(g)
		return
	}
	if txn != nil {
		c.commitLater(r, g, txn, slots, commits, records, codes, resp)
		return
	}
	g.writeAll(records, nil, func(from, to int, err error) {
		for i := from; i < to; i++ {
			g.fly(slots[i], -1)
			*codes[i] = coordinator.CodeOf(err, kerr.InvalidCommitOffsetSize.Code)
			if guard.Check("group.commit-recorded", err == nil) {
				g.set(slots[i].topic, slots[i].partition, commits[i])
			}
		}
	}, func(error) { c.answer(r.Call, resp) })
}

// mayCommit returns the group to commit to, or why not. A consumer that assigns
// partitions to itself commits with generation -1, to a group without members.
//
// A producer that says nothing of its consumer may commit in its transaction to
// any group: so it was before KIP-447.
func (c *Core) mayCommit(now time.Time, r Request, req *kmsg.OffsetCommitRequest, transactional bool) (*group, int16) {
	if !guard.Check("group.name-length", len(req.Group) <= maxName) {
		return nil, kerr.InvalidGroupID.Code
	}
	simple := req.Generation < 0
	g := c.groups[req.Group]
	if g == nil {
		switch {
		case !simple && !transactional && req.Version >= 9: // the epoch may be a consumer's (KIP-848)
			return nil, kerr.GroupIDNotFound.Code
		case !simple:
			return nil, kerr.IllegalGeneration.Code
		case r.Full:
			return nil, kerr.CoordinatorNotAvailable.Code
		}
		return c.make(req.Group), 0
	}
	if g.deleting {
		return nil, kerr.CoordinatorNotAvailable.Code
	}
	if g.consumer != nil {
		return g, g.consumer.mayCommit(req, transactional)
	}
	if simple && (g.state == empty || transactional && req.MemberID == "" && req.InstanceID == nil) {
		return g, 0
	}
	m, code := g.memberOf(req.MemberID, req.InstanceID)
	if !guard.Check("group.commit-member", code == 0) {
		return nil, code
	}
	if !guard.Check("group.commit-generation", req.Generation == g.generation) {
		return nil, kerr.IllegalGeneration.Code
	}
	if g.state == completing && !transactional { // the transaction is fenced by the member's generation
		return nil, kerr.RebalanceInProgress.Code // the partition may belong to another by now
	}
	if m != nil {
		g.beat(now, m)
	}
	return g, 0
}

func commitRefused(req *kmsg.OffsetCommitRequest, code int16) *kmsg.OffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// fly counts writes of a slot that are under way.
func (g *group) fly(s slot, n int) {
	if g.flying == nil {
		g.flying = map[slot]int{}
	}
	if g.flying[s] += n; g.flying[s] == 0 {
		delete(g.flying, s)
	}
}

// set notes a committed offset.
func (g *group) set(topic string, partition int32, o commit) {
	g.unset(topic, partition)
	if o.order == 0 {
		g.core.order++
		o.order = g.core.order
	}
	if g.offsets[topic] == nil {
		g.offsets[topic] = map[int32]commit{}
		g.core.bytes += commitBytes + int64(len(topic))
	}
	g.offsets[topic][partition] = o
	g.core.bytes += commitBytes + int64(len(o.metadata))
}

// unset forgets a committed offset.
func (g *group) unset(topic string, partition int32) {
	o, ok := g.offsets[topic][partition]
	if !ok {
		return
	}
	delete(g.offsets[topic], partition)
	g.core.bytes -= commitBytes + int64(len(o.metadata))
	if len(g.offsets[topic]) == 0 {
		delete(g.offsets, topic)
		g.core.bytes -= commitBytes + int64(len(topic))
	}
}

// slots returns what the group has committed or is about to, where want says so.
func (g *group) slots(want func(slot) bool) []slot {
	all := map[slot]bool{}
	for topic, partitions := range g.offsets {
		for p := range partitions {
			all[slot{topic, p}] = true
		}
	}
	for s := range g.flying {
		all[s] = true
	}
	for _, t := range g.transactions {
		for s := range t.offsets {
			all[s] = true
		}
	}
	maps.DeleteFunc(all, func(s slot, _ bool) bool { return !want(s) })
	return slices.SortedFunc(maps.Keys(all), func(a, b slot) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
}

// takeBack writes tombstones for slots, and forgets them when that is committed.
func (g *group) takeBack(slots []slot, then func(err error)) {
	records := make([]Record, len(slots))
	for i, s := range slots {
		records[i] = Record{Key: commitKey(g.id, s)}
	}
	g.writeAll(records, nil, func(from, to int, err error) {
		if err != nil {
			return
		}
		for _, s := range slots[from:to] {
			g.forget(s)
		}
	}, then)
}

func (c *Core) fetch(r Request, q *FetchOffsets) *kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = q.Group
	g := c.groups[q.Group]
	if code := g.mayFetch(q); code != 0 {
		return fetchRefused(q, code)
	}
	topics := q.Topics
	if q.All {
		topics = nil
		if g != nil {
			for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
				if partitions := g.committedFor(r, topic); len(partitions) > 0 {
					topics = append(topics, kmsg.OffsetFetchRequestGroupTopic{Topic: topic, Partitions: partitions})
				}
			}
		}
	}
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := noCommit(p, 0)
			if g != nil && q.Stable && !guard.Check("group.offset-stable", !g.unstable(slot{t.Topic, p})) {
				rp.ErrorCode = kerr.UnstableOffsetCommit.Code
			} else if g != nil {
				if o, ok := g.offsets[t.Topic][p]; ok && !r.another(t.Topic, o.topicID) {
					rp.Offset, rp.LeaderEpoch, *rp.Metadata = o.offset, o.leaderEpoch, o.metadata
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return &resp
}

// committedFor returns the partitions of a topic that offsets are committed of: of that
// topic, not of one that had its name before.
func (g *group) committedFor(r Request, topic string) []int32 {
	partitions := slices.Sorted(maps.Keys(g.offsets[topic]))
	return slices.DeleteFunc(partitions, func(p int32) bool { return r.another(topic, g.offsets[topic][p].topicID) })
}

// noCommit says that nothing is committed for a partition, or that it cannot be
// said.
func noCommit(partition int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = partition, -1, -1, new(string), code
	return rp
}

func fetchRefused(q *FetchOffsets, code int16) *kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group, resp.ErrorCode = q.Group, code
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, noCommit(p, code))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return &resp
}
