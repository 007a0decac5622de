package roles

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/storage/bucket"
)

// clusterMetrics exports what the metadata say of the cluster: what is wrong with partitions,
// each counted once, by the worst, as `rustmq admin cluster health` tells it. Every controller
// has them, those that do not lead as far as they know.
type clusterMetrics struct {
	metric.Descs
	image func() *metadata.Image

	partitions, topics, brokers, level *prometheus.Desc
}

func newClusterMetrics(image func() *metadata.Image) *clusterMetrics {
	m := &clusterMetrics{image: image}
	m.partitions = m.New("cluster_partitions", "Partitions of the cluster by state, each by the worst: offline, without a leader; under_min_isr, acks=all is refused; "+
		"under_replicated, fewer replicas in sync than there are; ok.", "state")
	m.topics = m.New("cluster_topics", "Topics of the cluster, those of the brokers themselves among them.")
	m.brokers = m.New("cluster_brokers", "Brokers that are registered, by state: serving, draining, fenced.", "state")
	m.level = m.New("cluster_feature_level", "Feature level of the metadata that every node may use.")
	return m
}

// Collect implements prometheus.Collector.
func (m *clusterMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	image := m.image()
	topics, offline, underMin, under, ok := 0, 0, 0, 0, 0
	for t := range image.Topics() {
		topics++
		for p := range t.Partitions.All() {
			switch {
			case p.Leader == metadata.NoLeader:
				offline++
			case len(p.ISR) < t.MinISR(p):
				underMin++
			case len(p.ISR) < len(p.Replicas)-len(p.Adding):
				under++
			default:
				ok++
			}
		}
	}
	serving, draining, fenced := 0, 0, 0
	for b := range image.Brokers() {
		switch {
		case b.Fenced:
			fenced++
		case b.Draining:
			draining++
		default:
			serving++
		}
	}
	gauge(m.partitions, offline, "offline")
	gauge(m.partitions, underMin, "under_min_isr")
	gauge(m.partitions, under, "under_replicated")
	gauge(m.partitions, ok, "ok")
	gauge(m.topics, topics)
	gauge(m.brokers, serving, "serving")
	gauge(m.brokers, draining, "draining")
	gauge(m.brokers, fenced, "fenced")
	gauge(m.level, int(image.FeatureLevel()))
}

// costMetrics exports what the bucket costs at list prices: a dashboard can add up processes,
// and see a bill grow before it comes.
type costMetrics struct {
	metric.Descs
	counts func() bucket.Counts
	stored func() int64 // bytes of all objects
	prices configs.Prices

	requests, storage *prometheus.Desc
}

func newCostMetrics(counts func() bucket.Counts, stored func() int64, prices configs.Prices) *costMetrics {
	m := &costMetrics{counts: counts, stored: stored, prices: prices}
	m.requests = m.New("cost_request_dollars_total", "What the requests of this process to the store cost, at object_storage.prices.", "class")
	m.storage = m.New("cost_storage_dollars_per_month", "What a month of all that the cluster has in the bucket now costs, at object_storage.prices; the same in every process.")
	return m
}

// Collect implements prometheus.Collector.
func (m *costMetrics) Collect(out chan<- prometheus.Metric) {
	const thousand, gib = 1000, 1 << 30
	per := [bucket.Classes]configs.Price{bucket.ClassPut: m.prices.Put, bucket.ClassGet: m.prices.Get, bucket.ClassHead: m.prices.Get, bucket.ClassList: m.prices.List}
	for class, c := range m.counts() {
		out <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(c.Requests)/thousand*per[class].Dollars(), bucket.Class(class).String())
	}
	out <- prometheus.MustNewConstMetric(m.storage, prometheus.GaugeValue, float64(m.stored())/gib*m.prices.Storage.Dollars())
}

// newBuildMetric says which version runs, as the value 1.
func newBuildMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rustmq_build_info", Help: "1, of the version that runs.", ConstLabels: prometheus.Labels{"version": Version(), "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}
