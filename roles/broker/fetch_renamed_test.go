package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
)

// remake deletes a topic, and makes another of its name.
func (n *node) remake(name string, partitions int32) {
	n.controller.DeleteTopics(n.t.Context(), []controller.TopicRef{{Name: name}})
	n.settle(n.t.Context())
	n.controller.createTopic(name, partitions)
	n.settle(n.t.Context())
}

// TestAnswerNamesADeletedTopic as the fetch did that waits for it.
func TestAnswerNamesADeletedTopic(t *testing.T) {
	for _, version := range []int16{12, 13} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t)
			id := n.controller.createTopic("events", 1)
			n.settle(t.Context())
			c := n.connect()
			q := fetchFrom("events", 0, 0, time.Minute)
			q.Version, q.Topics[0].TopicID = version, id
			c.send(q)
			synctest.Wait()
			n.controller.DeleteTopics(t.Context(), []controller.TopicRef{{Name: "events"}})
			p := c.receive().(*kmsg.FetchResponse)
			got, want := p.Topics[0], kerr.UnknownTopicOrPartition.Code
			if version == 12 && got.Topic != "events" || version == 13 && got.TopicID != id {
				t.Errorf("version %d: the answer is of topic %q, %x", version, got.Topic, got.TopicID)
			}
			if version == 13 {
				want = kerr.UnknownTopicID.Code
			}
			if code := got.Partitions[0].ErrorCode; code != want {
				t.Errorf("version %d: %v", version, kerr.ErrorForCode(code))
			}
		})
	}
}

// TestSessionByNameGoesOnInATopicMadeAnew, also with partitions that the one before it
// did not have.
func TestSessionByNameGoesOnInATopicMadeAnew(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	p := ask[*kmsg.FetchResponse](c, 12, inSession(with(fetchFrom("events", 0, 0, 0), 2), 0, 0))
	if got := p.Topics[0].Partitions; len(got) != 2 || got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("the session begins with %+v", got)
	}
	n.remake("events", 3)
	writer := n.connect()
	writer.produce("events", 0, "a")
	writer.produce("events", 2, "c")
	got := fetched(t, ask[*kmsg.FetchResponse](c, 12, next(p.SessionID, 1, 0)))
	if len(got) != 2 || !slices.Equal(got["events-0"], []string{"a"}) || !slices.Equal(got["events-2"], []string{"c"}) {
		t.Errorf("it goes on with %v", got)
	}
}

// TestSessionByIDKnowsNoTopicOfTheName: each of its partitions is of a topic that is
// gone, also one that it never had.
func TestSessionByIDKnowsNoTopicOfTheName(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	q := with(fetchFrom("", 0, 0, 0), 2)
	q.Topics[0].TopicID = id
	session := ask[*kmsg.FetchResponse](c, 13, inSession(q, 0, 0)).SessionID
	n.remake("events", 3)
	for epoch := int32(1); epoch <= 2; epoch++ {
		p := ask[*kmsg.FetchResponse](c, 13, next(session, epoch, 0))
		if len(p.Topics) != 1 || p.Topics[0].TopicID != id || len(p.Topics[0].Partitions) != 2 {
			t.Fatalf("the session goes on with %+v", p.Topics)
		}
		for _, part := range p.Topics[0].Partitions {
			if part.ErrorCode != kerr.UnknownTopicID.Code {
				t.Errorf("partition %d: %v", part.Partition, kerr.ErrorForCode(part.ErrorCode))
			}
		}
	}
}
