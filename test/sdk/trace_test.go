package sdk

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"rustmq.dev/rustmq/embed"
	rustmq "rustmq.dev/rustmq/sdk/go"
)

// TestTracesGoThroughRecords has OpenTelemetry's propagator write W3C's Trace Context into records, which
// is what brokers and other clients look for, and read it.
func TestTracesGoThroughRecords(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node, err := embed.Start(ctx, embed.Options{})
	must(t, err)
	defer func() { must(t, node.Close()) }()

	var w3c propagation.TraceContext
	var sent atomic.Pointer[trace.SpanContext]
	client, err := rustmq.New(rustmq.WithBrokers(node.Kafka()), rustmq.WithTopicCreation(), rustmq.WithHooks(rustmq.Hooks{
		Inject: func(ctx context.Context, r *rustmq.Record) { w3c.Inject(ctx, rustmq.HeaderCarrier{Record: r}) },
		Extract: func(ctx context.Context, r *rustmq.Record) context.Context {
			return w3c.Extract(ctx, rustmq.HeaderCarrier{Record: r})
		},
		Sent: func(ctx context.Context, _ *rustmq.Record, _ time.Duration, _ error) {
			of := trace.SpanContextFromContext(ctx)
			sent.Store(&of)
		},
	}))
	must(t, err)
	defer func() { must(t, client.Close()) }()

	state, err := trace.ParseTraceState("vendor=1")
	must(t, err)
	first := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 0xf9, 0x2f, 15: 0x36}, SpanID: trace.SpanID{0, 0xf0, 0x67, 7: 0xb7}, TraceFlags: trace.FlagsSampled, TraceState: state,
	})
	second := first.WithSpanID(trace.SpanID{7: 2}).WithTraceFlags(0)
	record := &rustmq.Record{Topic: "t", Headers: []rustmq.Header{{Key: "own", Value: []byte("1")}}}
	for _, of := range []trace.SpanContext{first, second} { // the same record again: one context, the newer
		must(t, client.ProduceSync(trace.ContextWithSpanContext(ctx, of), record).Err())
		if is := sent.Load(); is == nil || !is.Equal(of) {
			t.Errorf("Sent was told of %v", is)
		}
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{"t"}})
	must(t, err)
	defer func() { must(t, consumer.Close()) }()
	want := []struct {
		parent string
		of     trace.SpanContext
	}{
		{"00-4bf92f00000000000000000000000036-00f06700000000b7-01", first},
		{"00-4bf92f00000000000000000000000036-0000000000000002-00", second},
	}
	n := 0
	must(t, consumer.Run(ctx, func(handling context.Context, m *rustmq.Message[[]byte]) error {
		headers := map[string][]string{}
		for _, h := range m.Record.Headers {
			headers[h.Key] = append(headers[h.Key], string(h.Value))
		}
		w := want[n]
		if len(headers) != 3 || len(m.Record.Headers) != 3 || headers["traceparent"][0] != w.parent || headers["tracestate"][0] != "vendor=1" || headers["own"][0] != "1" {
			t.Errorf("record %d has headers %v", n, headers)
		}
		if is := trace.SpanContextFromContext(handling); !is.Equal(w.of.WithRemote(true)) {
			t.Errorf("record %d is handled in %v: want %v", n, is, w.of)
		}
		if n++; n == len(want) {
			cancel()
		}
		return nil
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
