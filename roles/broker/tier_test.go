package broker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
)

// startTiered is openTiered, and serves clients by TCP.
func startTiered(t testing.TB, b bucket.Bucket, change ...func(*Tier)) (*node, string) {
	t.Helper()
	l := listenLoopback(t)
	n := openTiered(t, b, portOf(l), change...)
	n.serve(l)
	return n, l.Addr().String()
}

// openTiered opens a broker whose WAL is far smaller than what the tests produce,
// over a bucket, beside a controller of one member.
func openTiered(t testing.TB, b bucket.Bucket, port int32, change ...func(*Tier)) *node {
	t.Helper()
	fs := disk.NewMem(disk.MemOptions{})
	c, err := controller.Open(t.Context(), controller.Options{
		NodeID: 1, Directory: [16]byte{1}, FS: fs, ValidateTopicConfig: configs.ValidateTopicConfig, ListConfig: configs.ListTopicConfig,
		Bucket: &controller.BucketOptions{
			Bucket: b, Deadline: time.Minute, Grace: time.Second, Audit: time.Hour, Retention: time.Hour, MetadataLog: time.Second,
			Keep: func(map[string]string) controller.Retention { return controller.Retention{Age: -1, Bytes: -1} },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	store, err := log.Open(t.Context(), log.Options{FS: fs, Dir: "wal", Tiered: true, WAL: wal.Options{
		Capacity: 32 << 20, SegmentSize: 2 << 20, Memory: 8 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := &node{t: t, fs: fs, store: store}
	n.options = Options{
		NodeID: 1, Store: store, Controller: c, AutoCreate: true,
		Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: port, Protocol: "PLAINTEXT"}},
		Tier: &Tier{
			Bucket: b, IDAge: time.Minute, Cold: cold.Options{BlockCache: 16 << 20, Poison: true},
			Upload: upload.Limits{
				Interval: 50 * time.Millisecond, ObjectBytes: 1 << 20, OwnBytes: 1 << 19, ObjectRanges: 100,
				Parallel: 2, RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond, Urgent: 0.3,
			},
		},
	}
	for _, f := range change {
		f(n.options.Tier)
	}
	n.open()
	return n
}

// TestRecordsOutliveTheWAL: four times what the WAL holds is produced while the
// bucket fails now and then, and all of it is read back, once and in order; by
// time, and by offset, too.
func TestRecordsOutliveTheWAL(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	seed := seeded.Seed(t)
	ill := func(op bucket.Op, of bucket.Rule) bucket.Rule {
		of.Op, of.Prefix, of.Seed, of.Err, of.Temporary = op, "", seed, errors.New("503 slow down"), true
		return of
	}
	n, addr := startTiered(t, bucket.NewFaulty(bucket.NewMemory(),
		ill(bucket.OpPut, bucket.Rule{Nth: 4}), // of a few, chance may leave all alone
		ill(bucket.OpPut, bucket.Rule{From: 3, Chance: 0.1}),
		ill(bucket.OpPut, bucket.Rule{From: 3, Chance: 0.1, Done: true}),
		ill(bucket.OpRead, bucket.Rule{From: 10, Chance: 0.05}),
	))
	cl := newClient(t, addr, kgo.ProducerBatchMaxBytes(128<<10), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProduceRequestTimeout(time.Minute))
	adm := kadm.NewClient(cl)
	const records, size = 4000, 16 << 10
	if _, err := adm.CreateTopics(ctx, 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, size)
	begun := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range records {
		r := &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: append([]byte(fmt.Sprintf("%08d", i)), value...), Timestamp: begun.Add(time.Duration(i) * time.Millisecond)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	tp := n.table.byName([]byte("t"))
	for i := range int32(2) {
		l := tp.partition(i).role.Load().log
		if l.LocalStart() == 0 {
			t.Fatalf("partition %d is all in the WAL: the test shows nothing", i)
		}
	}
	reader := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	next := [2]int{0, 1}
	for _, r := range consume(ctx, t, reader, records) {
		if want := fmt.Sprintf("%08d", next[r.Partition]); string(r.Value[:8]) != want {
			t.Fatalf("partition %d offset %d: record %s where %s was due", r.Partition, r.Offset, r.Value[:8], want)
		}
		next[r.Partition] += 2
	}
	if s := n.cold.Stats(); s.Sent == 0 || s.FreeBytes == 0 && s.Recycled == 0 {
		t.Errorf("what was read from the bucket is held after it was sent: %+v", s)
	}
	for _, of := range []int{2, 1000, records - 2} {
		var o kadm.ListedOffset
		for again := true; again; again = kerr.IsRetriable(o.Err) { // the bucket may fail several times in a row
			found, err := adm.ListOffsetsAfterMilli(ctx, begun.Add(time.Duration(of)*time.Millisecond).UnixMilli(), "t")
			if err != nil {
				t.Fatal(err)
			}
			o, _ = found.Lookup("t", 0)
		}
		if o.Err != nil || o.Offset != int64(of/2) {
			t.Errorf("the record %d ms in: offset %d, %v; want %d", of, o.Offset, o.Err, of/2)
		}
	}
	first := tp.partition(0).role.Load().log
	least := first.Uploaded()
	pending := kmsg.NewPtrListOffsetsRequest()
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Timestamp = firstPending
	pending.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
	got := ask[*kmsg.ListOffsetsResponse](n.connect(), 11, pending).Topics[0].Partitions[0]
	if got.ErrorCode != 0 || least == 0 || got.Offset < int64(least) || got.Offset > int64(first.Uploaded()) || got.LeaderEpoch != 0 {
		t.Errorf("the next to be uploaded: %+v, between %d and %d", got, least, first.Uploaded())
	}
	starts, err := adm.ListStartOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := starts.Lookup("t", 0); o.Offset != 0 {
		t.Errorf("the log starts at %d", o.Offset)
	}
	if n.uploader.Stats().Failures == 0 {
		t.Error("the bucket never failed: the test shows less than it should")
	}
}
