package main

import (
	"testing"

	"rustmq.dev/rustmq/bench/report"
)

// A rate is told in digits that say something, of one record at a time too.
func TestRatesAreTold(t *testing.T) {
	for rate, want := range map[float64]string{0.4: "0/s", 412.3: "412/s", 9_999: "9999/s", 10_040: "10.0k/s", 99_900: "99.9k/s", 512_345: "512k/s"} {
		if got := perSecond(rate); got != want {
			t.Errorf("%v a second is told as %s, want %s", rate, got, want)
		}
	}
}

// Every figure has a heading in docs/performance.md.
func TestEveryFigureHasATitle(t *testing.T) {
	for _, f := range figures {
		if report.Title(f.name) == f.name {
			t.Errorf("figure %s has no title in bench/report", f.name)
		}
	}
}
