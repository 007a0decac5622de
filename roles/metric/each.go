package metric

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Each calls f for every counter and gauge that a collector exports now, with its labels. It is
// for who shows a few figures to a person, and not for what is asked often.
func Each(c prometheus.Collector, f func(labels map[string]string, value float64)) {
	metrics := make(chan prometheus.Metric)
	go func() { // it ends with the last metric, all of which are taken below
		defer close(metrics)
		c.Collect(metrics)
	}()
	for m := range metrics {
		var is dto.Metric
		if m.Write(&is) != nil { // what cannot be written is not shown
			continue
		}
		labels := make(map[string]string, len(is.Label))
		for _, l := range is.Label {
			labels[l.GetName()] = l.GetValue()
		}
		switch {
		case is.Counter != nil:
			f(labels, is.Counter.GetValue())
		case is.Gauge != nil:
			f(labels, is.Gauge.GetValue())
		}
	}
}
