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

// TestAMemoryTopicLosesNothingWithItsLeader: three processes, the leader's is killed as soon
// as the last batch is acked, and comes back.
func TestAMemoryTopicLosesNothingWithItsLeader(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "topics", "create", "m", "-p", "1", "--config", "rustmq.durability=memory")
	var topic struct {
		Durability    string `json:"durability"`
		PartitionList []struct {
			Leader      int32 `json:"leader"`
			LeaderEpoch int32 `json:"leader_epoch"`
		} `json:"partition_list"`
	}
	describe := func(at int) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.admin(at, "topics", "describe", "m", "-o", "json")), &topic); err != nil {
			t.Fatal(err)
		}
	}
	describe(1)
	if len(topic.PartitionList) != 1 || !strings.Contains(topic.Durability, "in the memory of every in-sync replica") {
		t.Fatalf("described as %+v", topic)
	}
	leader, epoch := int(topic.PartitionList[0].Leader), topic.PartitionList[0].LeaderEpoch
	other := leader%3 + 1
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(other)+":9092"), kgo.DefaultProduceTopic("m"), kgo.ConsumeTopics("m"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	defer client.Close()
	const records = 500
	for i := range records {
		if err := client.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c.end(leader, syscall.SIGKILL)
	for next := 0; next < records; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("record %d does not come: %v", next, fetches.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got := string(r.Value); got != fmt.Sprint(next) || r.Offset != int64(next) {
				t.Fatalf("at offset %d there is %q, record %d was acked there", r.Offset, got, next)
			}
			next++
		})
	}
	if describe(other); topic.PartitionList[0].LeaderEpoch <= epoch {
		t.Errorf("led by %+v after epoch %d", topic.PartitionList[0], epoch)
	}
	c.start(leader)
	c.await(leader)
	c.roundTrip("m", 1, leader, other)
}
