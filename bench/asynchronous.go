package main

import "fmt"

// What stands between the two sides, and what the floor is.
const (
	asynchronousBound = "What both do, which the row of the bare loop has alone: expand, read each record, ask the module, make batches. Beside that the brokers' way copies the bytes once from the log, and ends a transaction for each partition each 100 ms; the peer is franz-go, whose client takes a quarter of a microsecond a record."
	bareBound         = "No way from topic to topic has a higher ratio than this loop: it has no log, no transaction and no connection."
)

// asynchronous is K10: records a second of processor time, of transforms that the brokers run, and
// of a client outside that does the same with the same module, its own time and the
// broker's together. It is read from a benchmark of the root module, where both run in one
// process.
func (r *run) asynchronous() error {
	rounds := make([]map[string]map[string]float64, max(1, r.pairs))
	for i := range rounds {
		var err error
		if rounds[i], err = benchmarks("./roles", "^BenchmarkAsync$", "3x"); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		module, what string
		must         float64 // where nothing but the way is measured
	}{{"filter", "a filter in Go that keeps one of 32", 5}, {"keep", "all is kept", 0}, {"project", "the battery project keeps and rewrites one of 44", 0}} {
		for _, codec := range []string{"none", "lz4"} {
			of := fmt.Sprintf("BenchmarkAsync/module=%s/codec=%s/side=", x.module, codec)
			what := fmt.Sprintf("%s, compression %s, against a client outside", x.what, codec)
			for _, c := range []struct{ ours, peer, name, bound string }{
				{"inside", "outside", "records per processor second, " + what + " in the clear", asynchronousBound},
				{"inside", "outside-tls", "records per processor second, " + what + " over TLS", asynchronousBound},
				{"bare", "outside", "records per processor second of a bare loop of module and codec, without a broker, " + what + " in the clear", bareBound},
			} {
				ratios, detail, err := compared(rounds, of+c.ours, of+c.peer)
				if err != nil {
					return err
				}
				must := x.must
				if c.ours == "bare" {
					must = 0
				}
				r.add(summarise(row{Figure: "K10", Name: c.name, Unit: "×", Must: must, Detail: detail, Bound: c.bound}, ratios))
			}
		}
	}
	return nil
}

// compared is how many times the processor time of one benchmark another takes, of each round,
// and what they take.
func compared(rounds []map[string]map[string]float64, ours, peer string) (ratios []float64, detail string, err error) {
	const unit = "cpu-ns/record"
	for _, of := range rounds {
		is, err := reported(of, ours, unit)
		if err != nil {
			return nil, "", err
		}
		outside, err := reported(of, peer, unit)
		if err != nil {
			return nil, "", err
		}
		ratios = append(ratios, outside/is)
		detail = fmt.Sprintf("%.2f µs of processor time a record; outside %.2f µs", is/1000, outside/1000)
	}
	return ratios, detail, nil
}
