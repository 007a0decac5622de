package batteries

import (
	"bytes"
	"context"
	"os"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
)

// Earthquakes, 100 a batch, 240 bytes each: what a record costs in each battery.
//
//	go test -run '^$' -bench Battery ./etl/batteries
func BenchmarkBattery(b *testing.B) {
	catalogue, err := os.ReadFile("../../test/data/earthquakes.ndjson")
	if err != nil {
		b.Fatal(err)
	}
	batch := &abi.Batch{Topic: "quakes"}
	size := 0
	for line := range bytes.Lines(catalogue) {
		if len(batch.Records) == 100 {
			break
		}
		line = bytes.TrimSpace(line)
		batch.Records = append(batch.Records, abi.Record{Offset: int64(len(batch.Records)), Value: line})
		size += len(line)
	}
	run := func(name string, code []byte, config string) {
		b.Run(name, func(b *testing.B) {
			m := load(b, code, config, nil)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := m.Transform(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(batch.Records))/b.Elapsed().Seconds(), "records/s")
		})
	}
	for _, c := range []struct{ name, does, config string }{
		{"headers", "field", `{"set":[{"name":"net","field":"net"}]}`},
		{"json-schema", "object", `{"schema":{"type":"object","required":["id","mag"],"properties":{"id":{"type":"string","pattern":"^[a-z]{2}"},"mag":{"type":"number","minimum":-5,"maximum":12},"place":{"type":["string","null"],"maxLength":200}}}}`},
		{"mask", "mask", `{"fields":[{"path":"place","action":"mask","keep_first":2}]}`},
		{"mask", "hash", `{"hash_key":"0123456789abcdef","fields":[{"path":"id","action":"hash"}]}`},
		{"project", "route", `{"rules":[{"when":"mag >= 5","action":"route","topic":"quakes.strong","set":{"place":"upper(place)"}}]}`},
		{"project", "select", `{"rules":[{"select":{"id":"id","mag":"mag","place":"upper(place)"}}]}`},
	} {
		run(c.name+"="+c.does, battery(b, c.name), c.config)
	}
	run("example=rust", rustExample(b), "null")
	run("example=go", goExample(b), "null")
}
