package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAnObjectTopicIsCompactedAndRetained as others are, also after a restart: what is read is
// in the bucket, and what is deleted there is gone.
func TestAnObjectTopicIsCompactedAndRetained(t *testing.T) {
	t.Parallel()
	c := newCompacted(t, "wal.ack_interval", "20ms", "object_storage.retention_interval", "1s")
	cl := c.client()
	adm := kadm.NewClient(cl)
	text := func(s string) *string { return &s }
	object := map[string]*string{"rustmq.durability": text("object"), "cleanup.policy": text("compact"), "min.cleanable.dirty.ratio": text("0")}
	_, err := adm.CreateTopic(t.Context(), 1, -1, object, "t")
	must(t, err)
	_, err = adm.CreateTopic(t.Context(), 1, -1, map[string]*string{"rustmq.durability": text("object"), "retention.ms": text("1000")}, "old")
	must(t, err)
	_, err = adm.CreateTopic(t.Context(), 1, 1, nil, "filler")
	must(t, err)
	const keys, rounds = 50, 20
	var all []*kgo.Record
	for i := range keys * rounds {
		all = append(all, &kgo.Record{Topic: "t", Key: fmt.Appendf(nil, "key-%d", i%keys), Value: fmt.Append(nil, i)})
	}
	c.send(all...)
	c.send(&kgo.Record{Topic: "old", Value: []byte("x")})
	for _, how := range []string{"compacted", "after a restart"} {
		c.awaitCleaned(keys * rounds)
		c.evict(keys * rounds) // the log has all as it was sent
		read := c.all(keys * rounds)
		for i, r := range read {
			if r.Offset != int64(keys*(rounds-1)+i) || string(r.Value) != fmt.Sprint(r.Offset) || len(read) != keys {
				t.Fatalf("%s: of %d records number %d is %q at %d", how, len(read), i, r.Value, r.Offset)
			}
		}
		if how == "compacted" {
			must(t, c.Node.Close())
			c.start()
		}
	}
	cl.Close()
	cl = c.client()
	defer cl.Close()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		starts, err := kadm.NewClient(cl).ListStartOffsets(t.Context(), "old")
		must(t, err)
		if o, ok := starts.Lookup("old", 0); ok && o.Offset == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not deleted: %+v", starts)
		}
	}
	c.send(&kgo.Record{Topic: "old", Value: []byte("y")})
}

// TestAnObjectTopicGoesOnWithoutItsLeader: three processes, the leader's is killed while a
// producer sends, and does not come back. What was acked is there once and in order, what was
// sent again too, and a transaction goes on from there.
func TestAnObjectTopicGoesOnWithoutItsLeader(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "topics", "create", "o", "-p", "1", "--config", "rustmq.durability=object")
	var topic struct {
		Durability        string `json:"durability"`
		ReplicationFactor int    `json:"replication_factor"`
		PartitionList     []struct {
			Leader int32 `json:"leader"`
		} `json:"partition_list"`
	}
	describe := func(at int) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.admin(at, "topics", "describe", "o", "-o", "json")), &topic); err != nil {
			t.Fatal(err)
		}
	}
	describe(1)
	if len(topic.PartitionList) != 1 || topic.ReplicationFactor != 1 || !strings.Contains(topic.Durability, "in the bucket") {
		t.Fatalf("described as %+v", topic)
	}
	leader := int(topic.PartitionList[0].Leader)
	other := leader%3 + 1
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seeds := kgo.SeedBrokers(c.host(other)+":9092", c.host(other%3+1)+":9092")
	client, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic("o"), kgo.MaxBufferedRecords(10_000), kgo.ProducerBatchMaxBytes(1000))
	must(t, err)
	defer client.Close()
	const records = 2000
	for i := range records {
		if i == records/2 {
			must(t, client.Flush(ctx))
		}
		client.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
		if i == records/2+records/4 {
			c.end(leader, syscall.SIGKILL)
		}
	}
	must(t, client.Flush(ctx))
	writer, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic("o"), kgo.TransactionalID("w"))
	must(t, err)
	defer writer.Close()
	for value, how := range map[string]kgo.TransactionEndTry{"aborted": kgo.TryAbort, "committed": kgo.TryCommit} {
		must(t, writer.BeginTransaction())
		must(t, writer.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr())
		must(t, writer.EndTransaction(ctx, how))
	}
	reader, err := kgo.NewClient(seeds, kgo.ConsumeTopics("o"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	must(t, err)
	defer reader.Close()
	for next := 0; next <= records; {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("record %d does not come: %v", next, fetches.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			want := fmt.Sprint(next)
			if next == records {
				want = "committed"
			}
			if got := string(r.Value); got != want {
				t.Fatalf("at offset %d there is %q, %q is next", r.Offset, got, want)
			}
			next++
		})
	}
	if describe(other); int(topic.PartitionList[0].Leader) == leader {
		t.Errorf("led by %+v", topic.PartitionList[0])
	}
}
