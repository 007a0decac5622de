package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/telemetry"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// startCluster opens a broker beside a controller of one member, both on a disk
// in memory, and serves them on a socket that clients are told of.
func startCluster(t testing.TB, change ...func(*Options)) (n *node, addr string) {
	t.Helper()
	fs := disk.NewMem(disk.MemOptions{})
	c, err := controller.Open(t.Context(), controller.Options{
		NodeID: 1, Directory: [16]byte{1}, FS: fs, ValidateTopicConfig: configs.ValidateTopicConfig, ListConfig: configs.ListTopicConfig,
		ValidateBrokerConfig:  configs.ValidateBrokerConfig,
		ValidateGroupConfigs:  configs.Default().ValidateGroupConfigs,
		ValidateClientMetrics: telemetry.Validate,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	n = &node{t: t, fs: fs, store: openStore(t, fs)}
	l := listenLoopback(t)
	n.options = Options{
		NodeID: 1, Store: n.store, Controller: c, AutoCreate: true,
		Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: portOf(l), Protocol: "PLAINTEXT"}},
	}
	for _, c := range change {
		c(&n.options)
	}
	n.open()
	n.serve(l)
	return n, l.Addr().String()
}

func newClient(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// consume returns the next n records.
func consume(ctx context.Context, t testing.TB, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// Whatever codec a client chooses is what is stored, and read back.
func TestClientsProduceEveryCodec(t *testing.T) {
	n, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	for _, tc := range []struct {
		codec  kgo.CompressionCodec
		stored batch.Codec
	}{
		{kgo.NoCompression(), batch.None}, {kgo.GzipCompression(), batch.Gzip}, {kgo.SnappyCompression(), batch.Snappy},
		{kgo.Lz4Compression(), batch.LZ4}, {kgo.ZstdCompression(), batch.Zstd},
	} {
		topic := "codec-" + tc.stored.String()
		cl := newClient(t, addr, kgo.ProducerBatchCompression(tc.codec), kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics(topic))
		var records []*kgo.Record
		for i := range 100 {
			records = append(records, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte(strings.Repeat("v", 100)), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{byte(i)}}}})
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatalf("%s: %v", topic, err)
		}
		for i, r := range consume(ctx, t, cl, len(records)) {
			if r.Offset != int64(i) || string(r.Key) != strconv.Itoa(i) || r.Headers[0].Value[0] != byte(i) {
				t.Fatalf("%s: record %d is %s at %d", topic, i, r.Key, r.Offset)
			}
		}
		p, err := n.partitionOf(topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		l, _, err := p.leading()
		if err != nil {
			t.Fatal(err)
		}
		if got := firstBatch(t, l).Codec(); got != tc.stored {
			t.Errorf("%s: stored as %v", topic, got)
		}
	}
}

// Many records from one idempotent producer over many partitions arrive once
// and in order.
func TestIdempotentProducerOverManyPartitions(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 60*time.Second)
	cl := newClient(t, addr, kgo.ConsumeTopics("many"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(50_000))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 16, 1, nil, "many"); err != nil {
		t.Fatal(err)
	}
	const records = 20_000
	var failed sync.Once
	for i := range records {
		cl.Produce(ctx, &kgo.Record{Topic: "many", Partition: int32(i % 16), Value: []byte(strconv.Itoa(i))}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Do(func() { t.Errorf("produce: %v", err) })
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	next := map[int32]int{}
	for _, r := range consume(ctx, t, cl, records) {
		want := next[r.Partition]*16 + int(r.Partition)
		if string(r.Value) != strconv.Itoa(want) || r.Offset != int64(next[r.Partition]) {
			t.Fatalf("partition %d, offset %d: %s, want %d", r.Partition, r.Offset, r.Value, want)
		}
		next[r.Partition]++
	}
}

func TestGroupOfSeveralMembers(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 60*time.Second)
	admin := kadm.NewClient(newClient(t, addr))
	if _, err := admin.CreateTopic(ctx, 6, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}
	producer := newClient(t, addr, kgo.DefaultProduceTopic("jobs"))
	for i := range 600 {
		producer.Produce(ctx, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte("job")}, nil)
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	seen := map[string]int{}
	member := func() *kgo.Client {
		return newClient(t, addr, kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("jobs"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.HeartbeatInterval(100*time.Millisecond), kgo.DisableAutoCommit())
	}
	var running sync.WaitGroup
	polling, stop := context.WithCancel(ctx)
	defer stop()
	all := make(chan struct{})
	for range 3 {
		cl := member()
		running.Go(func() {
			for polling.Err() == nil {
				fetches := cl.PollFetches(polling)
				records := fetches.Records()
				mu.Lock()
				before := len(seen)
				for _, r := range records {
					seen[fmt.Sprintf("%d/%d", r.Partition, r.Offset)]++
				}
				if before < 600 && len(seen) == 600 {
					close(all)
				}
				mu.Unlock()
				if err := cl.CommitRecords(ctx, records...); err != nil && !errors.Is(err, context.Canceled) && !retriable(err) {
					t.Errorf("commit: %v", err)
				}
			}
		})
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatalf("%d of 600 records were consumed", len(seen))
	}
	described, err := admin.DescribeGroups(ctx, "workers")
	if err != nil || described["workers"].State == "" || len(described["workers"].Members) == 0 {
		t.Errorf("describe: %v, %+v", err, described["workers"])
	}
	stop()
	running.Wait()

	offsets, err := admin.FetchOffsets(ctx, "workers")
	if err != nil {
		t.Fatal(err)
	}
	committed := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { committed += o.At })
	if committed == 0 || committed > 600 {
		t.Errorf("%d of 600 records are committed", committed)
	}
	groups, err := admin.ListGroups(ctx)
	if err != nil || !slices.Contains(groups.Groups(), "workers") {
		t.Errorf("list: %v, %v", groups.Groups(), err)
	}

	var one kadm.TopicsSet
	one.Add("jobs", 0)
	if err := admin.CommitAllOffsets(ctx, "idle", offsetsOf("jobs", 0, 5)); err != nil {
		t.Fatal(err)
	}
	if deleted, err := admin.DeleteOffsets(ctx, "idle", one); err != nil || deleted.Error() != nil {
		t.Errorf("delete offsets: %v, %v", err, deleted.Error())
	}
	if left, err := admin.FetchOffsets(ctx, "idle"); err != nil || len(left.KOffsets()) != 0 {
		t.Errorf("offsets that were deleted: %v, %v", left, err)
	}
	if err := admin.CommitAllOffsets(ctx, "idle", offsetsOf("jobs", 1, 5)); err != nil {
		t.Fatal(err)
	}
	if deleted, err := admin.DeleteGroup(ctx, "idle"); err != nil || deleted.Err != nil {
		t.Errorf("delete group: %v, %v", err, deleted.Err)
	}
	if groups, err := admin.ListGroups(ctx); err != nil || slices.Contains(groups.Groups(), "idle") {
		t.Errorf("list after delete: %v, %v", groups.Groups(), err)
	}
}

func retriable(err error) bool {
	return kerr.IsRetriable(err) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID)
}

func TestOffsetsByTimeAndDeletedRecords(t *testing.T) {
	n, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	cl := newClient(t, addr, kgo.DefaultProduceTopic("times"), kgo.ProducerLinger(0))
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "times"); err != nil {
		t.Fatal(err)
	}
	const began = 1_700_000_000_000
	for i := range 50 {
		r := &kgo.Record{Value: []byte("v"), Timestamp: time.UnixMilli(began + int64(i)*1000)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	at := func(list func(context.Context, ...string) (kadm.ListedOffsets, error)) int64 {
		t.Helper()
		listed, err := list(ctx, "times")
		if err != nil || listed.Error() != nil {
			t.Fatal(err, listed.Error())
		}
		o, _ := listed.Lookup("times", 0)
		return o.Offset
	}
	if got := at(admin.ListStartOffsets); got != 0 {
		t.Errorf("start %d", got)
	}
	if got := at(admin.ListEndOffsets); got != 50 {
		t.Errorf("end %d", got)
	}
	if got := at(admin.ListMaxTimestampOffsets); got != 49 {
		t.Errorf("largest timestamp at %d", got)
	}
	for millis, want := range map[int64]int64{began - 5: 0, began: 0, began + 1: 1, began + 20_000: 20, began + 49_000: 49, began + 60_000: 50} {
		if got := at(func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, millis, topics...)
		}); got != want {
			t.Errorf("at %d: offset %d, want %d", millis-began, got, want)
		}
	}

	deleted, err := admin.DeleteRecords(ctx, offsetsOf("times", 0, 20))
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	if got := at(admin.ListStartOffsets); got != 20 {
		t.Errorf("start %d after deleting up to 20", got)
	}
	image := n.options.Controller.Image()
	topic, _ := image.Topic("times")
	if got := topic.Partition(0).LogStart; got != 20 {
		t.Errorf("the controller knows log start %d", got)
	}
	if deleted, err := admin.DeleteRecords(ctx, offsetsOf("times", 0, 51)); err == nil && !errors.Is(deleted.Error(), kerr.OffsetOutOfRange) {
		t.Errorf("deleting beyond the end: %v", deleted.Error())
	}
	reader := newClient(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"times": {0: kgo.NewOffset().AtStart()}}))
	if got := consume(ctx, t, reader, 30); got[0].Offset != 20 || got[29].Offset != 49 {
		t.Errorf("read from %d to %d", got[0].Offset, got[29].Offset)
	}
}

func offsetsOf(topic string, partition int32, offset int64) kadm.Offsets {
	var o kadm.Offsets
	o.AddOffset(topic, partition, offset, -1)
	return o
}

func TestTopicConfigsAreServed(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	cl := newClient(t, addr, kgo.DefaultProduceTopic("configured"), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ConsumeTopics("configured"))
	admin := kadm.NewClient(cl)
	small := "300"
	if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &small}, "configured"); err != nil {
		t.Fatal(err)
	}
	values := func() map[string]string {
		t.Helper()
		described, err := admin.DescribeTopicConfigs(ctx, "configured")
		if err != nil || described[0].Err != nil {
			t.Fatal(err, described[0].Err)
		}
		got := map[string]string{}
		for _, c := range described[0].Configs {
			got[c.Key] = c.MaybeValue() + " " + c.Source.String()
		}
		return got
	}
	got := values()
	if !strings.HasPrefix(got["max.message.bytes"], "300 DYNAMIC") || !strings.HasPrefix(got["min.insync.replicas"], "1 DEFAULT") ||
		!strings.HasPrefix(got["cleanup.policy"], "delete DEFAULT") || len(got) != len(configs.TopicKeys())+len(configs.IgnoredTopicKeys()) {
		t.Errorf("configs %v", slices.Sorted(maps.Keys(got)))
	}
	big := kgo.StringRecord(strings.Repeat("0123456789", 100))
	if err := cl.ProduceSync(ctx, big).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("a batch larger than max.message.bytes: %v", err)
	}
	alter := func(alters ...kadm.AlterConfig) error {
		responses, err := admin.AlterTopicConfigs(ctx, alters, "configured")
		if err != nil {
			t.Fatal(err)
		}
		return responses[0].Err
	}
	stamp := "LogAppendTime"
	if err := alter(kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"}, kadm.AlterConfig{Op: kadm.SetConfig, Name: "message.timestamp.type", Value: &stamp}); err != nil {
		t.Fatal(err)
	}
	old := &kgo.Record{Value: big.Value, Timestamp: time.UnixMilli(1)}
	if err := cl.ProduceSync(ctx, old).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := consume(ctx, t, cl, 1)[0]; time.Since(got.Timestamp) > time.Hour {
		t.Errorf("the broker's time was asked for, the record has %v", got.Timestamp)
	}
	yes := "true"
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "remote.log.copy.disable", Value: &yes}); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("a config that cannot be: %v", err)
	}
	future := kgo.StringRecord("early")
	future.Timestamp = time.Now().Add(2 * time.Hour)
	create := "CreateTime"
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "message.timestamp.type", Value: &create}); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, future).FirstErr(); !errors.Is(err, kerr.InvalidTimestamp) {
		t.Errorf("a record of two hours from now: %v", err)
	}
}

// Committed offsets and records are there again after a restart.
func TestRestartKeepsRecordsAndOffsets(t *testing.T) {
	n, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	admin := kadm.NewClient(newClient(t, addr))
	cl := newClient(t, addr, kgo.DefaultProduceTopic("kept"), kgo.AllowAutoTopicCreation())
	if err := cl.ProduceSync(ctx, kgo.StringRecord("a"), kgo.StringRecord("b")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := admin.CommitAllOffsets(ctx, "group", offsetsOf("kept", 0, 1)); err != nil {
		t.Fatal(err)
	}
	before, _ := n.options.Controller.Image().Topic("kept")

	n.server.Close()
	if err := n.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	n.store = openStore(t, n.fs)
	n.options.Store = n.store
	l := listenLoopback(t)
	n.options.Listeners[0].Port = portOf(l)
	n.open()
	n.serve(l)

	after, _ := n.options.Controller.Image().Topic("kept")
	if was, is := before.Partition(0).LeaderEpoch, after.Partition(0).LeaderEpoch; is <= was {
		t.Errorf("leader epoch %d after a restart, %d before", is, was)
	}
	again := newClient(t, l.Addr().String(), kgo.ConsumerGroup("group"), kgo.ConsumeTopics("kept"), kgo.DefaultProduceTopic("kept"))
	if err := again.ProduceSync(ctx, kgo.StringRecord("c")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := consume(ctx, t, again, 2)
	if string(got[0].Value) != "b" || string(got[1].Value) != "c" || got[1].Offset != 2 {
		t.Errorf("read %s at %d and %s at %d", got[0].Value, got[0].Offset, got[1].Value, got[1].Offset)
	}
}
