// Package tracing makes spans of OpenTelemetry of what a broker tells it, and sends them to a
// collector by OTLP over HTTP. It is the only package that knows OpenTelemetry; brokers know
// the interface that they declare.
//
// A batch is one tree: its span, below that of the producer where the first record has a
// traceparent, and what it went through below it: queue, transform, append, replicate, ack.
// The spans are made when all of it is known, with the times that it had; until then nothing
// is kept, and of what is not traced nothing is made. Names and attributes are those of the
// semantic conventions of messaging, where these have one; ours begin with rustmq.
//
// Spans wait in a bounded queue, and what does not fit is dropped: a collector that is away
// holds up nobody. A Tracer is safe for concurrent use.
package tracing
