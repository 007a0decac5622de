package main

import "fmt"

// transforms is K8: what the runtime of transforms costs, read from its own benchmarks.
// The two sides of a ratio run in one process, one after the other.
func (r *run) transforms() error {
	rounds := make([]map[string]map[string]float64, max(1, r.pairs))
	for i := range rounds {
		var err error
		if rounds[i], err = benchmarks("./etl/wasm", "^Benchmark(Batch|Filter|Instance|Runaway)$", "300ms"); err != nil {
			return err
		}
	}
	each := func(name, unit string) ([]float64, error) {
		values := make([]float64, len(rounds))
		for i, of := range rounds {
			var err error
			if values[i], err = reported(of, "Benchmark"+name, unit); err != nil {
				return nil, err
			}
		}
		return values, nil
	}
	for _, x := range []struct {
		row
		side, unit string
		against    string  // "": no ratio
		per        float64 // what a figure of side is divided by, in its detail
	}{
		{row{Name: "a batch of 1 record of 1 KiB, against the bare call of wasmtime-go with the same bytes", Must: 1.3}, "Batch/records=1/call=transform", "ns/op", "Batch/records=1/call=bare", 1000},
		{row{Name: "a batch of 100 records of 1 KiB, against the bare call of wasmtime-go with the same bytes", Must: 1.3}, "Batch/records=100/call=transform", "ns/op", "Batch/records=100/call=bare", 1000},
		{row{Name: "a filter over every byte of 100 records of 1 KiB, against Go", Must: 2.5}, "Filter/by=bytes/in=wasm", "ns/op", "Filter/by=bytes/in=go", 1000},
		{row{Name: "the same, counting fuel", Unit: "×"}, "Filter/by=bytes-with-fuel/in=wasm", "ns/op", "Filter/by=bytes/in=go", 1000},
		{row{Name: "a filter over a header, a record of 1 KiB", Unit: "ns", Must: 100}, "Filter/by=header/in=wasm", "ns/record", "", 1},
		{row{Name: "an instance from the pool, against a new one", Must: 0.1}, "Instance/from=pool", "ns/op", "Instance/from=new", 1000},
		{row{Name: "a guest that loops is stopped, after its deadline of 20 ms", Unit: "ticks", Must: 2}, "Runaway", "ticks-late", "", 1},
		{row{Name: "the same, the slowest of a hundred", Unit: "ticks"}, "Runaway", "ticks-late-p99", "", 1},
	} {
		values, err := each(x.side, x.unit)
		if err != nil {
			return err
		}
		x.Figure, x.Less = "K8", true
		if x.against != "" {
			others, err := each(x.against, x.unit)
			if err != nil {
				return err
			}
			x.Unit = "×"
			x.Detail = fmt.Sprintf("%.2f µs against %.2f µs", values[0]/x.per, others[0]/x.per)
			for i := range values {
				values[i] /= others[i]
			}
		}
		r.add(summarise(x.row, values))
	}
	return nil
}
