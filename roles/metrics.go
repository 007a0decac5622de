package roles

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/metric"
	storagelog "rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/kafka"
)

// kafkaMetrics counts what passes the Kafka listeners.
type kafkaMetrics struct {
	metric.Descs
	opened, closed, refused, failed *prometheus.CounterVec
	received                        *prometheus.CounterVec
	queued                          *prometheus.HistogramVec
	byKey                           []apiMetrics // by API key; not written to after newKafkaMetrics
	receivedBytes, sentBytes        prometheus.Counter
	requestMemory, unsent           *prometheus.Desc
	inUse                           func() (requests, answers int64)
}

// apiMetrics are those of one API, found without a map.
type apiMetrics struct {
	received prometheus.Counter
	queued   prometheus.Observer // nil: not served
}

func newKafkaMetrics(served []kafka.ApiVersion) *kafkaMetrics {
	const namespace, subsystem = "rustmq", "kafka"
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	var descs metric.Descs
	gauge := func(name, help string) *prometheus.Desc { return descs.New(subsystem+"_"+name, help) }
	m := &kafkaMetrics{
		opened:   vec("connections_opened_total", "Connections accepted, by transport.", "transport"),
		closed:   vec("connections_closed_total", "Connections ended, by transport.", "transport"),
		refused:  vec("connections_refused_total", "Connections turned away, by reason.", "reason"),
		failed:   vec("connections_failed_total", "Connections ended for an error, by reason.", "reason"),
		received: vec("requests_total", "Requests received, by API.", "api"),
		queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "answer_queue_seconds",
			Help:    "From an answer to its last byte in the socket: it waits for those before it, and for a client that reads slowly.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // as rustmq_broker_request_duration_seconds
		}, []string{"api"}),
		receivedBytes: counter("received_bytes_total", "Bytes of requests."),
		sentBytes:     counter("sent_bytes_total", "Bytes of responses."),
		requestMemory: gauge("request_memory_bytes", "Bytes of requests that are held: as they came, decoded, and kept by those that wait. Each may have network.request_memory."),
		unsent:        gauge("unsent_bytes", "Bytes of answers that clients have not taken yet."),
	}
	m.Descs = descs
	for key := range kmsg.MaxKey + 1 {
		name := kmsg.NameForKey(int16(key))
		m.byKey = append(m.byKey, apiMetrics{received: m.received.WithLabelValues(name)})
	}
	for _, v := range served {
		m.byKey[v.Key].queued = m.queued.WithLabelValues(kmsg.NameForKey(v.Key))
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *kafkaMetrics) Describe(out chan<- *prometheus.Desc) {
	m.Descs.Describe(out)
	for _, c := range m.own() {
		c.Describe(out)
	}
}

// own are those that count by themselves.
func (m *kafkaMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.opened, m.closed, m.refused, m.failed, m.received, m.queued, m.receivedBytes, m.sentBytes}
}

// Collect implements prometheus.Collector.
func (m *kafkaMetrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.own() {
		c.Collect(out)
	}
	requests, answers := m.inUse()
	out <- prometheus.MustNewConstMetric(m.requestMemory, prometheus.GaugeValue, float64(requests))
	out <- prometheus.MustNewConstMetric(m.unsent, prometheus.GaugeValue, float64(answers))
}

// totals are the requests that came since the process began, and the connections there are.
func (m *kafkaMetrics) totals() (requests, connections float64) {
	metric.Each(m.received, func(_ map[string]string, n float64) { requests += n })
	metric.Each(m.opened, func(_ map[string]string, n float64) { connections += n })
	metric.Each(m.closed, func(_ map[string]string, n float64) { connections -= n })
	return requests, connections
}

func (m *kafkaMetrics) Opened(transport string) { m.opened.WithLabelValues(transport).Inc() }
func (m *kafkaMetrics) Closed(transport string) { m.closed.WithLabelValues(transport).Inc() }
func (m *kafkaMetrics) Refused(reason string)   { m.refused.WithLabelValues(reason).Inc() }
func (m *kafkaMetrics) Failed(reason string)    { m.failed.WithLabelValues(reason).Inc() }
func (m *kafkaMetrics) Sent(bytes int64)        { m.sentBytes.Add(float64(bytes)) }

func (m *kafkaMetrics) Received(key int16, bytes int64) {
	m.receivedBytes.Add(float64(bytes))
	if key >= 0 && int(key) < len(m.byKey) {
		m.byKey[key].received.Inc()
	}
}

// Answered implements kafka.AnswerTimer. How long a request is served is the
// broker's to count.
func (m *kafkaMetrics) Answered(key int16, _, queued time.Duration) {
	if key >= 0 && int(key) < len(m.byKey) && m.byKey[key].queued != nil {
		m.byKey[key].queued.Observe(queued.Seconds())
	}
}

// storageMetrics exports the figures of the store and its WAL.
type storageMetrics struct {
	store *storagelog.Store
	syncs *prometheus.Desc
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
	add(gauge, "wal_short", "1 while the WAL can have no further file though its capacity allows for it: the disk is full, or ill.", func(s storagelog.Stats) float64 {
		if s.WAL.Short != nil {
			return 1
		}
		return 0
	})
	add(gauge, "wal_live_bytes", "Bytes of WAL frames that are still needed.", func(s storagelog.Stats) float64 { return float64(s.WAL.LiveBytes) })
	add(gauge, "wal_memory_bytes", "Bytes of the WAL's tail in memory.", func(s storagelog.Stats) float64 { return float64(s.WAL.MemoryBytes) })
	add(gauge, "wal_pinned_bytes", "Bytes of WAL memory that readers hold.", func(s storagelog.Stats) float64 { return float64(s.WAL.PinnedBytes) })
	add(gauge, "wal_unsynced_bytes", "Bytes appended to the WAL and not synced yet.", func(s storagelog.Stats) float64 { return float64(s.WAL.UnsyncedBytes) })
	add(counter, "wal_appends_total", "Frames appended to the WAL.", func(s storagelog.Stats) float64 { return float64(s.WAL.Appends) })
	add(counter, "wal_appended_bytes_total", "Payload bytes appended to the WAL.", func(s storagelog.Stats) float64 { return float64(s.WAL.AppendedBytes) })
	add(counter, "wal_commits_total", "Commits of the WAL: one gather write each.", func(s storagelog.Stats) float64 { return float64(s.WAL.Commits) })
	add(counter, "wal_recycled_segments_total", "WAL segments given back for reuse.", func(s storagelog.Stats) float64 { return float64(s.WAL.Recycled) })
	m.syncs = prometheus.NewDesc("rustmq_wal_sync_seconds", "Time of syncs of WAL files, with the writes that go with them.", nil, nil)
	add(gauge, "log_index_bytes", "Memory of the partitions' indexes.", func(s storagelog.Stats) float64 { return float64(s.IndexBytes) })
	add(gauge, "log_producers", "Idempotent producers that are remembered.", func(s storagelog.Stats) float64 { return float64(s.Producers) })
	return m
}

// Describe implements prometheus.Collector.
func (m *storageMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.syncs
	for _, d := range m.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *storageMetrics) Collect(out chan<- prometheus.Metric) {
	stats := m.store.Stats()
	within, upTo := uint64(0), make(map[float64]uint64, wal.SyncBounds)
	for i := range wal.SyncBounds {
		within += uint64(stats.WAL.SyncsIn[i])
		upTo[wal.SyncBound(i).Seconds()] = within
	}
	within += uint64(stats.WAL.SyncsIn[wal.SyncBounds])
	out <- prometheus.MustNewConstHistogram(m.syncs, within, stats.WAL.SyncTime.Seconds(), upTo)
	for i, d := range m.descs {
		out <- prometheus.MustNewConstMetric(d, m.kinds[i], m.read[i](stats))
	}
}
