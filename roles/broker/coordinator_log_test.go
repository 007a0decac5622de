package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/test/seeded"
)

// findGroups makes the topic of the groups, and returns when they are loaded.
func (c *client) findGroups(ids ...string) {
	c.t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = ids
	for _, found := range ask[*kmsg.FindCoordinatorResponse](c, 4, find).Coordinators {
		if found.ErrorCode != 0 {
			c.t.Fatal(kerr.ErrorForCode(found.ErrorCode))
		}
	}
	ctx := within(c.t, 30*time.Second)
	c.node.settle(ctx) // with the topic made
	c.node.groups.AwaitLoad(ctx, group.Partition(ids[0]))
	if got := c.committed(ids[0]); got < -100 {
		c.t.Fatalf("loaded; the group is at %d", got)
	}
}

func commitOf(id string, offset int64) *kmsg.OffsetCommitRequest {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Group, q.Generation = id, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "events"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

// committed returns what a group has committed for events-0; below -100: an
// error code.
func (c *client) committed(id string) int64 {
	c.t.Helper()
	q := kmsg.NewPtrOffsetFetchRequest()
	q.Groups = []kmsg.OffsetFetchRequestGroup{{Group: id, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "events", Partitions: []int32{0}}}}}
	g := ask[*kmsg.OffsetFetchResponse](c, 8, q).Groups[0]
	if g.ErrorCode != 0 {
		return -100 - int64(g.ErrorCode)
	}
	return g.Topics[0].Partitions[0].Offset
}

// The power fails at any moment while the log of the groups is shortened again
// and again: what was committed is there.
func TestCommittedOffsetsSurvivePowerCutsWhileTheirLogIsShortened(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := startNode(t, func(o *Options) { o.Groups.CompactBytes = 4 << 10 })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	var ids []string // of one partition
	for i := 0; len(ids) < 4; i++ {
		if id := fmt.Sprintf("readers-%d", i); len(ids) == 0 || group.Partition(id) == group.Partition(ids[0]) {
			ids = append(ids, id)
		}
	}
	answered := make([]int64, len(ids))
	sent := make([]int64, len(ids))
	next := int64(0)
	for range 12 {
		c := n.connect()
		c.findGroups(ids...)
		for i, id := range ids {
			for got := c.committed(id); got < -100; got = c.committed(id) {
			}
			if got := c.committed(id); got < answered[i]-1 || got > sent[i] {
				t.Fatalf("group %s is at %d, it was told %d, and asked for %d", id, got, answered[i]-1, sent[i])
			}
		}
		crash, crashed := rng.IntN(120), make(chan struct{})
		fs := n.fs
		cut := rand.New(rand.NewPCG(seed, uint64(next)))
		for i := 0; ; i++ {
			g := rng.IntN(len(ids))
			next++
			q := commitOf(ids[g], next)
			q.SetVersion(8)
			c.send(q)
			sent[g] = next
			if i == crash {
				go func() {
					n.fs = fs.Crash(cut)
					close(crashed)
				}()
			}
			if code := c.receive().(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != 0 {
				if i < crash {
					t.Fatalf("commit %d of %d before the power fails: %v", i, crash, kerr.ErrorForCode(code))
				}
				break
			}
			answered[g] = next + 1
		}
		<-crashed
		n.server.Close()
		n.Broker.Close()
		n.store.Close()
		n.store = openStore(t, n.fs)
		n.options.Store = n.store
		n.open()
	}
	topic, _ := n.controller.Image().Topic(offsetsTopic)
	if start := topic.Partition(group.Partition(ids[0])).LogStart; start == 0 {
		t.Error("the log was never shortened: the test shows nothing")
	}
}

// TestOffsetsOfATopicDeletedWhileTheBrokerWasDown are gone when it is back: one made
// later under the name does not begin with them, nor one that is made before it was
// written down. Those of others are kept.
func TestOffsetsOfATopicDeletedWhileTheBrokerWasDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		id := n.controller.createTopic("events", 1)
		n.settle(t.Context())
		restart := func(meanwhile func()) *client {
			n.server.Close()
			n.Broker.Close()
			n.store.Close()
			meanwhile()
			n.store = openStore(t, n.fs)
			n.options.Store = n.store
			n.open()
			c := n.connect()
			c.findGroups("readers")
			time.Sleep(time.Second)
			return c
		}
		c := n.connect()
		c.findGroups("readers")
		c.commit("readers", 7)
		c = restart(func() {})
		if got := c.committed("readers"); got != 7 {
			t.Fatalf("the topic is there; the group is at %d", got)
		}
		c = restart(func() {
			n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: id}})
		})
		n.controller.createTopic("events", 1)
		n.settle(t.Context())
		if got := c.committed("readers"); got != -1 {
			t.Fatalf("the topic was deleted; the group is at %d", got)
		}
		c.commit("readers", 8)
		if got := c.committed("readers"); got != 8 {
			t.Fatalf("the topic made anew is there; the group is at %d", got)
		}
		made, _ := n.controller.Image().Topic("events")
		after := n.fs.Crash(rand.New(rand.NewPCG(1, 0))) // before anything of it was written down
		n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: made.ID}})
		n.controller.createTopic("events", 1)
		c = restart(func() { n.fs = after })
		if got := c.committed("readers"); got != -1 {
			t.Fatalf("the topic was deleted and made anew; the group is at %d", got)
		}
	})
}

// The groups' own topic takes nothing from clients, and none can make it.
func TestOffsetsTopicIsTheBrokersOwn(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = offsetsTopic, 1, 1
	create.Topics = append(create.Topics, topic)
	if p := ask[*kmsg.CreateTopicsResponse](c, 5, create); p.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("made by a client: %v", kerr.ErrorForCode(p.Topics[0].ErrorCode))
	}
	c.findGroups("readers")
	for _, version := range []int16{3, 9, 13} {
		q := produceTo(offsetsTopic, group.Partition("readers"), -1, batchOf(t, "x"))
		q.Topics[0].TopicID = nameOrID(n, version, offsetsTopic)
		requireProduced(t, ask[*kmsg.ProduceResponse](c, version, q), kerr.InvalidTopicException, -1)
	}
}

// A group of many members has a record that no ordinary topic would take.
func TestRecordsOfLargeGroupsFit(t *testing.T) {
	n := startNode(t, func(o *Options) { o.MessageMaxBytes = 10_000 })
	c := n.connect()
	c.findGroups("large")
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = "large", "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 10_000, 10_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte(strings.Repeat("m", 100_000))}}
	joined := ask[*kmsg.JoinGroupResponse](c, 3, join)
	if joined.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(joined.ErrorCode))
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "large", joined.MemberID, joined.Generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("all")}}
	if p := ask[*kmsg.SyncGroupResponse](c, 3, sync); p.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.ErrorCode))
	}
}

// What a catalogue says came and went is what a comparison of all names would.
func TestCatalogueTellsWhatChanged(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("stays", 1)
	gone, anew := n.controller.createTopic("gone", 1), n.controller.createTopic("anew", 1)
	n.settle(t.Context())
	before := n.topicCatalogue()
	n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{ID: gone}, {ID: anew}})
	n.controller.createTopic("anew", 1)
	n.controller.createTopic("new", 1)
	n.settle(t.Context())
	now := n.topicCatalogue()
	names, known := now.Changed(before)
	slices.Sort(names)
	if names = slices.Compact(names); !known || !slices.Equal(names, []string{"anew", "gone", "new"}) {
		t.Errorf("%v, %v", names, known)
	}
	if names, known := now.Changed(now); !known || len(names) > 0 {
		t.Errorf("of itself: %v, %v", names, known)
	}
	if _, known := now.Changed(nil); known {
		t.Error("knows what changed since nothing")
	}
}
