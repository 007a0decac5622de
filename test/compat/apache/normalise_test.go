//go:build suites

package apache

import (
	"fmt"
	"reflect"
	"strings"
)

// What is made equal before answers are compared, and why.
var (
	// named are values that no two servers share: each is replaced by its kind and
	// by how many of that kind the run has met before. What is equal stays equal,
	// what differs stays different. By the last name of the path.
	named = map[string]string{
		"Host":       "host",    // where the server listens
		"Port":       "port",    // where the server listens
		"ClusterID":  "cluster", // made at random when storage is formatted
		"ProducerID": "producer",
		"MemberID":   "member", // a random UUID
		"LeaderID":   "member", // of JoinGroup
		"LogDir":     "directory",
		"Dir":        "directory",
		// Of the server's own clock.
		"StartTimestamp": "time",
		"LogAppendTime":  "append time",
		"ClientHost":     "host",
	}
	// keyed are lists whose items are told apart by a name rather than by their
	// place, so that one that lacks does not make all others differ.
	keyed = map[string]string{
		"CreateTopics Topics.Configs":       "Name",
		"DescribeConfigs Resources.Configs": "Name",
		"ApiVersions SupportedFeatures":     "Name",
		"ApiVersions FinalizedFeatures":     "Name",
	}
	// arbitrary are values of which only the kind can be compared.
	arbitrary = map[string]string{
		"SessionID":              "a session", // random (KIP-227)
		"FinalizedFeaturesEpoch": "an epoch",  // an offset of the metadata log
		// Texts are for people. Kafka gives one with some errors, with some none, with
		// some an empty one, and one where there is no error; no client acts on it.
		"ErrorMessage":  "perhaps a text",
		"Documentation": "a text",
		// Bytes of a disk's free and total space, and of what the log takes on it.
		"TotalBytes": "bytes", "UsableBytes": "bytes",
	}
	// unordered are lists whose order is that of a hash map in Kafka.
	unordered = map[string]bool{
		"Metadata Topics": true, "Metadata Topics.Partitions": true,
		"ListOffsets Topics": true, "ListOffsets Topics.Partitions": true,
		"CreateTopics Topics": true, "CreateTopics Topics.Configs": true,
		"DeleteTopics Topics": true, "CreatePartitions Topics": true,
		"DescribeConfigs Resources": true, "DescribeConfigs Resources.Configs": true,
		"DescribeLogDirs Dirs.Topics": true, "DescribeLogDirs Dirs.Topics.Partitions": true,
		"Produce Topics": true, "Produce Topics.Partitions": true,
		"Fetch Topics": true, "Fetch Topics.Partitions": true,
		"OffsetForLeaderEpoch Topics": true, "OffsetForLeaderEpoch Topics.Partitions": true,
		"OffsetFetch Topics": true, "OffsetFetch Topics.Partitions": true,
		"OffsetFetch Groups.Topics": true, "OffsetFetch Groups.Topics.Partitions": true,
		"DeleteRecords Topics": true, "DeleteRecords Topics.Partitions": true,
		"DeleteGroups Groups": true, "ConsumerGroupDescribe Groups.Members": true,
		"ConsumerGroupDescribe Groups.Members.SubscribedTopics": true,
		"WriteTxnMarkers Markers":                               true, "WriteTxnMarkers Markers.Topics": true,
		"AlterClientQuotas Entries.Entity": true, "DescribeProducers Topics.Partitions.ActiveProducers": true,
		"ListGroups Groups": true, "ListTransactions TransactionStates": true,
		"DescribeClientQuotas Entries": true, "DescribeClientQuotas Entries.Entity": true,
		"DescribeClientQuotas Entries.Values": true,
		"ListConfigResources ConfigResources": true, "JoinGroup Members": true, "DescribeGroups Groups.Members": true,
		"AddPartitionsToTxn Topics": true, "AddPartitionsToTxn Topics.Partitions": true,
		"TxnOffsetCommit Topics": true, "TxnOffsetCommit Topics.Partitions": true,
		"AlterConfigs Resources": true, "IncrementalAlterConfigs Resources": true,
		"ElectLeaders Topics": true, "ElectLeaders Topics.Partitions": true,
		"DescribeConfigs Resources.Configs.ConfigSynonyms": false, // their order is their precedence
	}
)

// normalise is the value of one field that is no list and no structure.
func (w walk) normalise(path string, v reflect.Value) string {
	last := path[strings.LastIndexByte(path, '.')+1:]
	if strings.HasSuffix(last, "ErrorCode") {
		return errorName(v.Int())
	}
	// Names that hold the lap's own tag are those of the sequence.
	value := strings.ReplaceAll(fmt.Sprint(v.Interface()), w.tag, "T")
	if last == "LeaderID" && v.Kind() != reflect.String {
		return value // of a broker
	}
	if kind := named[last]; kind != "" && value != "" && value != "-1" && (value != "0" || last == "ProducerID") {
		return w.names.of(kind, value)
	}
	if last == "ErrorMessage" {
		return arbitrary[last]
	}
	// What was not sent with a record is of the server's own clock.
	if strings.HasSuffix(last, "Timestamp") && v.Kind() == reflect.Int64 && v.Int() > sentAt+1_000_000_000 {
		return "now"
	}
	if kind := arbitrary[last]; kind != "" && value != "" && value != "-1" && value != "0" {
		return kind
	}
	return value
}
