package roles_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/controller"
)

// compacted is a node with a compacted topic, whose WAL is far smaller than what the
// test produces, and which compacts at once.
type compacted struct {
	*bucketNode
	settings map[string]string
	home     string
	filled   int
}

func newCompacted(t *testing.T, more ...string) *compacted {
	dir := t.TempDir()
	c := &compacted{bucketNode: &bucketNode{T: t, dir: filepath.Join(dir, "bucket")}, home: filepath.Join(dir, "home")}
	c.settings = map[string]string{
		"object_storage.url": "file://" + c.dir, "wal.upload_interval": "20ms", "object_storage.metadata_log_interval": "10ms", "object_storage.grace": "1s",
		"wal.capacity": "16MiB", "wal.segment_size": "1MiB", "wal.memory": "8MiB", "wal.upload_bytes": "1MiB", "broker.message_max_bytes": "256KiB",
		"compaction.key_interval": "20ms", "compaction.key_patience": "0s", "compaction.key_memory": "1MiB", "compaction.interval": "1s",
	}
	for i := 0; i < len(more); i += 2 {
		c.settings[more[i]] = more[i+1]
	}
	c.start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		must(t, c.Node.Close())
	})
	return c
}

func (c *compacted) start() {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{DataDir: c.home, Set: c.settings})
	must(c.T, err)
	c.Node = n
}

func (c *compacted) client(opts ...kgo.Opt) *kgo.Client {
	c.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Kafka())}, opts...)...)
	must(c.T, err)
	return cl
}

// send produces records and waits for all.
func (c *compacted) send(records ...*kgo.Record) {
	c.Helper()
	cl := c.client(kgo.ProducerLinger(5*time.Millisecond), kgo.ProduceRequestTimeout(30*time.Second))
	defer cl.Close()
	for _, r := range records {
		cl.Produce(c.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				c.Errorf("produce: %v", err)
			}
		})
	}
	must(c.T, cl.Flush(c.Context()))
}

// evict has the WAL give up what it holds of t: as much of another topic comes in.
func (c *compacted) evict(end int64) {
	c.Helper()
	deadline := time.Now().Add(time.Minute)
	for c.partition().LocalStart < 0 || int64(c.partition().LocalStart) < end {
		if time.Now().After(deadline) {
			c.Fatalf("the WAL gives nothing up: %+v", c.partition())
		}
		var filler []*kgo.Record
		for range 128 {
			c.filled++
			filler = append(filler, &kgo.Record{Topic: "filler", Value: bytes.Repeat([]byte{byte(c.filled)}, 16<<10)})
		}
		c.send(filler...)
	}
}

func (c *compacted) partition() admin.Partition {
	c.Helper()
	var topic admin.Topic
	c.read("/api/v1/topics/t", &topic)
	return topic.PartitionList[0]
}

// awaitCleaned waits until compaction has come to the end.
func (c *compacted) awaitCleaned(end int64) {
	c.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		if int64(c.partition().CleanedEnd) == end {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("compaction does not come to %d: %+v", end, c.partition())
		}
	}
}

// all reads t from its beginning to its end.
func (c *compacted) all(end int64) (records []*kgo.Record) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	// The last record may be gone: one of another key says that all has been read.
	cl := c.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().At(0)}}))
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.Fatalf("after %d records: %v", len(records), err)
		}
		records = append(records, fetches.Records()...)
		if n := len(records); n > 0 && records[n-1].Offset == end-1 {
			return records
		}
	}
}

// A look goes past what compaction has left empty in the bucket, to what is behind it.
func TestALookGoesPastWhatCompactionHasEmptied(t *testing.T) {
	t.Parallel()
	c := newCompacted(t)
	cl := c.client()
	adm := kadm.NewClient(cl)
	text := func(s string) *string { return &s }
	_, err := adm.CreateTopics(t.Context(), 1, 1, map[string]*string{"cleanup.policy": text("compact"), "min.cleanable.dirty.ratio": text("0"), "delete.retention.ms": text("1")}, "t")
	must(t, err)
	_, err = adm.CreateTopics(t.Context(), 1, 1, nil, "filler")
	must(t, err)
	cl.Close()
	c.send(&kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte("v")}, &kgo.Record{Topic: "t", Key: []byte("k")})
	c.awaitCleaned(2)
	c.evict(2)
	end := int64(2)
	for deadline := time.Now().Add(time.Minute); ; {
		c.send(&kgo.Record{Topic: "t", Key: []byte("last"), Value: []byte("x")})
		end++
		c.awaitCleaned(end)
		if read := c.all(end); read[0].Offset >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the tombstone is still there")
		}
	}
	if p := c.partition(); p.LocalStart != 2 {
		t.Fatalf("the WAL begins at %d", p.LocalStart)
	}
	is := looker{t, c.HTTP()}.looks("t", "from=start&limit=1000")
	if n := len(is.Records); n == 0 || is.Records[n-1].Offset != end-1 || is.Next != end {
		t.Errorf("%v of %d are shown, the next is %d", offsetsOf(is), end, is.Next)
	}
}

// TestCompactedTopic: of a hundred thousand records of a thousand keys the last of
// each are read back from the bucket, where they were; keys that are deleted are gone
// after their time; a restart finds it all as it was; and the bucket is whole.
func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	c := newCompacted(t)
	cl := c.client()
	adm := kadm.NewClient(cl)
	text := func(s string) *string { return &s }
	_, err := adm.CreateTopics(t.Context(), 1, 1, map[string]*string{
		"cleanup.policy": text("compact"), "min.cleanable.dirty.ratio": text("0"), "delete.retention.ms": text("1000"), "retention.ms": text("1"),
	}, "t")
	must(t, err)
	_, err = adm.CreateTopics(t.Context(), 1, 1, nil, "filler")
	must(t, err)
	described, err := adm.DescribeTopicConfigs(t.Context(), "t")
	must(t, err)
	got := map[string]string{}
	for _, config := range described[0].Configs {
		got[config.Key] = config.MaybeValue()
	}
	if got["cleanup.policy"] != "compact" || got["delete.retention.ms"] != "1000" || got["min.compaction.lag.ms"] != "0" || got["max.compaction.lag.ms"] != "9223372036854775807" || got["min.cleanable.dirty.ratio"] != "0" {
		t.Errorf("%v", got)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("of no key")}).FirstErr(); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("a record without a key: %v", err)
	}
	cl.Close()

	const records, keys = 100_000, 1000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%04d", i) }
	var all []*kgo.Record
	for i := range records {
		all = append(all, &kgo.Record{Topic: "t", Key: key(i % keys), Value: fmt.Appendf(nil, "value %d of %d ..............................", i/keys, i%keys)})
	}
	c.send(all...)
	c.awaitCleaned(records)
	c.evict(records)
	check := func(what string) {
		t.Helper()
		read := c.all(records)
		if len(read) != keys {
			t.Fatalf("%s: %d records are read", what, len(read))
		}
		for i, r := range read {
			if was := all[records-keys+i]; r.Offset != int64(records-keys+i) || !bytes.Equal(r.Key, was.Key) || !bytes.Equal(r.Value, was.Value) {
				t.Fatalf("%s: record %d is %q=%q at %d", what, i, r.Key, r.Value, r.Offset)
			}
		}
	}
	check("compacted")
	must(t, c.Node.Close())
	c.start()
	c.awaitCleaned(records)
	check("after a restart")

	// A tenth of the keys go, and one record of a new key.
	var tombstones []*kgo.Record
	for i := range keys / 10 {
		tombstones = append(tombstones, &kgo.Record{Topic: "t", Key: key(i)})
	}
	c.send(append(tombstones, &kgo.Record{Topic: "t", Key: []byte("last"), Value: []byte("x")})...)
	const end = records + keys/10 + 1
	c.awaitCleaned(end)
	c.evict(end)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		read := c.all(end)
		alive := slices.DeleteFunc(slices.Clone(read), func(r *kgo.Record) bool { return r.Value == nil })
		if len(alive) != keys-keys/10+1 {
			t.Fatalf("%d records have a value", len(alive))
		}
		if len(alive) == len(read) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tombstones are still there", len(read)-len(alive))
		}
	}
	c.awaitUploaded()
	stdout, _ := c.storage(0, "check", "--verify", "-o", "json")
	var report controller.CheckReport
	must(t, json.Unmarshal([]byte(stdout), &report))
	if len(report.Findings) > 0 || report.Verified.Objects == 0 {
		t.Errorf("%+v", report)
	}
}
