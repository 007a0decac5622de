package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAnObjectTopicGoesOnWithoutItsLeader: three processes, the leader's is killed while a
// producer sends, and does not come back. What was acked is there once and in order, what was
// sent again too, and a transaction goes on from there.
func TestAnObjectTopicGoesOnWithoutItsLeader(t *testing.T) {
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
