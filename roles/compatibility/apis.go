package compatibility

// api is one API of Apache Kafka. Without versions its brokers do not announce it
// to clients.
type api struct {
	name     string
	min, max int16  // as Kafka 4.4 announces them; max -1: it does not
	why      string // it is not served, or not in all versions; or what differs
}

// Kafka is the version of Apache Kafka that the list of APIs is of.
const Kafka = "4.4"

const (
	between   = "spoken between Kafka's own brokers and controllers"
	ownQuorum = "the controllers' quorum is etcd's raft, not Kafka's"
	removed   = "Kafka 4.0 has removed it"
	noShares  = "share groups are not served; their clients say so, and others never ask"
	noStreams = "groups of the streams protocol are not served; Kafka Streams uses the classic one"
	noTokens  = "delegation tokens are not served"
)

// kafkaAPIs lists the APIs of Kafka by their key.
func kafkaAPIs() []api {
	return []api{
		0: {"Produce", 0, 13, "v0 to v2 are announced and refused, as by Kafka: older librdkafka sends nothing compressed otherwise (KAFKA-18659)"},
		1: {"Fetch", 4, 18, ""},
		2: {"ListOffsets", 1, 11, "tiered, and to be uploaded, is what the bucket has, and has not"},
		3: {"Metadata", 0, 13, ""},
		4: {"LeaderAndIsr", 0, -1, removed},
		5: {"StopReplica", 0, -1, removed},
		6: {"UpdateMetadata", 0, -1, removed},
		7: {"ControlledShutdown", 0, -1, removed},
		8: {"OffsetCommit", 2, 10, ""},
		9: {"OffsetFetch", 1, 10, ""},

		10: {"FindCoordinator", 0, 6, ""},
		11: {"JoinGroup", 0, 9, ""},
		12: {"Heartbeat", 0, 4, ""},
		13: {"LeaveGroup", 0, 5, ""},
		14: {"SyncGroup", 0, 5, ""},
		15: {"DescribeGroups", 0, 6, ""},
		16: {"ListGroups", 0, 5, ""},
		17: {"SaslHandshake", 0, 1, "v0, behind which messages come without a header, is announced and refused: librdkafka authenticates nowhere otherwise, and sends v1"},
		18: {"ApiVersions", 0, 5, "v5 checks whom the client means (KIP-1242)"},
		19: {"CreateTopics", 2, 7, ""},

		20: {"DeleteTopics", 1, 6, "the brokers' own topics are kept: INVALID_TOPIC_EXCEPTION; Kafka leaves that to ACLs"},
		21: {"DeleteRecords", 0, 2, ""},
		22: {"InitProducerId", 0, 5, ""},
		23: {"OffsetForLeaderEpoch", 2, 4, ""},
		24: {"AddPartitionsToTxn", 0, 5, ""},
		25: {"AddOffsetsToTxn", 0, 4, ""},
		26: {"EndTxn", 0, 5, ""},
		27: {"WriteTxnMarkers", 1, 2, "a coordinator epoch that no partition of `__transaction_state` has had yet is INVALID_REQUEST"},
		28: {"TxnOffsetCommit", 0, 6, ""},
		29: {"DescribeAcls", 1, 3, ""},

		30: {"CreateAcls", 1, 3, "hosts may be ranges (CIDR); principals are users, and names of hosts are refused"},
		31: {"DeleteAcls", 1, 3, ""},
		32: {"DescribeConfigs", 1, 4, "of topics, brokers, groups and client metrics subscriptions, of the last two at most 1,000 at once; loggers have none of their own"},
		33: {"AlterConfigs", 0, 2, "of topics, brokers, groups and client metrics subscriptions"},
		34: {"AlterReplicaLogDirs", 1, 2, "a node has one data directory"},
		35: {"DescribeLogDirs", 1, 5, "the data directory is the one log directory; sizes are those in the WAL"},
		36: {"SaslAuthenticate", 0, 2, "SCRAM-SHA-256, SCRAM-SHA-512, and OAUTHBEARER and PLAIN over TLS and QUIC; SCRAM by librdkafka from 2.6.1 on, as with Kafka 4"},
		37: {"CreatePartitions", 0, 3, ""},
		38: {"CreateDelegationToken", 1, 3, noTokens},
		39: {"RenewDelegationToken", 1, 2, noTokens},

		40: {"ExpireDelegationToken", 1, 2, noTokens},
		41: {"DescribeDelegationToken", 1, 3, noTokens},
		42: {"DeleteGroups", 0, 3, ""},
		43: {"ElectLeaders", 0, 2, ""},
		44: {"IncrementalAlterConfigs", 0, 1, "of topics, brokers, groups and client metrics subscriptions"},
		45: {"AlterPartitionReassignments", 0, 1, ""},
		46: {"ListPartitionReassignments", 0, 0, ""},
		47: {"OffsetDelete", 0, 0, ""},
		48: {"DescribeClientQuotas", 0, 1, "by user, client id or both, or by address"},
		49: {"AlterClientQuotas", 0, 1, "producer_byte_rate, consumer_byte_rate, request_percentage and controller_mutation_rate, by user, client id or both; connection_creation_rate by address"},

		50: {"DescribeUserScramCredentials", 0, 0, ""},
		51: {"AlterUserScramCredentials", 0, 0, ""},
		52: {"Vote", 0, -1, between},
		53: {"BeginQuorumEpoch", 0, -1, between},
		54: {"EndQuorumEpoch", 0, -1, between},
		55: {"DescribeQuorum", 0, 2, ownQuorum},
		56: {"AlterPartition", 0, -1, between},
		57: {"UpdateFeatures", 0, 2, "to the levels that ApiVersions announces: they come with the version of rustmq, and others are refused"},
		58: {"Envelope", 0, -1, between},
		59: {"FetchSnapshot", 0, -1, between},

		60: {"DescribeCluster", 0, 2, "of brokers, not of controllers"},
		61: {"DescribeProducers", 0, 0, ""},
		62: {"BrokerRegistration", 0, -1, between},
		63: {"BrokerHeartbeat", 0, -1, between},
		64: {"UnregisterBroker", 0, 0, "`rustmq admin brokers decommission` empties a broker first, and takes it out once it is stopped"},
		65: {"DescribeTransactions", 0, 0, ""},
		66: {"ListTransactions", 0, 2, ""},
		67: {"AllocateProducerIds", 0, -1, between},
		68: {"ConsumerGroupHeartbeat", 0, 1, ""},
		69: {"ConsumerGroupDescribe", 0, 1, ""},

		70: {"ControllerRegistration", 0, -1, between},
		71: {"GetTelemetrySubscriptions", 0, 0, "clients are asked for deltas; without a subscription that matches, for nothing"},
		72: {"PushTelemetry", 0, 0, "sums and gauges become `rustmq_client_sum_total` and `rustmq_client_value` of /metrics"},
		73: {"AssignReplicasToDirs", 0, -1, between},
		74: {"ListConfigResources", 0, 1, "topics, brokers, client metrics subscriptions, and groups that were given one: nothing else has configs"},
		75: {"DescribeTopicPartitions", 0, 0, ""},
		76: {"ShareGroupHeartbeat", 1, 1, noShares},
		77: {"ShareGroupDescribe", 1, 1, noShares},
		78: {"ShareFetch", 1, 2, noShares},
		79: {"ShareAcknowledge", 1, 2, noShares},

		80: {"AddRaftVoter", 0, 1, ownQuorum},
		81: {"RemoveRaftVoter", 0, 0, ownQuorum},
		82: {"UpdateRaftVoter", 0, -1, between},
		83: {"InitializeShareGroupState", 0, 0, noShares},
		84: {"ReadShareGroupState", 0, 0, noShares},
		85: {"WriteShareGroupState", 0, 1, noShares},
		86: {"DeleteShareGroupState", 0, 0, noShares},
		87: {"ReadShareGroupStateSummary", 0, 1, noShares},
		88: {"StreamsGroupHeartbeat", 0, 1, noStreams},
		89: {"StreamsGroupDescribe", 0, 1, noStreams},

		90: {"DescribeShareGroupOffsets", 0, 1, noShares},
		91: {"AlterShareGroupOffsets", 0, 0, noShares},
		92: {"DeleteShareGroupOffsets", 0, 0, noShares},
		93: {"StreamsGroupTopologyDescriptionUpdate", 0, 0, noStreams},
		94: {"UnregisterController", 0, 0, ownQuorum},
	}
}
