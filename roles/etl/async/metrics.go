package async

import (
	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/metric"
)

// outcome is what became of a record.
type outcome int

const (
	kept outcome = iota
	dropped
	routed
	passed       // rejected, or failed on, and gone on as it was
	deadLettered // likewise, and gone to the dead-letter topic
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"kept", "dropped", "routed", "passed", "dead_letter"}[o]
}

// metrics are of what was committed, but for failures and restarts.
type metrics struct {
	runner       *Runner
	records      *prometheus.CounterVec
	transactions *prometheus.CounterVec
	failures     *prometheus.CounterVec
	restarts     *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	lag          *prometheus.Desc
	partitions   *prometheus.Desc
}

func newMetrics(r *Runner) *metrics {
	const prefix = "rustmq_etl_async_"
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, append([]string{"module"}, labels...))
	}
	return &metrics{
		runner:       r,
		records:      vec("records_total", "Records that asynchronous transforms decided about, in transactions that were committed, by outcome.", "outcome"),
		transactions: vec("transactions_total", "Transactions that asynchronous transforms committed."),
		failures:     vec("failures_total", "Failures of modules, and records that a topic did not take, by kind.", "kind"),
		restarts:     vec("restarts_total", "Times that a partition was begun anew from its last transaction."),
		skipped:      vec("skipped_offsets_total", "Offsets that retention took before they were read, or whose records nobody can read."),
		lag:          prometheus.NewDesc(prefix+"lag_records", "How far asynchronous transforms are behind in the partitions that this broker runs.", []string{"module"}, nil),
		partitions:   prometheus.NewDesc(prefix+"partitions", "Partitions that this broker runs asynchronous transforms for, by state.", []string{"module", "state"}, nil),
	}
}

// DescribeMetrics tells what [Runner.Metrics] of any runner export.
func DescribeMetrics(out chan<- *prometheus.Desc) { newMetrics(nil).Describe(out) }

// committed counts what a transaction was about, and begins anew.
func (m *metrics) committed(module string, counted *[outcomes]int) {
	m.transactions.WithLabelValues(module).Inc()
	for o, n := range counted {
		if n > 0 {
			m.records.WithLabelValues(module, outcome(o).String()).Add(float64(n))
		}
	}
	*counted = [outcomes]int{}
}

// forget drops the series of a module that is not run any more.
func (m *metrics) forget(module string) {
	for _, v := range []*prometheus.CounterVec{m.records, m.transactions, m.failures, m.restarts, m.skipped} {
		v.DeletePartialMatch(prometheus.Labels{"module": module})
	}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, v := range []*prometheus.CounterVec{m.records, m.transactions, m.failures, m.restarts, m.skipped} {
		v.Describe(out)
	}
	out <- m.lag
	out <- m.partitions
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, v := range []*prometheus.CounterVec{m.records, m.transactions, m.failures, m.restarts, m.skipped} {
		v.Collect(out)
	}
	type key struct {
		module string
		is     State
	}
	lag, partitions := map[string]int64{}, map[key]int{}
	for _, s := range m.runner.Status() {
		lag[s.Name] += s.Lag
		partitions[key{s.Name, s.State}]++
	}
	for module, n := range lag {
		out <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(n), module)
	}
	for k, n := range partitions {
		out <- prometheus.MustNewConstMetric(m.partitions, prometheus.GaugeValue, float64(n), k.module, k.is.String())
	}
}

// Count is what a module did for the partitions of this broker, in transactions that were
// committed, since it is active here.
type Count struct {
	Records                                   map[string]uint64 // by outcome
	Transactions, Failures, Restarts, Skipped uint64
}

// Counts are those of modules by name, of those that did anything.
func (r *Runner) Counts() map[string]*Count {
	all := map[string]*Count{}
	each := func(c prometheus.Collector, add func(is *Count, labels map[string]string, n uint64)) {
		metric.Each(c, func(labels map[string]string, n float64) {
			name := labels["module"]
			if all[name] == nil {
				all[name] = &Count{Records: map[string]uint64{}}
			}
			add(all[name], labels, uint64(n))
		})
	}
	m := r.metrics
	each(m.records, func(is *Count, labels map[string]string, n uint64) { is.Records[labels["outcome"]] += n })
	each(m.transactions, func(is *Count, _ map[string]string, n uint64) { is.Transactions += n })
	each(m.failures, func(is *Count, _ map[string]string, n uint64) { is.Failures += n })
	each(m.restarts, func(is *Count, _ map[string]string, n uint64) { is.Restarts += n })
	each(m.skipped, func(is *Count, _ map[string]string, n uint64) { is.Skipped += n })
	return all
}
