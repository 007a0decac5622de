package pipeline

import (
	"context"
	"fmt"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
)

// BenchmarkRun is what a batch of 100 records of 1 KiB costs besides the modules: where a
// condition lets none in, where they do nothing, and where they change every record.
//
//	go test -run '^$' -bench Run ./etl/pipeline
func BenchmarkRun(b *testing.B) {
	var records []abi.Record
	for i := range 100 {
		records = append(records, abi.Record{
			Timestamp: int64(1000 + i), Key: fmt.Append(nil, i), Value: make([]byte, 1024),
			Headers: []abi.Header{{Name: "source", Value: []byte("sensor")}, {Name: "type", Value: []byte("temperature")}},
		})
	}
	sent := batchOf(b, 0, records...)
	for _, c := range []struct {
		name, spec string
		module     Transformer
	}{
		{"does=not-enter", `"when":[{"header":"type","equals":"pressure"}]`, &fake{}},
		{"does=nothing", "", idle{}},
		{"does=replace", "", replaces{}},
	} {
		p := NewSet([]Module{module(b, "m", c.spec, c.module)}).For("in")
		b.Run(c.name, func(b *testing.B) {
			in := inputOf(sent)
			b.SetBytes(int64(len(sent)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Run(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/record")
		})
	}
}

// idle keeps all.
type idle struct{}

// Transform implements Transformer.
func (idle) Transform(context.Context, *abi.Batch) ([]abi.Decision, error) { return nil, nil }

// replaces gives each record another value.
type replaces struct{}

// Transform implements Transformer.
func (replaces) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	out := make([]abi.Decision, len(b.Records))
	for i := range out {
		out[i] = abi.Decision{Replaces: abi.Value, Value: b.Records[i].Value[1:]}
	}
	return out, nil
}
