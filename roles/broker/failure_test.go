package broker

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// A WAL that failed a write answers with an error that clients try elsewhere,
// and the broker says that it is not well; what was read before still is.
func TestDeadWALIsSaid(t *testing.T) {
	faulty := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
	n := startNode(t, func(o *Options) { o.Store = openStore(t, faulty) })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	c.produce("events", 0, "before")
	if n.Health() != nil {
		t.Fatal(n.Health())
	}
	faulty.Set(disk.Rule{Op: disk.OpWrite, Err: errors.New("input/output error")})
	for range 2 {
		requireProduced(t, ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, "lost"))), kerr.KafkaStorageError, -1)
	}
	if !errors.Is(n.Health(), log.ErrDead) {
		t.Errorf("health: %v", n.Health())
	}
	if got := fetched(t, ask[*kmsg.FetchResponse](c, 12, fetchFrom("events", 0, 0, 0))); len(got["events-0"]) != 1 {
		t.Errorf("after the WAL died: %v", got)
	}
	if err := testutil.CollectAndCompare(n.Metrics(), strings.NewReader("# HELP rustmq_broker_healthy 1 while the broker can do its work, else 0.\n# TYPE rustmq_broker_healthy gauge\nrustmq_broker_healthy 0\n"), "rustmq_broker_healthy"); err != nil {
		t.Error(err)
	}
}

// As the disk budget fills, producers are first slowed down, then refused with
// an error that they try again; deleting records makes room.
func TestFullWALSlowsAndThenRefuses(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	store, err := log.Open(t.Context(), log.Options{FS: fs, Dir: "wal", WAL: wal.Options{
		Capacity: 32 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 8 << 20, Reserve: 2 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := startNode(t, func(o *Options) { o.Store = store })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	payload := strings.Repeat("0123456789", 20_000)
	throttled := false
	var refused *kmsg.ProduceResponse
	for range 300 {
		p := ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, payload)))
		if p.ThrottleMillis > 0 {
			throttled = true
		}
		if p.Topics[0].Partitions[0].ErrorCode != 0 {
			refused = p
			break
		}
		n.throttle.next.Store(0) // look at every request
	}
	if refused == nil {
		t.Fatalf("60 MB fit in 32: %+v", store.Stats())
	}
	requireProduced(t, refused, kerr.KafkaStorageError, -1)
	if !throttled {
		t.Error("refused without having been slowed down")
	}
	if n.Health() != nil {
		t.Errorf("full is not ill: %v", n.Health())
	}

	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "events", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, q); p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("delete records: %+v", p)
	}
	for range 100 {
		p := ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, payload)))
		if p.Topics[0].Partitions[0].ErrorCode == 0 {
			return
		}
		if err := store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("deleting every record made no room")
}

// A new producer's large batch does not fit where the small one behind it would: that
// does not go first.
func TestSmallBatchDoesNotOvertakeALargeOneThatWasRefused(t *testing.T) {
	store, err := log.Open(t.Context(), log.Options{FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", WAL: wal.Options{
		Capacity: 16 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 8 << 20, Reserve: 2 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := startNode(t, func(o *Options) { o.Store = store })
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	large := strings.Repeat("0123456789", 20_000)
	send := func(b []byte) *kmsg.ProduceResponse {
		return ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, b))
	}
	of := func(sequence int32, value string) []byte {
		w := batch.NewBuilder(batch.BuilderOptions{Producer: &batch.Producer{ID: 7, BaseSequence: sequence}})
		w.Add(n.Broker.opt.Now().UnixMilli(), nil, []byte(value))
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	end := int64(0)
	for send(batchOf(t, large)).Topics[0].Partitions[0].ErrorCode == 0 {
		end++
	}
	requireProduced(t, send(of(0, large)), kerr.KafkaStorageError, -1)
	requireProduced(t, send(of(1, "small")), kerr.KafkaStorageError, -1)
	requireProduced(t, send(batchOf(t, "of nobody")), nil, end) // there is room
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "events", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, q); p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("delete records: %+v", p)
	}
	for range 100 {
		p := send(of(0, large))
		if p.Topics[0].Partitions[0].ErrorCode == 0 {
			requireProduced(t, send(of(1, "small")), nil, end+2)
			return
		}
		if err := store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("deleting every record made no room")
}

// Where produce is refused to the last byte, consumers commit all the same, far
// more than what produce may have left, and room can be made.
func TestConsumersCommitWhileProducersAreRefused(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	store, err := log.Open(t.Context(), log.Options{FS: fs, Dir: "wal", WAL: wal.Options{
		Capacity: 32 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 8 << 20, Reserve: 4 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := startNode(t, func(o *Options) { o.Store = store })
	n.controller.createTopic("events", 500)
	n.settle(t.Context())
	c := n.connect()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"readers"}
	if p := ask[*kmsg.FindCoordinatorResponse](c, 4, find); p.Coordinators[0].ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.Coordinators[0].ErrorCode))
	}
	for _, size := range []int{200_000, 10_000, 100} {
		payload := strings.Repeat("x", size)
		for code := int16(0); code != kerr.KafkaStorageError.Code; {
			p := ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, payload)))
			if code = p.Topics[0].Partitions[0].ErrorCode; code != 0 && code != kerr.KafkaStorageError.Code {
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "readers", -1
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "events"
	for i := range int32(500) {
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.Metadata = i, 7, kmsg.StringPtr("where I was")
		topic.Partitions = append(topic.Partitions, part)
	}
	commit.Topics = append(commit.Topics, topic)
	for i := range 5 {
		p := ask[*kmsg.OffsetCommitResponse](c, 8, commit)
		for _, part := range p.Topics[0].Partitions {
			if part.ErrorCode != 0 {
				t.Fatalf("commit %d of partition %d: %v", i, part.Partition, kerr.ErrorForCode(part.ErrorCode))
			}
		}
	}
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "events", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, q); p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("delete records: %+v", p)
	}
}

func TestThrottleRisesWithFullness(t *testing.T) {
	for fullness, want := range map[float64]int32{0: 0, 0.5: 0, 0.9: 0, 0.95: 500, 1: 1000, 1.2: 1000} {
		if got := delayFor(fullness); got < want-1 || got > want {
			t.Errorf("at %v: %d ms, want %d", fullness, got, want)
		}
	}
}
