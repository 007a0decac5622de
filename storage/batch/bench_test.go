package batch

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkRecords reads the records of a batch, of 300 bytes each, into memory that is used
// again, as transforms do.
func BenchmarkRecords(b *testing.B) {
	for _, codec := range []Codec{None, LZ4} {
		b.Run("codec="+codec.String(), func(b *testing.B) {
			const records = 1000
			w := NewBuilder(BuilderOptions{Codec: codec})
			for i := range records {
				w.Add(int64(i), nil, fmt.Appendf(nil, "%d: %s", i, strings.Repeat("some text; ", 27)))
			}
			batch, err := w.Build()
			if err != nil {
				b.Fatal(err)
			}
			memory := make([]byte, 0, 1<<20)
			b.SetBytes(int64(w.Size()))
			b.ReportAllocs()
			for b.Loop() {
				it, n := batch.RecordsIn(memory, 0), 0
				for it.Next() {
					n += len(it.Record().Value)
				}
				if it.Err() != nil || n < records*300 {
					b.Fatal(n, it.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/records, "ns/record")
		})
	}
}
