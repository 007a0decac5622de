package broker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// wordy is a module that does what a record's value says: drop, up (replaced by capitals),
// bad (rejected), trap (the module fails), to:TOPIC (routed there); anything else is kept.
type wordy struct {
	gate atomic.Pointer[chan struct{}] // is waited for, if there is one

	mu   sync.Mutex
	seen []string // guarded by mu
}

// Transform implements pipeline.Transformer.
func (w *wordy) Transform(ctx context.Context, b *abi.Batch) ([]abi.Decision, error) {
	if gate := w.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := make([]abi.Decision, len(b.Records))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range b.Records {
		v := string(b.Records[i].Value)
		w.seen = append(w.seen, v)
		switch {
		case strings.HasPrefix(v, "drop"):
			out[i].Action = abi.Drop
		case strings.HasPrefix(v, "up"):
			out[i] = abi.Decision{Replaces: abi.Value, Value: []byte(strings.ToUpper(v))}
		case strings.HasPrefix(v, "bad"):
			out[i] = abi.Decision{Action: abi.Reject, Text: "it is bad"}
		case strings.HasPrefix(v, "trap"):
			return nil, &abi.Failure{Kind: abi.Trap, Text: "unreachable"}
		case strings.HasPrefix(v, "to:"):
			out[i] = abi.Decision{Action: abi.Route, Text: strings.Split(v, ":")[1]}
		}
	}
	return out, nil
}

func (w *wordy) shown() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// shut has the module wait until the returned function is called.
func (w *wordy) shut(t testing.TB) (open func()) {
	gate := make(chan struct{})
	w.gate.Store(&gate)
	open = sync.OnceFunc(func() { w.gate.Store(nil); close(gate) })
	t.Cleanup(open)
	return open
}

// modules is the set of a broker's modules, which tests change.
type modules struct {
	t   testing.TB
	set atomic.Pointer[pipeline.Set]
}

// use has the modules of these specs run from now on, each with mode and topics filled in.
func (m *modules) use(tr pipeline.Transformer, specs ...string) {
	m.t.Helper()
	var all []pipeline.Module
	for i, text := range specs {
		if text != "" {
			text = "," + text
		}
		spec, err := pipeline.ParseSpec([]byte(`{"mode":"inline","topics":["in"],"routes":["out","far","gone","inner"]` + text + `}`))
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, pipeline.Module{Name: fmt.Sprint("m", i), Version: 1, Spec: spec, Transformer: tr})
	}
	m.set.Store(pipeline.NewSet(all))
}

const toDead = `"on_failure":"dead-letter","dead_letter_topic":"dead"`

// startTransforming opens a broker with topics in, out and dead, and modules for in.
func startTransforming(t testing.TB, specs ...string) (*node, *wordy, *modules) {
	t.Helper()
	m, w := &modules{t: t}, &wordy{}
	m.use(w, specs...)
	n := startNode(t, func(o *Options) { o.Transforms = m.set.Load })
	for _, topic := range []string{"in", "out", "dead"} {
		n.controller.createTopic(topic, 2)
	}
	n.settle(t.Context())
	return n, w, m
}

// put produces one batch to a partition of in, and returns its first offset.
func (c *client) put(records []byte, acks int16, version int16) (code int16, offset int64, message string) {
	c.t.Helper()
	p := ask[*kmsg.ProduceResponse](c, version, produceTo("in", 0, acks, records))
	part := p.Topics[0].Partitions[0]
	if part.ErrorMessage != nil {
		message = *part.ErrorMessage
	}
	return part.ErrorCode, part.BaseOffset, message
}

// all returns what a partition has, as offset and value of each record.
func (c *client) all(topic string, partition int32) (found []string) {
	c.t.Helper()
	p := ask[*kmsg.FetchResponse](c, 12, fetchFrom(topic, partition, 0, 0))
	part := p.Topics[0].Partitions[0]
	if part.ErrorCode != 0 {
		c.t.Fatalf("fetch %s-%d: %v", topic, partition, kerr.ErrorForCode(part.ErrorCode))
	}
	for records := part.RecordBatches; len(records) > 0; {
		b, rest, err := batch.Next(records)
		if err != nil {
			c.t.Fatal(err)
		}
		it := b.Records(0)
		for it.Next() {
			found = append(found, fmt.Sprintf("%d %s", it.Record().Offset, it.Record().Value))
		}
		if it.Err() != nil {
			c.t.Fatal(it.Err())
		}
		records = rest
	}
	return found
}

func (c *client) wants(topic string, partition int32, want ...string) {
	c.t.Helper()
	if got := c.all(topic, partition); !slices.Equal(got, want) {
		c.t.Errorf("%s-%d has %q, want %q", topic, partition, got, want)
	}
}

func fromProducer(t testing.TB, sequence int32, values ...string) []byte {
	t.Helper()
	return batchWith(t, batch.BuilderOptions{Producer: &batch.Producer{ID: 7, BaseSequence: sequence}}, values...)
}

// TestBatchesPassTheModulesOfTheirTopic, in every version and with all acks; other topics
// pass none.
func TestBatchesPassTheModulesOfTheirTopic(t *testing.T) {
	n, _, _ := startTransforming(t, "")
	c := n.connect()
	for i, acks := range []int16{-1, 1} {
		if code, offset, _ := c.put(batchOf(t, "a", "drop", "up"), acks, 9); code != 0 || offset != int64(3*i) {
			t.Fatalf("acks %d: %v, offset %d", acks, kerr.ErrorForCode(code), offset)
		}
	}
	if code, offset, _ := c.put(batchOf(t, "drop", "drop"), -1, 9); code != 0 || offset != 6 {
		t.Fatalf("nothing is left: %v, offset %d", kerr.ErrorForCode(code), offset)
	}
	c.put(batchOf(t, "z"), -1, 9)
	c.wants("in", 0, "0 a", "2 UP", "3 a", "5 UP", "8 z")
	c.produce("out", 0, "drop")
	c.wants("out", 0, "0 drop")
}

// TestUnchangedBatchIsStoredAsItCame: its very bytes, with their CRC.
func TestUnchangedBatchIsStoredAsItCame(t *testing.T) {
	n, w, _ := startTransforming(t, "")
	c := n.connect()
	sent := batchWith(t, batch.BuilderOptions{Codec: batch.Zstd}, "a", "b")
	c.put(bytes.Clone(sent), -1, 9)
	got := ask[*kmsg.FetchResponse](c, 12, fetchFrom("in", 0, 0, 0)).Topics[0].Partitions[0].RecordBatches
	if !bytes.Equal(got[batch.SummedFrom:], sent[batch.SummedFrom:]) || batch.Batch(got).CRC() != batch.Batch(sent).CRC() {
		t.Error("the log has another batch than came")
	}
	if len(w.shown()) != 2 {
		t.Errorf("the module was shown %q", w.shown())
	}
}

// TestChangedBatchHasTheTopicsCodec, and else the producer's.
func TestChangedBatchHasTheTopicsCodec(t *testing.T) {
	for configured, want := range map[string]batch.Codec{"producer": batch.LZ4, "zstd": batch.Zstd, "uncompressed": batch.None} {
		m, w := &modules{t: t}, &wordy{}
		m.use(w, "")
		n := startNode(t, func(o *Options) { o.Transforms = m.set.Load })
		n.controller.createTopic("in", 1, "compression.type", configured)
		n.settle(t.Context())
		c := n.connect()
		c.put(batchWith(t, batch.BuilderOptions{Codec: batch.LZ4}, "up", "drop"), -1, 9)
		c.put(batchWith(t, batch.BuilderOptions{Codec: batch.LZ4}, "drop"), -1, 9)
		c.put(batchWith(t, batch.BuilderOptions{Codec: batch.LZ4}, "same"), -1, 9)
		c.wants("in", 0, "0 UP", "3 same")
		if got := firstBatch(t, n.logOf("in", 0)).Codec(); got != want {
			t.Errorf("compression.type %s: stored as %s", configured, got)
		}
	}
}

func (n *node) logOf(topic string, index int32) *log.Log {
	n.t.Helper()
	l, _, err := n.leaderOf(topic, index, -1)
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

// TestRefusedBatchesSayByWhom: by which module, why, and for which records.
func TestRefusedBatchesSayByWhom(t *testing.T) {
	n, _, _ := startTransforming(t, "")
	c := n.connect()
	p := ask[*kmsg.ProduceResponse](c, 9, produceTo("in", 0, -1, batchOf(t, "a", "bad", "b", "bad")))
	part := p.Topics[0].Partitions[0]
	if part.ErrorCode != kerr.InvalidRecord.Code || part.ErrorMessage == nil || !strings.Contains(*part.ErrorMessage, "module m0 (version 1): record 1: it is bad") {
		t.Fatalf("%v %v", kerr.ErrorForCode(part.ErrorCode), part.ErrorMessage)
	}
	if len(part.ErrorRecords) != 2 || part.ErrorRecords[1].RelativeOffset != 3 {
		t.Errorf("to blame are %+v", part.ErrorRecords)
	}
	if code, _, message := c.put(batchOf(t, "trap"), -1, 9); code != kerr.InvalidRecord.Code || !strings.Contains(message, "trap: unreachable") {
		t.Errorf("%v %q", kerr.ErrorForCode(code), message)
	}
	c.wants("in", 0)
}

// TestWhatGoesElsewhereGoesByKeyAndPolicy: routed records and dead letters.
func TestWhatGoesElsewhereGoesByKeyAndPolicy(t *testing.T) {
	n, _, _ := startTransforming(t, toDead)
	c := n.connect()
	w := batch.NewBuilder(batch.BuilderOptions{})
	for i := range 20 {
		w.Add(int64(1000+i), fmt.Append(nil, i), []byte("to:out:"+fmt.Sprint(i)))
	}
	w.Add(2000, nil, []byte("bad"))
	w.Add(2001, nil, []byte("stays"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	if code, offset, message := c.put(b, -1, 9); code != 0 || offset != 0 {
		t.Fatalf("%v %s", kerr.ErrorForCode(code), message)
	}
	c.wants("in", 0, "21 stays")
	c.wants("dead", 0, "0 bad")
	var got, want [2][]string
	for i := range 20 {
		at := pipeline.PartitionOf(fmt.Append(nil, i), 0, 2)
		want[at] = append(want[at], fmt.Sprintf("%d to:out:%d", len(want[at]), i))
	}
	for i := range got {
		if got[i] = c.all("out", int32(i)); len(want[i]) == 0 || !slices.Equal(got[i], want[i]) {
			t.Errorf("out-%d has %q, want %q", i, got[i], want[i])
		}
	}
	// A trap sends all that the module was given.
	if code, _, _ := c.put(batchOf(t, "a", "trap"), -1, 9); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	c.wants("dead", 0, "0 bad", "1 a", "2 trap")
	c.wants("in", 0, "21 stays")
}

// TestDuplicatesAreNotRoutedTwice: what the log has already goes no further, whether it is
// committed or was routed a moment ago.
func TestDuplicatesAreNotRoutedTwice(t *testing.T) {
	n, w, _ := startTransforming(t, "")
	c := n.connect()
	for range 3 {
		if code, offset, _ := c.put(fromProducer(t, 0, "to:out", "a"), -1, 9); code != 0 || offset != 0 {
			t.Fatalf("%v, offset %d", kerr.ErrorForCode(code), offset)
		}
	}
	c.wants("out", 0, "0 to:out")
	c.wants("in", 0, "1 a")
	if got := w.shown(); len(got) != 2 {
		t.Errorf("the module was shown %q", got)
	}
	if code, _, _ := c.put(fromProducer(t, 7, "to:out"), -1, 9); code != kerr.OutOfOrderSequenceNumber.Code {
		t.Errorf("out of order: %v", kerr.ErrorForCode(code))
	}
	c.wants("out", 0, "0 to:out")
}

// TestRoutesAreCommittedBeforeTheBatch: while they are not, it is refused, to come again,
// and is not in the log; unless the policy has it stay, or go elsewhere.
func TestRoutesAreCommittedBeforeTheBatch(t *testing.T) {
	for policy, want := range map[string][]string{
		`"on_failure":"reject"`: nil,
		`"on_failure":"pass"`:   {"0 to:far", "1 a"},
		toDead:                  {"1 a"},
	} {
		cluster := startTwo(t, policy)
		cluster.sever(2, true)
		c := cluster.nodes[1].connect()
		code, _, message := c.put(fromProducer(t, 0, "to:far", "a"), -1, 9)
		if want == nil {
			if code != kerr.KafkaStorageError.Code || !strings.Contains(message, "topic far") {
				t.Errorf("%s: %v %s", policy, kerr.ErrorForCode(code), message)
			}
		} else if code != 0 {
			t.Errorf("%s: %v %s", policy, kerr.ErrorForCode(code), message)
		}
		c.wants("in", 0, want...)
		if policy == toDead {
			c.wants("dead", 0, "0 to:far")
		}
	}
}

// TestTopicsThatTakeNoRecordsOfModules: there is none, or the broker's own, or one that is
// compacted and the record has no key.
func TestTopicsThatTakeNoRecordsOfModules(t *testing.T) {
	n, _, _ := startTransforming(t, "")
	n.controller.createTopic("far", 1, "cleanup.policy", "compact")
	inner := n.controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "inner", Partitions: 1, Internal: true}}, false)[0]
	n.settle(t.Context())
	c := n.connect()
	foreign := batch.NewBuilder(batch.BuilderOptions{})
	foreign.Add(1000, []byte("k"), []byte("from a broker that knows no better"))
	built, err := foreign.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.appendSent(t.Context(), inner.ID, 0, []batch.Batch{built}); err == nil {
		t.Error("another broker's records are taken for a topic of the broker's own")
	}
	for value, why := range map[string]string{
		"to:gone":               "no such topic",
		"to:inner":              "the broker's own",
		"to:__consumer_offsets": "not among its routes",
		"to:elsewhere":          "not among its routes",
		"to:far":                "no key",
	} {
		if code, _, message := c.put(batchOf(t, value), -1, 9); code != kerr.InvalidRecord.Code || !strings.Contains(message, why) {
			t.Errorf("%s: %v %s", value, kerr.ErrorForCode(code), message)
		}
	}
	c.wants("in", 0)
}

// TestTransactionsAreTransformed, in order, and reach no other topic.
func TestTransactionsAreTransformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w, _ := startTransforming(t, "")
		o := &oracle{withholds: true}
		n.verifier = o
		open := w.shut(t)
		c := n.connect()
		for i, value := range []string{"a", "drop", "up"} {
			q := inTransaction(transactional(t, 7, 0, int32(i), value), 0)
			q.Topics[0].Topic, q.Version = "in", 12
			c.send(q)
		}
		synctest.Wait()
		open()
		synctest.Wait()
		if asked := o.questions(); len(asked) != 1 {
			t.Fatalf("%d questions", len(asked))
		}
		o.release()
		for i := range int64(3) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i)
		}
		c.wants("in", 0, "0 a", "2 UP")
		q := inTransaction(transactional(t, 7, 0, 3, "to:out"), 0)
		q.Topics[0].Topic = "in"
		p := ask[*kmsg.ProduceResponse](c, 12, q).Topics[0].Partitions[0]
		if p.ErrorCode != kerr.InvalidRecord.Code || !strings.Contains(*p.ErrorMessage, "transaction") {
			t.Errorf("a route in a transaction: %v", kerr.ErrorForCode(p.ErrorCode))
		}
		c.wants("out", 0)
		if held := n.transforms.memory.inUse() + n.transforms.waiting.inUse(); held != 0 {
			t.Errorf("%d bytes are held by nobody", held)
		}
	})
}

// TestConditionIsReadBeforeATransform: it holds though the module takes the record that has
// it, and one that does not hold routes nothing.
func TestConditionIsReadBeforeATransform(t *testing.T) {
	m, w := &modules{t: t}, &wordy{}
	m.use(w, "")
	n := startNode(t, func(o *Options) { o.Transforms = m.set.Load })
	n.controller.createTopic("in", 1, "rustmq.expect.offset", "true")
	n.controller.createTopic("out", 1)
	n.settle(t.Context())
	c := n.connect()
	expecting := func(offset string, values ...string) []byte {
		b := batch.NewBuilder(batch.BuilderOptions{Codec: batch.Snappy})
		b.Add(1, nil, []byte(values[0]), batch.Header{Key: []byte("rustmq.expect.offset"), Value: []byte(offset)})
		for _, v := range values[1:] {
			b.Add(1, nil, []byte(v))
		}
		built, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return built
	}
	for i, tc := range []struct {
		records []byte
		want    *kerr.Error
	}{
		{expecting("0", "drop", "a"), nil},
		{expecting("0", "drop", "to:out"), kerr.PolicyViolation},
		{expecting("2", "to:out", "b"), nil},
	} {
		code, _, _ := c.put(tc.records, -1, 9)
		if got := kerr.ErrorForCode(code); got != error(tc.want) && (tc.want != nil || code != 0) {
			t.Errorf("batch %d: %v", i, got)
		}
	}
	c.wants("in", 0, "1 a", "3 b")
	c.wants("out", 0, "0 to:out")
}

// TestBatchesAreCheckedBeforeAndAfter: what is wrong with them never reaches a module, and
// what a module makes of them is what the topic takes.
func TestBatchesAreCheckedBeforeAndAfter(t *testing.T) {
	n, w, _ := startTransforming(t, "")
	c := n.connect()
	broken := batchOf(t, "a")
	broken[len(broken)-1] ^= 1
	if code, _, _ := c.put(broken, -1, 9); code != kerr.CorruptMessage.Code {
		t.Errorf("a broken batch: %v", kerr.ErrorForCode(code))
	}
	if got := w.shown(); len(got) > 0 {
		t.Errorf("the module was shown %q", got)
	}
}

// TestRecordsThatExpandALotAreTransformed: what they may take is found out by trying.
func TestRecordsThatExpandALotAreTransformed(t *testing.T) {
	n, _, _ := startTransforming(t, "")
	c := n.connect()
	for i, size := range []int{600 << 10, 6 << 20} {
		value := "up" + strings.Repeat("x", size)
		sent := batchWith(t, batch.BuilderOptions{Codec: batch.Zstd}, value, "drop")
		if code, offset, message := c.put(sent, -1, 9); code != 0 || offset != int64(2*i) {
			t.Fatalf("%d bytes: %v %s", size, kerr.ErrorForCode(code), message)
		}
		if got := c.all("in", 0); len(got) != i+1 || got[i] != fmt.Sprint(2*i, " ", strings.ToUpper(value)) {
			t.Errorf("%d bytes: %d records", size, len(got))
		}
	}
	if held := n.transforms.memory.inUse(); held != 0 {
		t.Errorf("%d bytes are held by nobody", held)
	}
}

// TestAllRecordsDroppedKeepsSequence (RULES 2.4): a batch of which nothing is left is stored
// all the same, so that its producer goes on behind it, after a restart too.
func TestAllRecordsDroppedKeepsSequence(t *testing.T) {
	n, _, _ := startTransforming(t, "")
	l := listenLoopback(t)
	n.options.Listeners[0].Port = portOf(l)
	n.serve(l)
	c := n.connect()
	for range 2 {
		if code, offset, _ := c.put(fromProducer(t, 0, "drop", "drop"), -1, 9); code != 0 || offset != 0 {
			t.Fatalf("%v, offset %d", kerr.ErrorForCode(code), offset)
		}
	}
	restart(t, n)
	c = n.connect()
	for i := range int32(2) {
		if code, offset, _ := c.put(fromProducer(t, 2*i, "drop", "drop"), -1, 9); code != 0 || offset != int64(2*i) {
			t.Fatalf("batch %d: %v, offset %d", i, kerr.ErrorForCode(code), offset)
		}
	}
	if code, _, _ := c.put(fromProducer(t, 9, "a"), -1, 9); code != kerr.OutOfOrderSequenceNumber.Code {
		t.Errorf("a batch that is not due: %v", kerr.ErrorForCode(code))
	}
	c.wants("in", 0)
}

// TestModulesThatAreNotThereYetRefuseForNow, whatever their policy: nothing passes them.
func TestModulesThatAreNotThereYetRefuseForNow(t *testing.T) {
	n, w, m := startTransforming(t, "")
	m.use(absent{}, `"on_failure":"pass"`)
	c := n.connect()
	if code, _, _ := c.put(fromProducer(t, 0, "up"), -1, 9); code != kerr.KafkaStorageError.Code {
		t.Fatalf("%v", kerr.ErrorForCode(code))
	}
	m.use(w, "")
	if code, offset, _ := c.put(fromProducer(t, 0, "up"), -1, 9); code != 0 || offset != 0 {
		t.Fatalf("%v, offset %d", kerr.ErrorForCode(code), offset)
	}
	c.wants("in", 0, "0 UP")
}

// TestWhatIsRefusedForNowStaysFirst: what a producer sent behind a batch that is to come again,
// for its module or the topic that it is routed to is not there, does not go before it, though
// the log knows nothing of him yet.
func TestWhatIsRefusedForNowStaysFirst(t *testing.T) {
	inOrder := func(t *testing.T, c *client, first string, mend func()) {
		t.Helper()
		if code, _, message := c.put(fromProducer(t, 0, first), -1, 9); code != kerr.KafkaStorageError.Code {
			t.Fatalf("the first: %v %s", kerr.ErrorForCode(code), message)
		}
		mend()
		if code, offset, _ := c.put(fromProducer(t, 1, "b"), -1, 9); code == 0 {
			t.Errorf("the second is taken before the first, at %d", offset)
		}
		for i := range int32(2) {
			if code, offset, _ := c.put(fromProducer(t, i, "c"), -1, 9); code != 0 || offset != int64(i) {
				t.Errorf("once more, %d: %v, offset %d", i, kerr.ErrorForCode(code), offset)
			}
		}
	}
	t.Run("no module", func(t *testing.T) {
		n, w, m := startTransforming(t, "")
		m.use(absent{}, "")
		inOrder(t, n.connect(), "a", func() { m.use(w, "") })
	})
	t.Run("no topic to route to", func(t *testing.T) {
		c := startTwo(t, "")
		c.sever(2, true)
		inOrder(t, c.nodes[1].connect(), "to:far", func() { c.sever(2, false) })
	})
}

// absent is a module that is not there yet.
type absent struct{}

// Transform implements pipeline.Transformer.
func (absent) Transform(context.Context, *abi.Batch) ([]abi.Decision, error) {
	return nil, fmt.Errorf("load it: %w", pipeline.ErrUnready)
}

// TestModulesAreCounted.
func TestModulesAreCounted(t *testing.T) {
	n, _, _ := startTransforming(t, toDead)
	c := n.connect()
	c.put(batchOf(t, "a", "drop", "drop", "to:out", "bad"), -1, 9)
	c.put(batchOf(t, "trap"), -1, 9)
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.Broker.metrics)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "rustmq_etl_") || strings.HasSuffix(f.GetName(), "seconds_total") {
			continue
		}
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "rustmq_etl_inline_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"records_total m0": 6, "batches_total m0": 2, "failures_total m0": 1, "memory_bytes": 0, "waiting_bytes": 0,
		"outcomes_total m0 dropped": 2, "outcomes_total m0 routed": 1, "outcomes_total m0 rejected": 1, "outcomes_total m0 dead-lettered": 2,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the metrics are %v, want %v", got, want)
	}
}

// startTwo opens two brokers with modules: the one has in and dead, the other far.
func startTwo(t testing.TB, specs ...string) *cluster {
	t.Helper()
	m := &modules{t: t}
	m.use(&wordy{}, specs...)
	c := newCluster(t, 2, false, func(topic string, _ int32) int32 { return map[string]int32{"in": 1, "dead": 1, "far": 2}[topic] },
		func(o *Options) { o.Transforms = m.set.Load })
	for _, topic := range []string{"in", "dead", "far"} {
		c.controller.createTopic(topic, 1)
	}
	c.settle()
	return c
}

// TestModulesReachOtherBrokers: the partition that a record is routed to is led elsewhere.
func TestModulesReachOtherBrokers(t *testing.T) {
	c := startTwo(t, `"on_failure":"reject"`)
	here, there := c.nodes[1].connect(), c.nodes[2].connect()
	if code, _, message := here.put(fromProducer(t, 0, "to:far:1", "a", "to:far:2"), -1, 9); code != 0 {
		t.Fatalf("%v %s", kerr.ErrorForCode(code), message)
	}
	there.wants("far", 0, "0 to:far:1", "1 to:far:2")
	here.wants("in", 0, "1 a")
	c.sever(2, true)
	if code, _, _ := here.put(fromProducer(t, 3, "to:far:3", "b"), -1, 9); code != kerr.KafkaStorageError.Code {
		t.Errorf("the other broker is away: %v", kerr.ErrorForCode(code))
	}
	here.wants("in", 0, "1 a")
	c.sever(2, false)
	for code := int16(-1); code != 0; { // the way is mended when it is tried again
		code, _, _ = here.put(fromProducer(t, 3, "to:far:3", "b"), -1, 9)
	}
	here.wants("in", 0, "1 a", "4 b")
	if got := there.all("far", 0); !slices.Contains(got, "2 to:far:3") {
		t.Errorf("far has %q", got)
	}
}
