package broker

import (
	"bytes"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage/batch"
)

func requireProduced(t testing.TB, p *kmsg.ProduceResponse, want *kerr.Error, offset int64) {
	t.Helper()
	part := p.Topics[0].Partitions[0]
	wantCode := int16(0)
	if want != nil {
		wantCode = want.Code
	}
	if part.ErrorCode != wantCode || part.BaseOffset != offset {
		t.Fatalf("got %v and offset %d, want %v and %d", kerr.ErrorForCode(part.ErrorCode), part.BaseOffset, want, offset)
	}
}

// nameOrID makes a request name its topic as its version does.
func nameOrID(n *node, version int16, name string) [16]byte {
	t, ok := n.controller.Image().Topic(name)
	if version < 13 || !ok {
		return [16]byte{}
	}
	return t.ID
}

func TestProduceAndFetchInEveryVersion(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 2)
	n.settle(t.Context())
	c := n.connect()
	offset := int64(0)
	for version := int16(wire.MinProduce); version <= wire.MaxProduce; version++ {
		for _, acks := range []int16{1, -1} {
			q := produceTo("events", 1, acks, batchOf(t, "a", "b"))
			q.Topics[0].TopicID = nameOrID(n, version, "events")
			requireProduced(t, ask[*kmsg.ProduceResponse](c, version, q), nil, offset)
			offset += 2
		}
	}
	for version := int16(wire.MinFetch); version <= wire.MaxFetch; version++ {
		q := fetchFrom("events", 1, 0, 0)
		q.Topics[0].TopicID = nameOrID(n, version, "events")
		p := ask[*kmsg.FetchResponse](c, version, q)
		part := p.Topics[0].Partitions[0]
		if part.ErrorCode != 0 || part.HighWatermark != offset || len(values(t, part.RecordBatches)) != int(offset) {
			t.Fatalf("v%d: %v, high watermark %d and %d records, want %d", version,
				kerr.ErrorForCode(part.ErrorCode), part.HighWatermark, len(values(t, part.RecordBatches)), offset)
		}
	}
}

// TestDuplicateIsNotCountedAsProduced: the metrics say what producers appended.
func TestDuplicateIsNotCountedAsProduced(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	w := batch.NewBuilder(batch.BuilderOptions{Producer: &batch.Producer{ID: 7}})
	w.Add(n.Broker.opt.Now().UnixMilli(), nil, []byte("a"))
	w.Add(n.Broker.opt.Now().UnixMilli(), nil, []byte("b"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, bytes.Clone(b))), nil, 0)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.Broker.metrics)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"rustmq_broker_produced_records_total": 2, "rustmq_broker_produced_bytes_total": float64(len(b))}
	for _, f := range families {
		if count, ok := want[f.GetName()]; ok {
			if got := f.GetMetric()[0].GetCounter().GetValue(); got != count {
				t.Errorf("%s is %v, want %v", f.GetName(), got, count)
			}
			delete(want, f.GetName())
		}
	}
	if len(want) > 0 {
		t.Errorf("there are no metrics %v", want)
	}
}

func TestProduceIsRefusedWithTheReason(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	id := nameOrID(n, 13, "events")
	broken := batchOf(t, "x")
	broken[len(broken)-1] ^= 1
	cases := map[string]struct {
		version int16
		change  func(*kmsg.ProduceRequest)
		want    *kerr.Error
	}{
		"unknown topic":     {9, func(q *kmsg.ProduceRequest) { q.Topics[0].Topic = "nowhere" }, kerr.UnknownTopicOrPartition},
		"unknown id":        {13, func(q *kmsg.ProduceRequest) { q.Topics[0].TopicID = [16]byte{1} }, kerr.UnknownTopicID},
		"unknown partition": {13, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = 7 }, kerr.UnknownTopicOrPartition},
		"negative":          {3, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Partition = -1 }, kerr.UnknownTopicOrPartition},
		"corrupt":           {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records = broken }, kerr.CorruptMessage},
		"null records":      {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records = nil }, kerr.InvalidRecord},
		"garbage":           {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records = []byte("garbage") }, kerr.InvalidRecord},
		"cut off":           {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records = broken[:len(broken)-1] }, kerr.InvalidRecord},
		"version 1":         {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records[16] = 1 }, kerr.InvalidRecord},
		"base offset":       {8, func(q *kmsg.ProduceRequest) { q.Topics[0].Partitions[0].Records[7] = 1 }, kerr.InvalidRecord},
		"acks":              {8, func(q *kmsg.ProduceRequest) { q.Acks = 2 }, kerr.InvalidRequiredAcks},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			q := produceTo("events", 0, -1, batchOf(t, "x"))
			q.Topics[0].TopicID = id
			tc.change(q)
			requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), tc.version, q), tc.want, -1)
		})
	}
}

// One partition of a request that fails does not fail the others.
func TestProduceAnswersEachPartition(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	q := produceTo("events", 0, -1, batchOf(t, "zero"))
	for _, p := range []int32{9, 2} {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p, batchOf(t, "more")
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, part)
	}
	p := ask[*kmsg.ProduceResponse](n.connect(), 9, q)
	for i, want := range []int16{0, kerr.UnknownTopicOrPartition.Code, 0} {
		if got := p.Topics[0].Partitions[i]; got.ErrorCode != want || got.Partition != q.Topics[0].Partitions[i].Partition {
			t.Errorf("partition %d: %v", got.Partition, kerr.ErrorForCode(got.ErrorCode))
		}
	}
}

// What is sent on without waiting is appended and answered in order, and the
// requests behind a slow one are read (promise 9).
func TestPipelinedProduceIsAnsweredInOrder(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	const requests = 200
	var frames []byte
	for i := range requests {
		o := batch.BuilderOptions{Producer: &batch.Producer{ID: 7, BaseSequence: int32(i)}}
		q := produceTo("events", 0, -1, batchWith(t, o, "v"))
		q.Version = 9
		frames = c.append(frames, q)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(frames)
		sent <- err
	}()
	for i := range requests {
		requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, int64(i))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestUnackedProduceIsNotAnswered(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	q := produceTo("events", 0, 0, batchOf(t, "unacked"))
	q.Version = 9
	c.send(q)
	c.waiting = nil
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, "acked"))), nil, 1)
}

func TestUnackedProduceThatFailsClosesTheConnection(t *testing.T) {
	n := startNode(t)
	c := n.connect()
	q := produceTo("nowhere", 0, 0, batchOf(t, "lost"))
	q.Version = 9
	c.send(q)
	if !c.closed() {
		t.Error("the client is not told that its records are lost")
	}
}

// TestRecompressedBatchThatIsTooLarge: a few bytes that expand to many are
// refused by a topic that would store them expanded, and its others go on.
func TestRecompressedBatchThatIsTooLarge(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1, "compression.type", "uncompressed")
	n.settle(t.Context())
	c := n.connect()
	bomb := batchWith(t, batch.BuilderOptions{Codec: batch.Zstd}, string(make([]byte, 20<<20)))
	fine := batchWith(t, batch.BuilderOptions{Codec: batch.Zstd}, string(make([]byte, 20<<10)))
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, bomb)), kerr.MessageTooLarge, -1)
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, fine)), nil, 0)
}
