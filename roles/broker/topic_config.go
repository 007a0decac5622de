package broker

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/clean"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// topicKeys are the configs of topics, with this broker's defaults.
func topicKeys(maxMessageBytes int) []configs.TopicKey {
	keys := configs.TopicKeys()
	for i := range keys {
		if keys[i].Name == "max.message.bytes" && maxMessageBytes > 0 {
			keys[i].Default = strconv.Itoa(maxMessageBytes)
		}
	}
	return keys
}

// logConfig returns what the log of a partition is to do. Values were checked
// when they were set; one that cannot be read counts as not set.
func (b *Broker) logConfig(t *metadata.Topic, p *metadata.Partition) log.Config {
	// A coordinator never waits for the bucket (RULES 4.4): the broker's own topics
	// stay in the WAL too, and keep that short by themselves, but for what has a retention.
	c := log.Config{MinInSync: t.MinISR(p), KeepLocal: t.SelfKept()}
	for _, key := range b.topicKeys {
		value := valueOf(t, key)
		switch key.Name {
		case "cleanup.policy":
			c.Keyed, _, _ = configs.CleanupPolicy(value)
		case "compression.type":
			c.Codec, c.Recompress = codecOf(value)
		case "max.message.bytes":
			c.MaxMessageBytes = int(number(value))
		case "message.timestamp.after.max.ms":
			c.TimestampAfterMax = timeBound(value)
		case "message.timestamp.before.max.ms":
			c.TimestampBeforeMax = timeBound(value)
		case configs.DurabilityKey:
			c.EarlyAcks = value == configs.MemoryDurability && !t.Internal
			c.BucketAcks = value == configs.ObjectDurability && !t.Internal
		case "rustmq.expect.offset":
			c.ExpectOffset = value == "true"
		case "message.timestamp.type":
			if value == batch.LogAppendTime.String() {
				c.TimestampType = batch.LogAppendTime
			}
		}
	}
	return c
}

// deletes tells whether old records of a topic may be deleted by their age, and so
// by a client.
func (b *Broker) deletes(t *metadata.Topic) bool {
	for _, key := range b.topicKeys {
		if key.Name == "cleanup.policy" {
			_, deletes, _ := configs.CleanupPolicy(valueOf(t, key))
			return deletes
		}
	}
	return true
}

// valueOf returns what a topic has for a key: its own, or the default.
func valueOf(t *metadata.Topic, key configs.TopicKey) string {
	if value, set := t.Configs[key.Name]; set {
		return value
	}
	if t.Internal && key.Name == "cleanup.policy" {
		return "compact" // one that was made before topics could be
	}
	return key.Default
}

// cleaningPolicy says how a topic is compacted by key; false: it is not.
func (b *Broker) cleaningPolicy(t *metadata.Topic) (p clean.Policy, compacted bool) {
	for _, key := range b.topicKeys {
		value := valueOf(t, key)
		switch key.Name {
		case "cleanup.policy":
			compacted, _, _ = configs.CleanupPolicy(value)
		case "delete.retention.ms":
			p.DeleteRetention = longest(value)
		case "max.compaction.lag.ms":
			p.MaxLag = millis(value)
		case "min.cleanable.dirty.ratio":
			p.DirtyRatio, _ = strconv.ParseFloat(value, 64)
		case "min.compaction.lag.ms":
			p.MinLag = longest(value)
		}
	}
	return p, compacted
}

// codecOf returns the codec of a compression.type; false: the producer's is kept.
func codecOf(name string) (codec batch.Codec, recompress bool) {
	switch name {
	case "uncompressed":
		return batch.None, true
	case "gzip":
		return batch.Gzip, true
	case "snappy":
		return batch.Snappy, true
	case "lz4":
		return batch.LZ4, true
	case "zstd":
		return batch.Zstd, true
	}
	return batch.None, false
}

func number(value string) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// millis reads a duration in milliseconds; what no clock reaches is no bound.
func millis(value string) time.Duration {
	n := number(value)
	if n > math.MaxInt64/int64(time.Millisecond) {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// timeBound reads how far timestamps may lie from the clock, in milliseconds: 0 is the
// strictest, what no clock reaches is no bound.
func timeBound(value string) batch.Bound {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n > math.MaxInt64/int64(time.Millisecond) {
		return batch.Bound{}
	}
	return batch.Within(time.Duration(n) * time.Millisecond)
}

// longest reads a duration in milliseconds; what no clock reaches is a century.
func longest(value string) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	if n := number(value); n <= century.Milliseconds() {
		return time.Duration(n) * time.Millisecond
	}
	return century
}

// configType returns Kafka's number for the type of a key.
func configType(name string) kmsg.ConfigType {
	switch name {
	case "boolean":
		return kmsg.ConfigTypeBoolean
	case "int":
		return kmsg.ConfigTypeInt
	case "long":
		return kmsg.ConfigTypeLong
	case "double":
		return kmsg.ConfigTypeDouble
	case "list":
		return kmsg.ConfigTypeList
	case "short":
		return kmsg.ConfigTypeShort
	}
	return kmsg.ConfigTypeString
}

// topicConfigs lists what a topic with those values has: its own, those that brokers
// were given as default, and defaults. A nil want means every key.
func (b *Broker) topicConfigs(set map[string]string, minISR int, want []string) []kmsg.DescribeConfigsResponseResourceConfig {
	from := b.sources(b.images.image())
	all := []kmsg.DescribeConfigsResponseResourceConfig{}
	add := func(name, kind, standard, brokerKey string, named bool, doc string) {
		if want != nil && !slices.Contains(want, name) {
			return
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.ConfigType, c.Documentation = name, configType(kind), &doc
		if value, ok := set[name]; ok {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(name, &value, kmsg.ConfigSourceDynamicTopicConfig))
		}
		behind, whole := from.synonyms(brokerKey)
		if !whole {
			behind = append(behind, synonym(cmp.Or(brokerKey, name), &standard, kmsg.ConfigSourceDefaultConfig))
		}
		c.ConfigSynonyms = append(c.ConfigSynonyms, behind...)
		c.Value, c.Source = c.ConfigSynonyms[0].Value, c.ConfigSynonyms[0].Source
		if !whole && !named {
			c.ConfigSynonyms = c.ConfigSynonyms[:len(c.ConfigSynonyms)-1] // no broker's key has that value
		}
		c.IsDefault = c.Source == kmsg.ConfigSourceDefaultConfig
		all = append(all, c)
	}
	for _, key := range b.topicKeys {
		if key.Name == "min.insync.replicas" && key.Default == "" {
			key.Default = strconv.Itoa(minISR) // reckoned at use
		}
		add(key.Name, key.Type, key.Default, key.Synonym, key.Synonym != "", key.Doc)
	}
	for _, key := range b.ignoredKeys {
		add(key.Name, key.Type, key.Default, key.Synonym, key.Named, "nothing looks at it: "+key.Why)
	}
	slices.SortFunc(all, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func synonym(name string, value *string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, value, source
	return s
}
