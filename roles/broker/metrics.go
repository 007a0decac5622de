package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/figures"
	"rustmq.dev/rustmq/roles/metric"
)

// metrics counts what the broker does.
type metrics struct {
	metric.Descs
	b *Broker

	producedBytes   prometheus.Counter
	producedRecords prometheus.Counter
	fetchedBytes    prometheus.Counter
	followedBytes   prometheus.Counter
	referred        prometheus.Counter
	requests        map[int16]prometheus.Observer // by API key; not written to after newMetrics
	durations       *prometheus.HistogramVec
	throttledFor    [quota.Kinds]prometheus.Counter
	throttles       [quota.Kinds]prometheus.Counter

	damage  [damagedStores]prometheus.Counter
	refused *refusedCounts
	denied  *prometheus.CounterVec // by operation and type of resource

	partitions *prometheus.Desc
	corrupt    *prometheus.Desc
	led        *prometheus.Desc
	followed   *prometheus.Desc
	sessions   *prometheus.Desc
	fetching   *prometheus.Desc
	fullness   *prometheus.Desc
	healthy    *prometheus.Desc
	lag        *lagMetrics
	clients    *clientMetrics

	coordinators *coordinatorMetrics
	replication  *replicationMetrics
	transforms   *transformMetrics
	stages       *stageMetrics
	slow         *slowRequests
	topics       *topicMetrics
	cold         *coldMetrics

	// produceTimes and fetchTimes are finer than durations, for who looks at percentiles; those of
	// fetches without their wait for records.
	produceTimes, fetchTimes figures.Latencies
}

func newMetrics(b *Broker) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rustmq", Subsystem: "broker", Name: name, Help: help})
	}
	var descs metric.Descs
	desc := func(name, help string) *prometheus.Desc { return descs.New("broker_"+name, help) }
	m := &metrics{
		b:               b,
		producedBytes:   counter("produced_bytes_total", "Bytes of record batches that producers appended."),
		producedRecords: counter("produced_records_total", "Records that producers appended."),
		fetchedBytes:    counter("fetched_bytes_total", "Bytes of record batches sent to consumers."),
		followedBytes:   counter("follower_fetched_bytes_total", "Bytes of record batches sent to consumers from partitions that another broker leads, for they are in the same rack."),
		referred:        counter("referred_fetches_total", "Fetches of a partition that were referred to a replica in the consumer's rack."),
		requests:        map[int16]prometheus.Observer{},
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "rustmq", Subsystem: "broker", Name: "request_duration_seconds",
			Help:    "From the arrival of a request to its answer; a fetch may wait for records.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms to 6.5 s
		}, []string{"api"}),
		refused: newRefusedCounts(),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "rustmq", Subsystem: "broker", Name: "authorization_denied_total",
			Help: "What clients asked for and may not, by operation and type of resource; of fetches, each decision once.",
		}, []string{"operation", "resource_type"}),
		partitions: desc("partitions", "Partitions of the cluster."),
		corrupt:    desc("corrupt_partitions", "Partitions that this broker is to lead and cannot, for their logs are corrupt."),
		led:        desc("leader_partitions", "Partitions that this broker leads."),
		followed:   desc("follower_partitions", "Partitions of which this broker holds a replica that another broker leads."),
		sessions:   desc("fetch_sessions", "Fetch sessions that are open."),
		fetching:   desc("fetch_memory_bytes", "Records in responses that clients have not taken yet."),
		fullness:   desc("wal_full_ratio", "How full the WAL's disk budget is; producers are slowed down from 0.9 on."),
		healthy:    desc("healthy", "1 while the broker can do its work, else 0."),
		lag:        newLagMetrics(b),
		clients:    newClientMetrics(b),

		coordinators: newCoordinatorMetrics(b),
		replication:  newReplicationMetrics(),
		transforms:   newTransformMetrics(),
		stages:       newStageMetrics(),
		slow:         newSlowRequests(b),
		topics:       newTopicMetrics(b),
		cold:         newColdMetrics(b),
	}
	m.Descs = descs
	for kind, name := range quotaNames {
		by := func(name, help string, labels prometheus.Labels) prometheus.Counter {
			return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rustmq", Subsystem: "broker", Name: name, Help: help, ConstLabels: labels})
		}
		labels := prometheus.Labels{"quota": name}
		m.throttledFor[kind] = by("throttle_seconds_total", "Time that clients were told to wait, or had to, by the quota that they had exceeded.", labels)
		m.throttles[kind] = by("throttled_requests_total", "Requests whose clients were told to wait, and connections that had to, by the quota that they had exceeded.", labels)
	}
	for in, name := range damagedStoreNames {
		m.damage[in] = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "rustmq", Subsystem: "broker", Name: "damage_total",
			Help: "Reads for clients that failed because records are damaged or missing, by where they should be.", ConstLabels: prometheus.Labels{"where": name},
		})
	}
	for _, a := range servedAPIs() {
		m.requests[a.key.Int16()] = m.durations.WithLabelValues(kmsg.NameForKey(a.key.Int16()))
	}
	return m
}

// quotaNames are Kafka's.
var quotaNames = [quota.Kinds]string{
	quota.Produce: metadata.ProducerByteRate, quota.Consume: metadata.ConsumerByteRate,
	quota.Request: metadata.RequestPercentage, quota.Mutation: metadata.ControllerMutationRate,
	quota.Connection: metadata.ConnectionCreationRate,
}

// throttled counts that a client was told to wait, if it was.
func (m *metrics) throttled(kind quota.Kind, wait time.Duration) {
	if wait > 0 {
		m.throttledFor[kind].Add(wait.Seconds())
		m.throttles[kind].Inc()
	}
}

func (m *metrics) produced(bytes, records int) {
	m.producedBytes.Add(float64(bytes))
	m.producedRecords.Add(float64(records))
}

func (m *metrics) fetched(bytes int) { m.fetchedBytes.Add(float64(bytes)) }

func (m *metrics) answered(key int16, after time.Duration) { m.requests[key].Observe(after.Seconds()) }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.Descs.Describe(out)
	for _, c := range m.own() {
		c.Describe(out)
	}
	for _, c := range []interface {
		Describe(chan<- *prometheus.Desc)
	}{m.refused, m.lag, m.clients, m.coordinators, m.replication, m.topics, m.cold} {
		c.Describe(out)
	}
	m.transforms.describe(out)
}

// DescribeMetrics tells what [Broker.Metrics] of any broker export.
func DescribeMetrics(out chan<- *prometheus.Desc) { newMetrics(&Broker{}).Describe(out) }

// own are those that count by themselves.
func (m *metrics) own() []prometheus.Collector {
	own := []prometheus.Collector{m.producedBytes, m.producedRecords, m.fetchedBytes, m.followedBytes, m.referred, m.durations, m.denied, m.stages.seconds, m.slow.counts}
	for kind := range quotaNames {
		own = append(own, m.throttledFor[kind], m.throttles[kind])
	}
	for in := range damagedStoreNames {
		own = append(own, m.damage[in])
	}
	return own
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.own() {
		c.Collect(out)
	}
	m.refused.collect(out, &m.b.full)
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	all, led, followed := m.b.table.counts()
	corrupt, _ := m.b.table.corrupt()
	sessions, _ := m.b.sessions.counts()
	healthy := 0.0
	if m.b.Health() == nil {
		healthy = 1
	}
	gauge(m.partitions, float64(all))
	gauge(m.corrupt, float64(corrupt))
	gauge(m.led, float64(led))
	gauge(m.followed, float64(followed))
	m.replication.collect(out, m.b.replication, m.b.Healing())
	gauge(m.sessions, float64(sessions))
	gauge(m.fetching, float64(m.b.fetchMemory.inUse()))
	gauge(m.fullness, m.b.store.Stats().Fullness)
	gauge(m.healthy, healthy)
	m.coordinators.collect(out)
	m.lag.collect(out)
	m.clients.collect(out)
	m.transforms.collect(out, m.b.transforms)
	m.topics.collect(out)
	m.cold.collect(out)
}
