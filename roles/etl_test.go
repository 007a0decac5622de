package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
)

// answersModule replaces values by its config; d… is dropped, r… rejected, x… traps, l… never
// ends, see its source.
const answersModule = "../test/data/etl/answers.wasm"

// transformed produces records to each partition of a topic and returns what is there of them
// then, by key: partition and number. Which batches are refused for a while is tried again.
func (c *processes) transformed(topic string, partitions int32, at int, values ...string) map[string]string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(at)+":9092"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(c.T, err)
	defer client.Close()
	run, ends := fmt.Sprint(time.Now().UnixNano()), map[int32]int64{}
	for p := range partitions {
		for i, value := range append(values, "the end") {
			r := &kgo.Record{Topic: topic, Partition: p, Key: fmt.Appendf(nil, "%s/%d/%d", run, p, i), Value: []byte(value)}
			if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
				c.Fatalf("produce %s to %s-%d by node %d: %v", value, topic, p, at, err)
			}
			ends[p] = r.Offset
		}
	}
	return c.found(ctx, topic, at, ends, run+"/")
}

// found are the values by key of a run, up to some offsets.
func (c *processes) found(ctx context.Context, topic string, at int, ends map[int32]int64, run string) map[string]string {
	c.Helper()
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.host(at)+":9092"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(c.T, err)
	defer reader.Close()
	found, left := map[string]string{}, maps.Clone(ends)
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.Fatalf("consume %s by node %d: %v", topic, at, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if key, is := strings.CutPrefix(string(r.Key), run); is {
				found[key] = string(r.Value)
			}
			if end, waits := left[r.Partition]; waits && r.Offset >= end {
				delete(left, r.Partition)
			}
		})
	}
	return found
}

// atLevel waits until all nodes know that the feature level has risen.
func (c *processes) atLevel(level uint32) {
	c.Helper()
	eventually(c.T, "the feature level has risen", func() bool {
		for id := range c.nodes {
			var is admin.ClusterView
			must(c.T, json.Unmarshal([]byte(c.admin(id, "cluster", "describe", "-o", "json")), &is))
			if is.FeatureLevel < level {
				return false
			}
		}
		return true
	})
}

// module is a module as a node shows it, once it is as wanted.
func (c *processes) module(at int, name, what string, is func(admin.ETLModule) bool) (m admin.ETLModule) {
	c.Helper()
	eventually(c.T, fmt.Sprintf("module %s at node %d: %s", name, at, what), func() bool {
		code, stdout, stderr := rustmq(c.T, "", "admin", "--url", "http://"+c.host(at)+":9642", "etl", "describe", name, "-o", "json")
		if code != 0 && strings.Contains(stderr, "there is no module") { // it was deployed at another node
			return false
		}
		if m = (admin.ETLModule{}); code != 0 {
			c.Fatal(stderr)
		}
		must(c.T, json.Unmarshal([]byte(stdout), &m))
		return is(m)
	})
	return m
}

// running waits until a version runs on all nodes.
func (c *processes) running(name string, version uint32) {
	c.Helper()
	for id := range c.nodes {
		c.module(id, name, fmt.Sprintf("version %d runs", version), func(m admin.ETLModule) bool {
			return m.Here != nil && m.Here.Ready && m.Here.Version == version
		})
	}
}

// wantTransformed produces v and "the end" to each partition, which are to be there as one of
// some values.
func (c *processes) wantTransformed(what, topic string, at int, values ...string) {
	c.Helper()
	for key, got := range c.transformed(topic, 3, at, "v") {
		if !slices.Contains(values, got) {
			c.Errorf("%s: record %s is %s, and none of %q", what, key, got, values)
		}
	}
}

// A module is deployed on a cluster, survives restarts without the bucket, is replaced, rolled
// back, and disabled when it fails too often.
func TestModulesOfACluster(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	c.admin(1, "topics", "create", "t", "-p", "3", "-r", "3")
	c.admin(1, "topics", "create", "dead", "-p", "1", "-r", "3")
	c.atLevel(metadata.TransformsFeatureLevel)
	sample := filepath.Join(c.dir, "sample")
	must(t, os.WriteFile(sample, []byte("v\nreject\n"), 0o600))
	deploy := func(at int, config string, more ...string) string {
		t.Helper()
		return c.admin(at, append([]string{
			"etl", "deploy", "m", answersModule, "--topics", "t", "--on-failure", "dead-letter", "--dead-letter-topic", "dead", "--config", config, "--sample", sample,
		}, more...)...)
	}
	if said := deploy(2, `"one"`, "--dry-run"); !strings.Contains(said, "reject told so") || !strings.Contains(said, "nothing was changed") {
		t.Errorf("the dry run says %s", said)
	}
	c.wantTransformed("after a dry run", "t", 1, "v", "the end")
	if code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "etl", "deploy", "m", answersModule, "--topics", "t", "--config", "null"); code != 1 || !strings.Contains(stderr, "no is no config") {
		t.Errorf("a config that the module refuses: %d, %s", code, stderr)
	}
	deploy(2, `"one"`)
	c.running("m", 1)
	got := c.transformed("t", 3, 3, "v", "drop me", "reject me")
	for p := range 3 {
		if got[fmt.Sprintf("%d/0", p)] != `"one"` || len(got) != 6 {
			t.Errorf("what was produced through the module is %v", got)
		}
	}
	c.deadLetters(3)
	var told struct {
		Nodes   []admin.ETLNode
		Modules []admin.ETLSum
	}
	if c.fetch(2, "/api/v1/etl/nodes?module=m", &told); len(told.Nodes) != 3 || len(told.Modules) != 1 {
		t.Fatalf("%+v", told)
	}
	if m := told.Modules[0]; m.Ready != 3 || m.Asked != 3 || m.Counts.Calls < 12 || m.Counts.Records < 12 || m.Counts.Outcomes["dropped"] < 3 || m.Counts.Outcomes["dead-lettered"] < 3 || m.Counts.Seconds <= 0 {
		t.Errorf("what the module did is told as %+v", m)
	}

	// A node starts without the bucket, and has the module.
	bucket := filepath.Join(c.dir, "bucket")
	c.end(2, syscall.SIGKILL)
	must(t, os.Rename(bucket, bucket+".away"))
	c.start(2)
	c.await(2)
	c.running("m", 1)
	c.wantTransformed("with the bucket away", "t", 2, `"one"`)
	must(t, os.Rename(bucket+".away", bucket))

	// Another version, and back.
	eventually(t, "the bucket is taken again", func() bool {
		code, _, _ := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "etl", "deploy", "m", answersModule, "--spec", specFile(t, `{"topics":["t"],"config":"two","on_failure":"pass","error_budget":{"failures":3}}`))
		return code == 0
	})
	m := c.module(1, "m", "another version is active", func(m admin.ETLModule) bool { return m.Active > 1 })
	c.running("m", m.Active)
	c.wantTransformed("version 2", "t", 1, `"two"`)
	c.admin(3, "etl", "rollback", "m")
	c.running("m", 1)
	c.wantTransformed("rolled back", "t", 1, `"one"`)
	c.admin(3, "etl", "rollback", "m")
	c.running("m", m.Active)

	// What fails too often is disabled, by whichever node sees it, and records pass.
	for range 3 {
		c.transformed("t", 3, 2, "x fails")
	}
	spent := c.module(1, "m", "its budget is spent", func(m admin.ETLModule) bool { return m.State == "budget-spent" })
	if !strings.Contains(spent.Reason, "3 failures within 1m0s, the last: trap") || !strings.Contains(spent.Reason, "on broker ") {
		t.Errorf("%+v", spent)
	}
	for id := range c.nodes {
		c.module(id, "m", "it is disabled", func(m admin.ETLModule) bool { return m.Active == 0 && m.Here == nil })
	}
	_, health, _ := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "cluster", "health")
	if !strings.Contains(health, "module m is disabled since") || !strings.Contains(health, "its records pass as they are (on_failure: pass)") {
		t.Errorf("health says %s", health)
	}
	if list := c.admin(2, "etl", "list"); !strings.Contains(list, "error budget spent: records pass") {
		t.Errorf("the list is %s", list)
	}
	eventually(t, "records pass without it", func() bool {
		for _, value := range c.transformed("t", 3, 1, "v") {
			if value != "v" && value != "the end" {
				return false
			}
		}
		return true
	})
	if history := c.admin(2, "etl", "history", "m"); !strings.Contains(history, "disabled by its error budget") || !strings.Contains(history, "rolled back") {
		t.Errorf("its history is %s", history)
	}
	if code, _, _ := rustmq(t, "", "admin", "--url", "http://"+c.host(2)+":9642", "etl", "delete", "m"); code == 0 {
		t.Error("what its records meet is deleted in passing")
	}
	c.admin(2, "etl", "disable", "m")
	c.admin(2, "etl", "delete", "m")
}

// deadLetters waits for so many in topic dead, and looks at what they say.
func (c *processes) deadLetters(n int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.host(1)+":9092"), kgo.ConsumeTopics("dead"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(c.T, err)
	defer reader.Close()
	for n > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			c.Fatalf("%d dead letters are missing: %v", n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n--
			said := map[string]string{}
			for _, h := range r.Headers {
				said[h.Key] = string(h.Value)
			}
			if string(r.Value) != "reject me" || said["rustmq.dlt.module"] != "m" || said["rustmq.dlt.reason"] != "told so" || said["rustmq.dlt.topic"] != "t" || said["rustmq.dlt.version"] != "1" {
				c.Errorf("a dead letter is %s, %v", r.Value, said)
			}
		})
	}
}

// aModuleOf starts a node alone with a module that is deployed, and returns the directory of its
// cluster in the bucket, and how to call it.
func aModuleOf(t *testing.T) (bucket string, admin func(args ...string) (code int, out, stderr string)) {
	t.Helper()
	dir := t.TempDir()
	p := serve(t, "--data-dir", dir)
	admin = func(args ...string) (int, string, string) {
		return rustmq(t, "", append([]string{"admin", "--url", "http://" + p.says.HTTP, "etl"}, args...)...)
	}
	if code, _, stderr := admin("deploy", "m", answersModule, "--topics", "t", "--disabled"); code != 0 {
		t.Fatal(stderr)
	}
	found, err := filepath.Glob(filepath.Join(dir, "bucket", "*", "etl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("modules lie in %q: %v", found, err)
	}
	return filepath.Dir(found[0]), admin
}

// What lies in the bucket for a module, and is another, is not run, and is mended by deploying
// the module again.
func TestDamagedModulesAreNotTried(t *testing.T) {
	bucket, admin := aModuleOf(t)
	files, err := filepath.Glob(filepath.Join(bucket, "etl", "*.wasm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	wasm, err := os.ReadFile(files[0])
	must(t, err)
	must(t, os.WriteFile(files[0], []byte(strings.Replace(string(wasm), "told so", "sold to", 1)), 0o600))
	if code, out, stderr := admin("test", "m"); code != 1 || !strings.Contains(stderr, "is damaged: deploy the module again") {
		t.Errorf("a damaged module is tried: %d %s %s", code, out, stderr)
	}
	if code, _, stderr := admin("deploy", "m", answersModule, "--topics", "t"); code != 0 {
		t.Error(stderr)
	}
	if code, out, stderr := admin("test", "m", "--version", "1"); code != 0 {
		t.Errorf("after it is deployed again: %d %s %s", code, out, stderr)
	}
}

// A bucket that is another's takes no module.
func TestModulesGoIntoTheBucketOfTheCluster(t *testing.T) {
	bucket, admin := aModuleOf(t)
	must(t, os.WriteFile(filepath.Join(bucket, "nonce"), []byte(strings.Repeat("ab", 16)+"\n"), 0o600))
	if code, out, stderr := admin("deploy", "masks", "--battery", "headers", "--topics", "t", "--config", `{"set":[{"name":"a","value":"b"}]}`); code != 1 || !strings.Contains(stderr, "the bucket has nonce abab") {
		t.Errorf("it is put into another's bucket: %d %s %s", code, out, stderr)
	}
}

// Modules that never end, in all the calls that they may have at once, cost other topics
// nothing but a processor: what is produced there is acked, and how fast is told.
func TestOtherTopicsGoOnBesideRunawayModules(t *testing.T) {
	p := serve(t, "--data-dir", t.TempDir())
	admin := func(args ...string) {
		t.Helper()
		if code, _, stderr := rustmq(t, "", append([]string{"admin", "--url", "http://" + p.says.HTTP}, args...)...); code != 0 {
			t.Fatal(stderr)
		}
	}
	admin("topics", "create", "good")
	admin("topics", "create", "bad", "-p", "4")
	admin("etl", "deploy", "runaway", answersModule, "--spec", specFile(t, `{"topics":["bad"],"on_failure":"pass","deadline_ms":50,"instances":2,"error_budget":{"failures":1000000}}`))
	// Each has a client of its own: one would wait for all that it has sent in one request.
	producer := func(topic string) func(context.Context, string) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(p.says.Kafka), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		must(t, err)
		t.Cleanup(client.Close)
		return func(ctx context.Context, value string) error {
			return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
		}
	}
	good := producer("good")
	took := func() []time.Duration {
		var all []time.Duration
		for range 300 {
			begun := time.Now()
			if err := good(t.Context(), "v"); err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(begun))
		}
		slices.Sort(all)
		return all
	}
	before := took()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var ended [4]atomic.Int64
	var running sync.WaitGroup
	for i := range ended {
		bad := producer("bad")
		running.Go(func() {
			for ctx.Err() == nil {
				if bad(ctx, "loops") == nil {
					ended[i].Add(1)
				}
			}
		})
	}
	meanwhile := took()
	var calls [4]int64
	for i := range ended { // one that waits for its turn behind others may end later than all of those
		await(t, "calls that never end were in the way", time.Minute, func() bool {
			calls[i] = ended[i].Load()
			return calls[i] > 0
		})
	}
	stop()
	running.Wait()
	t.Logf("acks of another topic, p50 and p99: %v and %v before, %v and %v beside %v calls that never end",
		before[150], before[297], meanwhile[150], meanwhile[297], calls)
}

func specFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spec")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
