package storage

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
)

// Offset is the position of a record in its partition, counted from 0.
type Offset int64

// NoOffset stands for "no such offset"; it is also what Kafka sends for it.
const NoOffset Offset = -1

// Epoch is a leader epoch (KIP-101): it grows by at least one with every
// change of leader, and never comes back.
type Epoch int32

// NoEpoch stands for "epoch unknown"; it is also what Kafka sends for it.
const NoEpoch Epoch = -1

// TopicID is a topic's 16 byte identity (KIP-516). A topic that is deleted and
// made again has another one. The zero id names no topic.
type TopicID [16]byte

// String returns the id as Kafka prints it: URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero reports whether id is the id that names no topic.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads what [TopicID.String] writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) != len(id) {
		return TopicID{}, errors.New("topic id " + strconv.Quote(s) + ": want 22 characters of URL-safe base64")
	}
	copy(id[:], raw)
	return id, nil
}

// ObjectID is the number of an object in the bucket. It is issued once in the
// life of a cluster, from 1; 0 names no object.
type ObjectID uint64

// String returns the id in 16 hex digits, as it stands in the object's key.
func (id ObjectID) String() string {
	var digits [16]byte
	hex.Encode(digits[:], binary.BigEndian.AppendUint64(nil, uint64(id)))
	return string(digits[:])
}

// ParseObjectID reads what [ObjectID.String] writes, and nothing else.
func ParseObjectID(s string) (ObjectID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || ObjectID(n).String() != s {
		return 0, errors.New("object id " + strconv.Quote(s) + ": want 16 hex digits in lower case")
	}
	return ObjectID(n), nil
}

// PartitionID names one partition of one topic, for all time.
type PartitionID struct {
	Topic TopicID
	Index int32
}

// String returns "topicid/index", for logs.
func (p PartitionID) String() string {
	return p.Topic.String() + "/" + strconv.Itoa(int(p.Index))
}

// LogValue implements slog.LogValuer: logs in JSON show what String returns too.
func (p PartitionID) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Hash spreads partitions over shards; it is not stable between versions.
func (p PartitionID) Hash() uint64 {
	return binary.LittleEndian.Uint64(p.Topic[:8]) ^ uint64(p.Index)*0x9E3779B97F4A7C15
}
