package roles

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	storagelog "rustmq.dev/rustmq/storage/log"
)

// kafkaMetrics counts what passes the Kafka listeners.
type kafkaMetrics struct {
	opened, closed, refused, failed *prometheus.CounterVec
	received                        *prometheus.CounterVec
	byKey                           []prometheus.Counter
	receivedBytes, sentBytes        prometheus.Counter
}

func newKafkaMetrics(r *prometheus.Registry) *kafkaMetrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "rustmq", Subsystem: "kafka", Name: name, Help: help}, []string{label})
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rustmq", Subsystem: "kafka", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &kafkaMetrics{
		opened:        vec("connections_opened_total", "Connections accepted, by transport.", "transport"),
		closed:        vec("connections_closed_total", "Connections ended, by transport.", "transport"),
		refused:       vec("connections_refused_total", "Connections turned away, by reason.", "reason"),
		failed:        vec("connections_failed_total", "Connections ended for an error, by reason.", "reason"),
		received:      vec("requests_total", "Requests received, by API.", "api"),
		receivedBytes: counter("received_bytes_total", "Bytes of requests."),
		sentBytes:     counter("sent_bytes_total", "Bytes of responses."),
	}
	for key := range kmsg.MaxKey + 1 {
		m.byKey = append(m.byKey, m.received.WithLabelValues(kmsg.NameForKey(int16(key))))
	}
	return m
}

func (m *kafkaMetrics) Opened(transport string) { m.opened.WithLabelValues(transport).Inc() }
func (m *kafkaMetrics) Closed(transport string) { m.closed.WithLabelValues(transport).Inc() }
func (m *kafkaMetrics) Refused(reason string)   { m.refused.WithLabelValues(reason).Inc() }
func (m *kafkaMetrics) Failed(reason string)    { m.failed.WithLabelValues(reason).Inc() }
func (m *kafkaMetrics) Sent(bytes int64)        { m.sentBytes.Add(float64(bytes)) }

func (m *kafkaMetrics) Received(key int16, bytes int64) {
	m.receivedBytes.Add(float64(bytes))
	if key >= 0 && int(key) < len(m.byKey) {
		m.byKey[key].Inc()
	}
}

// storageMetrics exports the figures of the store and its WAL.
type storageMetrics struct {
	store *storagelog.Store
	descs []*prometheus.Desc
	read  []func(storagelog.Stats) float64
	kinds []prometheus.ValueType
}

func newStorageMetrics(store *storagelog.Store) *storageMetrics {
	m := &storageMetrics{store: store}
	add := func(kind prometheus.ValueType, name, help string, read func(storagelog.Stats) float64) {
		m.descs = append(m.descs, prometheus.NewDesc("rustmq_"+name, help, nil, nil))
		m.read = append(m.read, read)
		m.kinds = append(m.kinds, kind)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "wal_capacity_bytes", "Disk budget of the WAL.", func(s storagelog.Stats) float64 { return float64(s.WAL.CapacityBytes) })
	add(gauge, "wal_allocated_bytes", "Bytes of WAL files.", func(s storagelog.Stats) float64 { return float64(s.WAL.AllocatedBytes) })
	add(gauge, "wal_used_bytes", "Bytes of WAL segments that hold something.", func(s storagelog.Stats) float64 { return float64(s.WAL.UsedBytes) })
	add(gauge, "wal_live_bytes", "Bytes of WAL frames that are still needed.", func(s storagelog.Stats) float64 { return float64(s.WAL.LiveBytes) })
	add(gauge, "wal_memory_bytes", "Bytes of the WAL's tail in memory.", func(s storagelog.Stats) float64 { return float64(s.WAL.MemoryBytes) })
	add(gauge, "wal_pinned_bytes", "Bytes of WAL memory that readers hold.", func(s storagelog.Stats) float64 { return float64(s.WAL.PinnedBytes) })
	add(gauge, "wal_unsynced_bytes", "Bytes appended and not synced yet.", func(s storagelog.Stats) float64 { return float64(s.WAL.UnsyncedBytes) })
	add(counter, "wal_appends_total", "Frames appended.", func(s storagelog.Stats) float64 { return float64(s.WAL.Appends) })
	add(counter, "wal_appended_bytes_total", "Payload bytes appended.", func(s storagelog.Stats) float64 { return float64(s.WAL.AppendedBytes) })
	add(counter, "wal_commits_total", "Commits: one gather write each.", func(s storagelog.Stats) float64 { return float64(s.WAL.Commits) })
	add(counter, "wal_syncs_total", "Syncs of WAL files.", func(s storagelog.Stats) float64 { return float64(s.WAL.Syncs) })
	add(counter, "wal_segments_recycled_total", "Segments given back for reuse.", func(s storagelog.Stats) float64 { return float64(s.WAL.Recycled) })
	add(gauge, "log_index_bytes", "Memory of the partitions' indexes.", func(s storagelog.Stats) float64 { return float64(s.IndexBytes) })
	add(gauge, "log_producers", "Idempotent producers that are remembered.", func(s storagelog.Stats) float64 { return float64(s.Producers) })
	return m
}

// Describe implements prometheus.Collector.
func (m *storageMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *storageMetrics) Collect(out chan<- prometheus.Metric) {
	stats := m.store.Stats()
	for i, d := range m.descs {
		out <- prometheus.MustNewConstMetric(d, m.kinds[i], m.read[i](stats))
	}
}
