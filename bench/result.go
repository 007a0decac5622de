package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"time"

	"rustmq.dev/rustmq/bench/report"
)

// Where results lie, and the page that is made of them, seen from bench.
const (
	resultsDir = "results"
	pageFile   = "../docs/performance.md"
)

// row is one line of the results: every figure makes some.
type row = report.Row

func newResults() report.Results {
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown kernel")
	}
	return report.Results{
		Date:   time.Now().UTC().Format("2006-01-02"),
		Commit: strings.TrimSpace(string(commit)),
		Machine: fmt.Sprintf("%d cores, %s/%s, Linux %s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
			strings.TrimSpace(string(kernel)), runtime.Version()),
	}
}

// summarise makes a row of the figures of the pairs.
func summarise(r row, pairs []float64) row {
	r.Pairs = pairs
	sorted := append([]float64(nil), pairs...)
	sort.Float64s(sorted)
	r.Low, r.High, r.Median = sorted[0], sorted[len(sorted)-1], median(sorted)
	return r
}

// median of sorted figures.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// reportNewest remakes docs/performance.md from the newest results.
func reportNewest([]string) error {
	page, err := report.Page(resultsDir)
	if err != nil {
		return err
	}
	return os.WriteFile(pageFile, []byte(page), 0o644)
}
