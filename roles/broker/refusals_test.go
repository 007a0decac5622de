package broker

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

// What one request asks for more than once has one answer, and is not done.
func TestNamedTwiceIsRefusedOnce(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()

	create := createTopics("new", "new")
	if p := ask[*kmsg.CreateTopicsResponse](c, 7, create); len(p.Topics) != 1 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("create: %+v", p.Topics)
	}
	name := kmsg.StringPtr("events")
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: name}, {Topic: name}}
	if p := ask[*kmsg.DeleteTopicsResponse](c, 6, drop); len(p.Topics) != 1 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("delete: %+v", p.Topics)
	}
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "events", Count: 2}, {Topic: "events", Count: 2}}
	if p := ask[*kmsg.CreatePartitionsResponse](c, 3, grow); len(p.Topics) != 1 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("grow: %+v", p.Topics)
	}
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for range 2 {
		set.Resources = append(set.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events",
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: kmsg.StringPtr("1")}}})
	}
	p := ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, set)
	if len(p.Resources) != 2 || p.Resources[0].ErrorCode != kerr.InvalidRequest.Code || p.Resources[1].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("configs: %+v", p.Resources)
	}
	topic, ok := n.images.image().Topic("events")
	if !ok || topic.Partitions.Len() != 1 || len(topic.Configs) != 0 {
		t.Errorf("something was done: %+v", topic)
	}
}

// A topic is deleted by its name or by its id: neither and both are no way.
func TestDeletionNamesATopicOneWay(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 1)
	n.settle(t.Context())
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("events"), TopicID: id}, {}}
	p := ask[*kmsg.DeleteTopicsResponse](n.connect(), 6, drop)
	if len(p.Topics) != 2 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code || p.Topics[1].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%+v", p.Topics)
	}
	if _, ok := n.images.image().Topic("events"); !ok {
		t.Error("it was deleted")
	}
}

// Null is no value of a config: not where a topic is made, nor where it is changed.
func TestNullIsNoConfig(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	create := createTopics("new")
	create.Topics[0].Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}}
	if p := ask[*kmsg.CreateTopicsResponse](c, 7, create); p.Topics[0].ErrorCode != kerr.InvalidConfig.Code || p.Topics[0].Configs == nil {
		t.Errorf("create: %+v", p.Topics)
	}
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	set.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms"}}}}
	if p := ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, set); p.Resources[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("incremental: %+v", p.Resources)
	}
	whole := kmsg.NewPtrAlterConfigsRequest()
	whole.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events",
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms"}}}}
	if p := ask[*kmsg.AlterConfigsResponse](c, 2, whole); p.Resources[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("whole: %+v", p.Resources)
	}
}

// The cluster's metadata, and the coordinators' topics before they are there, are
// nobody's to make.
func TestReservedNamesAreNotMade(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	for name, want := range map[string]*kerr.Error{clusterMetadata: kerr.InvalidRequest, offsetsTopic: kerr.InvalidTopicException} {
		if p := ask[*kmsg.CreateTopicsResponse](c, 7, createTopics(name)); p.Topics[0].ErrorCode != want.Code {
			t.Errorf("%s: %+v", name, p.Topics)
		}
	}
	n.controller.createTopic(offsetsTopic, 1)
	n.settle(t.Context())
	if p := ask[*kmsg.CreateTopicsResponse](c, 7, createTopics(offsetsTopic)); p.Topics[0].ErrorCode != kerr.TopicAlreadyExists.Code {
		t.Errorf("one that is there: %+v", p.Topics)
	}
}

// Records of a topic that is only compacted are not a client's to delete.
func TestCompactedRecordsAreNotDeleted(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("keys", 1)
	n.settle(t.Context())
	c := n.connect()
	set := kmsg.NewPtrIncrementalAlterConfigsRequest()
	set.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "keys",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "cleanup.policy", Value: kmsg.StringPtr("compact")}}}}
	if p := ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, set); p.Resources[0].ErrorCode != 0 {
		t.Fatalf("%+v", p.Resources)
	}
	n.settle(t.Context())
	cut := kmsg.NewPtrDeleteRecordsRequest()
	cut.TimeoutMillis = 1000
	cut.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "keys", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, cut); p.Topics[0].Partitions[0].ErrorCode != kerr.PolicyViolation.Code {
		t.Errorf("%+v", p.Topics)
	}
}

// A producer without a transaction that names an epoch names an id, and the other
// way around.
func TestEpochGoesWithAnID(t *testing.T) {
	n := startNode(t)
	for _, named := range [][2]int64{{-1, 3}, {3, -1}} {
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionTimeoutMillis, q.ProducerID, q.ProducerEpoch = 1000, named[0], int16(named[1])
		if p := ask[*kmsg.InitProducerIDResponse](n.connect(), 5, q); p.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("%v: %+v", named, p)
		}
	}
}

// A broker's listener says nothing of the cluster to who takes it for a controller's.
func TestControllersAreNotAskedHere(t *testing.T) {
	n := startNode(t)
	for kind, want := range map[int8]*kerr.Error{2: kerr.MismatchedEndpointType, 9: kerr.UnsupportedEndpointType} {
		q := kmsg.NewPtrDescribeClusterRequest()
		q.EndpointType, q.IncludeClusterAuthorizedOperations = kind, true
		p := ask[*kmsg.DescribeClusterResponse](n.connect(), 2, q)
		if p.ErrorCode != want.Code || p.ClusterID != "" || p.ControllerID != -1 || len(p.Brokers) != 0 {
			t.Errorf("type %d: %+v", kind, p)
		}
	}
}

// A page of partitions has one at least, and begins at one that can be.
func TestPagesOfPartitionsHaveBounds(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.Topics, q.ResponsePartitionLimit = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "events"}}, 0
	p := ask[*kmsg.DescribeTopicPartitionsResponse](n.connect(), 0, q)
	if len(p.Topics) != 1 || len(p.Topics[0].Partitions) != 1 || p.NextCursor == nil || p.NextCursor.Partition != 1 {
		t.Errorf("limit 0: %+v", p)
	}
	q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "events", Partition: -1}
	p = ask[*kmsg.DescribeTopicPartitionsResponse](n.connect(), 0, q)
	if len(p.Topics) != 1 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code || len(p.Topics[0].Partitions) != 0 {
		t.Errorf("from partition -1: %+v", p)
	}
}

// Who names no keys asks for all.
func TestNoConfigNamedIsAll(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	q := kmsg.NewPtrDescribeConfigsRequest()
	q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events", ConfigNames: []string{}}}
	if p := ask[*kmsg.DescribeConfigsResponse](n.connect(), 4, q); len(p.Resources) != 1 || len(p.Resources[0].Configs) < 20 {
		t.Errorf("%+v", p)
	}
}

// The default of an entity is null; an empty name is nobody's.
func TestQuotasAreOfSomebody(t *testing.T) {
	n := startNode(t)
	q := kmsg.NewPtrAlterClientQuotasRequest()
	q.Entries = []kmsg.AlterClientQuotasRequestEntry{{
		Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: kmsg.StringPtr("")}},
		Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1}},
	}}
	if p := ask[*kmsg.AlterClientQuotasResponse](n.connect(), 1, q); len(p.Entries) != 1 || p.Entries[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%+v", p)
	}
}

// Which records of a batch are to blame is said from version 8 on (KIP-467), of the
// first hundred.
func TestRefusedRecordsAreNamed(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("keys", 1, "cleanup.policy", "compact")
	n.controller.createTopic("strict", 1, "message.timestamp.before.max.ms", "1000")
	n.controller.createTopic("ahead", 1, "message.timestamp.after.max.ms", "1000")
	n.controller.createTopic("never-ahead", 1, "message.timestamp.after.max.ms", "0")
	n.controller.createTopic("never-behind", 1, "message.timestamp.before.max.ms", "0")
	n.controller.createTopic("ledger", 1, "rustmq.expect.offset", "true")
	n.settle(t.Context())
	c := n.connect()
	now := n.Broker.opt.Now().UnixMilli()
	expect := batch.Header{Key: []byte("rustmq.expect.offset"), Value: []byte("0")}
	build := func(codec batch.Codec, fill func(w *batch.Builder)) []byte {
		w := batch.NewBuilder(batch.BuilderOptions{Codec: codec})
		fill(w)
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mixed := func(w *batch.Builder) {
		w.Add(now, []byte("k"), []byte("v"))
		w.Add(now, nil, []byte("v"))
		w.Add(now, []byte("k"), []byte("v"))
		w.Add(now, nil, []byte("v"))
	}
	for _, tc := range []struct {
		name, topic string
		records     []byte
		want        *kerr.Error
		named       []int32
	}{
		{"keys", "keys", build(batch.None, mixed), kerr.InvalidRecord, []int32{1, 3}},
		{"compressed keys", "keys", build(batch.Gzip, mixed), kerr.InvalidRecord, []int32{1, 3}},
		{"old", "strict", build(batch.None, func(w *batch.Builder) {
			w.Add(now-2000, nil, nil)
			w.Add(now, nil, nil)
			w.Add(now-3000, nil, nil)
		}), kerr.InvalidTimestamp, []int32{0, 2}},
		{"compressed old", "strict", build(batch.Gzip, func(w *batch.Builder) { w.Add(now-2000, nil, nil) }), kerr.InvalidTimestamp, nil},
		{"ahead of the strictest", "never-ahead", build(batch.None, func(w *batch.Builder) { w.Add(now+60_000, nil, nil) }), kerr.InvalidTimestamp, []int32{0}},
		{"behind the strictest", "never-behind", build(batch.None, func(w *batch.Builder) { w.Add(now-1, nil, nil) }), kerr.InvalidTimestamp, []int32{0}},
		{"ahead", "ahead", build(batch.None, func(w *batch.Builder) {
			w.Add(now, nil, nil)
			w.Add(now+60_000, nil, nil)
		}), kerr.InvalidTimestamp, []int32{1}},
		{"condition", "ledger", build(batch.None, func(w *batch.Builder) {
			w.Add(now, nil, nil)
			w.Add(now, nil, nil, expect)
		}), kerr.InvalidRecord, []int32{1}},
		{"condition twice", "ledger", build(batch.Gzip, func(w *batch.Builder) { w.Add(now, nil, nil, expect, expect) }), kerr.InvalidRecord, []int32{0}},
		{"of no record", "keys", []byte("garbage"), kerr.InvalidRecord, nil},
		{"taken", "keys", build(batch.None, func(w *batch.Builder) { w.Add(now, []byte("k"), nil) }), nil, nil},
	} {
		for _, version := range []int16{7, 8, 12} {
			p := ask[*kmsg.ProduceResponse](c, version, produceTo(tc.topic, 0, -1, tc.records)).Topics[0].Partitions[0]
			var named []int32
			for _, r := range p.ErrorRecords {
				named = append(named, r.RelativeOffset)
				if r.ErrorMessage == nil || *r.ErrorMessage == "" {
					t.Errorf("%s, v%d: record %d is named without a reason", tc.name, version, r.RelativeOffset)
				}
			}
			want := tc.named
			if version < 8 {
				want = nil
			}
			if kerr.TypedErrorForCode(p.ErrorCode) != tc.want || !slices.Equal(named, want) {
				t.Errorf("%s, v%d: %v of %v, want %v of %v", tc.name, version, kerr.ErrorForCode(p.ErrorCode), named, tc.want, want)
			}
		}
	}
	many := build(batch.None, func(w *batch.Builder) {
		for range 1000 {
			w.Add(now, nil, nil)
		}
	})
	if p := ask[*kmsg.ProduceResponse](c, 12, produceTo("keys", 0, -1, many)).Topics[0].Partitions[0]; len(p.ErrorRecords) != 100 {
		t.Errorf("%d of a thousand are named", len(p.ErrorRecords))
	}
}

// A level that nobody has defined is not taken for one of those there are.
func TestUnknownIsolationIsRefused(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "a")
	for version := int16(4); version <= 18; version++ {
		q := fetchFrom("events", 0, 0, time.Minute) // it does not wait
		q.Topics[0].TopicID = nameOrID(n, 13, "events")
		for _, level := range []int8{-1, 2, 7} {
			q.IsolationLevel = level
			p := ask[*kmsg.FetchResponse](c, version, q)
			if version >= 7 && p.ErrorCode != kerr.UnknownServerError.Code {
				t.Errorf("fetch v%d, %d: %+v", version, level, p)
			}
			if byID := version >= 13; byID != (len(p.Topics) == 0) {
				t.Errorf("fetch v%d, %d: %+v", version, level, p)
			} else if !byID && (p.Topics[0].Partitions[0].ErrorCode != kerr.UnknownServerError.Code || len(p.Topics[0].Partitions[0].RecordBatches) > 0) {
				t.Errorf("fetch v%d, %d: %+v", version, level, p.Topics)
			}
		}
	}
	for version := int16(2); version <= 10; version++ {
		q := kmsg.NewPtrListOffsetsRequest()
		q.IsolationLevel = 2
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "events", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: latest, CurrentLeaderEpoch: -1}}}}
		p := ask[*kmsg.ListOffsetsResponse](c, version, q).Topics[0].Partitions[0]
		if p.ErrorCode != kerr.UnknownServerError.Code || p.Offset != -1 || p.LeaderEpoch != -1 {
			t.Errorf("list v%d: %+v", version, p)
		}
	}
}

// Versions 10 and 11 have a topic's id, and may not be asked by it.
func TestMetadataByIDBeforeItsVersion(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	for version := int16(10); version <= 12; version++ {
		for name, asked := range map[string]kmsg.MetadataRequestTopic{
			"both": {Topic: new("events"), TopicID: id}, "id": {TopicID: id}, "neither": {},
		} {
			q := kmsg.NewPtrMetadataRequest()
			q.Topics = []kmsg.MetadataRequestTopic{asked}
			p := ask[*kmsg.MetadataResponse](c, version, q)
			if version == 12 {
				if len(p.Brokers) != 1 {
					t.Errorf("v12, %s: %+v", name, p)
				}
				continue
			}
			if len(p.Brokers) != 0 || p.ControllerID != -1 || p.ClusterID != nil || len(p.Topics) != 1 || p.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
				t.Errorf("v%d, %s: %+v", version, name, p)
			}
		}
	}
}

// All topics are an empty list in version 0, and null from 1 on.
func TestMetadataOfNullInVersion0(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	frame := []byte{0, 0, 0, 14, 0, 3, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if _, err := c.conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if !c.closed() {
		t.Error("it is answered")
	}
}
