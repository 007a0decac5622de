package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/storage"
)

// sendEvery is how long a span waits for others at most.
const sendEvery = time.Second

// exportTimeout bounds one request to the collector, its tries again included.
const exportTimeout = 10 * time.Second

// Options of a Tracer.
type Options struct {
	// Endpoint is the URL of the collector; spans go to /v1/traces below it. What
	// authenticates, and the authority of its certificate, are taken from the variables that
	// OpenTelemetry has for them (OTEL_EXPORTER_OTLP_HEADERS, …_CERTIFICATE).
	Endpoint string
	// Sample is the share of what has no context of its own that is traced, 0 to 1.
	Sample float64
	// Service, Version and Instance are what the spans say of who made them.
	Service, Version, Instance string
	Log                        *slog.Logger // nil: none
}

// Tracer sends spans. It implements broker.Tracer.
type Tracer struct {
	sample   float64
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
	metrics  *metrics
}

// New makes a Tracer, which connects to nobody before it has a span.
func New(ctx context.Context, o Options) (*Tracer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	at, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the URL of the collector: %w", err)
	}
	at.Path = strings.TrimSuffix(at.Path, "/") + "/v1/traces"
	to, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(at.String()), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("send spans to %s: %w", at.Redacted(), err)
	}
	m := newMetrics()
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&exporter{to: to, log: o.Log, metrics: m}, sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(2*exportTimeout)),
		sdk.WithSampler(sdk.AlwaysSample()), // of what was drawn, before anything was made of it
		sdk.WithResource(resource.NewSchemaless(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Instance))),
	)
	return &Tracer{sample: o.Sample, provider: provider, tracer: provider.Tracer("rustmq.dev/rustmq", trace.WithSchemaURL(semconv.SchemaURL)), metrics: m}, nil
}

// Close sends what waits, as long as ctx allows.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Metrics counts what was sent.
func (t *Tracer) Metrics() prometheus.Collector { return t.metrics }

// span makes a span of what is over, and returns the context of those below it. A time that
// is zero, or before the beginning, is the beginning.
func (t *Tracer) span(ctx context.Context, name string, kind trace.SpanKind, from, to time.Time, err error, attrs ...attribute.KeyValue) context.Context {
	ctx, s := t.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	if to.Before(from) {
		to = from
	}
	s.End(trace.WithTimestamp(to))
	return ctx
}

// drawn decides whether something is traced that has no context of its own.
func (t *Tracer) drawn() bool { return rand.Float64() < t.sample }

// remote is the context that a batch came with, or an empty one; ok: the batch is traced.
func (t *Tracer) remote(c broker.TraceContext) (ctx context.Context, ok bool) {
	ctx = context.Background()
	if c.Parent == "" {
		return ctx, t.drawn()
	}
	ctx = t.context.Extract(ctx, propagation.MapCarrier{"traceparent": c.Parent, "tracestate": c.State})
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
		return ctx, parent.IsSampled()
	}
	return ctx, t.drawn()
}

// Produced implements broker.Tracer.
func (t *Tracer) Produced(p *broker.TracedProduce) {
	ctx, ok := t.remote(p.Context)
	if !ok {
		return
	}
	attrs := []attribute.KeyValue{
		semconv.MessagingSystemKafka, semconv.MessagingOperationName("produce"), semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(p.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(p.Partition))),
		semconv.MessagingClientID(p.ClientID), semconv.MessagingBatchMessageCount(p.Records), semconv.MessagingMessageEnvelopeSize(p.Bytes),
		attribute.Int("rustmq.acks", int(p.Acks)),
	}
	if p.Base != storage.NoOffset {
		attrs = append(attrs, semconv.MessagingKafkaOffset(int(p.Base)))
	}
	ctx = t.span(ctx, "produce "+p.Topic, trace.SpanKindServer, p.Received, p.Answered, p.Error, attrs...)
	t.span(ctx, "queue", trace.SpanKindInternal, p.Received, p.Begun, nil)
	if p.Appended.IsZero() {
		return // refused
	}
	if len(p.Modules) > 0 {
		t.span(ctx, "transform", trace.SpanKindInternal, p.Begun, p.Appended, nil, modules(p.Modules)...)
	}
	durable := p.Synced
	if durable.IsZero() {
		durable = p.Acked
	}
	t.span(ctx, "append", trace.SpanKindInternal, p.Appended, durable, nil, attribute.Bool("rustmq.synced", !p.Synced.IsZero()))
	if p.Acked.IsZero() {
		return
	}
	if !p.Synced.IsZero() && p.Acks != 1 {
		t.span(ctx, "replicate", trace.SpanKindInternal, p.Synced, p.Acked, nil)
	}
	t.span(ctx, "ack", trace.SpanKindInternal, p.Acked, p.Answered, nil)
}

// modules says which modules a batch went through, and how long each took.
func modules(all []broker.TracedModule) []attribute.KeyValue {
	names, seconds, records := make([]string, len(all)), make([]float64, len(all)), make([]int, len(all))
	for i, m := range all {
		names[i], seconds[i], records[i] = m.Name, m.Took.Seconds(), m.Records
	}
	return []attribute.KeyValue{attribute.StringSlice("rustmq.etl.modules", names), attribute.Float64Slice("rustmq.etl.seconds", seconds), attribute.IntSlice("rustmq.etl.records", records)}
}

// Fetched implements broker.Tracer. A request has no context of its own.
func (t *Tracer) Fetched(f *broker.TracedFetch) {
	if !t.drawn() {
		return
	}
	name := "fetch"
	attrs := []attribute.KeyValue{
		semconv.MessagingSystemKafka, semconv.MessagingOperationName("fetch"), semconv.MessagingOperationTypeReceive, semconv.MessagingClientID(f.ClientID),
		attribute.Int("rustmq.partitions", f.Partitions), semconv.MessagingMessageEnvelopeSize(f.Bytes),
	}
	if f.Topic != "" && f.Partitions == 1 {
		name += " " + f.Topic
		attrs = append(attrs, semconv.MessagingDestinationName(f.Topic))
	}
	ctx := t.span(context.Background(), name, trace.SpanKindServer, f.Received, f.Answered, nil, attrs...)
	t.span(ctx, "queue", trace.SpanKindInternal, f.Received, f.Begun, nil)
	t.span(ctx, "read", trace.SpanKindInternal, f.Begun, f.Answered, nil, attribute.Float64("rustmq.waited_seconds", f.Waited.Seconds()))
}

// Uploaded implements broker.Tracer.
func (t *Tracer) Uploaded(u *upload.Done) {
	if !t.drawn() {
		return
	}
	t.span(context.Background(), "upload", trace.SpanKindClient, u.Begun, u.Ended, u.Err,
		attribute.Int64("rustmq.object.bytes", u.Bytes), attribute.Int("rustmq.object.ranges", u.Parts), attribute.Int("rustmq.object.refused_ranges", u.Refused))
}

// exporter sends spans, and tells the log when that begins to fail, and when it goes again.
type exporter struct {
	to      sdk.SpanExporter
	log     *slog.Logger
	metrics *metrics

	mu      sync.Mutex
	failing bool // guarded by mu
}

// ExportSpans implements sdk.SpanExporter. What fails is counted, and told here alone: the
// SDK would print it.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.to.ExportSpans(ctx, spans)
	result := "sent"
	if err != nil {
		result = "failed"
	}
	e.metrics.spans.WithLabelValues(result).Add(float64(len(spans)))
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && !e.failing:
		e.log.Warn("spans do not reach the collector (tracing.endpoint), and are dropped", "error", err)
	case err == nil && e.failing:
		e.log.Info("spans reach the collector again")
	}
	e.failing = err != nil
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (e *exporter) Shutdown(ctx context.Context) error { return e.to.Shutdown(ctx) }

// metrics count spans.
type metrics struct{ spans *prometheus.CounterVec }

func newMetrics() *metrics {
	return &metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rustmq_tracing_spans_total", Help: "Spans that were sent to the collector, or could not be.",
	}, []string{"result"})}
}

// DescribeMetrics tells what [Tracer.Metrics] of any tracer export.
func DescribeMetrics(out chan<- *prometheus.Desc) { newMetrics().Describe(out) }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) { m.spans.Describe(out) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) { m.spans.Collect(out) }
