package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/storage/cache"
)

// coldMetrics export what is read from the bucket for consumers, and what caches keep of it.
type coldMetrics struct {
	metric.Descs
	b *Broker

	requests, loads, ahead, shared, wasted, errors *prometheus.Desc
	streams, held                                  *prometheus.Desc

	hits, misses, left, bytes *prometheus.Desc
}

func newColdMetrics(b *Broker) *coldMetrics {
	m := &coldMetrics{b: b}
	m.requests = m.New("cold_requests_total", "Requests of the bucket that consumers were the reason for.")
	m.loads = m.New("cold_loads_total", "What requests of the bucket for consumers brought: indexes of objects, and pieces of objects, several by one request.", "what")
	m.ahead = m.New("cold_read_ahead_pieces_total", "Pieces of objects that were asked for before a consumer had come to them.")
	m.shared = m.New("cold_shared_loads_total", "Loads from the bucket that a further consumer waited for too.")
	m.wasted = m.New("cold_wasted_pieces_total", "Pieces of objects read ahead that no consumer ever came to.")
	m.errors = m.New("cold_load_failures_total", "Loads from the bucket that failed.")
	m.streams = m.New("cold_streams", "Partitions that consumers read from the bucket now.")
	m.held = m.New("cold_memory_bytes", "Memory of what is read ahead, of cache.read_ahead.")
	m.hits = m.New("cache_hits_total", "Times that a cache had what was asked for: blocks of records, or indexes of objects.", "cache")
	m.misses = m.New("cache_misses_total", "Times that a cache had not what was asked for.", "cache")
	m.left = m.New("cache_removed_total", "What left a cache, or was not taken, by why: evicted, expired, replaced, deleted or refused.", "cache", "reason")
	m.bytes = m.New("cache_bytes", "What a cache keeps.", "cache")
	return m
}

func (m *coldMetrics) collect(out chan<- prometheus.Metric) {
	if m.b.cold == nil {
		return
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	s := m.b.cold.Stats()
	counter(m.requests, s.Requests)
	counter(m.loads, s.IndexLoads, "index")
	counter(m.loads, s.PieceLoads, "piece")
	counter(m.ahead, s.Ahead)
	counter(m.shared, s.Shared)
	counter(m.wasted, s.Wasted)
	counter(m.errors, s.Errors)
	gauge(m.streams, int64(s.Streams))
	gauge(m.held, s.Held)
	of := func(name string, c cache.Stats, bytes int64) {
		counter(m.hits, c.Hits, name)
		counter(m.misses, c.Misses, name)
		counter(m.left, c.Evicted, name, "evicted")
		counter(m.left, c.Expired, name, "expired")
		counter(m.left, c.Replaced, name, "replaced")
		counter(m.left, c.Deleted, name, "deleted")
		counter(m.left, c.Refused, name, "refused")
		gauge(m.bytes, bytes, name)
	}
	of("indexes", s.Indexes, s.IndexBytes)
	of("blocks", s.Blocks, s.BlockBytes)
}
