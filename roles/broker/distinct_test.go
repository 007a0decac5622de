package broker

import (
	"slices"
	"testing"

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
	mark.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 5, CoordinatorEpoch: 1}}
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
