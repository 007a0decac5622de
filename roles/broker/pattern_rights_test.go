package broker

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
)

// patternMember is a member that subscribes by a pattern, and does what it is told at once.
type patternMember struct {
	t     *testing.T
	c     *client
	id    string
	epoch int32
	owned map[[16]byte][]int32
}

// beat sends a heartbeat, and returns the topics whose partitions the member has then.
func (m *patternMember) beat(b *Broker) (topics []string) {
	m.t.Helper()
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.MemberEpoch = "g", m.id, m.epoch
	q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if m.epoch == 0 {
		q.SubscribedTopicNames, q.SubscribedTopicRegex, q.RebalanceTimeoutMillis = []string{}, kmsg.StringPtr("[os].*"), 60_000
	}
	for id, partitions := range m.owned {
		q.Topics = append(q.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: id, Partitions: partitions})
	}
	p := ask[*kmsg.ConsumerGroupHeartbeatResponse](m.c, 1, q)
	for deadline := time.Now().Add(30 * time.Second); kerr.IsRetriable(kerr.ErrorForCode(p.ErrorCode)) && time.Now().Before(deadline); {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{q.Group}
		ask[*kmsg.FindCoordinatorResponse](m.c, 4, find)
		p = ask[*kmsg.ConsumerGroupHeartbeatResponse](m.c, 1, q)
	}
	if p.ErrorCode != 0 {
		m.t.Fatalf("%s: %d %v", m.id, p.ErrorCode, p.ErrorMessage)
	}
	m.epoch = p.MemberEpoch
	if p.Assignment != nil {
		m.owned = map[[16]byte][]int32{}
		for _, t := range p.Assignment.Topics {
			m.owned[t.TopicID] = t.Partitions
		}
	}
	for id := range maps.Keys(m.owned) {
		name, _ := b.topicNamed("", id)
		topics = append(topics, name)
	}
	slices.Sort(topics)
	return topics
}

// partitions counts those that the member has of a topic.
func (m *patternMember) partitions(b *Broker, topic string) (n int) {
	for id, partitions := range m.owned {
		if name, _ := b.topicNamed("", id); name == topic {
			n += len(partitions)
		}
	}
	return n
}

// Of the topics that a pattern matches, the coordinator gives each member what it may
// describe, and every partition to somebody who may: a change of rules is one of the
// group.
func TestMembersByPatternGetWhatTheyMayDescribe(t *testing.T) {
	n := startAuthorising(t)
	n.controller.createTopic("open", 1)
	n.controller.createTopic("secret", 6)
	n.settle(t.Context())
	n.alter(false, allow("alice", acl.Read, acl.Group, "g"), allow("bob", acl.Read, acl.Group, "g"), allow("alice", acl.Read, acl.Topic, "*"), allow("bob", acl.Read, acl.Topic, "open"))
	alice, bob := &patternMember{t: t, c: n.as("alice"), id: "a"}, &patternMember{t: t, c: n.as("bob"), id: "b"}
	settled := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; {
			alice.beat(n.Broker)
			bob.beat(n.Broker)
			if is() {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: alice has %v, bob %v", what, alice.owned, bob.owned)
			}
		}
	}
	both := func(topic string) int { return alice.partitions(n.Broker, topic) + bob.partitions(n.Broker, topic) }
	settled("what bob may not describe is alice's", func() bool {
		return alice.partitions(n.Broker, "secret") == 6 && bob.partitions(n.Broker, "open") == 1
	})
	epoch := bob.epoch
	n.controller.createTopic("other", 1)
	n.settle(t.Context())
	settled("a topic comes that alice alone may describe", func() bool { return alice.partitions(n.Broker, "other") == 1 && bob.epoch > epoch })
	if got := bob.beat(n.Broker); !slices.Equal(got, []string{"open"}) {
		t.Errorf("bob has %v", got)
	}
	n.alter(false, allow("bob", acl.Describe, acl.Topic, "secret"))
	settled("bob may describe it", func() bool { return bob.partitions(n.Broker, "secret") > 0 && both("secret") == 6 && both("open") == 1 })
	n.alter(true, allow("bob", acl.Describe, acl.Topic, "secret"))
	settled("bob may not any more", func() bool {
		return bob.partitions(n.Broker, "secret") == 0 && alice.partitions(n.Broker, "secret") == 6 && both("open") == 1
	})
}

// A topic that no member may describe leaves no trace in what members are told, their
// epoch included.
func TestHiddenTopicsMakeNoEpoch(t *testing.T) {
	n := startAuthorising(t)
	n.controller.createTopic("open", 1)
	n.settle(t.Context())
	n.alter(false, allow("bob", acl.Read, acl.Group, "g"), allow("bob", acl.Read, acl.Topic, "open"), allow("bob", acl.Read, acl.Topic, "seen"))
	bob := &patternMember{t: t, c: n.as("bob"), id: "b"}
	for deadline := time.Now().Add(30 * time.Second); bob.partitions(n.Broker, "open") == 0; bob.beat(n.Broker) {
		if time.Now().After(deadline) {
			t.Fatalf("bob has %v", bob.owned)
		}
	}
	epoch := bob.epoch
	n.controller.createTopic("secret", 1)
	n.settle(t.Context())
	n.controller.createTopic("seen", 1) // once this has come, that has too
	n.settle(t.Context())
	for deadline := time.Now().Add(30 * time.Second); bob.partitions(n.Broker, "seen") == 0; bob.beat(n.Broker) {
		if time.Now().After(deadline) {
			t.Fatalf("bob has %v", bob.owned)
		}
	}
	if bob.epoch != epoch+1 {
		t.Errorf("two topics came, one of them hidden: from epoch %d to %d", epoch, bob.epoch)
	}
}
