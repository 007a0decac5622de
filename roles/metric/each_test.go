package metric_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/metric"
)

func TestEachCounterIsToldWithItsLabels(t *testing.T) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "n"}, []string{"module", "outcome"})
	vec.WithLabelValues("a", "kept").Add(2)
	vec.WithLabelValues("a", "dropped").Inc()
	vec.WithLabelValues("b", "kept").Add(5)
	got := map[[2]string]float64{}
	metric.Each(vec, func(labels map[string]string, value float64) {
		got[[2]string{labels["module"], labels["outcome"]}] = value
	})
	want := map[[2]string]float64{{"a", "kept"}: 2, {"a", "dropped"}: 1, {"b", "kept"}: 5}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%v: %v, want %v", k, got[k], v)
		}
	}
}
