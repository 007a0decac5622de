package main

import "fmt"

// asynchronousBound is what stands between the two sides.
const asynchronousBound = "What both do: the module, compression, and the broker's own write of what is kept, are most of it; the peer is franz-go, whose client takes a quarter of a microsecond a record."

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
			for _, peer := range []struct{ side, how string }{{"outside", "in the clear"}, {"outside-tls", "over TLS"}} {
				var ratios []float64
				detail := ""
				for _, of := range rounds {
					name := fmt.Sprintf("BenchmarkAsync/module=%s/codec=%s/side=", x.module, codec)
					inside, err := reported(of, name+"inside", "cpu-ns/record")
					if err != nil {
						return err
					}
					outside, err := reported(of, name+peer.side, "cpu-ns/record")
					if err != nil {
						return err
					}
					ratios = append(ratios, outside/inside)
					detail = fmt.Sprintf("%.2f µs of processor time a record; outside %.2f µs", inside/1000, outside/1000)
				}
				r.add(summarise(row{
					Figure: "K10", Name: fmt.Sprintf("records per processor second, %s, compression %s, against a client outside %s", x.what, codec, peer.how),
					Unit: "×", Must: x.must, Detail: detail, Bound: asynchronousBound,
				}, ratios))
			}
		}
	}
	return nil
}
