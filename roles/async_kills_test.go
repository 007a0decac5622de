package roles_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/test/seeded"
)

// asAsyncNode as the first argument makes the test binary, as a program, a node that runs a
// task from topic in to topic out.
const asAsyncNode = "async-node"

const asyncNodeSpec = `{"mode":"async","topics":["in"],"output":"out","dead_letter_topic":"dead","on_failure":"dead-letter"}`

// asyncNode is what such a node does until it is told to stop. Its arguments are those of
// `rustmq serve` that have values.
func asyncNode(args []string) int {
	keys := map[string]string{"--node-id": "broker.id", "--bind": "network.bind", "--peers": "controller.peers", "--data-dir": "broker.data_dir", "--bucket": "object_storage.url"}
	var settings []configs.Setting
	for i := 0; i+1 < len(args); i += 2 {
		key, value := keys[args[i]], args[i+1]
		if args[i] == "--set" {
			key, value, _ = strings.Cut(value, "=")
		}
		settings = append(settings, configs.Setting{Key: key, Value: value, Origin: "test"})
	}
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	config, err := configs.Load(configs.Sources{Flags: settings})
	if err != nil {
		return fail(err)
	}
	node, err := roles.Start(stopped, roles.NodeOptions{Config: config})
	if err != nil {
		return fail(err)
	}
	spec, err := pipeline.ParseSpec([]byte(asyncNodeSpec))
	if err != nil {
		return fail(err)
	}
	node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: spec}})
	fmt.Println(`{"ready":true}`)
	<-stopped.Done()
	if err := node.Close(); err != nil {
		return fail(err)
	}
	return 0
}

// TestAsyncExactlyOnceUnderKills: of three nodes one is killed, again and again, while
// records come in. Each comes out once, in the order of its partition. What one broker reads
// goes to partitions, and by coordinators, on all three.
func TestAsyncExactlyOnceUnderKills(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(seeded.Seed(t), 2))
	const partitions, kills = 6, 3
	c := newProcessesAs(t, 3, asAsyncNode)
	seeds := kgo.SeedBrokers(c.host(1)+":9092", c.host(2)+":9092", c.host(3)+":9092")
	cl, err := kgo.NewClient(seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	t.Cleanup(cl.Close)
	admin := kadm.NewClient(cl)
	made, err := admin.CreateTopics(t.Context(), partitions, 3, nil, "in", "dead")
	must(t, err)
	must(t, made.Error())
	made, err = admin.CreateTopics(t.Context(), partitions-1, 3, nil, "out") // which the keys decide about
	must(t, err)
	must(t, made.Error())

	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	t.Cleanup(cancel)
	began := time.Now()
	var sent atomic.Int64
	produced := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		defer close(produced)
		for n := 0; ; n++ {
			select {
			case <-stop:
				produced <- cl.Flush(ctx)
				return
			default:
			}
			value := fmt.Sprint("keep ", n)
			if n%97 == 0 {
				value = fmt.Sprint("trap ", n)
			}
			r := &kgo.Record{Topic: "in", Partition: int32(n % partitions), Key: []byte(strconv.Itoa(n % partitions)), Value: []byte(value)}
			if n%64 > 0 { // the rest paces
				cl.Produce(ctx, r, nil)
			} else if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				produced <- err
				return
			}
			sent.Store(int64(n + 1))
		}
	}()
	for range kills {
		victim := 1 + random.IntN(3)
		before := sent.Load()
		more := func() bool { return sent.Load() >= before+500 }
		await(t, "some are produced before it is away", time.Minute, more)
		c.end(victim, syscall.SIGKILL)
		before = sent.Load()
		await(t, "some are produced while it is away", time.Minute, more)
		t.Logf("%v: node %d is away, %d records since", time.Since(began).Round(time.Millisecond), victim, sent.Load()-before)
		c.start(victim)
		c.await(victim)
		t.Logf("%v: it is back", time.Since(began).Round(time.Millisecond))
	}
	close(stop)
	must(t, <-produced)
	t.Logf("%v: all is produced", time.Since(began).Round(time.Millisecond))

	reader, err := kgo.NewClient(seeds, kgo.ConsumeTopics("out", "dead"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	must(t, err)
	t.Cleanup(reader.Close)
	seen := map[string]int{}
	newest := map[string]int{}
	look := func(r *kgo.Record) {
		seen[string(r.Value)]++
		_, text, _ := strings.Cut(string(r.Value), " ")
		n, err := strconv.Atoi(text)
		must(t, err)
		from := fmt.Sprint(r.Topic, n%partitions)
		if before, ok := newest[from]; ok && n <= before {
			t.Fatalf("%s: %d comes behind %d", from, n, before)
		}
		newest[from] = n
	}
	for int64(len(seen)) < sent.Load() {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came out", len(seen), sent.Load())
		}
		fetches.EachRecord(look)
	}
	// Nothing comes behind the last.
	last, done := context.WithTimeout(ctx, time.Second)
	defer done()
	reader.PollFetches(last).EachRecord(look)
	for value, n := range seen {
		if n != 1 {
			t.Errorf("%q came out %d times", value, n)
		}
	}
	t.Logf("%d records through %d kills", sent.Load(), kills)
}
