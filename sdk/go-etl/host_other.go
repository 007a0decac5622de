//go:build !wasip1

package etl

// Outside of a broker what is said is kept for the test.

func hostLog(level int32, line string) {
	if l := listener; l != nil {
		l.Lines = append(l.Lines, Line{Level(level), line})
	}
}

func hostMetricAdd(name string, delta float64) {
	if l := listener; l != nil {
		if l.Metrics == nil {
			l.Metrics = map[string]float64{}
		}
		l.Metrics[name] += delta
	}
}

// listener is the harness whose transform is at work: Log and MetricAdd know no other.
var listener *Harness
