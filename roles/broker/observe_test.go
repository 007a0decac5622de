package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/transport/kafka"
)

// families returns what a broker exports, by name.
func (n *node) families() map[string]*dto.MetricFamily {
	n.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(n.Metrics())
	all, err := r.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, f := range all {
		found[f.GetName()] = f
	}
	return found
}

// series counts those of topics, partitions and groups.
func (n *node) series() (count int) {
	n.t.Helper()
	for name, f := range n.families() {
		for _, of := range []string{"rustmq_topic_", "rustmq_partition_", "rustmq_group_lag_records", "rustmq_group_lag_seconds"} {
			if strings.HasPrefix(name, of) {
				count += len(f.GetMetric())
			}
		}
	}
	return count
}

// With ten thousand partitions there are as many series as with ten, unless each is asked for.
func TestSeriesAreBoundedWithManyPartitions(t *testing.T) {
	const few, many, consumed = 10, 10_000, 500
	for _, c := range []struct {
		detail MetricDetail
		want   func(partitions, consumed int) int
	}{
		{PerNode, func(int, int) int { return 2 }}, // the group's lag
		// Five and two, of bytes in two places, of the topic and of that of the groups' offsets.
		{PerTopic, func(int, int) int { return 2*6 + 2 }},
		{PerPartition, func(partitions, consumed int) int { return 2*6 + 5*(partitions+50) + 2*consumed }},
	} {
		t.Run(fmt.Sprint(c.detail), func(t *testing.T) {
			n, addr := startCluster(t, func(o *Options) { o.MetricDetail = c.detail })
			cl := newClient(t, addr)
			adm := kadm.NewClient(cl)
			if _, err := adm.CreateTopics(within(t, time.Minute), few, 1, nil, "t"); err != nil {
				t.Fatal(err)
			}
			var offsets []kadm.Offset
			for i := range int32(few) {
				offsets = append(offsets, kadm.Offset{Topic: "t", Partition: i})
			}
			commitTo(t, adm, "g", offsets...)
			if got := n.series(); got != c.want(few, few) {
				t.Errorf("%d series of %d partitions, want %d", got, few, c.want(few, few))
			}
			if _, err := adm.UpdatePartitions(within(t, time.Minute), many, "t"); err != nil {
				t.Fatal(err)
			}
			for ctx, look := within(t, time.Minute), time.Tick(time.Millisecond); ; <-look {
				if _, led, _ := n.table.counts(); led >= many {
					break
				} else if ctx.Err() != nil {
					t.Fatalf("%d partitions are led", led)
				}
			}
			for i := int32(few); i < consumed; i++ {
				offsets = append(offsets, kadm.Offset{Topic: "t", Partition: i})
			}
			commitTo(t, adm, "g", offsets...)
			if got := n.series(); got != c.want(many, consumed) {
				t.Errorf("%d series of %d partitions, want %d", got, many, c.want(many, consumed))
			}
		})
	}
}

// What is added up is what it was apart: records of all, and the seconds of the one that is
// the furthest behind.
func TestLagOfATopicIsThatOfItsPartitions(t *testing.T) {
	begun := time.Now().Truncate(time.Millisecond)
	for detail, topic := range map[MetricDetail]string{PerTopic: "t", PerNode: ""} {
		n, addr := startCluster(t, func(o *Options) {
			o.MetricDetail, o.Now = detail, func() time.Time { return begun.Add(time.Minute) }
		})
		cl := newClient(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		adm := kadm.NewClient(cl)
		ctx := within(t, 30*time.Second)
		if _, err := adm.CreateTopics(ctx, 2, 1, nil, "t"); err != nil {
			t.Fatal(err)
		}
		for i := range int32(4) {
			r := &kgo.Record{Topic: "t", Partition: i % 2, Value: []byte("x"), Timestamp: begun.Add(time.Duration(i) * 10 * time.Second)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		commitTo(t, adm, "g", kadm.Offset{Topic: "t", At: 1}, kadm.Offset{Topic: "t", Partition: 1, At: 0})
		key := func(name string) string { return name + " g  " + topic } // labels in order of their names: group, partition, topic
		wantLags(t, n.lags(), map[string]float64{
			key("records"): 3, key("seconds"): 50, "left_out_partitions limit": 0, "left_out_partitions name": 0, "left_out_partitions not_led": 0,
		})
	}
}

// The stages of requests are counted once each, and together are what the request took.
func TestWhereTheTimeOfRequestsGoes(t *testing.T) {
	n, addr := startCluster(t)
	cl := newClient(t, addr, kgo.ConsumeTopics("t"), kgo.AllowAutoTopicCreation())
	ctx := within(t, 30*time.Second)
	for range 3 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < 3; {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		got += f.NumRecords()
	}
	all := n.families()
	histogram := func(name string, labels ...string) *dto.Histogram {
		for _, m := range all[name].GetMetric() {
			var is []string
			for _, l := range m.GetLabel() {
				is = append(is, l.GetValue())
			}
			if strings.Join(is, " ") == strings.Join(labels, " ") {
				return m.GetHistogram()
			}
		}
		return &dto.Histogram{}
	}
	for api, stages := range map[string][]string{"Produce": {"queue", "prepare", "sync", "replicate"}, "Fetch": {"queue", "read", "wait"}} {
		whole := histogram("rustmq_broker_request_duration_seconds", api)
		if whole.GetSampleCount() == 0 {
			t.Fatalf("no %s was counted", api)
		}
		sum := 0.0
		for _, s := range stages {
			h := histogram("rustmq_broker_request_stage_seconds", api, s)
			if h.GetSampleCount() != whole.GetSampleCount() {
				t.Errorf("%s: %s was counted %d times, and requests %d times", api, s, h.GetSampleCount(), whole.GetSampleCount())
			}
			sum += h.GetSampleSum()
		}
		if d := sum - whole.GetSampleSum(); d > 1e-6 || d < -1e-6 {
			t.Errorf("%s: the stages took %v s, the requests %v s", api, sum, whole.GetSampleSum())
		}
	}
	if s := histogram("rustmq_broker_request_stage_seconds", "Produce", "sync"); s.GetSampleSum() <= 0 {
		t.Error("syncs took no time")
	}
	for _, m := range all["rustmq_topic_produced_records_total"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "t" && m.GetCounter().GetValue() != 3 {
			t.Errorf("%v records of the topic were counted", m.GetCounter().GetValue())
		}
	}
}

// lines is what a log was told.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// of returns those with a message.
func (l *lines) of(t *testing.T, msg string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		if one["msg"] == msg {
			found = append(found, one)
		}
	}
	return found
}

// Requests that are slow are told with what they were about, at a rate; all are counted.
func TestSlowRequestsAreTold(t *testing.T) {
	var log lines
	clock := time.Now()
	var mu sync.Mutex
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); clock = clock.Add(time.Microsecond); return clock }
	n, addr := startCluster(t, func(o *Options) { o.Log, o.Now = slog.New(slog.NewJSONHandler(&log, nil)), now })
	cl := newClient(t, addr, kgo.ClientID("slowly"), kgo.DisableClientMetrics(), kgo.AllowAutoTopicCreation())
	ctx := within(t, 30*time.Second)
	produce := func(times int) {
		t.Helper()
		for range times {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	const msg = "a request was slow"
	produce(3)
	if told := log.of(t, msg); len(told) != 0 {
		t.Fatalf("none was to be slow: %v", told)
	}
	n.SetSlowRequest(time.Nanosecond)
	produce(slowLines + 5)
	told := log.of(t, msg)
	if len(told) != slowLines {
		t.Fatalf("%d lines, want %d", len(told), slowLines)
	}
	for key, want := range map[string]any{"api": "Produce", "client_id": "slowly", "principal": "User:ANONYMOUS", "topic": "t", "partition": 0.0, "acks": -1.0, "partitions": 1.0} {
		if told[0][key] != want {
			t.Errorf("%s is %v, want %v", key, told[0][key], want)
		}
	}
	for _, key := range []string{"remote", "bytes"} {
		if told[0][key] == nil {
			t.Errorf("it does not say %s: %v", key, told[0])
		}
	}
	for _, key := range []string{"took", "queue", "prepare", "sync", "replicate"} {
		if _, err := time.ParseDuration(fmt.Sprint(told[0][key])); err != nil {
			t.Errorf("%s is %v, which has no unit", key, told[0][key])
		}
	}
	mu.Lock()
	clock = clock.Add(slowEvery)
	mu.Unlock()
	produce(1)
	told = log.of(t, msg)
	if last := told[len(told)-1]; len(told) != slowLines+1 || last["left_out"] != 5.0 {
		t.Errorf("%d lines, the last is %v", len(told), last)
	}
	n.SetSlowRequest(0)
	produce(1)
	if again := log.of(t, msg); len(again) != len(told) {
		t.Errorf("told of %v", again[len(told):])
	}
	if got := n.families()["rustmq_broker_slow_requests_total"].GetMetric()[0].GetCounter().GetValue(); got != slowLines+6 {
		t.Errorf("%v slow requests were counted, want %d", got, slowLines+6)
	}
}

// What a fetch waits for others does not make it slow.
func TestWaitingIsNotSlow(t *testing.T) {
	waited := stageTimes{stageQueue: time.Millisecond, stageRead: 2 * time.Millisecond, stageWait: time.Minute}
	if got := waited.served(); got != 3*time.Millisecond {
		t.Errorf("it was served in %v", got)
	}
}

// What a request waited for that was refused before any of it was appended, such as a module or
// room in the log, is told of as what it was: no replica kept it waiting.
func TestRefusedIsNotReplicated(t *testing.T) {
	come := time.Now()
	p := &produceRequest{
		r: &kafka.Request{Received: come}, begun: come.Add(time.Millisecond),
		parts: []producePart{{err: kerr.KafkaStorageError}, {err: kerr.KafkaStorageError}},
	}
	want := stageTimes{stageQueue: time.Millisecond, stagePrepare: 4 * time.Millisecond}
	if got, _ := p.times(come.Add(5 * time.Millisecond)); got != want {
		t.Errorf("the stages took %v, want %v", got, want)
	}
	p.parts[1] = producePart{appended: come.Add(2 * time.Millisecond), synced: come.Add(3 * time.Millisecond)}
	want = stageTimes{stageQueue: time.Millisecond, stagePrepare: time.Millisecond, stageSync: time.Millisecond, stageReplicate: 2 * time.Millisecond}
	if got, _ := p.times(come.Add(5 * time.Millisecond)); got != want {
		t.Errorf("with one that was appended the stages took %v, want %v", got, want)
	}
}
