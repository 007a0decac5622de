package roles_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/admin"
)

// acked produces count records to each partition with acks=all, from a number on.
func (c *processes) acked(topic string, partitions int32, first, count, by int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(by)+":9092"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(c.T, err)
	defer client.Close()
	var records []*kgo.Record
	for p := range partitions {
		for i := first; i < first+count; i++ {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, "%d-%d", p, i)})
		}
	}
	must(c.T, client.ProduceSync(ctx, records...).FirstErr())
}

// has reads every partition from its start until it has so many records of each, and fails
// unless they are those that were acked, in their order.
func (c *processes) has(topic string, partitions int32, want map[int32]int, from int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(from)+":9092"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(c.T, err)
	defer client.Close()
	got := map[int32]int{}
	missing := func() bool {
		for p := range partitions {
			if got[p] < want[p] {
				return true
			}
		}
		return false
	}
	for missing() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.Fatalf("consume: %v; %v of %v are there", err, got, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next := fmt.Sprintf("%d-%d", r.Partition, got[r.Partition]); string(r.Value) != next || r.Offset != int64(got[r.Partition]) {
				c.Errorf("%s-%d, offset %d: %q, want %q", r.Topic, r.Partition, r.Offset, r.Value, next)
			}
			got[r.Partition]++
		})
	}
}

// transacted commits a transaction with a record in each partition.
func (c *processes) transacted(topic string, partitions int32, by int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(by)+":9092"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("rehearsal"))
	must(c.T, err)
	defer client.Close()
	must(c.T, client.BeginTransaction())
	for p := range partitions {
		must(c.T, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("committed")}).FirstErr())
	}
	must(c.T, client.EndTransaction(ctx, kgo.TryCommit))
}

// hasTransactions reads what is committed until it has so many records of each partition.
func (c *processes) hasTransactions(topic string, partitions, want, from int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(from)+":9092"), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(c.T, err)
	defer client.Close()
	for got := 0; got < partitions*want; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.Fatalf("consume %s: %v; %d records of %d are there", topic, err, got, partitions*want)
		}
		got += fetches.NumRecords()
	}
}

// commits has a group commit an offset of each partition.
func (c *processes) commits(group, topic string, partitions int32, offset int64, by int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kadm.NewOptClient(kgo.SeedBrokers(c.host(by) + ":9092"))
	must(c.T, err)
	defer client.Close()
	offsets := kadm.Offsets{}
	for p := range partitions {
		offsets.Add(kadm.Offset{Topic: topic, Partition: p, At: offset, LeaderEpoch: -1})
	}
	must(c.T, client.CommitAllOffsets(ctx, group, offsets))
}

// committed is what a group has committed of each partition.
func (c *processes) committed(group, topic string, partitions int32, from int) (at []int64) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kadm.NewOptClient(kgo.SeedBrokers(c.host(from) + ":9092"))
	must(c.T, err)
	defer client.Close()
	offsets, err := client.FetchOffsets(ctx, group)
	must(c.T, err)
	for p := range partitions {
		o, _ := offsets.Lookup(topic, p)
		at = append(at, o.At)
	}
	return at
}

// recover runs `rustmq admin cluster recover` and returns what it says.
func (c *processes) recover(args ...string) (r roles.Recovered) {
	c.Helper()
	code, stdout, stderr := rustmq(c.T, "", append([]string{"admin", "cluster", "recover", "-o", "json", "--from", "file://" + filepath.Join(c.dir, "bucket")}, args...)...)
	if code != 0 {
		c.Fatalf("recover %v: exit %d, %s", args, code, stderr)
	}
	must(c.T, json.Unmarshal([]byte(stdout), &r))
	return r
}

// inBucket waits until the metadata log in the bucket has a topic, by looking there while
// the cluster runs.
func (c *processes) inBucket(topic string, partitions int) {
	c.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		found := 0
		for _, p := range c.recover("--dry-run").Partitions {
			if p.Topic == topic {
				found++
			}
		}
		if found == partitions {
			return
		}
	}
	c.Fatalf("the bucket never has topic %s", topic)
}

// lose takes directories of a node away.
func (c *processes) lose(id int, dirs ...string) {
	c.Helper()
	for _, dir := range dirs {
		must(c.T, os.RemoveAll(filepath.Join(c.data(id), dir)))
	}
}

// TestControllersLostWALsSurvive (RULES 7): three nodes are killed, and the metadata logs of
// all are gone. What was acked is there after the recovery, on the disks alone or in the
// bucket, what a group committed too, and transactions go on. Then everything but the bucket
// is gone: what was uploaded is there, exactly, and the list says where it ends; of a topic whose
// acks wait for the bucket all is there both times, and a module runs.
func TestControllersLostWALsSurvive(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	const partitions, count = 3, 200
	c.admin(1, "topics", "create", "t", "--partitions", fmt.Sprint(partitions))
	c.inBucket("t", partitions)
	c.acked("t", partitions, 0, count, 1)
	c.admin(1, "topics", "create", "x", "--partitions", "2")
	c.transacted("x", 2, 1)
	c.commits("g", "t", partitions, count, 2)
	for topic, partitions := range map[string]int{"x": 2, "__transaction_state": 50, "__consumer_offsets": 50} {
		c.inBucket(topic, partitions)
	}
	c.atLevel(metadata.TransformsFeatureLevel)
	c.admin(1, "etl", "deploy", "m", answersModule, "--topics", "transformed")
	c.admin(1, "topics", "create", "o", "--partitions", "2", "--config", "rustmq.durability=object")
	c.inBucket("o", 2)
	c.acked("o", 2, 0, 10, 3)
	for id := 1; id <= 3; id++ {
		c.end(id, syscall.SIGKILL)
	}
	for id := 1; id <= 3; id++ {
		c.lose(id, "raft", "snapshots")
	}
	c.refused(1, "rustmq admin cluster recover")

	before := c.recover("--dry-run")
	if again := c.recover("--dry-run"); !before.DryRun || fmt.Sprint(again) != fmt.Sprint(before) || before.Incarnation != 1 || len(before.Partitions) < partitions {
		t.Fatalf("a dry run says %+v, and then %+v", before, again)
	}
	c.recover("--node-id", "1", "--data-dir", c.data(1))
	for id := 2; id <= 3; id++ {
		if code, _, stderr := rustmq(t, "", "admin", "cluster", "recover", "--join", "--node-id", fmt.Sprint(id), "--data-dir", c.data(id)); code != 0 {
			t.Fatal(stderr)
		}
	}
	for id := 1; id <= 3; id++ {
		c.start(id, "--set", "wal.upload_interval=500ms")
	}
	for id := 1; id <= 3; id++ {
		c.await(id)
	}
	c.has("t", partitions, map[int32]int{0: count, 1: count, 2: count}, 2)
	if is := c.committed("g", "t", partitions, 3); !slices.Equal(is, []int64{count, count, count}) {
		t.Errorf("the group has committed %v, want %d each", is, count)
	}
	c.has("o", 2, map[int32]int{0: 10, 1: 10}, 1)
	c.running("m", 1)
	eventually(t, "controller 2 makes itself known", func() bool {
		return strings.Contains(c.admin(1, "controllers", "list", "-o", "json"), `"id": 2`)
	})
	c.admin(1, "controllers", "add", "2")
	c.acked("t", partitions, count, 1, 3)
	c.transacted("x", 2, 3)
	c.hasTransactions("x", 2, 2, 1)
	eventually(t, "the bucket has what was acked and committed", func() bool {
		behind := 0
		for _, p := range c.recover("--dry-run").Partitions {
			if p.Topic == "t" && p.End <= count || p.Topic == "x" && p.End < 4 {
				behind++
			}
		}
		return behind == 0
	})
	c.commits("g", "t", partitions, count+1, 3)
	c.commits("ahead", "t", partitions, count+50, 2) // as if there had been more, which is lost
	c.acked("o", 2, 10, 5, 2)

	eventually(t, "the bucket has what was committed behind the end", func() bool {
		return len(c.recover("--dry-run", "--brokers", "none").Beyond) == partitions
	})

	// Then only the bucket is left.
	for id := 1; id <= 3; id++ {
		c.end(id, syscall.SIGTERM)
	}
	for id := 1; id <= 3; id++ {
		must(t, os.RemoveAll(c.data(id)))
	}
	left := c.recover("--node-id", "1", "--data-dir", c.data(1), "--brokers", "none", "--force")
	want := map[int32]int{}
	for _, p := range left.Partitions {
		if len(p.Awaited) != 0 {
			t.Errorf("%+v: nobody can come", p)
		}
		if p.Topic == "o" && (!p.Held || p.End != 15) {
			t.Errorf("%+v, and 15 were acked", p)
		}
		if p.Topic == "t" {
			want[p.Partition] = int(p.End)
			if p.End != count+1 {
				t.Errorf("%+v, and the bucket had up to %d", p, count+1)
			}
		}
	}
	if left.Incarnation != 2 || len(want) != partitions || left.UnknownTorn != "" || left.UnknownEnds != "" {
		t.Fatalf("%+v", left)
	}
	if len(left.Beyond) != partitions || len(left.Torn) > 0 {
		t.Errorf("beyond are %+v, torn are %+v", left.Beyond, left.Torn)
	}
	for id := 1; id <= 3; id++ {
		c.start(id)
	}
	for id := 1; id <= 3; id++ {
		c.await(id)
	}
	eventually(t, "what is committed behind the end is set back", func() bool {
		return slices.Equal(c.committed("ahead", "t", partitions, 1), []int64{count + 1, count + 1, count + 1})
	})
	// The last that it committed may not have come into the bucket.
	if is := c.committed("g", "t", partitions, 2); slices.Min(is) < count || slices.Max(is) > count+1 {
		t.Errorf("the group has committed %v, want %d each, or one less", is, count+1)
	}
	c.has("t", partitions, want, 3)
	c.has("o", 2, map[int32]int{0: 15, 1: 15}, 2)
	c.running("m", 1)
	c.hasTransactions("x", 2, 2, 1)
}

// TestLostLogJoinsAsAnother (RULES 4.1): a controller that has lost raft/ and not wal/ is no
// member any more of the group that runs on, and has no vote in it before it is added. What
// its broker has stays its own.
func TestLostLogJoinsAsAnother(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	const partitions, count = 3, 50
	c.admin(1, "topics", "create", "t", "--partitions", fmt.Sprint(partitions))
	c.acked("t", partitions, 0, count, 1)
	was := c.group(1, "three voters", func(g admin.ControllerGroup) bool { return len(g.Controllers) == 3 })
	directory := func() (id string) {
		raw, err := os.ReadFile(filepath.Join(c.data(3), "meta.json"))
		must(t, err)
		var meta struct {
			Directory string `json:"directory_id"`
		}
		must(t, json.Unmarshal(raw, &meta))
		return meta.Directory
	}
	broker := directory()
	c.end(3, syscall.SIGKILL)
	c.lose(3, "raft", "snapshots")
	c.refused(3, "recover --join")
	code, says, stderr := rustmq(t, "", "admin", "cluster", "recover", "--join", "--node-id", "3", "--data-dir", c.data(3))
	if code != 0 || !strings.Contains(says, "`remove 3` before") {
		t.Fatalf("exit %d: %s%s", code, says, stderr)
	}
	c.start(3)
	c.await(3)
	other := func(g admin.ControllerGroup) (is admin.Controller) {
		for _, m := range g.Controllers {
			if !slices.ContainsFunc(was.Controllers, func(w admin.Controller) bool { return w.Directory == m.Directory }) {
				is = m
			}
		}
		return is
	}
	c.group(1, "node 3 as another that waits", func(g admin.ControllerGroup) bool { return other(g).Role == "waiting" && !other(g).Active })
	c.admin(1, "controllers", "remove", "3")
	c.admin(1, "controllers", "add", "3")
	c.group(1, "node 3 as another voter", func(g admin.ControllerGroup) bool { return len(g.Controllers) == 3 && other(g).Role == "voter" })
	c.brokers(1, "all in sync", func(by map[int32]admin.Broker) bool {
		return by[3].State == "serving" && by[3].InSync == partitions
	})
	if is := directory(); is != broker {
		t.Errorf("the broker's directory was %s, and is %s: what is in its wal/ counts for nothing", broker, is)
	}
	c.has("t", partitions, map[int32]int{0: count, 1: count, 2: count}, 3)
}

// eventually waits until it is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	const within = 2 * time.Minute
	for deadline := time.Now().Add(within); !is(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// TestRecoverSaysWhatIsWrong: before it has changed anything.
func TestRecoverSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, "--data-dir", dir)
	if code, _, stderr := rustmq(t, "x\n", "produce", "t", "-b", p.says.Kafka); code != 0 {
		t.Fatal(stderr)
	}
	bucket := "file://" + filepath.Join(dir, "bucket")
	for want, args := range map[string][]string{
		"from which bucket":         {},
		"of which controller":       {"--from", bucket},
		"stop the node first":       {"--from", bucket, "--node-id", "1", "--data-dir", dir},
		"no such file":              {"--from", "file:///nowhere/at/all", "--dry-run"},
		"no cluster stores in":      {"--from", "file://" + t.TempDir(), "--dry-run"},
		"give --from as serve had":  {"--from", "file:///nowhere/at/all", "--dry-run"},
		"these store there: ":       {"--from", bucket, "--dry-run", "--cluster", "another"},
		"want ids such as":          {"--from", bucket, "--dry-run", "--brokers", "one"},
		"which node is it":          {"--join"},
		"belongs to no cluster yet": {"--join", "--node-id", "2", "--data-dir", t.TempDir()},
	} {
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "cluster", "recover"}, args...)...)
		if code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d, %s%s, without %q", args, code, stdout, stderr, want)
		}
	}
	// A cluster that lives is told apart, and a wrong bucket leaves nothing behind.
	fresh, empty := filepath.Join(t.TempDir(), "new"), t.TempDir()
	for want, args := range map[string][]string{
		"this cluster lives: controller-1": {"--from", bucket},
		"no cluster stores in":             {"--from", "file://" + t.TempDir()},
		"these store there: ":              {"--from", bucket, "--cluster", "another"},
	} {
		for _, dir := range []string{fresh, empty} {
			code, stdout, stderr := rustmq(t, "", append([]string{"admin", "cluster", "recover", "--node-id", "1", "--data-dir", dir}, args...)...)
			if code == 0 || !strings.Contains(stderr, want) {
				t.Errorf("%v: exit %d, %s%s, without %q", args, code, stdout, stderr, want)
			}
			if _, err := os.Stat(filepath.Join(dir, "meta.json")); !os.IsNotExist(err) {
				t.Errorf("%v: %s is left: %v", args, dir, err)
			}
		}
	}
	// One that is shut out says so, and takes no change any more.
	// It may write to the bucket between the look and the recovery, which is told and changes nothing.
	eventually(t, "the cluster is brought back", func() bool {
		code, _, stderr := rustmq(t, "", "admin", "cluster", "recover", "--from", bucket, "--node-id", "1", "--data-dir", t.TempDir(), "--force")
		if code != 0 && !strings.Contains(stderr, "since the bucket was read") {
			t.Fatal(stderr)
		}
		return code == 0
	})
	eventually(t, "the old life knows that it is over", func() bool {
		resp, err := http.Get("http://" + p.says.HTTP + "/readyz")
		if err != nil {
			return false
		}
		says, err := io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close()) == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(says), "brought back from its bucket, as incarnation 2")
	})
	http.DefaultClient.CloseIdleConnections()
	for want, args := range map[string][]string{
		"as incarnation 2": {"topics", "create", "another"},
		"Stop it":          {"cluster", "health"},
	} {
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + p.says.HTTP}, args...)...)
		if code != 1 || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v: exit %d, %s%s, without %q", args, code, stdout, stderr, want)
		}
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
	if code, _, stderr := rustmq(t, "", "admin", "cluster", "recover", "--from", bucket, "--node-id", "1", "--data-dir", dir); code == 0 || !strings.Contains(stderr, "move raft/ and snapshots/ away") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
