//go:build suites

package apache

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sentAt is the timestamp of every record: both servers are sent the same bytes.
const sentAt = 1_700_000_000_000

// batch is a record batch of so many records, as a client without idempotence
// sends it; change may adapt it before its checksum is made.
func batch(records int, change ...func(*kmsg.RecordBatch)) []byte {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(records - 1),
		FirstTimestamp: sentAt, MaxTimestamp: sentAt + int64(records-1),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(records), Records: recordsOf(records),
	}
	for _, c := range change {
		c(&b)
	}
	return sealed(b)
}

// recordsOf are records a millisecond apart.
func recordsOf(n int) (raw []byte) {
	for i := range n {
		rec := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: int32(i), Key: []byte("k"), Value: []byte("value of a record")}
		body := rec.AppendTo(nil)
		rec.Length = int32(len(body) - 1) // of a record whose length took one byte
		raw = rec.AppendTo(raw)
	}
	return raw
}

// sealed is the batch with its length and checksum.
func sealed(b kmsg.RecordBatch) []byte {
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// compressed makes the records of a batch those of a codec.
func compressed(codec kgo.CompressionCodec) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) {
		c, err := kgo.DefaultCompressor(codec)
		if err != nil {
			panic(err)
		}
		raw, kind := c.Compress(new(bytes.Buffer), b.Records)
		b.Records, b.Attributes = bytes.Clone(raw), b.Attributes|int16(kind)
	}
}

// by makes a batch that of a producer.
func by(id int64, epoch int16, sequence int32) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = id, epoch, sequence }
}

func transactional(b *kmsg.RecordBatch) { b.Attributes |= 1 << 4 }

// produceTo is a request that sends records to partition 0 of a topic.
func produceTo(r *run, topic string, records []byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis = -1, 10_000
	q.Topics = []kmsg.ProduceRequestTopic{{
		Topic: topic, TopicID: r.id(topic), Partitions: []kmsg.ProduceRequestTopicPartition{{Records: records}},
	}}
	return q
}

// id is that of a topic the run has made.
func (r *run) id(topic string) [16]byte {
	for id, name := range r.topics {
		if name == topic {
			return id
		}
	}
	return [16]byte{}
}
