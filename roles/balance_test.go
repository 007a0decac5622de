package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
)

// brokers is what a node says of the brokers, once it is as wanted.
func (c *processes) brokers(at int, what string, is func(map[int32]admin.Broker) bool) {
	c.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	said := ""
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); <-ticker.C {
		resp, err := c.client.Get("http://" + c.host(at) + ":9642/api/v1/brokers")
		if err != nil {
			said = err.Error()
			continue
		}
		var out struct{ Brokers []admin.Broker }
		err = json.NewDecoder(resp.Body).Decode(&out)
		resp.Body.Close()
		by := map[int32]admin.Broker{}
		for _, b := range out.Brokers {
			by[b.ID] = b
		}
		if said = fmt.Sprintf("%+v", out); err == nil && is(by) {
			return
		}
	}
	c.Fatalf("node %d: %s never came: %s", at, what, said)
}

// TestLeadersReturn kills a node of three and starts it again: it comes to lead as much as
// others, while a client produces without an error. A fourth is given its share of the
// replicas unasked.
func TestLeadersReturn(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.brokers(1, "three brokers in service", func(by map[int32]admin.Broker) bool {
		return by[1].State == "serving" && by[2].State == "serving" && by[3].State == "serving"
	})
	c.admin(1, "topics", "create", "t", "-p", "9", "-r", "3")
	c.end(3, syscall.SIGKILL)
	c.brokers(1, "brokers 1 and 2 that lead all", func(by map[int32]admin.Broker) bool {
		return by[3].Leads == 0 && by[1].Leads+by[2].Leads >= 9
	})
	producing, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.produceOn(producing, "t") }()
	c.start(3)
	c.await(3)
	c.brokers(1, "a share of the leaderships for broker 3", func(by map[int32]admin.Broker) bool {
		return by[3].Leads >= 2 && by[3].InSync >= 9
	})
	stop()
	if err := <-ended; err != nil {
		t.Errorf("a producer met the moves: %v", err)
	}

	c.start(4)
	c.await(4)
	c.brokers(1, "a share of the replicas for broker 4, unasked", func(by map[int32]admin.Broker) bool {
		return by[4].State == "serving" && by[4].InSync >= 6 && by[4].Moving == 0 && by[4].Leads > 0
	})
	planned := c.admin(1, "cluster", "rebalance", "--dry-run")
	c.admin(2, "cluster", "rebalance")
	c.brokers(1, "replicas that are spread evenly, by "+planned, func(by map[int32]admin.Broker) bool {
		least, most := by[1].InSync, by[1].InSync
		for _, b := range by {
			least, most = min(least, b.InSync), max(most, b.InSync)
		}
		return len(by) == 4 && most-least <= 1
	})
	c.roundTrip("t", 9, 4, 1)
}

// produceOn produces one record after the other until ctx ends.
func (c *processes) produceOn(ctx context.Context, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(1)+":9092", c.host(2)+":9092"), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := 0; ; n++ {
		err := client.ProduceSync(ctx, &kgo.Record{Key: fmt.Append(nil, n), Value: []byte("v")}).FirstErr()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
	}
}
