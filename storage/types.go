// Package storage holds the few words that every storage room, and every room
// above, uses for the same things: offsets, epochs, topic and object ids. It has no
// behaviour and imports nothing of rustmq.
package storage

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
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

// ObjectID names one object in the bucket; an id is issued once.
type ObjectID uint64

// String returns the id as 16 hex digits, as it stands in keys and logs.
func (id ObjectID) String() string {
	s := strconv.FormatUint(uint64(id), 16)
	return "0000000000000000"[len(s):] + s
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

// Hash spreads partitions over shards; it is not stable between versions.
func (p PartitionID) Hash() uint64 {
	return binary.LittleEndian.Uint64(p.Topic[:8]) ^ uint64(p.Index)*0x9E3779B97F4A7C15
}
