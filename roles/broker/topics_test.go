package broker

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
)

func metadataOf(names ...string) *kmsg.MetadataRequest {
	q := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		q.Topics = append(q.Topics, t)
	}
	return q
}

func TestMetadataInEveryVersion(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 3)
	n.settle(t.Context())
	c := n.connect()
	for version := int16(0); version <= 13; version++ {
		for name, q := range map[string]*kmsg.MetadataRequest{"all": metadataOf(), "named": metadataOf("events", "events")} {
			p := ask[*kmsg.MetadataResponse](c, version, q)
			if len(p.Brokers) != 1 || p.Brokers[0].Port != 9092 || version >= 1 && p.ControllerID != 1 || version >= 2 && *p.ClusterID != "test-cluster" {
				t.Fatalf("v%d, %s: %+v", version, name, p)
			}
			if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 3 || *p.Topics[0].Topic != "events" {
				t.Fatalf("v%d, %s: topics %+v", version, name, p.Topics)
			}
			if version >= 10 && p.Topics[0].TopicID != id {
				t.Errorf("v%d: topic id %v", version, p.Topics[0].TopicID)
			}
		}
	}
	byID := kmsg.NewPtrMetadataRequest()
	byID.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: [16]byte{1}}}
	p := ask[*kmsg.MetadataResponse](c, 12, byID)
	if *p.Topics[0].Topic != "events" || p.Topics[1].ErrorCode != kerr.UnknownTopicID.Code || p.Topics[1].Topic != nil {
		t.Errorf("by id: %+v", p.Topics)
	}
	byID.Topics = []kmsg.MetadataRequestTopic{{TopicID: id, Topic: new("")}} // as Java's consumer does
	if p := ask[*kmsg.MetadataResponse](c, 12, byID); p.Topics[0].ErrorCode != 0 || *p.Topics[0].Topic != "events" {
		t.Errorf("by id, with an empty name: %+v", p.Topics)
	}
}

// A client is told the address that belongs to the listener it came through.
func TestMetadataNamesTheListenersAddress(t *testing.T) {
	n := startNode(t, func(o *Options) {
		o.Listeners = []metadata.Listener{{Name: "kafka", Host: "inside", Port: 1}, {Name: "outside", Host: "example.com", Port: 2}}
	})
	for listener, want := range map[string]string{"kafka": "inside", "outside": "example.com"} {
		if got := ask[*kmsg.MetadataResponse](n.connect(listener), 9, metadataOf()).Brokers[0].Host; got != want {
			t.Errorf("through %s: %s, want %s", listener, got, want)
		}
	}
}

func TestMetadataMakesTopics(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	quiet := metadataOf("events")
	if p := ask[*kmsg.MetadataResponse](c, 9, quiet); p.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("a topic was made though the client did not allow it: %+v", p.Topics)
	}
	q := metadataOf("events", "events", "bad name", "../etc", offsetsTopic)
	q.AllowAutoTopicCreation = true
	p := ask[*kmsg.MetadataResponse](c, 9, q)
	if p.Topics[0].ErrorCode != 0 || len(p.Topics[0].Partitions) != 1 || p.Topics[0].Partitions[0].Leader != 1 {
		t.Errorf("got %+v", p.Topics[0])
	}
	for _, topic := range p.Topics[1:3] {
		if topic.ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("%q: %v", *topic.Topic, kerr.ErrorForCode(topic.ErrorCode))
		}
	}
	if c.produce("events", 0, "at once") != 0 {
		t.Error("not the first record")
	}
	if n.controller.Image().NumTopics() != 1 {
		t.Errorf("%d topics were made", n.controller.Image().NumTopics())
	}

	without := startNode(t, func(o *Options) { o.AutoCreate = false })
	if p := ask[*kmsg.MetadataResponse](without.connect(), 9, q); p.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("a topic was made though the broker must not: %+v", p.Topics)
	}
}

func createTopics(names ...string) *kmsg.CreateTopicsRequest {
	q := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 2, 1
		q.Topics = append(q.Topics, t)
	}
	return q
}

// Whatever a topic is called, and whoever calls it, only Kafka's names are made.
func TestTopicNamesFollowKafkasRules(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	for _, name := range []string{
		"", ".", "..", "/", "a/b", "../../etc/passwd", "a\x00b", "a b", "a\\b", "ü", "a:b", "C:", "~", "$(x)", "a\nb",
		strings.Repeat("a", 250), "\xff\xfe",
	} {
		if p := ask[*kmsg.CreateTopicsResponse](c, 7, createTopics(name)); p.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("%q: %v", name, kerr.ErrorForCode(p.Topics[0].ErrorCode))
		}
	}
	for _, name := range []string{"a", "A.b_c-9", "...", strings.Repeat("a", 249)} {
		if p := ask[*kmsg.CreateTopicsResponse](c, 7, createTopics(name)); p.Topics[0].ErrorCode != 0 {
			t.Errorf("%q: %v", name, kerr.ErrorForCode(p.Topics[0].ErrorCode))
		}
	}
}

func TestTopicsAreMadeGrownAndDeletedInEveryVersion(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	for version := int16(2); version <= 7; version++ {
		p := ask[*kmsg.CreateTopicsResponse](c, version, createTopics("events", "others"))
		for _, topic := range p.Topics {
			if topic.ErrorCode != 0 || version >= 5 && topic.NumPartitions != 2 || version >= 7 && topic.TopicID == [16]byte{} {
				t.Fatalf("create v%d: %+v", version, topic)
			}
		}
		if p := ask[*kmsg.CreateTopicsResponse](c, version, createTopics("events")); p.Topics[0].ErrorCode != kerr.TopicAlreadyExists.Code {
			t.Errorf("create v%d again: %v", version, kerr.ErrorForCode(p.Topics[0].ErrorCode))
		}

		grow := kmsg.NewPtrCreatePartitionsRequest()
		grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "events", Count: 4}, {Topic: "nowhere", Count: 4}}
		g := ask[*kmsg.CreatePartitionsResponse](c, min(version-2, 3), grow)
		if g.Topics[0].ErrorCode != 0 || g.Topics[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("create partitions: %+v", g.Topics)
		}
		c.produce("events", 3, "into the new one")

		remove := kmsg.NewPtrDeleteTopicsRequest()
		remove.TopicNames = []string{"events", "others", "nowhere"}
		for _, name := range remove.TopicNames {
			topic := kmsg.NewDeleteTopicsRequestTopic()
			topic.Topic = kmsg.StringPtr(name)
			remove.Topics = append(remove.Topics, topic)
		}
		d := ask[*kmsg.DeleteTopicsResponse](c, min(version, 6), remove)
		if d.Topics[0].ErrorCode != 0 || d.Topics[1].ErrorCode != 0 || d.Topics[2].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("delete v%d: %+v", version, d.Topics)
		}
		q := produceTo("events", 0, -1, batchOf(t, "x"))
		requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, q), kerr.UnknownTopicOrPartition, -1)
		if left := n.store.Partitions(); len(left) != 0 {
			t.Errorf("logs of deleted topics are left: %v", left)
		}
	}
}

// Deleting a topic answers those who wait for its records.
func TestDeletingATopicWakesItsReaders(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	reader := n.connect()
	q := fetchFrom("events", 0, 0, maxFetchWait)
	q.Version = 12
	reader.send(q)
	id := nameOrID(n, 13, "events")
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}
	if p := ask[*kmsg.DeleteTopicsResponse](n.connect(), 6, remove); p.Topics[0].ErrorCode != 0 || *p.Topics[0].Topic != "events" {
		t.Fatalf("delete by id: %+v", p.Topics)
	}
	if got := reader.receive().(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("the reader is told %v", kerr.ErrorForCode(got))
	}
}

func TestDescribeCluster(t *testing.T) {
	n := startNode(t)
	for version := int16(0); version <= 2; version++ {
		q := kmsg.NewPtrDescribeClusterRequest()
		q.EndpointType = 1
		p := ask[*kmsg.DescribeClusterResponse](n.connect(), version, q)
		if p.ErrorCode != 0 || p.ClusterID != "test-cluster" || len(p.Brokers) != 1 || p.Brokers[0].Host != "127.0.0.1" {
			t.Errorf("v%d: %+v", version, p)
		}
	}
}

// DescribeTopicPartitions pages: its cursor leads through all partitions once.
func TestDescribeTopicPartitionsPages(t *testing.T) {
	n := startNode(t)
	for _, name := range []string{"a", "b", "c"} {
		n.controller.createTopic(name, 5)
	}
	n.settle(t.Context())
	c := n.connect()
	for name, topics := range map[string][]string{"all": nil, "named": {"c", "a", "b", "b"}} {
		seen := map[string]int{}
		q := kmsg.NewPtrDescribeTopicPartitionsRequest()
		for _, topic := range topics {
			q.Topics = append(q.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: topic})
		}
		q.ResponsePartitionLimit = 4
		pages := 0
		for {
			p := ask[*kmsg.DescribeTopicPartitionsResponse](c, 0, q)
			for _, topic := range p.Topics {
				for _, part := range topic.Partitions {
					if int(part.Partition) != seen[*topic.Topic] {
						t.Fatalf("%s: %s-%d comes after %d others", name, *topic.Topic, part.Partition, seen[*topic.Topic])
					}
					seen[*topic.Topic]++
				}
			}
			if pages++; p.NextCursor == nil || pages > 10 {
				break
			}
			q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: p.NextCursor.Topic, Partition: p.NextCursor.Partition}
		}
		if pages != 4 || seen["a"] != 5 || seen["b"] != 5 || seen["c"] != 5 {
			t.Errorf("%s: %d pages, %v", name, pages, seen)
		}
	}
}
