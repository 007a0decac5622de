package configs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// TopicKey is one config of a topic, under Kafka's documented name. A key is
// here when something reads it.
type TopicKey struct {
	Name    string
	Type    string // "boolean", "int", "long", "double", "string", "list"
	Default string
	Synonym string // the broker's key that Kafka names as its default; empty: there is none
	Doc     string
	check   func(value string) error
}

// DurabilityKey says what an ack of a topic waits for. It is fixed when the topic is made.
const (
	DurabilityKey    = "rustmq.durability"
	WALDurability    = "wal"    // the disks of those in sync
	MemoryDurability = "memory" // their memory
	ObjectDurability = "object" // the bucket
)

// Durability is what a topic of those configs has.
func Durability(of map[string]string) string { return cmp.Or(of[DurabilityKey], WALDurability) }

// TopicKeys lists what can be set on a topic, by name.
func TopicKeys() []TopicKey {
	return []TopicKey{
		{"cleanup.policy", "list", "delete", "log.cleanup.policy", "what happens to old records: delete, by retention.ms and retention.bytes; compact, of each key the last stays; or both", cleanupPolicy},
		{"compression.type", "string", "producer", "compression.type", "codec of stored batches; producer keeps each as it came", oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")},
		{"delete.retention.ms", "long", "86400000", "log.cleaner.delete.retention.ms", "how long records without a value, which delete a key, stay after compaction has come to them", whole(0, math.MaxInt64)},
		{"max.compaction.lag.ms", "long", strconv.FormatInt(math.MaxInt64, 10), "log.cleaner.max.compaction.lag.ms", "how old a record may be that compaction has not come to, whatever min.cleanable.dirty.ratio says", whole(1, math.MaxInt64)},
		{"max.message.bytes", "int", strconv.FormatInt(int64(Default().Broker.MessageMaxBytes), 10), "message.max.bytes", "largest record batch, at most a quarter of wal.segment_size", whole(1, math.MaxInt32)},
		{"message.timestamp.after.max.ms", "long", "3600000", "log.message.timestamp.after.max.ms", "how far ahead of the broker's clock a record's timestamp may be", whole(0, math.MaxInt64)},
		{"message.timestamp.before.max.ms", "long", strconv.FormatInt(math.MaxInt64, 10), "log.message.timestamp.before.max.ms", "how far behind the broker's clock a record's timestamp may be", whole(0, math.MaxInt64)},
		{"message.timestamp.type", "string", "CreateTime", "log.message.timestamp.type", "CreateTime: the producer's time; LogAppendTime: the broker's", oneOf("CreateTime", "LogAppendTime")},
		{"min.cleanable.dirty.ratio", "double", "0.5", "log.cleaner.min.cleanable.ratio", "share of the bytes in the bucket that compaction has not come to, from which on it does", share},
		{"min.compaction.lag.ms", "long", "0", "log.cleaner.min.compaction.lag.ms", "how old a record must be before compaction comes to it", whole(0, math.MaxInt64)},
		{"min.insync.replicas", "int", "", "min.insync.replicas", "replicas that must be in sync for acks=all; unset: two, or all there are", whole(1, math.MaxInt16)},
		{"retention.bytes", "long", "-1", "log.retention.bytes", "bytes of a partition in the bucket, beyond which the oldest are deleted; -1: no bound", whole(-1, math.MaxInt64)},
		{"retention.ms", "long", "604800000", "log.retention.ms", "how long records are kept, by their timestamps; -1: for ever", whole(-1, math.MaxInt64)},
		{DurabilityKey, "string", WALDurability, "", "what an ack waits for, fixed when the topic is made: wal, the disk of every in-sync replica; memory, their memory, so that a power cut may lose the last records; object, the bucket: one replica, and an ack takes wal.ack_interval longer", oneOf(WALDurability, MemoryDurability, ObjectDurability)},
		{"rustmq.expect.offset", "boolean", "false", "", "true: a batch whose first record has a header of this name is appended only at that offset", oneOf("true", "false")},
		{"unclean.leader.election.enable", "boolean", "false", "unclean.leader.election.enable", "true: where no replica is left that holds all acked records, one that lacks some leads, and they are lost", oneOf("true", "false")},
	}
}

// FindTopicKey returns the key of that name.
func FindTopicKey(name string) (TopicKey, bool) {
	keys := TopicKeys()
	i := slices.IndexFunc(keys, func(k TopicKey) bool { return k.Name == name })
	if i < 0 {
		return TopicKey{}, false
	}
	return keys[i], true
}

// ValidateTopicConfig says why a topic cannot have the value, or nil.
func ValidateTopicConfig(key, value string) error {
	k, ok := FindTopicKey(key)
	if !ok {
		return checkUnserved(key, value)
	}
	if err := k.check(value); err != nil {
		return fmt.Errorf("topic config %s: %w", key, err)
	}
	return nil
}

// LargestBatch is what a batch may have on a node of this configuration, whatever
// max.message.bytes says: what the write-ahead log takes as one, and a frame of the
// network. A topic may say more, as tools that move topics do; its batches are refused.
func (c *Config) LargestBatch() Size { return min(c.WAL.SegmentSize/4, c.Network.MaxFrame) }

// ValidateTopicConfigs says why a topic cannot have all its own values together,
// over what all brokers were given as defaults under their keys, or nil.
func ValidateTopicConfigs(own, ofBrokers map[string]string) error {
	lag := func(key string) int64 {
		k, _ := FindTopicKey(key)
		n, _ := strconv.ParseInt(cmp.Or(own[key], ofBrokers[k.Synonym], k.Default), 10, 64) // each was checked alone
		return n
	}
	if least, most := lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms"); least > most {
		return fmt.Errorf("topic config min.compaction.lag.ms is %d, which is more than max.compaction.lag.ms, %d", least, most)
	}
	return nil
}

func topicKeyNames() []string {
	var names []string
	for _, k := range TopicKeys() {
		names = append(names, k.Name)
	}
	return names
}

// ListTopicConfig tells whether a key is a list, and its default.
func ListTopicConfig(key string) (def string, isList bool) {
	k, ok := FindTopicKey(key)
	return k.Default, ok && k.Type == "list"
}

// CleanupPolicy reads a cleanup.policy: which of compact and delete it names.
func CleanupPolicy(value string) (compact, del bool, err error) {
	for item := range strings.SplitSeq(value, ",") {
		switch strings.TrimSpace(item) {
		case "compact":
			compact = true
		case "delete":
			del = true
		default:
			return false, false, fmt.Errorf("%q is not delete, compact or both", value)
		}
	}
	return compact, del, nil
}

func cleanupPolicy(value string) error {
	_, _, err := CleanupPolicy(value)
	return err
}

func share(value string) error {
	// What the range says of NaN is false, too.
	if f, err := strconv.ParseFloat(value, 64); err != nil || !(f >= 0 && f <= 1) {
		return fmt.Errorf("%q is not a number from 0 to 1", value)
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%q is not one of %s", value, strings.Join(allowed, ", "))
		}
		return nil
	}
}

func whole(low, high int64) func(string) error {
	return func(value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a whole number from %d to %d", value, low, high)
		}
		return nil
	}
}
