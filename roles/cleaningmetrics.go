package roles

import (
	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/metric"
)

// cleaningMetrics collects what compaction by key did.
type cleaningMetrics struct {
	metric.Descs
	n *Node

	rounds, full, failures    *prometheus.Desc
	objects, read, written    *prometheus.Desc
	records, tombstones       *prometheus.Desc
	running, dirty, keyMemory *prometheus.Desc
}

func newCleaningMetrics(n *Node) *cleaningMetrics {
	var descs metric.Descs
	desc := func(name, help string) *prometheus.Desc {
		return descs.New("cleaning_"+name, help)
	}
	m := &cleaningMetrics{
		n:          n,
		rounds:     desc("rounds_total", "Rounds of compaction by key that came to their end."),
		full:       desc("full_rounds_total", "Rounds of compaction by key that compaction.key_memory ended before all that was new."),
		failures:   desc("failures_total", "Rounds of compaction by key that failed, and are tried again."),
		objects:    desc("objects_total", "Objects that compaction by key made of others, and committed."),
		read:       desc("read_bytes_total", "Bytes that compaction by key read from the bucket."),
		written:    desc("written_bytes_total", "Bytes of the objects that compaction by key made."),
		records:    desc("removed_records_total", "Records that compaction by key left out: they had a later one of the same key, or no key, or were of an aborted transaction."),
		tombstones: desc("removed_tombstones_total", "Records without a value that compaction by key left out, for their delete.retention.ms was over."),
		running:    desc("running", "1 while a round of compaction by key is under way, else 0."),
		dirty:      desc("max_dirty_ratio", "Share of the bytes in the bucket that compaction by key has not come to, in the partition that has the largest."),
		keyMemory:  desc("key_memory_bytes", "Memory for the keys of the last round of compaction by key."),
	}
	m.Descs = descs
	return m
}

// Collect implements prometheus.Collector.
func (m *cleaningMetrics) Collect(out chan<- prometheus.Metric) {
	if m.n.broker == nil {
		return
	}
	s, cleans := m.n.broker.Cleanings()
	if !cleans {
		return
	}
	value := func(kind prometheus.ValueType, d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, kind, v)
	}
	value(prometheus.CounterValue, m.rounds, float64(s.Rounds))
	value(prometheus.CounterValue, m.full, float64(s.FullRounds))
	value(prometheus.CounterValue, m.failures, float64(s.Failures))
	value(prometheus.CounterValue, m.objects, float64(s.Objects))
	value(prometheus.CounterValue, m.read, float64(s.ReadBytes))
	value(prometheus.CounterValue, m.written, float64(s.WrittenBytes))
	value(prometheus.CounterValue, m.records, float64(s.Removed))
	value(prometheus.CounterValue, m.tombstones, float64(s.Tombstones))
	value(prometheus.GaugeValue, m.running, float64(s.Running))
	value(prometheus.GaugeValue, m.dirty, s.DirtyRatio)
	value(prometheus.GaugeValue, m.keyMemory, float64(s.KeyMemory))
}
