package rustmq

import (
	"context"
	"time"
)

// Hooks see what a client does, for traces and metrics: of OpenTelemetry, or of
// anything else, on which this package does not depend. A nil hook is not called. Hooks
// are called concurrently and must not block.
type Hooks struct {
	// Inject is called before a record is produced, with the context given to
	// Produce: it may add headers (propagation.TextMapPropagator.Inject).
	Inject func(ctx context.Context, r *Record)
	// Sent is called once for each record that was produced, with the context given
	// to Produce. took is from the record's timestamp, which is that of the call unless
	// the caller has set one, to the answer.
	Sent func(ctx context.Context, r *Record, took time.Duration, err error)
	// Extract makes the context of a handler from a record's headers; what it returns is
	// ended when the handler is (propagation.TextMapPropagator.Extract).
	Extract func(ctx context.Context, r *Record) context.Context
	// Processed is called after each attempt of a handler, counted from 1.
	Processed func(ctx context.Context, r *Record, attempt int, took time.Duration, err error)
	// Connected is called when a connection to a broker was made, or was not.
	Connected func(broker string, took time.Duration, err error)
}

// HeaderCarrier reads and writes a record's headers as text: a TextMapCarrier of
// OpenTelemetry.
type HeaderCarrier struct{ Record *Record }

// Get returns the value of the first header of that name, "" where there is none.
func (c HeaderCarrier) Get(key string) string {
	for _, h := range c.Record.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Set sets a header, in place of those of the same name.
func (c HeaderCarrier) Set(key, value string) {
	kept := make([]Header, 0, len(c.Record.Headers)+1)
	for _, h := range c.Record.Headers {
		if h.Key != key {
			kept = append(kept, h)
		}
	}
	c.Record.Headers = append(kept, Header{Key: key, Value: []byte(value)})
}

// Keys are the names of all headers.
func (c HeaderCarrier) Keys() []string {
	var keys []string
	for _, h := range c.Record.Headers {
		keys = append(keys, h.Key)
	}
	return keys
}
