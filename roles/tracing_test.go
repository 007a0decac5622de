package roles_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/embed"
)

// receiver takes spans as a collector does.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*tracev1.Span   // guarded by mu
	resource map[string]string // of the last of them; guarded by mu
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{resource: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var got collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil || q.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", q.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, of := range got.ResourceSpans {
			for _, a := range of.Resource.Attributes {
				r.resource[a.Key] = a.Value.GetStringValue()
			}
			for _, s := range of.ScopeSpans {
				r.spans = append(r.spans, s.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// all are the spans that have come.
func (r *receiver) all() []*tracev1.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// named are those of a name.
func (r *receiver) named(name string) (found []*tracev1.Span) {
	for _, s := range r.all() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

func attribute(s *tracev1.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return strings.TrimSpace(a.Value.String())
		}
	}
	return ""
}

// traced starts a node that sends its spans to a receiver.
func traced(t *testing.T, sample string) (*embed.Node, *receiver) {
	t.Helper()
	r := newReceiver(t)
	n, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"tracing.endpoint": r.URL, "tracing.sample": sample, "tracing.service": "queue", "wal.upload_interval": "1s"}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n, r
}

// TestAProduceIsOneTree: what a batch went through hangs below its span, and that below the
// span of the producer that its first record names. Of what names none, and is not sampled,
// nothing is sent.
func TestAProduceIsOneTree(t *testing.T) {
	n, r := traced(t, "0")
	if code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+n.HTTP(), "topics", "create", "t"); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+n.HTTP(), "etl", "deploy", "masks", "--battery", "headers", "--topics", "t", "--config", `{"set":[{"name":"a","value":"b"}]}`); code != 0 {
		t.Fatal(stderr)
	}
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for codec, compression := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression()} {
		before := len(r.named("produce t"))
		client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.ProducerBatchCompression(compression), kgo.ClientID("tracer"), kgo.ProducerLinger(50*time.Millisecond))
		must(t, err)
		defer client.Close()
		with := func(headers ...kgo.RecordHeader) *kgo.Record {
			return &kgo.Record{Topic: "t", Value: []byte(strings.Repeat("v", 100)), Headers: headers}
		}
		must(t, client.ProduceSync(t.Context(), with()).FirstErr())
		// Not sampled by who began it, and none that W3C knows.
		must(t, client.ProduceSync(t.Context(), with(kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-00")})).FirstErr())
		must(t, client.ProduceSync(t.Context(), with(kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-01" + strings.Repeat("x", 100))})).FirstErr())
		must(t, client.ProduceSync(t.Context(), with(kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-01")}, kgo.RecordHeader{Key: "tracestate", Value: []byte("vendor=1")}), with()).FirstErr())
		eventually(t, codec+": the batch is traced", func() bool { return len(r.named("produce t")) > before })
		spans := r.named("produce t")
		if len(spans) != before+1 {
			t.Fatalf("%s: %d batches are traced, want one", codec, len(spans)-before)
		}
		root := spans[before]
		if hex.EncodeToString(root.TraceId) != trace || hex.EncodeToString(root.ParentSpanId) != parent || root.TraceState != "vendor=1" {
			t.Errorf("%s: the span is of %x, below %x, %q", codec, root.TraceId, root.ParentSpanId, root.TraceState)
		}
		for key, want := range map[string]string{
			"messaging.system": `string_value:"kafka"`, "messaging.operation.name": `string_value:"produce"`, "messaging.destination.name": `string_value:"t"`,
			"messaging.destination.partition.id": `string_value:"0"`, "messaging.client.id": `string_value:"tracer"`, "messaging.batch.message_count": "int_value:2",
		} {
			if got := attribute(root, key); got != want {
				t.Errorf("%s: %s is %s, want %s", codec, key, got, want)
			}
		}
		var below []string
		for _, s := range r.all() {
			if string(s.ParentSpanId) != string(root.SpanId) {
				continue
			}
			below = append(below, s.Name)
			if string(s.TraceId) != string(root.TraceId) || s.StartTimeUnixNano < root.StartTimeUnixNano || s.EndTimeUnixNano > root.EndTimeUnixNano || s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("%s: %s is of %x, from %d to %d, and the batch of %x, from %d to %d", codec, s.Name, s.TraceId, s.StartTimeUnixNano, s.EndTimeUnixNano, root.TraceId, root.StartTimeUnixNano, root.EndTimeUnixNano)
			}
			if s.Name == "transform" && !strings.Contains(attribute(s, "rustmq.etl.modules"), `"masks"`) {
				t.Errorf("%s: the modules are %s", codec, attribute(s, "rustmq.etl.modules"))
			}
		}
		if want := []string{"queue", "transform", "append", "replicate", "ack"}; !slices.Equal(below, want) {
			t.Errorf("%s: below the batch are %v, want %v", codec, below, want)
		}
	}
	// More of tracestate than has to be passed on is not.
	before := len(r.named("produce t"))
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()))
	must(t, err)
	defer client.Close()
	state := "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("y", 250) + ",c=" + strings.Repeat("z", 250)
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v"), Headers: []kgo.RecordHeader{
		{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-01")}, {Key: "tracestate", Value: []byte(state)},
	}}).FirstErr())
	eventually(t, "the batch with a large state is traced", func() bool { return len(r.named("produce t")) > before })
	if s := r.named("produce t")[before]; s.TraceState != "" || hex.EncodeToString(s.TraceId) != trace {
		t.Errorf("it is of %x, with a state of %d bytes", s.TraceId, len(s.TraceState))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resource["service.name"] != "queue" || r.resource["service.instance.id"] != "1" {
		t.Errorf("the spans are of %v", r.resource)
	}
}

// TestReplicationIsPartOfTheTree: where others are in sync, the time until they have a batch
// is between its sync here and its ack.
func TestReplicationIsPartOfTheTree(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := newProcessesAs(t, 3, "", "--set", "tracing.endpoint="+r.URL)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.host(1) + ":9092"))
	must(t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, nil, "t")
	must(t, err)
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v"), Headers: []kgo.RecordHeader{
		{Key: "traceparent", Value: []byte("00-" + trace + "-" + parent + "-01")},
	}}).FirstErr())
	eventually(t, "the batch is traced", func() bool { return len(r.named("ack")) > 0 })
	var at uint64
	for _, name := range []string{"queue", "append", "replicate", "ack"} {
		spans := r.named(name)
		if len(spans) != 1 || hex.EncodeToString(spans[0].TraceId) != trace {
			t.Fatalf("%s: %v", name, spans)
		}
		if s := spans[0]; s.StartTimeUnixNano < at || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s is from %d to %d, and the one before ended at %d", name, s.StartTimeUnixNano, s.EndTimeUnixNano, at)
		} else {
			at = s.EndTimeUnixNano
		}
	}
	if s := r.named("replicate")[0]; s.EndTimeUnixNano == s.StartTimeUnixNano {
		t.Error("replication took no time")
	}
}

// TestFetchesAndUploadsAreTraced, and batches that come with no context, by their share.
func TestFetchesAndUploadsAreTraced(t *testing.T) {
	n, r := traced(t, "1")
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.ConsumeTopics("t"), kgo.AllowAutoTopicCreation(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	defer client.Close()
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr())
	must(t, client.PollFetches(t.Context()).Err())
	eventually(t, "all is traced", func() bool {
		return len(r.named("produce t")) > 0 && len(r.named("fetch t")) > 0 && len(r.named("upload")) > 0
	})
	if s := r.named("produce t")[0]; len(s.ParentSpanId) != 0 {
		t.Errorf("a batch without a context is below %x", s.ParentSpanId)
	}
	fetch := r.named("fetch t")[0]
	var below []string
	for _, s := range r.all() {
		if string(s.ParentSpanId) == string(fetch.SpanId) {
			below = append(below, s.Name)
		}
	}
	if want := []string{"queue", "read"}; !slices.Equal(below, want) {
		t.Errorf("below a fetch are %v, want %v", below, want)
	}
	if bytes := attribute(r.named("upload")[0], "rustmq.object.bytes"); bytes == "" || bytes == "int_value:0" {
		t.Errorf("an object of %s was uploaded", bytes)
	}
	// What is refused says why.
	small := "100"
	_, err = kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, map[string]*string{"max.message.bytes": &small}, "small")
	must(t, err)
	plain, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	must(t, err)
	defer plain.Close()
	if err := plain.ProduceSync(t.Context(), &kgo.Record{Topic: "small", Value: make([]byte, 1000)}).FirstErr(); err == nil {
		t.Fatal("a record that is too large was taken")
	}
	eventually(t, "the refusal is traced", func() bool { return len(r.named("produce small")) > 0 })
	if s := r.named("produce small")[0]; s.Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR || s.Status.Message == "" {
		t.Errorf("a batch that was refused has the status %v", s.Status)
	}
}

// TestACollectorThatIsAwayHoldsUpNobody: batches are acked, and the node stops well.
func TestACollectorThatIsAwayHoldsUpNobody(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	at := gone.URL
	gone.Close()
	n, err := embed.Start(t.Context(), embed.Options{Set: map[string]string{"tracing.endpoint": at, "tracing.sample": "1"}})
	must(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()), kgo.AllowAutoTopicCreation())
	must(t, err)
	defer client.Close()
	for i := range 10 {
		must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(fmt.Sprint(i))}).FirstErr())
	}
	must(t, n.Close())
}
