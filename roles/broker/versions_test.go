package broker

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// drive is how a test asks for an API.
type drive struct {
	ask func(version int16) kmsg.Request
	// may are the errors that such a request may be answered with: nobody has made
	// the group or the transaction that it names.
	may []*kerr.Error
}

// drives has a request for each API: one that a client would send, of each
// version. APIs may be here that are not announced.
func drives(t testing.TB, topic string, id storage.TopicID, producer int64) map[kmsg.Key]drive {
	ptr := kmsg.StringPtr
	of := func(q kmsg.Request) func(int16) kmsg.Request { return func(int16) kmsg.Request { return q } }
	partition := []int32{0}
	noGroup := []*kerr.Error{kerr.UnknownMemberID, kerr.GroupIDNotFound, kerr.CoordinatorNotAvailable, kerr.MemberIDRequired, kerr.CoordinatorLoadInProgress}
	noTransaction := append([]*kerr.Error{kerr.InvalidProducerIDMapping, kerr.InvalidTxnState, kerr.TransactionalIDNotFound, kerr.InvalidProducerEpoch, kerr.TransactionCoordinatorFenced, kerr.TransactionAbortable}, noGroup...)
	return map[kmsg.Key]drive{
		kmsg.Produce: {ask: func(v int16) kmsg.Request {
			q := produceTo(topic, 0, acksAll, batchOf(t, "v"))
			q.Topics[0].TopicID = id
			return q
		}},
		kmsg.Fetch: {ask: func(v int16) kmsg.Request {
			q := fetchFrom(topic, 0, 0, 0)
			q.Topics[0].TopicID = id
			return q
		}},
		kmsg.ListOffsets: {ask: of(&kmsg.ListOffsetsRequest{ReplicaID: -1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}})},
		kmsg.Metadata:    {ask: of(metadataOf(topic))},
		kmsg.OffsetCommit: {ask: of(&kmsg.OffsetCommitRequest{Group: "driven", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{
			Topic: topic, TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 0, LeaderEpoch: -1, Metadata: ptr("")}},
		}}}), may: noGroup},
		kmsg.OffsetFetch: {ask: of(&kmsg.OffsetFetchRequest{
			Group: "driven", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: partition}},
			Groups: []kmsg.OffsetFetchRequestGroup{{Group: "driven", MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, TopicID: id, Partitions: partition}}}},
		}), may: noGroup},
		kmsg.FindCoordinator: {ask: of(&kmsg.FindCoordinatorRequest{CoordinatorKey: "driven", CoordinatorKeys: []string{"driven"}}), may: noGroup},
		kmsg.JoinGroup: {ask: func(v int16) kmsg.Request {
			return &kmsg.JoinGroupRequest{
				Group: fmt.Sprintf("joined-%d", v), SessionTimeoutMillis: 10_000, RebalanceTimeoutMillis: 10_000, ProtocolType: "consumer",
				Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0}}},
			}
		}, may: noGroup},
		kmsg.Heartbeat:      {ask: of(&kmsg.HeartbeatRequest{Group: "driven", Generation: 1, MemberID: "m"}), may: noGroup},
		kmsg.LeaveGroup:     {ask: of(&kmsg.LeaveGroupRequest{Group: "driven", MemberID: "m", Members: []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}}), may: noGroup},
		kmsg.SyncGroup:      {ask: of(&kmsg.SyncGroupRequest{Group: "driven", Generation: 1, MemberID: "m", ProtocolType: ptr("consumer"), Protocol: ptr("range")}), may: noGroup},
		kmsg.DescribeGroups: {ask: of(&kmsg.DescribeGroupsRequest{Groups: []string{"driven"}, IncludeAuthorizedOperations: true}), may: noGroup},
		kmsg.ListGroups:     {ask: of(&kmsg.ListGroupsRequest{StatesFilter: []string{"Stable"}, TypesFilter: []string{"classic"}}), may: noGroup},
		kmsg.CreateTopics: {ask: func(v int16) kmsg.Request {
			q := createTopics(fmt.Sprintf("made-%d", v))
			q.TimeoutMillis = 1000
			return q
		}},
		kmsg.DeleteTopics: {ask: func(v int16) kmsg.Request {
			name := fmt.Sprintf("made-%d", max(v, 2)) // that CreateTopics v2 to v7 has made
			return &kmsg.DeleteTopicsRequest{TopicNames: []string{name}, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}, TimeoutMillis: 1000}
		}, may: []*kerr.Error{kerr.UnknownTopicOrPartition}},
		kmsg.DeleteRecords:        {ask: of(&kmsg.DeleteRecordsRequest{TimeoutMillis: 1000, Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 1}}}}})},
		kmsg.InitProducerID:       {ask: of(&kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1})},
		kmsg.OffsetForLeaderEpoch: {ask: of(&kmsg.OffsetForLeaderEpochRequest{ReplicaID: -1, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}})},
		kmsg.AddPartitionsToTxn: {ask: of(&kmsg.AddPartitionsToTxnRequest{
			TransactionalID: "t", ProducerID: producer, Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partition}},
			Transactions: []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: "t", ProducerID: producer, Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: partition}}}},
		}), may: noTransaction},
		kmsg.AddOffsetsToTxn: {ask: of(&kmsg.AddOffsetsToTxnRequest{TransactionalID: "t", ProducerID: producer, Group: "driven"}), may: noTransaction},
		kmsg.EndTxn:          {ask: of(&kmsg.EndTxnRequest{TransactionalID: "t", ProducerID: producer, Commit: true}), may: noTransaction},
		kmsg.WriteTxnMarkers: {ask: of(&kmsg.WriteTxnMarkersRequest{Markers: []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: producer, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: partition}}}}}), may: noTransaction},
		kmsg.TxnOffsetCommit: {ask: of(&kmsg.TxnOffsetCommitRequest{TransactionalID: "t", Group: "driven", ProducerID: producer, Generation: -1, Topics: []kmsg.TxnOffsetCommitRequestTopic{{
			Topic: topic, TopicID: id, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{LeaderEpoch: -1}},
		}}}), may: noTransaction},
		kmsg.DescribeACLs:    {ask: of(describeACLs()), may: []*kerr.Error{kerr.SecurityDisabled}},
		kmsg.CreateACLs:      {ask: of(&kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: topic, ResourcePatternType: 3, Principal: "User:driven", Host: "*", Operation: 3, PermissionType: 3}}}), may: []*kerr.Error{kerr.SecurityDisabled}},
		kmsg.DeleteACLs:      {ask: of(&kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{{ResourceType: 2, ResourcePatternType: 3, Principal: ptr("User:driven"), Operation: 1, PermissionType: 1}}}), may: []*kerr.Error{kerr.SecurityDisabled}},
		kmsg.DescribeConfigs: {ask: of(&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic}}, IncludeSynonyms: true, IncludeDocumentation: true})},
		kmsg.AlterConfigs:    {ask: of(&kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: ptr("1000")}}}}})},
		kmsg.DescribeLogDirs: {ask: of(&kmsg.DescribeLogDirsRequest{Topics: []kmsg.DescribeLogDirsRequestTopic{{Topic: topic, Partitions: partition}}})},
		kmsg.CreatePartitions: {ask: func(v int16) kmsg.Request {
			return &kmsg.CreatePartitionsRequest{TimeoutMillis: 1000, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: topic, Count: 3 + int32(v)}}}
		}},
		kmsg.DeleteGroups:               {ask: of(&kmsg.DeleteGroupsRequest{Groups: []string{"nobody"}}), may: noGroup},
		kmsg.ElectLeaders:               {ask: of(&kmsg.ElectLeadersRequest{TimeoutMillis: 1000, Topics: []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: partition}}}), may: []*kerr.Error{kerr.ElectionNotNeeded}},
		kmsg.IncrementalAlterConfigs:    {ask: of(&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: ptr("1000")}}}}})},
		kmsg.AlterPartitionAssignments:  {ask: of(&kmsg.AlterPartitionAssignmentsRequest{TimeoutMillis: 1000, Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}}}}})},
		kmsg.ListPartitionReassignments: {ask: of(&kmsg.ListPartitionReassignmentsRequest{TimeoutMillis: 1000})},
		kmsg.OffsetDelete:               {ask: of(&kmsg.OffsetDeleteRequest{Group: "driven", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}}), may: noGroup},
		kmsg.DescribeClientQuotas:       {ask: of(&kmsg.DescribeClientQuotasRequest{Components: []kmsg.DescribeClientQuotasRequestComponent{{EntityType: "user", MatchType: kmsg.QuotasMatchTypeAny}}})},
		kmsg.AlterClientQuotas: {ask: of(&kmsg.AlterClientQuotasRequest{Entries: []kmsg.AlterClientQuotasRequestEntry{{
			Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: ptr("somebody")}},
			Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1 << 20}},
		}}})},
		kmsg.DescribeUserSCRAMCredentials: {ask: of(&kmsg.DescribeUserSCRAMCredentialsRequest{Users: []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: "somebody"}}}), may: []*kerr.Error{kerr.ResourceNotFound}},
		kmsg.SASLHandshake:                {ask: of(&kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}), may: []*kerr.Error{kerr.IllegalSaslState}},
		kmsg.SASLAuthenticate:             {ask: of(&kmsg.SASLAuthenticateRequest{SASLAuthBytes: []byte("x")}), may: []*kerr.Error{kerr.IllegalSaslState}},
		kmsg.AlterUserSCRAMCredentials: {ask: of(&kmsg.AlterUserSCRAMCredentialsRequest{Upsertions: []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{
			Name: "driven", Mechanism: 1, Iterations: 4096, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32),
		}}})},
		kmsg.UpdateFeatures:       {ask: of(&kmsg.UpdateFeaturesRequest{TimeoutMillis: 1000, FeatureUpdates: []kmsg.UpdateFeaturesRequestFeatureUpdate{{Feature: "metadata.version", MaxVersionLevel: 1, UpgradeType: 1}}, ValidateOnly: true}), may: []*kerr.Error{kerr.InvalidUpdateVersion}},
		kmsg.ListConfigResources:  {ask: of(&kmsg.ListConfigResourcesRequest{ResourceTypes: []int8{2, 4}})},
		kmsg.DescribeCluster:      {ask: of(&kmsg.DescribeClusterRequest{EndpointType: 1})},
		kmsg.DescribeProducers:    {ask: of(&kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: partition}}})},
		kmsg.DescribeTransactions: {ask: of(&kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"t"}}), may: noTransaction},
		kmsg.ListTransactions:     {ask: of(&kmsg.ListTransactionsRequest{StateFilters: []string{"Ongoing"}, DurationFilterMillis: -1}), may: noTransaction},
		kmsg.ConsumerGroupHeartbeat: {ask: func(v int16) kmsg.Request {
			q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			q.Group, q.MemberID, q.RebalanceTimeoutMillis = fmt.Sprintf("beating-%d", v), "m", 10_000
			q.SubscribedTopicNames, q.Topics = []string{topic}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			return q
		}, may: noGroup},
		kmsg.GetTelemetrySubscriptions: {ask: of(&kmsg.GetTelemetrySubscriptionsRequest{})},
		kmsg.PushTelemetry:             {ask: of(&kmsg.PushTelemetryRequest{ClientInstanceID: [16]byte{1}, SubscriptionID: noSubscription([16]byte{1})})},
		kmsg.ConsumerGroupDescribe:     {ask: of(&kmsg.ConsumerGroupDescribeRequest{Groups: []string{"driven"}}), may: noGroup},
		kmsg.DescribeTopicPartitions:   {ask: of(&kmsg.DescribeTopicPartitionsRequest{Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: topic}}, ResponsePartitionLimit: 10})},
	}
}

// Every version that is announced is driven: it is answered, in the layout of that
// version, and without an error that the request does not explain.
func TestEveryAnnouncedVersionIsServed(t *testing.T) {
	n := startNode(t)
	id := n.controller.createTopic("events", 2)
	n.settle(t.Context())
	for kind := range int8(2) { // of groups, and of transactions: makes their topics
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKey, find.CoordinatorType = "driven", kind
		if p := ask[*kmsg.FindCoordinatorResponse](n.connect(), 3, find); p.ErrorCode != 0 {
			t.Fatalf("no coordinator: %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis = kmsg.StringPtr("t"), 60_000
	producer := ask[*kmsg.InitProducerIDResponse](n.connect(), 4, begin)
	for ctx := within(t, 30*time.Second); producer.ErrorCode == kerr.CoordinatorLoadInProgress.Code && ctx.Err() == nil; {
		producer = ask[*kmsg.InitProducerIDResponse](n.connect(), 4, begin)
	}
	if producer.ErrorCode != 0 {
		t.Fatalf("no producer: %v", kerr.ErrorForCode(producer.ErrorCode))
	}
	ctx := within(t, 30*time.Second)
	driven := drives(t, "events", id, producer.ProducerID)
	versions := n.Versions()
	for _, announced := range versions {
		key := kmsg.Key(announced.Key)
		d, ok := driven[key]
		if !ok {
			t.Errorf("%s is announced, and nothing here drives it", kmsg.NameForKey(announced.Key))
			continue
		}
		c := n.connect()
		for version := announced.Min; version <= announced.Max; version++ {
			q := d.ask(version)
			q.SetVersion(version)
			p, raw, err := c.exchange(q)
			// Clients ask again while the markers of the version before are written.
			for concurrent := kerr.ConcurrentTransactions.Code; err == nil && slices.Contains(errorCodes(reflect.ValueOf(p)), concurrent) && ctx.Err() == nil; {
				p, raw, err = c.exchange(q)
			}
			if err != nil {
				t.Fatalf("%s v%d: %v", kmsg.NameForKey(announced.Key), version, err)
			}
			if again := p.AppendTo(nil); !bytes.Equal(again, raw) {
				t.Errorf("%s v%d: the answer of %d bytes reads as one of %d", kmsg.NameForKey(announced.Key), version, len(raw), len(again))
			}
			for _, code := range errorCodes(reflect.ValueOf(p)) {
				named := kerr.TypedErrorForCode(code)
				if !slices.Contains(d.may, named) {
					t.Errorf("%s v%d: answered with %v", kmsg.NameForKey(announced.Key), version, named)
				}
			}
		}
	}
	for _, version := range []int16{0, 1, 2, 3, 4} { // the transport's own
		q := kmsg.NewPtrApiVersionsRequest()
		q.ClientSoftwareName, q.ClientSoftwareVersion = "test", "1"
		p := ask[*kmsg.ApiVersionsResponse](n.connect(), version, q)
		if p.ErrorCode != 0 || len(p.ApiKeys) != len(versions)+1 {
			t.Errorf("ApiVersions v%d: error %d, %d keys of %d", version, p.ErrorCode, len(p.ApiKeys), len(versions)+1)
		}
	}
}

// exchange sends a request and returns its answer, decoded and as it came.
func (c *client) exchange(q kmsg.Request) (kmsg.Response, []byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, nil, err
	}
	c.send(q)
	body, err := c.receiveBody()
	if err != nil {
		return nil, nil, err
	}
	p := q.ResponseKind()
	return p, body, p.ReadFrom(body)
}

// errorCodes returns every code other than 0 that stands anywhere in a response.
func errorCodes(v reflect.Value) (codes []int16) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			codes = errorCodes(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes = append(codes, errorCodes(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name == "ErrorCode" && f.Type.Kind() == reflect.Int16 {
				if code := int16(v.Field(i).Int()); code != 0 {
					codes = append(codes, code)
				}
			} else if f.IsExported() && f.Name != "UnknownTags" {
				codes = append(codes, errorCodes(v.Field(i))...)
			}
		}
	}
	return codes
}
