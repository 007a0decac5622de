package broker

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// A partition that a request names often is answered, and acted upon, once.
func TestRepeatedPartitionsAreAnsweredOnce(t *testing.T) {
	n := startNode(t)
	events := n.controller.createTopic("events", 2)
	n.settle(t.Context())
	again := []int32{1, 0, 1, 1, 7, 7}
	want := []int32{0, 1, 7}
	c := n.connect()

	producers := kmsg.NewPtrDescribeProducersRequest()
	elect := kmsg.NewPtrElectLeadersRequest()
	alter := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	mark := kmsg.NewPtrWriteTxnMarkersRequest()
	mark.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 5}}
	for _, name := range []string{"events", "nowhere", "events"} {
		producers.Topics = append(producers.Topics, kmsg.DescribeProducersRequestTopic{Topic: name, Partitions: again})
		elect.Topics = append(elect.Topics, kmsg.ElectLeadersRequestTopic{Topic: name, Partitions: again})
		mark.Markers[0].Topics = append(mark.Markers[0].Topics, kmsg.WriteTxnMarkersRequestMarkerTopic{Topic: name, Partitions: again})
		of := kmsg.AlterPartitionAssignmentsRequestTopic{Topic: name}
		for _, index := range again {
			of.Partitions = append(of.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: index, Replicas: []int32{1}})
		}
		alter.Topics = append(alter.Topics, of)
	}
	type answers map[string][]int32
	got := map[string]answers{"producers": {}, "elect": {}, "alter": {}, "mark": {}}
	for _, topic := range ask[*kmsg.DescribeProducersResponse](c, 0, producers).Topics {
		for _, p := range topic.Partitions {
			got["producers"][topic.Topic] = append(got["producers"][topic.Topic], p.Partition)
		}
	}
	for _, topic := range ask[*kmsg.ElectLeadersResponse](c, 2, elect).Topics {
		for _, p := range topic.Partitions {
			got["elect"][topic.Topic] = append(got["elect"][topic.Topic], p.Partition)
		}
	}
	for _, topic := range ask[*kmsg.AlterPartitionAssignmentsResponse](c, 0, alter).Topics {
		for _, p := range topic.Partitions {
			got["alter"][topic.Topic] = append(got["alter"][topic.Topic], p.Partition)
		}
	}
	for _, topic := range ask[*kmsg.WriteTxnMarkersResponse](c, 1, mark).Markers[0].Topics {
		for _, p := range topic.Partitions {
			got["mark"][topic.Topic] = append(got["mark"][topic.Topic], p.Partition)
		}
	}
	for api, of := range got {
		for _, name := range []string{"events", "nowhere"} {
			if !slices.Equal(of[name], want) {
				t.Errorf("%s: of %s %v are answered, want %v", api, name, of[name], want)
			}
		}
	}
	for i := range int32(2) {
		if l, _ := n.store.Log(storage.PartitionID{Topic: events, Index: i}); l.HighWatermark() != 1 {
			t.Errorf("partition %d ends at %d: one marker was to be written", i, l.HighWatermark())
		}
	}
}

// So is a partition that OffsetFetch names often: of each, what was committed with
// its offset comes back, which may be long.
func TestRepeatedOffsetsAreAnsweredOnce(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 2)
	n.settle(t.Context())
	c := n.connect()
	c.findGroups("group")
	commit := commitOf("group", 5)
	commit.Topics[0].Partitions[0].Partition, commit.Topics[0].Partitions[0].Metadata = 1, kmsg.StringPtr("note")
	if p := ask[*kmsg.OffsetCommitResponse](c, 8, commit); p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("commit: %+v", p)
	}
	for _, version := range []int16{7, 9, 10} {
		q := kmsg.NewPtrOffsetFetchRequest()
		q.Group = "group"
		again := []int32{1, 0, 1, 1}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberEpoch = "group", -1
		for range 3 {
			q.Topics = append(q.Topics, kmsg.OffsetFetchRequestTopic{Topic: "events", Partitions: again})
			g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: "events", TopicID: id, Partitions: again})
		}
		q.Groups = []kmsg.OffsetFetchRequestGroup{g}
		p := ask[*kmsg.OffsetFetchResponse](c, version, q)
		var got []int32
		note := func(partition int32, metadata *string) {
			got = append(got, partition)
			if has := metadata != nil && *metadata == "note"; has != (partition == 1) {
				t.Errorf("v%d: partition %d: metadata %v", version, partition, metadata)
			}
		}
		for _, topic := range p.Topics {
			for _, part := range topic.Partitions {
				note(part.Partition, part.Metadata)
			}
		}
		for _, of := range p.Groups {
			for _, topic := range of.Topics {
				for _, part := range topic.Partitions {
					note(part.Partition, part.Metadata)
				}
			}
		}
		if !slices.Equal(got, []int32{0, 1}) {
			t.Errorf("v%d: %v are answered", version, got)
		}
	}
}

// A resource whose configuration is altered twice by one request is refused, as by
// Kafka: a short request that names it often would else be long work.
func TestResourcesAreAlteredOncePerRequest(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.controller.createTopic("others", 1)
	n.settle(t.Context())
	c := n.connect()
	kind := kmsg.ConfigResourceTypeTopic
	whole, single := kmsg.NewPtrAlterConfigsRequest(), kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, name := range []string{"events", "others", "events"} {
		whole.Resources = append(whole.Resources, kmsg.AlterConfigsRequestResource{ResourceType: kind, ResourceName: name,
			Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: kmsg.StringPtr("1000000")}}})
		single.Resources = append(single.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: name,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.bytes", Value: kmsg.StringPtr("1000000")}}})
	}
	got := map[string][]int16{}
	for _, r := range ask[*kmsg.AlterConfigsResponse](c, 2, whole).Resources {
		got["all keys of "+r.ResourceName] = append(got["all keys of "+r.ResourceName], r.ErrorCode)
	}
	for _, r := range ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, single).Resources {
		got["keys of "+r.ResourceName] = append(got["keys of "+r.ResourceName], r.ErrorCode)
	}
	invalid := kerr.InvalidRequest.Code
	for what, want := range map[string][]int16{
		"all keys of events": {invalid, invalid}, "keys of events": {invalid, invalid},
		"all keys of others": {0}, "keys of others": {0},
	} {
		if !slices.Equal(got[what], want) {
			t.Errorf("%s: %v, want %v", what, got[what], want)
		}
	}
}
