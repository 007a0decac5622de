//go:build suites

package apache

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// producing sends what may be appended, and what may not.
func producing(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 1)
	odd := r.tag + "-odd"
	r.topic(odd, 1)
	small := r.tag + "-small"
	r.topic(small, 1, "max.message.bytes", "200")
	compact := r.tag + "-compact"
	r.topic(compact, 1, "cleanup.policy", "compact")
	stamped := r.tag + "-stamped"
	r.topic(stamped, 1, "message.timestamp.type", "LogAppendTime")
	strict := r.tag + "-strict"
	r.topic(strict, 1, "message.timestamp.after.max.ms", "1000", "message.timestamp.before.max.ms", "1000")
	recoded := r.tag + "-recoded"
	r.topic(recoded, 1, "compression.type", "gzip")
	send := func(label, topic string, records []byte, change ...func(*kmsg.ProduceRequest)) {
		q := produceTo(r, topic, records)
		for _, c := range change {
			c(q)
		}
		r.ask(label, q)
	}
	send("one record", topic, batch(1))
	send("three records", topic, batch(3))
	send("acks of the leader", topic, batch(1), func(q *kmsg.ProduceRequest) { q.Acks = 1 })
	send("acks of two", topic, batch(1), func(q *kmsg.ProduceRequest) { q.Acks = 2 })
	for _, c := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{{"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		send(c.name, topic, batch(10, compressed(c.codec)))
	}
	bad := batch(1)
	bad[len(bad)-1] ^= 1
	send("bad checksum", topic, bad)
	send("no records", topic, batch(0))
	send("empty", topic, []byte{})
	if r.lap == 1 { // beside other laps
		send("null", odd, nil) // Kafka never answers it: that takes its time
	}
	send("cut off", topic, batch(1)[:40])
	send("a few bytes", topic, []byte{1, 2, 3})
	send("two batches", topic, slices.Concat(batch(1), batch(1)))
	send("last offset of another", topic, batch(2, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 7 }))
	send("magic 1", topic, batch(1, func(b *kmsg.RecordBatch) { b.Magic = 1 }))
	send("magic 3", topic, batch(1, func(b *kmsg.RecordBatch) { b.Magic = 3 }))
	send("control batch", topic, batch(1, func(b *kmsg.RecordBatch) { b.Attributes |= 1 << 5 }))
	send("negative timestamp", topic, batch(1, func(b *kmsg.RecordBatch) { b.FirstTimestamp, b.MaxTimestamp = -1, -1 }))
	send("max timestamp of another", topic, batch(1, func(b *kmsg.RecordBatch) { b.MaxTimestamp = sentAt + 1000 }))
	send("too large", small, batch(20))
	send("no key where compacted", compact, batch(1, func(b *kmsg.RecordBatch) {
		rec := kmsg.Record{Value: []byte("v")}
		rec.Length = int32(len(rec.AppendTo(nil)) - 1)
		b.Records = rec.AppendTo(nil)
	}))
	send("compacted", compact, batch(2))
	send("stamped by the log", stamped, batch(2))
	send("too old", strict, batch(1))
	send("recoded", recoded, batch(10))
	send("recoded from zstd", recoded, batch(10, compressed(kgo.ZstdCompression())))
	send("unknown codec", odd, batch(1, func(b *kmsg.RecordBatch) { b.Attributes |= 5 }))
	send("codec of another", odd, batch(1, func(b *kmsg.RecordBatch) { b.Attributes |= 1 }))
	send("more counted than there", odd, batch(2, func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = 5, 4 }))
	send("fewer counted than there", odd, batch(3, func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = 2, 1 }))
	send("base offset of its own", odd, batch(1, func(b *kmsg.RecordBatch) { b.FirstOffset = 77 }))
	send("unknown topic", r.tag+"-none", batch(1))
	send("unknown partition", topic, batch(1), func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = 9 })
	send("negative partition", topic, batch(1), func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = -1 })
	send("no topics", topic, nil, func(q *kmsg.ProduceRequest) { q.Topics = nil })
	send("one good, one bad", topic, batch(1), func(q *kmsg.ProduceRequest) {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, kmsg.ProduceRequestTopicPartition{Partition: 9, Records: batch(1)})
	})
	send("after all", topic, batch(1))
	for _, topic := range []string{topic, compact, stamped, recoded} {
		r.ask("read "+topic[len(r.tag):], fetchFrom(r, topic, 0))
	}
	if r.lap < 3 {
		for v := range int16(3) {
			q := produceTo(r, topic, batch(1))
			r.askV("refused version", v, q)
		}
	}
}

// idempotent sends what a producer with a sequence does.
func idempotent(r *run) {
	topic := r.tag + "-a"
	r.topic(topic, 2)
	init := func(label string, id int64, epoch int16) *kmsg.InitProducerIDResponse {
		q := kmsg.NewPtrInitProducerIDRequest()
		q.TransactionTimeoutMillis, q.ProducerID, q.ProducerEpoch = 60_000, id, epoch
		return r.ask(label, q).(*kmsg.InitProducerIDResponse)
	}
	first := init("first id", -1, -1)
	init("second id", -1, -1)
	init("bump, without a transaction", first.ProducerID, first.ProducerEpoch)
	init("an epoch without an id", -1, 3)
	init("an id without an epoch", first.ProducerID, -1)
	id := first.ProducerID
	send := func(label string, n int, epoch int16, sequence int32) {
		r.ask(label, produceTo(r, topic, batch(n, by(id, epoch, sequence))))
	}
	send("sequence 0", 2, 0, 0)
	send("again", 2, 0, 0)
	send("sequence 2", 3, 0, 2)
	send("the older again", 2, 0, 0)
	send("a part of one again", 1, 0, 2)
	send("a gap", 1, 0, 9)
	for i := range int32(5) {
		send("in order", 1, 0, 5+i)
	}
	send("one long gone", 2, 0, 0)
	send("older epoch of none", 1, -1, 0)
	send("newer epoch, not from 0", 1, 1, 5)
	send("newer epoch", 1, 1, 0)
	send("older epoch", 1, 0, 10)
	send("unknown producer, not from 0", 1, 0, 10)
	id += 1_000_000
	send("unknown producer", 1, 0, 10)
	send("unknown producer from 0", 1, 0, 0)
	send("negative sequence", 1, 0, -2)
	q := kmsg.NewPtrDescribeProducersRequest()
	q.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0, 1, 9}}, {Topic: r.tag + "-none", Partitions: []int32{0}}}
	r.ask("producers", q)
	r.ask("read", fetchFrom(r, topic, 0))
}
