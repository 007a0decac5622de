package client

import (
	"context"
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Of a batch's header what tells whether it holds records: docs of Kafka's record batch, v2.
const (
	batchHeader      = 61
	batchLengthAt    = 8
	batchLengthAfter = 12 // bytes before what the length counts
	lastDeltaAt      = 23
	recordCountAt    = 57

	// holeFetches bounds how many answers are looked through at a time, of holeBytes each.
	holeFetches = 8
	holeBytes   = 1 << 20
)

// holes drops from left the partitions whose last offsets hold no record: a module dropped
// them, or sent them elsewhere, and their batches are stored without. franz-go passes over
// such a batch and does not tell.
func (c *consume) holes(ctx context.Context, cl *kgo.Client, adm *kadm.Client, left map[int32]int64) {
	topics, err := adm.ListTopics(ctx, c.topic)
	if err != nil {
		return
	}
	for p, end := range left {
		leader, _, err := cl.PartitionLeader(c.topic, p)
		if err != nil {
			continue
		}
		next := c.begins[p]
		at, known := c.last[p]
		if known {
			next = at + 1
		}
		for range holeFetches {
			records := c.fetchAt(ctx, cl, leader, topics[c.topic].ID, p, next)
			after, empty := afterEmpty(records, next, known)
			if !empty || after <= next {
				break
			}
			if next = after; next >= end {
				delete(left, p)
				break
			}
		}
	}
}

// fetchAt returns the batches from an offset on; nil: there are none, or they are not known.
func (c *consume) fetchAt(ctx context.Context, cl *kgo.Client, leader int32, id kadm.TopicID, partition int32, offset int64) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = holeBytes, -1
	topic, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, topic.TopicID = c.topic, id
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, holeBytes
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := req.RequestWith(ctx, cl.Broker(int(leader)))
	if err != nil || len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 || answer.Topics[0].Partitions[0].ErrorCode != 0 {
		return nil
	}
	return answer.Topics[0].Partitions[0].RecordBatches
}

// afterEmpty returns the offset behind the last whole batch, and whether none of them has a
// record that is still to come: if one before next is known, the batch that it is in was
// delivered with it.
func afterEmpty(batches []byte, next int64, known bool) (after int64, empty bool) {
	after = next
	for len(batches) >= batchHeader {
		base := int64(binary.BigEndian.Uint64(batches))
		length := int64(int32(binary.BigEndian.Uint32(batches[batchLengthAt:]))) + batchLengthAfter
		last := base + int64(int32(binary.BigEndian.Uint32(batches[lastDeltaAt:])))
		count := int32(binary.BigEndian.Uint32(batches[recordCountAt:]))
		if length < batchHeader || length > int64(len(batches)) {
			break
		}
		if count != 0 && !(known && base < next) {
			return after, false
		}
		after = max(after, last+1)
		batches = batches[length:]
	}
	return after, true
}
