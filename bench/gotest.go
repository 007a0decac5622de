package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// benchmarks runs benchmarks of a package of the root module, in the manner of
// `go test -bench`, and returns what each reported, by its name without the count
// of processors, and by unit.
func benchmarks(pkg, pattern, time string) (map[string]map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run=^$", "-bench="+pattern, "-benchtime="+time, "-benchmem", "-timeout=10m", pkg)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := awaitQuiet(); err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	results := map[string]map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		units := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if units[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
				return nil, fmt.Errorf("benchmark line %q: %w", lines.Text(), err)
			}
		}
		results[name] = units
	}
	return results, nil
}

// reported is one benchmark's figure; a name that is not there is an error, so that
// a benchmark that was renamed is not a figure that is missing.
func reported(of map[string]map[string]float64, name, unit string) (float64, error) {
	v, ok := of[name][unit]
	if !ok {
		return 0, fmt.Errorf("no %s of %s in what was reported", unit, name)
	}
	return v, nil
}

// addReported adds a row of one benchmark's figure, divided by per.
func (r *run) addReported(of map[string]map[string]float64, name, unit string, per float64, x row) error {
	v, err := reported(of, name, unit)
	if err != nil {
		return err
	}
	r.add(summarise(x, []float64{v / per}))
	return nil
}

// cache is B4: what the policies of the block cache keep, and what they cost.
func (r *run) cache() error {
	ratios, err := benchmarks("./storage/cache/cachetrace", "HitRatio", "1x")
	if err != nil {
		return err
	}
	for _, policy := range cachePolicies {
		for _, trace := range []string{"mixed", "drift", "hot"} {
			for _, capacity := range []int{256, 1024, 4096} {
				name := fmt.Sprintf("BenchmarkHitRatio/trace=%s/capacity=%d/policy=%s", trace, capacity, policy)
				hits, err := reported(ratios, name, "hits")
				if err != nil {
					return err
				}
				x := row{Figure: "B4", Name: fmt.Sprintf("hits of %s, trace %s, %d blocks, against Belady's optimum", policy, trace, capacity), Unit: "×",
					Detail: fmt.Sprintf("%.1f %% of the requests", hits*100)}
				if trace == "mixed" { // the others are no part of the figure
					x.Must, x.Aim = 0.88, 0.91
				}
				if err := r.addReported(ratios, name, "of-optimum", 1, x); err != nil {
					return err
				}
			}
		}
	}
	costs, err := benchmarks("./storage/cache", "^Benchmark(New|Get|Put)$", "1s")
	if err != nil {
		return err
	}
	for _, policy := range cachePolicies {
		of := "/policy=" + policy
		for _, call := range []string{"Get", "Put"} {
			allocations, err := reported(costs, "Benchmark"+call+of, "allocs/op")
			if err != nil {
				return err
			}
			if err := r.addReported(costs, "Benchmark"+call+of, "ns/op", 1, row{Figure: "B4", Name: strings.ToLower(call) + ", " + policy, Unit: "ns",
				Detail: fmt.Sprintf("%.0f allocations", allocations)}); err != nil {
				return err
			}
		}
		if err := r.addReported(costs, "BenchmarkNew"+of, "ns/op", 1000, row{Figure: "B4", Name: "creation, " + policy, Unit: "µs", Must: 10.95, Less: true}); err != nil {
			return err
		}
	}
	return nil
}

// cachePolicies are those of configuration key cache.policy.
var cachePolicies = []string{"w-tinylfu", "lru"}

// cleaning is B5: compaction by key, in bytes of the partition as it was, and the
// memory that it takes, with fewer keys than fit into its table and with more.
func (r *run) cleaning() error {
	for _, keys := range []int{100_000, 10_000_000} {
		name := fmt.Sprintf("BenchmarkClean/keys=%d/memory=128MiB/codec=none", keys)
		got, err := benchmarks("./roles/broker/clean", fmt.Sprintf("^BenchmarkClean$/^keys=%d$/^memory=128MiB$/^codec=none$", keys), "1x")
		if err != nil {
			return err
		}
		rounds, err := reported(got, name, "rounds")
		if err != nil {
			return err
		}
		busy, err := reported(got, name, "MB/cpu-s")
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%d keys, 128 MiB for them", keys)
		if err := r.addReported(got, name, "MB/s", 1, row{Figure: "B5", Name: what, Unit: "MB/s",
			Detail: fmt.Sprintf("%.0f rounds; %.0f MB for a second of processor time", rounds, busy)}); err != nil {
			return err
		}
		live, err := reported(got, name, "live-MiB")
		if err != nil {
			return err
		}
		if err := r.addReported(got, name, "peak-MiB", 1, row{Figure: "B5", Name: what + ": memory", Unit: "MiB",
			Detail: fmt.Sprintf("%.0f MiB of it live", live)}); err != nil {
			return err
		}
	}
	return nil
}
