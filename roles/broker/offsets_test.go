package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func deleteRecords(topic string, partition int32, offset int64) *kmsg.DeleteRecordsRequest {
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}}}
	return q
}

// Nothing is deleted that a client cannot have seen, here or by the controller,
// which would tell the next leader (RULES 5.5).
func TestDeleteRecordsStopsAtTheHighWatermark(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a", "b", "c")
	for _, tc := range []struct {
		offset int64
		want   *kerr.Error
		low    int64
	}{
		{4, kerr.OffsetOutOfRange, -1}, {-2, kerr.OffsetOutOfRange, -1}, {2, nil, 2}, {1, nil, 2}, {-1, nil, 3}, {3, nil, 3},
	} {
		for version := int16(0); version <= 2; version++ {
			got := ask[*kmsg.DeleteRecordsResponse](c, version, deleteRecords("events", 0, tc.offset)).Topics[0].Partitions[0]
			if kerr.TypedErrorForCode(got.ErrorCode) != tc.want || got.LowWatermark != tc.low {
				t.Errorf("v%d to %d: %v, low watermark %d; want %v, %d", version, tc.offset, kerr.ErrorForCode(got.ErrorCode), got.LowWatermark, tc.want, tc.low)
			}
		}
		topic, _ := n.controller.Image().Topic("events")
		if is := int64(topic.Partition(0).LogStart); is > 3 || tc.low >= 0 && is != tc.low {
			t.Errorf("to %d: the controller knows log start %d", tc.offset, is)
		}
	}
	if got := ask[*kmsg.DeleteRecordsResponse](c, 2, deleteRecords("nowhere", 0, 0)).Topics[0].Partitions[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("an unknown topic: %v", kerr.ErrorForCode(got.ErrorCode))
	}
}

func TestListOffsetsInEveryVersion(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a", "b", "c") // at 1000, 1001, 1002
	ask[*kmsg.DeleteRecordsResponse](c, 2, deleteRecords("events", 0, 1))
	for version := int16(1); version <= 11; version++ {
		for _, tc := range []struct {
			millis, offset, timestamp int64
			since                     int16
		}{
			{latest, 3, -1, 1}, {earliest, 1, -1, 1}, {maxTimestamp, 2, 1002, 7}, {earliestLocal, 1, -1, 8}, {latestTiered, -1, -1, 9}, {firstPending, -1, -1, 11},
			{0, 1, 1001, 1}, {1002, 2, 1002, 1}, {1003, -1, -1, 1},
		} {
			q := kmsg.NewPtrListOffsetsRequest()
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Timestamp = tc.millis
			q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "events", Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
			got := ask[*kmsg.ListOffsetsResponse](c, version, q).Topics[0].Partitions[0]
			switch {
			case version < tc.since:
				if got.ErrorCode != kerr.UnsupportedVersion.Code {
					t.Errorf("v%d at %d: %v", version, tc.millis, kerr.ErrorForCode(got.ErrorCode))
				}
			case got.ErrorCode != 0 || got.Offset != tc.offset || got.Timestamp != tc.timestamp:
				t.Errorf("v%d at %d: %+v, want offset %d, timestamp %d", version, tc.millis, got, tc.offset, tc.timestamp)
			}
		}
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a", "b")
	for version := int16(2); version <= 4; version++ {
		for _, tc := range []struct {
			current, asked int32
			want           *kerr.Error
			epoch          int32
			end            int64
		}{
			{-1, 0, nil, 0, 2}, {0, 0, nil, 0, 2}, {-1, 5, nil, -1, -1}, {1, 0, kerr.UnknownLeaderEpoch, -1, -1},
		} {
			q := kmsg.NewPtrOffsetForLeaderEpochRequest()
			part := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			part.CurrentLeaderEpoch, part.LeaderEpoch = tc.current, tc.asked
			q.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "events", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{part}}}
			got := ask[*kmsg.OffsetForLeaderEpochResponse](c, version, q).Topics[0].Partitions[0]
			if kerr.TypedErrorForCode(got.ErrorCode) != tc.want || got.LeaderEpoch != tc.epoch || got.EndOffset != tc.end {
				t.Errorf("v%d %+v: %+v", version, tc, got)
			}
		}
	}
}

func TestProducerIDs(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	seen := map[int64]bool{}
	for version := int16(0); version <= 5; version++ {
		for range 7 { // a block of the test's controller holds ten
			p := ask[*kmsg.InitProducerIDResponse](c, version, kmsg.NewPtrInitProducerIDRequest())
			if p.ErrorCode != 0 || p.ProducerEpoch != 0 || seen[p.ProducerID] {
				t.Fatalf("v%d: %+v", version, p)
			}
			seen[p.ProducerID] = true
		}
	}
}
