package roles_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// transform is a module that a test decides by: about each record alone.
type transform func(*abi.Record) (abi.Decision, error)

func (f transform) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	all := make([]abi.Decision, len(b.Records))
	for i := range b.Records {
		var err error
		if all[i], err = f(&b.Records[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// marked decides as a record's value says.
func marked(r *abi.Record) (abi.Decision, error) {
	verb, rest, _ := bytes.Cut(r.Value, []byte(" "))
	switch string(verb) {
	case "drop":
		return abi.Decision{Action: abi.Drop}, nil
	case "route":
		return abi.Decision{Action: abi.Route, Text: string(rest)}, nil
	case "reject":
		return abi.Decision{Action: abi.Reject, Text: string(rest)}, nil
	case "trap":
		return abi.Decision{}, &abi.Failure{Kind: abi.Trap, Text: "unreachable"}
	case "upper":
		return abi.Decision{Replaces: abi.Value, Value: bytes.ToUpper(rest)}, nil
	}
	return abi.Decision{}, nil
}

// startNode starts a node in this process.
func startNode(t testing.TB, set ...string) *roles.Node {
	t.Helper()
	settings := []configs.Setting{}
	for _, s := range append([]string{
		"network.kafka_port=0", "network.http_port=0", "network.broker_port=0", "wal.capacity=256MiB",
		"broker.data_dir=" + t.TempDir(),
	}, set...) {
		key, value, _ := strings.Cut(s, "=")
		settings = append(settings, configs.Setting{Key: key, Value: value, Origin: "test"})
	}
	config, err := configs.Load(configs.Sources{Flags: settings})
	must(t, err)
	node, err := roles.Start(t.Context(), roles.NodeOptions{Config: config, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	t.Cleanup(func() { must(t, node.Close()) })
	return node
}

func asyncSpec(t testing.TB, text string) *pipeline.Spec {
	t.Helper()
	s, err := pipeline.ParseSpec([]byte(text))
	must(t, err)
	return s
}

// asyncClient is a client of a node, and its topics.
type asyncClient struct {
	*testing.T
	*kgo.Client
	admin *kadm.Client
}

func newAsyncClient(t *testing.T, node *roles.Node, partitions int32, topics ...string) asyncClient {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	t.Cleanup(cl.Close)
	c := asyncClient{t, cl, kadm.NewClient(cl)}
	forever := "-1" // some records are years old
	made, err := c.admin.CreateTopics(t.Context(), partitions, -1, map[string]*string{"retention.ms": &forever}, topics...)
	must(t, err)
	must(t, made.Error())
	return c
}

func (c asyncClient) produce(records ...*kgo.Record) {
	c.Helper()
	must(c.T, c.ProduceSync(c.Context(), records...).FirstErr())
}

// committed reads what is committed in topics, until enough says so.
func (c asyncClient) committed(node *roles.Node, enough func([]*kgo.Record) bool, topics ...string) (all []*kgo.Record) {
	c.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	must(c.T, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	for !enough(all) {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			c.Fatalf("%d records, and no more come", len(all))
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// await waits until something is so.
func await(t testing.TB, what string, within time.Duration, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(within); !is(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("it is never so that %s", what)
		}
	}
}

func number(n int) func([]*kgo.Record) bool {
	return func(all []*kgo.Record) bool { return len(all) >= n }
}

// TestAsyncTransformsGoFromTopicToTopic: what is decided is done, timestamps, tombstones and
// headers stay, and a record that fails does not hold up those behind it.
func TestAsyncTransformsGoFromTopicToTopic(t *testing.T) {
	node := startNode(t, "broker.transactions.max_timeout=30s")
	c := newAsyncClient(t, node, 3, "in", "out", "side", "dead")
	at := time.UnixMilli(1_700_000_000_000)
	record := func(partition int32, key, value string) *kgo.Record {
		r := &kgo.Record{Topic: "in", Partition: partition, Key: []byte(key), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("7")}}}
		if value != "" {
			r.Value = []byte(value)
		}
		return r
	}
	var failures atomic.Int64
	node.Async().Set([]async.Task{{
		Name: "m", Version: 3, Transformer: transform(marked), Failed: func(error, int) { failures.Add(1) },
		Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","routes":["side"],"dead_letter_topic":"dead","on_failure":"dead-letter"}`),
	}})
	c.produce(record(1, "a", "keep"), record(1, "b", ""), record(1, "c", "drop"), record(1, "d", "upper case"), record(1, "e", "route side"),
		record(1, "f", "reject too blue"), record(1, "g", "trap"), record(1, "h", "route elsewhere"), record(1, "i", "last"))
	got := map[string]*kgo.Record{}
	for _, r := range c.committed(node, number(8), "out", "side", "dead") {
		got[r.Topic+" "+string(r.Key)] = r
	}
	for _, want := range []struct{ at, value string }{
		{"out a", "keep"}, {"out b", "null"}, {"out d", "CASE"}, {"side e", "route side"}, {"dead f", "reject too blue"}, {"dead g", "trap"}, {"dead h", "route elsewhere"}, {"out i", "last"},
	} {
		r := got[want.at]
		switch {
		case r == nil:
			t.Errorf("%s is missing", want.at)
			continue
		case r.Partition != 1 || !r.Timestamp.Equal(at) || len(r.Headers) == 0 || string(r.Headers[0].Value) != "7":
			t.Errorf("%s is in partition %d, of %v, with headers %v", want.at, r.Partition, r.Timestamp, r.Headers)
		}
		if value := string(r.Value); want.value == "null" && r.Value != nil || want.value != "null" && value != want.value {
			t.Errorf("%s has the value %q, want %s", want.at, value, want.value)
		}
	}
	if r := got["dead f"]; r != nil {
		said := map[string]string{}
		for _, h := range r.Headers[1:] {
			said[h.Key] = string(h.Value)
		}
		for key, want := range map[string]string{"module": "m", "version": "3", "reason": "too blue", "topic": "in", "partition": "1", "offset": "5", "timestamp": "1700000000000"} {
			if said["rustmq.dlt."+key] != want {
				t.Errorf("header %s is %q, want %q", key, said["rustmq.dlt."+key], want)
			}
		}
	}
	eventually(t, "what was done is counted", func() bool {
		is := node.Async().Counts()["m"]
		return is != nil && is.Transactions > 0 && maps.Equal(is.Records, map[string]uint64{"kept": 4, "dropped": 1, "routed": 1, "dead_letter": 3})
	})
	if n := failures.Load(); n != 2 { // the trap, and the route that is not allowed
		t.Errorf("%d failures are told", n)
	}
}

// TestAsyncExactlyOnce: runners that are cut off, ended, replaced and doubled write each
// record once, in the order of its partition, and all of them.
func TestAsyncExactlyOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	node := startNode(t)
	const partitions, records = 3, 3000
	c := newAsyncClient(t, node, partitions, "in", "out", "dead")
	spec := asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","dead_letter_topic":"dead","on_failure":"dead-letter"}`)

	// How many bytes until a connection is cut off.
	var budget atomic.Int64
	budget.Store(1 << 40)
	runner := func() *async.Runner {
		o := node.AsyncOptions()
		dial := o.Dial
		o.Interval = time.Millisecond
		o.Dial = func(ctx context.Context, id int32) (net.Conn, error) {
			conn, err := dial(ctx, id)
			if err != nil {
				return nil, err
			}
			return &cutConn{conn, &budget}, nil
		}
		return async.New(o)
	}
	var runners []*async.Runner
	t.Cleanup(func() {
		for _, r := range runners {
			r.Close()
		}
	})
	version := 0
	change := func() {
		switch n := random.IntN(10); {
		case n < 3: // another, which fences those that are there
			r := runner()
			version++
			r.Set([]async.Task{{Name: "m", Version: version, Transformer: transform(marked), Spec: spec}})
			runners = append(runners, r)
		case n < 5 && len(runners) > 1:
			i := random.IntN(len(runners))
			runners[i].Close()
			runners = slices.Delete(runners, i, i+1)
		case len(runners) > 0: // the next that anybody reads or writes is cut off somewhere
			budget.Store(random.Int64N(20_000))
		}
	}
	for sent := 0; sent < records; {
		var batch []*kgo.Record
		for range 1 + random.IntN(100) {
			value := "keep " + strconv.Itoa(sent)
			if random.IntN(50) == 0 {
				value = "trap " + strconv.Itoa(sent)
			}
			batch = append(batch, &kgo.Record{Topic: "in", Partition: int32(sent % partitions), Value: []byte(value)})
			sent++
		}
		c.produce(batch...)
		change()
	}
	last := runner()
	runners = append(runners, last)
	last.Set([]async.Task{{Name: "m", Version: version + 1, Transformer: transform(marked), Spec: spec}})
	budget.Store(1 << 40)
	for len(runners) > 1 {
		runners[0].Close()
		runners = runners[1:]
	}
	ends, err := c.admin.ListEndOffsets(t.Context(), "in")
	must(t, err)
	await(t, "all records are read", time.Minute, func() bool {
		offsets, err := c.admin.FetchOffsets(t.Context(), async.GroupID("m"))
		must(t, err)
		behind := int64(0)
		ends.Each(func(o kadm.ListedOffset) {
			got, _ := offsets.Lookup(o.Topic, o.Partition)
			behind += o.Offset - got.At
		})
		return behind == 0
	})
	seen := map[string]int{}
	newest := map[string]int64{}
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	all := c.committed(node, func(all []*kgo.Record) bool { return int64(len(all)) >= total }, "out", "dead")
	for _, r := range all {
		seen[string(r.Value)]++
		_, text, _ := strings.Cut(string(r.Value), " ")
		n, err := strconv.ParseInt(text, 10, 64)
		must(t, err)
		from := fmt.Sprint(r.Topic, n%partitions)
		if before, ok := newest[from]; ok && n <= before {
			t.Fatalf("%s: %d comes behind %d", from, n, before)
		}
		newest[from] = n
	}
	for value, n := range seen {
		if n != 1 {
			t.Errorf("%q is there %d times", value, n)
		}
	}
	if int64(len(seen)) != total {
		t.Errorf("%d records came out of %d", len(seen), total)
	}
}

// cutConn is a connection that is cut off when so many bytes have passed on all of them.
type cutConn struct {
	net.Conn
	left *atomic.Int64
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-int64(n)) < 0 {
		c.left.Store(1 << 40) // once
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.left.Add(-int64(len(b))) < 0 {
		c.left.Store(1 << 40)
		n, _ := c.Conn.Write(b[:len(b)/2])
		_ = c.Close()
		return n, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// TestAsyncRefusedRecords: a record that its topic does not take goes to the dead-letter
// topic, and those around it where they belong. Where the policy leads to the same topic, it
// stops its partition, and the module's budget is told.
func TestAsyncRefusedRecords(t *testing.T) {
	node := startNode(t)
	c := newAsyncClient(t, node, 1, "in", "dead")
	small := "1000"
	for _, topic := range []string{"out", "narrow"} {
		_, err := c.admin.CreateTopic(t.Context(), 1, -1, map[string]*string{"max.message.bytes": &small}, topic)
		must(t, err)
	}
	var records []*kgo.Record
	for i := range 50 {
		value := fmt.Sprint(i)
		if i == 20 {
			value += "x"
			for range 1000 { // which no codec makes short
				value += strconv.Itoa(rand.IntN(10000))
			}
		}
		records = append(records, &kgo.Record{Topic: "in", Value: []byte(value)})
	}
	c.produce(records...)
	stuck := make(chan error, 100)
	node.Async().Set([]async.Task{
		{Name: "letters", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","dead_letter_topic":"dead","on_failure":"dead-letter"}`)},
		{Name: "passes", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"narrow","on_failure":"pass"}`), Failed: func(err error, _ int) {
			select {
			case stuck <- err:
			default:
			}
		}},
	})
	all := c.committed(node, number(50), "out", "dead")
	next := 0
	for _, r := range all {
		if r.Topic == "dead" {
			if !strings.HasPrefix(string(r.Value), "20x") {
				t.Errorf("%.10q is a dead letter", r.Value)
			}
			continue
		}
		if next == 20 {
			next++
		}
		if string(r.Value) != strconv.Itoa(next) {
			t.Errorf("%.10q comes out where %d was to", r.Value, next)
		}
		next++
	}
	for i, r := range c.committed(node, number(20), "narrow") {
		if string(r.Value) != strconv.Itoa(i) {
			t.Errorf("%.10q comes out where %d was to", r.Value, i)
		}
	}
	for range 3 { // it goes on to be told
		select {
		case err := <-stuck:
			if !strings.Contains(err.Error(), "narrow") && !strings.Contains(err.Error(), "passes") {
				t.Errorf("told is %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("nobody is told: %+v", node.Async().Status())
		}
	}
	for _, s := range node.Async().Status() {
		if s.Stuck.IsZero() != (s.Name == "letters") || (s.Error == "") != s.Stuck.IsZero() {
			t.Errorf("%s gets on no more since %v: %q", s.Name, s.Stuck, s.Error)
		}
		if want := map[string]int64{"letters": 50, "passes": 20}[s.Name]; s.Committed != want || s.Lag != 50-want {
			t.Errorf("%s is at %d, %d behind, want it at %d", s.Name, s.Committed, s.Lag, want)
		}
	}
}

// A record that is too large for its target, and whole for the dead-letter topic too, does not
// stop its partition, or who may produce stops the module: a dead letter without it says where it is.
func TestAsyncDeadLettersOfWhatIsTooLarge(t *testing.T) {
	node := startNode(t)
	c := newAsyncClient(t, node, 1, "in")
	small := "1000"
	_, err := c.admin.CreateTopics(t.Context(), 1, -1, map[string]*string{"max.message.bytes": &small}, "out", "dead")
	must(t, err)
	large := ""
	for range 1000 { // which no codec makes short
		large += strconv.Itoa(rand.IntN(10000))
	}
	c.produce(&kgo.Record{Topic: "in", Value: []byte("a")}, &kgo.Record{Topic: "in", Key: []byte("k"), Value: []byte(large)}, &kgo.Record{Topic: "in", Value: []byte("c")})
	node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","dead_letter_topic":"dead"}`), Failed: func(error, int) {}}})
	var got []string
	for _, r := range c.committed(node, number(3), "out", "dead") {
		got = append(got, r.Topic+" "+string(r.Key)+" "+string(r.Value))
		if r.Topic == "dead" && !strings.Contains(fmt.Sprintf("%s", r.Headers), "dead-letter topic take it whole") {
			t.Errorf("the dead letter says %s", r.Headers)
		}
	}
	slices.Sort(got)
	if want := []string{"dead k ", "out  a", "out  c"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// A batch that nobody can read, which a broker does not find out as it comes, does not hold up
// the records behind it: a dead letter tells of it.
func TestAsyncGoesOnBehindWhatNobodyCanRead(t *testing.T) {
	node := startNode(t)
	c := newAsyncClient(t, node, 1, "in", "out", "dead")
	c.produce(&kgo.Record{Topic: "in", Value: []byte("a")})
	w := batch.NewBuilder(batch.BuilderOptions{Codec: batch.Zstd})
	w.Add(time.Now().UnixMilli(), nil, []byte("b"))
	bad, err := w.Build()
	must(t, err)
	const crc = 17
	for i := batch.HeaderSize; i < len(bad); i++ {
		bad[i] = 0x5a
	}
	binary.BigEndian.PutUint32(bad[crc:], bad.ComputeCRC())
	q := kmsg.NewPtrProduceRequest()
	made, err := c.admin.ListTopics(t.Context(), "in")
	must(t, err)
	q.Acks, q.TimeoutMillis = -1, 10_000
	q.Topics = []kmsg.ProduceRequestTopic{{Topic: "in", TopicID: made["in"].ID, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: bad}}}}
	answer, err := c.Broker(1).Request(t.Context(), q)
	must(t, err)
	must(t, kerr.ErrorForCode(answer.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode))
	c.produce(&kgo.Record{Topic: "in", Value: []byte("c")})
	node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","dead_letter_topic":"dead"}`)}})
	var got []string
	for _, r := range c.committed(node, number(3), "out", "dead") {
		got = append(got, r.Topic+" "+string(r.Value))
		if r.Topic == "dead" && !strings.Contains(string(r.Headers[2].Value), "the records at 1 to 1 cannot be read") {
			t.Errorf("the dead letter says %q", r.Headers)
		}
	}
	slices.Sort(got)
	if want := []string{"dead ", "out a", "out c"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestAsyncTasksThatCannotBe are refused, and said to be.
func TestAsyncTasksThatCannotBe(t *testing.T) {
	node := startNode(t)
	task := func(name, spec string) async.Task {
		var s pipeline.Spec
		must(t, json.Unmarshal([]byte(spec), &s))
		_ = s.Validate() // which knows some of them itself, and fills in the rest
		return async.Task{Name: name, Version: 1, Transformer: transform(marked), Spec: &s}
	}
	node.Async().Set([]async.Task{
		task("rejects", `{"mode":"async","topics":["in"],"output":"out","on_failure":"reject"}`),
		task("circles", `{"mode":"async","topics":["*"],"output":"out","on_failure":"pass"}`),
		task("returns", `{"mode":"async","topics":["in"],"output":"out","routes":["in"],"on_failure":"pass"}`),
		task("inline", `{"mode":"inline","topics":["in"],"on_failure":"pass"}`),
	})
	want := map[string]string{"rejects": "no producer", "circles": "never end", "returns": "never end", "inline": "mode"}
	await(t, "all are told of", time.Minute, func() bool { return len(node.Async().Status()) == len(want) })
	for _, s := range node.Async().Status() {
		if s.State != async.Refused || !strings.Contains(s.Error, want[s.Name]) {
			t.Errorf("%+v, want %q", s, want[s.Name])
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("nothing is said of %v", want)
	}
}

// TestAsyncModuleThatComesAnew: a name that was deleted, and deployed again, has version 1 once
// more, and what counts is its new spec.
func TestAsyncModuleThatComesAnew(t *testing.T) {
	node := startNode(t)
	c := newAsyncClient(t, node, 1, "in", "old", "new")
	for _, output := range []string{"old", "new"} {
		node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"`+output+`","on_failure":"pass"}`)}})
		await(t, "the module is run", time.Minute, func() bool {
			all := node.Async().Status()
			return len(all) == 1 && all[0].State == async.Running
		})
		c.produce(&kgo.Record{Topic: "in", Value: []byte("to " + output)})
		got := c.committed(node, number(1), output)
		if is := string(got[0].Value); is != "to "+output {
			t.Errorf("topic %s begins with %q", output, is)
		}
	}
}

// TestAsyncReadsWhatIsCommitted: transactions that were aborted are not read, and one that is
// open holds back what is behind it.
func TestAsyncReadsWhatIsCommitted(t *testing.T) {
	node := startNode(t)
	c := newAsyncClient(t, node, 1, "in", "out")
	node.Async().Set([]async.Task{{Name: "m", Version: 1, Transformer: transform(marked), Spec: asyncSpec(t, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass"}`)}})
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("in"))
	must(t, err)
	t.Cleanup(cl.Close)
	transaction := func(value string, end kgo.TransactionEndTry) {
		t.Helper()
		must(t, cl.BeginTransaction())
		must(t, cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte(value)}).FirstErr())
		must(t, cl.EndTransaction(t.Context(), end))
	}
	transaction("aborted", kgo.TryAbort)
	transaction("committed", kgo.TryCommit)
	c.produce(&kgo.Record{Topic: "in", Value: []byte("plain")})
	transaction("aborted too", kgo.TryAbort)
	must(t, cl.BeginTransaction())
	must(t, cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("open")}).FirstErr())
	c.produce(&kgo.Record{Topic: "in", Value: []byte("behind it")})
	values := func(n int) (all []string) {
		t.Helper()
		for _, r := range c.committed(node, number(n), "out") {
			all = append(all, string(r.Value))
		}
		return all
	}
	if got := values(2); !slices.Equal(got, []string{"committed", "plain"}) {
		t.Errorf("%q came out while a transaction is open", got)
	}
	must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	if got := values(4); !slices.Equal(got, []string{"committed", "plain", "open", "behind it"}) {
		t.Errorf("%q came out", got)
	}
}
