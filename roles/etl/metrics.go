package etl

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a host. What modules count themselves has at most 64 names a module, see etl/wasm.
type metrics struct {
	h        *Host
	state    *prometheus.Desc
	loads    *prometheus.CounterVec
	seconds  prometheus.Counter
	failures *prometheus.CounterVec
	spent    *prometheus.CounterVec
	guests   *prometheus.CounterVec
}

func newMetrics(h *Host) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		h:        h,
		state:    prometheus.NewDesc("rustmq_etl_module_ready", "Whether an active module is ready on this node (1), or records for it are refused (0).", []string{"module", "version"}, nil),
		loads:    counter("rustmq_etl_module_loads_total", "Modules that were fetched and compiled, by how that ended: ok or failed.", "result"),
		seconds:  prometheus.NewCounter(prometheus.CounterOpts{Name: "rustmq_etl_module_load_seconds_total", Help: "Time that fetching and compiling modules took."}),
		failures: counter("rustmq_etl_budget_failures_total", "Failures of modules that count against their error budgets.", "module"),
		spent:    counter("rustmq_etl_budget_spent_total", "Times that this node had a module disabled because its error budget was spent.", "module"),
		guests:   counter("rustmq_etl_guest_total", "What modules count themselves, by their own names.", "module", "name"),
	}
}

// DescribeMetrics tells what [Host.Metrics] of any host export.
func DescribeMetrics(out chan<- *prometheus.Desc) { newMetrics(nil).Describe(out) }

func (m *metrics) loaded(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.loads.WithLabelValues(result).Inc()
	m.seconds.Add(took.Seconds())
}

// forget ends the series of a module that is not active any more.
func (m *metrics) forget(name string) {
	for _, c := range []*prometheus.CounterVec{m.failures, m.guests} {
		c.DeletePartialMatch(prometheus.Labels{"module": name})
	}
}

// Metrics are those of the host.
func (h *Host) Metrics() prometheus.Collector { return h.metrics }

func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.state
	for _, c := range []prometheus.Collector{m.loads, m.seconds, m.failures, m.spent, m.guests} {
		c.Describe(to)
	}
}

func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, s := range m.h.Status() {
		ready := 0.0
		if s.Ready {
			ready = 1
		}
		to <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, ready, s.Name, versionLabel(s.Version))
	}
	for _, c := range []prometheus.Collector{m.loads, m.seconds, m.failures, m.spent, m.guests} {
		c.Collect(to)
	}
}

func versionLabel(version uint32) string { return strconv.FormatUint(uint64(version), 10) }
