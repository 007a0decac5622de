package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
)

// topic is what a node says of a topic, once it is as wanted.
func (c *processes) topic(at int, name, what string, is func(admin.Topic) bool) {
	c.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var out admin.Topic
	var failed error
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); <-ticker.C {
		resp, err := c.client.Get("http://" + c.host(at) + ":9642/api/v1/topics/" + name)
		if failed = err; err != nil {
			continue
		}
		out = admin.Topic{}
		failed = json.NewDecoder(resp.Body).Decode(&out)
		resp.Body.Close()
		if failed == nil && is(out) {
			return
		}
	}
	c.Fatalf("node %d: %s: %s never came: %v, %+v", at, name, what, failed, out)
}

// onThree reports whether each partition of a topic has three replicas, all in sync.
func onThree(t admin.Topic) bool {
	for _, p := range t.PartitionList {
		if len(p.Replicas) != 3 || len(p.ISR) != 3 {
			return false
		}
	}
	return len(t.PartitionList) > 0 && !t.Grows
}

// TestANodeAloneBecomesACluster: a node has topics, a group and a transactional producer; two
// more join, and what nobody gave a number of replicas is on all three, the brokers' own
// topics too. Then the first goes, with its disk: nothing acked is lost, the group goes on
// where it was, and the producer's next transaction is committed.
func TestANodeAloneBecomesACluster(t *testing.T) {
	t.Parallel()
	c := &processes{T: t, first: 1, dir: t.TempDir(), nodes: map[int]*clusterNode{}, client: newHTTP(), net: newNet()}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.end(id, syscall.SIGKILL)
		}
		c.client.CloseIdleConnections()
	})
	grow := []string{"--set", "controller.balance.grow_after=100ms", "--set", "wal.upload_interval=10m"}
	c.start(1, grow...)
	c.await(1)
	c.admin(1, "topics", "create", "mine", "-p", "2")
	c.admin(1, "topics", "create", "asked", "-p", "1", "-r", "1")
	if said := c.admin(1, "topics", "describe", "mine"); !strings.Contains(said, "\ngrows ") {
		t.Errorf("nothing says that it grows:\n%s", said)
	}
	if said := c.admin(1, "topics", "describe", "asked"); strings.Contains(said, "\ngrows ") {
		t.Errorf("it says that a topic grows that asked for one replica:\n%s", said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c.transaction(ctx, 1, 0, 10)
	if got := c.readOn(ctx, 1, 5); got != 5 {
		t.Fatalf("the group read %d records", got)
	}

	for id := 2; id <= 3; id++ {
		c.start(id, grow...)
		c.added(id)
		c.await(id)
	}
	for _, name := range []string{"mine", "__consumer_offsets", "__transaction_state"} {
		c.topic(2, name, "three replicas in sync", onThree)
	}
	c.topic(2, "asked", "one replica, as it asked for", func(is admin.Topic) bool { return is.ReplicationFactor == 1 && !is.Grows })
	c.group(2, "three votes", func(g admin.ControllerGroup) bool { return len(ofRole(g, "voter")) == 3 })
	c.transaction(ctx, 2, 10, 20)

	c.end(1, syscall.SIGKILL)
	must(t, os.RemoveAll(c.data(1)))
	c.transaction(ctx, 3, 20, 30)
	if got := c.readOn(ctx, 2, 25); got != 25 {
		t.Errorf("the group read %d records more, 25 were left", got)
	}
}

// added has a controller that waits be added, as soon as it can be.
func (c *processes) added(id int) {
	c.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-ticker.C {
		code, _, stderr := rustmq(c.T, "", "admin", "--url", "http://"+c.host(1)+":9642", "controllers", "add", fmt.Sprint(id))
		if code == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("controller %d is not added: %s", id, stderr)
		}
	}
}

// transaction commits the records from one number to another, in one transaction.
func (c *processes) transaction(ctx context.Context, at, from, to int) {
	c.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.host(at)+":9092"), kgo.DefaultProduceTopic("mine"), kgo.TransactionalID("tx"), kgo.MetadataMinAge(100*time.Millisecond))
	must(c.T, err)
	defer cl.Close()
	must(c.T, cl.BeginTransaction())
	for n := from; n < to; n++ {
		cl.Produce(ctx, &kgo.Record{Value: fmt.Append(nil, n)}, func(_ *kgo.Record, err error) {
			if err != nil {
				c.Errorf("record %d: %v", n, err)
			}
		})
	}
	must(c.T, cl.Flush(ctx))
	must(c.T, cl.EndTransaction(ctx, kgo.TryCommit))
}

// readOn has a group read so many records of what is committed, and commits how far it got.
// None may come that it has read before.
func (c *processes) readOn(ctx context.Context, at, want int) (got int) {
	c.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.host(at)+":9092"), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("mine"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit(), kgo.MetadataMinAge(100*time.Millisecond))
	must(c.T, err)
	defer cl.Close()
	seen := map[string]bool{}
	for got < want {
		polled := cl.PollRecords(ctx, want-got)
		if err := polled.Err0(); err != nil {
			c.Fatalf("read %d of %d: %v", got, want, err)
		}
		polled.EachRecord(func(r *kgo.Record) {
			if seen[string(r.Value)] {
				c.Errorf("record %s comes twice", r.Value)
			}
			seen[string(r.Value)] = true
			got++
		})
		must(c.T, cl.CommitUncommittedOffsets(ctx))
	}
	return got
}
