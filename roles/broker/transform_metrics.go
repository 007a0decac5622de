package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/metric"
)

// transformMetrics counts what inline modules do, by module.
type transformMetrics struct {
	in, outcomes, failures, calls *prometheus.CounterVec
	seconds                       *prometheus.CounterVec
	memory                        *prometheus.Desc
	waiting                       *prometheus.Desc
}

func newTransformMetrics() *transformMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "rustmq", Subsystem: "etl", Name: name, Help: help}, labels)
	}
	return &transformMetrics{
		in:       vec("inline_records_total", "Records that inline modules were shown.", "module"),
		outcomes: vec("inline_outcomes_total", "Records that did not stay in their batch for an inline module, by what became of them: dropped, routed, rejected, dead-lettered.", "module", "outcome"),
		failures: vec("inline_failures_total", "Calls of inline modules that failed: a trap, a deadline, a result that is none.", "module"),
		calls:    vec("inline_batches_total", "Batches that inline modules were called for.", "module"),
		seconds:  vec("inline_seconds_total", "Time that calls of inline modules took, the wait for an instance included.", "module"),
		memory:   prometheus.NewDesc("rustmq_etl_inline_memory_bytes", "Memory of batches that are being transformed.", nil, nil),
		waiting:  prometheus.NewDesc("rustmq_etl_inline_waiting_bytes", "Batches that wait to be transformed, or for what they send to other topics.", nil, nil),
	}
}

func (m *transformMetrics) describe(out chan<- *prometheus.Desc) {
	for _, vec := range []*prometheus.CounterVec{m.in, m.outcomes, m.failures, m.calls, m.seconds} {
		vec.Describe(out)
	}
	out <- m.memory
	out <- m.waiting
}

// observe counts what became of a batch.
func (m *transformMetrics) observe(tallies []pipeline.Tally) {
	for i := range tallies {
		t := &tallies[i]
		name := t.Module.Name
		m.in.WithLabelValues(name).Add(float64(t.In))
		m.calls.WithLabelValues(name).Inc()
		m.seconds.WithLabelValues(name).Add(t.Took.Seconds())
		if t.Failures > 0 {
			m.failures.WithLabelValues(name).Add(float64(t.Failures))
		}
		became := func(outcome string, n int) {
			if n > 0 {
				m.outcomes.WithLabelValues(name, outcome).Add(float64(n))
			}
		}
		became("dropped", t.Dropped)
		became("routed", t.Routed)
		became("rejected", t.Rejected)
		became("dead-lettered", t.DeadLettered)
	}
}

func (m *transformMetrics) collect(out chan<- prometheus.Metric, t *transforms) {
	for _, vec := range []*prometheus.CounterVec{m.in, m.outcomes, m.failures, m.calls, m.seconds} {
		vec.Collect(out)
	}
	out <- prometheus.MustNewConstMetric(m.memory, prometheus.GaugeValue, float64(t.memory.inUse()))
	out <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(t.waiting.inUse()))
}

// TransformCount is what a module did for batches that were produced to this broker, since its
// process began.
type TransformCount struct {
	Batches, Records, Failures uint64
	Seconds                    float64           // of its calls
	Outcomes                   map[string]uint64 // records that did not stay in their batch: dropped, routed, rejected, dead-lettered
}

// TransformCounts are the counts of inline modules by name, of those that were called.
func (b *Broker) TransformCounts() map[string]*TransformCount {
	all := map[string]*TransformCount{}
	each := func(c prometheus.Collector, add func(is *TransformCount, outcome string, n float64)) {
		metric.Each(c, func(labels map[string]string, n float64) {
			name := labels["module"]
			if all[name] == nil {
				all[name] = &TransformCount{Outcomes: map[string]uint64{}}
			}
			add(all[name], labels["outcome"], n)
		})
	}
	m := b.metrics.transforms
	each(m.calls, func(is *TransformCount, _ string, n float64) { is.Batches += uint64(n) })
	each(m.in, func(is *TransformCount, _ string, n float64) { is.Records += uint64(n) })
	each(m.failures, func(is *TransformCount, _ string, n float64) { is.Failures += uint64(n) })
	each(m.seconds, func(is *TransformCount, _ string, n float64) { is.Seconds += n })
	each(m.outcomes, func(is *TransformCount, outcome string, n float64) { is.Outcomes[outcome] += uint64(n) })
	return all
}
