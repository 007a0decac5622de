package configs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// IgnoredTopicKey is a config of topics that Kafka's clients and tools set, and that
// has nothing to act upon here. It is checked as Kafka does, kept and shown.
type IgnoredTopicKey struct {
	Name    string
	Synonym string // the broker's key that Kafka names as its default
	Named   bool   // that key has a default, which Kafka names as a synonym
	Why     string
	Type    string                   // Kafka's
	Default string                   // that a topic is shown to have
	only    string                   // the one value that is true here; empty: any of its type
	within  func(value string) error // Kafka's range of it; nil: any of its type
}

const (
	noSegments    = "a partition has no files of its own: wal.segment_size is that of the log of all"
	noReplication = "what followers lack is pushed beside the tail, and not held back"
)

// IgnoredTopicKeys lists them by name.
func IgnoredTopicKeys() []IgnoredTopicKey {
	keys := ignoredTopicKeys()
	documented, ofBrokers := documentedKeys(kafkaTopicKeys), documentedKeys(kafkaBrokerKeys)
	for i := range keys {
		k, _ := findKafkaKey(documented, keys[i].Name)
		behind, _ := findKafkaKey(ofBrokers, keys[i].Synonym)
		keys[i].Named = behind.Default != ""
		keys[i].Type, keys[i].Default = k.Type, cmp.Or(keys[i].only, k.Default)
	}
	return keys
}

func ignoredTopicKeys() []IgnoredTopicKey {
	return []IgnoredTopicKey{
		{Name: "compression.gzip.level", Synonym: "compression.gzip.level", Why: "what the broker compresses itself, it does at the codec's own level", within: gzipLevel},
		{Name: "compression.lz4.level", Synonym: "compression.lz4.level", Why: "as compression.gzip.level", within: whole(1, 17)},
		{Name: "compression.zstd.level", Synonym: "compression.zstd.level", Why: "as compression.gzip.level", within: whole(-131072, 22)},
		{Name: "file.delete.delay.ms", Synonym: "log.segment.delete.delay.ms", Why: noSegments, within: whole(0, math.MaxInt64)},
		{Name: "flush.messages", Synonym: "log.flush.interval.messages", Why: "every batch is on disk before it is acked, unless wal.sync or rustmq.durability says otherwise", within: whole(1, math.MaxInt64)},
		{Name: "flush.ms", Synonym: "log.flush.interval.ms", Why: "as flush.messages", within: whole(0, math.MaxInt64)},
		{Name: "follower.replication.throttled.replicas", Why: noReplication, within: throttledReplicas},
		{Name: "index.interval.bytes", Synonym: "log.index.interval.bytes", Why: noSegments, within: whole(0, math.MaxInt32)},
		{Name: "leader.replication.throttled.replicas", Why: noReplication, within: throttledReplicas},
		{Name: "local.retention.bytes", Synonym: "log.local.retention.bytes", Why: "what is in the bucket stays in the WAL as long as there is room", within: whole(-2, math.MaxInt64)},
		{Name: "local.retention.ms", Synonym: "log.local.retention.ms", Why: "as local.retention.bytes", within: whole(-2, math.MaxInt64)},
		{Name: "preallocate", Synonym: "log.preallocate", Why: noSegments},
		{Name: "remote.storage.enable", only: "true", Why: "all records go to the bucket; false is refused, for they would go there all the same"},
		{Name: "segment.bytes", Synonym: "log.segment.bytes", Why: noSegments, within: whole(1<<20, math.MaxInt32)},
		{Name: "segment.index.bytes", Synonym: "log.index.size.max.bytes", Why: noSegments, within: whole(4, math.MaxInt32)},
		{Name: "segment.jitter.ms", Synonym: "log.roll.jitter.ms", Why: noSegments, within: whole(0, math.MaxInt64)},
		{Name: "segment.ms", Synonym: "log.roll.ms", Why: noSegments, within: whole(1, math.MaxInt64)},
	}
}

// refusedTopicKeys says why a config of Kafka's topics cannot be set.
var refusedTopicKeys = map[string]string{
	"remote.log.copy.disable":      "all records go to the bucket, where deletion and retention find them",
	"remote.log.delete.on.disable": "all records go to the bucket, for as long as retention keeps them",
}

// KafkaTopicKeys lists the configs of Kafka's topics with what they are here.
func KafkaTopicKeys() []KafkaKey {
	keys := documentedKeys(kafkaTopicKeys)
	ignored := map[string]string{}
	for _, k := range IgnoredTopicKeys() {
		ignored[k.Name] = k.Why
	}
	for i := range keys {
		k := &keys[i]
		why, isIgnored := ignored[k.Name]
		served, isServed := FindTopicKey(k.Name)
		switch {
		case isServed:
			k.Support, k.Why = Served, served.Doc
		case isIgnored:
			k.Support, k.Why = Ignored, why
		default:
			k.Why = refusedTopicKeys[k.Name]
		}
	}
	return keys
}

// checkUnserved says why a topic cannot have a config that nothing here reads; nil
// when it may all the same.
func checkUnserved(key, value string) error {
	for _, k := range IgnoredTopicKeys() {
		switch {
		case k.Name != key:
		case k.only != "" && value != k.only:
			return fmt.Errorf("topic config %s can only be %s: %s", key, k.only, k.Why)
		default:
			err := KafkaKey{Type: k.Type}.check(value)
			if err == nil && k.within != nil {
				err = k.within(value)
			}
			if err != nil {
				return fmt.Errorf("topic config %s: %w", key, err)
			}
			return nil
		}
	}
	if why, ok := refusedTopicKeys[key]; ok {
		return fmt.Errorf("topic config %s is not served: %s", key, why)
	}
	return KnownTopicConfig(key)
}

// KnownTopicConfig says that a config of a topic is neither Kafka's nor ours; nil when it
// is, whether it can be set or not.
func KnownTopicConfig(key string) error {
	known := append(topicKeyNames(), kafkaKeyNames(documentedKeys(kafkaTopicKeys))...)
	if slices.Contains(known, key) {
		return nil
	}
	return unknownKey("topic", key, known)
}

// gzipLevel checks a level as deflate has them; -1 is its own default.
func gzipLevel(value string) error {
	if n, err := strconv.Atoi(value); err != nil || n != -1 && (n < 1 || n > 9) {
		return fmt.Errorf("%q is not a whole number from 1 to 9, nor -1", value)
	}
	return nil
}

// throttledReplicas checks a list of replicas, of which * is all.
func throttledReplicas(value string) error {
	if value == "" || strings.TrimSpace(value) == "*" {
		return nil
	}
	for item := range strings.SplitSeq(value, ",") {
		partition, broker, pair := strings.Cut(strings.TrimSpace(item), ":")
		if !pair || !digits(partition) || !digits(broker) {
			return fmt.Errorf("%q is not partition:broker,partition:broker,…, nor *", value)
		}
	}
	return nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
