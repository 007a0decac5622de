package broker

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/storage"
)

// MetricDetail is what series metrics have that are of topics, of their partitions, or of
// groups: it bounds how many there are.
type MetricDetail int

// How much is told apart.
const (
	PerPartition MetricDetail = iota
	PerTopic                  // partitions are added up
	PerNode                   // topics too; there are no series of topics
)

// topicCounts count what passes through the partitions of a topic that are led here.
type topicCounts struct {
	producedBytes, producedRecords, fetchedBytes atomic.Int64
}

// topicMetrics export what is in topics, each of the partitions that this broker leads.
type topicMetrics struct {
	metric.Descs
	b *Broker

	produced, records, fetched          *prometheus.Desc
	led, bytes                          *prometheus.Desc
	logStart, highWatermark, inSync, of *prometheus.Desc
}

func newTopicMetrics(b *Broker) *topicMetrics {
	m := &topicMetrics{b: b}
	m.produced = m.New("topic_produced_bytes_total", "Bytes of record batches that producers appended to partitions of a topic, here.", "topic")
	m.records = m.New("topic_produced_records_total", "Records that producers appended to partitions of a topic, here.", "topic")
	m.fetched = m.New("topic_fetched_bytes_total", "Bytes of record batches sent to consumers of a topic, from here.", "topic")
	m.led = m.New("topic_leader_partitions", "Partitions of a topic that this broker leads.", "topic")
	m.bytes = m.New("topic_bytes", "Bytes of the partitions that this broker leads, by where they are: bucket, or log, which the bucket has not yet.", "topic", "tier")
	m.logStart = m.New("partition_log_start_offset", "First offset that can be read.", "topic", "partition")
	m.highWatermark = m.New("partition_high_watermark", "Offset behind the last record that can be read.", "topic", "partition")
	m.inSync = m.New("partition_in_sync_replicas", "Replicas in sync, the leader among them.", "topic", "partition")
	m.of = m.New("partition_bytes", "Bytes of a partition, by where they are, as of its topic.", "topic", "partition", "tier")
	return m
}

// Where bytes are.
const (
	tierBucket = "bucket"
	tierLog    = "log"
)

func (m *topicMetrics) collect(out chan<- prometheus.Metric) {
	if m.b.opt.MetricDetail == PerNode {
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, float64(v), labels...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	image := m.b.opt.Controller.Image()
	for _, tp := range m.b.table.all() {
		send(m.produced, counter, tp.counts.producedBytes.Load(), tp.name)
		send(m.records, counter, tp.counts.producedRecords.Load(), tp.name)
		send(m.fetched, counter, tp.counts.fetchedBytes.Load(), tp.name)
		is, _ := image.TopicByID(tp.id)
		var led, inBucket, inLog int64
		for _, p := range *tp.partitions.Load() {
			l := p.role.Load().log
			if l == nil {
				continue
			}
			var known *metadata.Partition
			if is != nil {
				known = is.Partition(p.index)
			}
			far, near := int64(0), l.Unuploaded()
			if known != nil {
				far = known.TieredBytes()
			}
			led, inBucket, inLog = led+1, inBucket+far, inLog+near
			if m.b.opt.MetricDetail != PerPartition {
				continue
			}
			index := strconv.Itoa(int(p.index))
			send(m.logStart, gauge, int64(max(l.LogStart(), storage.Offset(0))), tp.name, index)
			send(m.highWatermark, gauge, int64(l.HighWatermark()), tp.name, index)
			if known != nil {
				send(m.inSync, gauge, int64(len(known.ISR)), tp.name, index)
			}
			send(m.of, gauge, far, tp.name, index, tierBucket)
			send(m.of, gauge, near, tp.name, index, tierLog)
		}
		send(m.led, gauge, led, tp.name)
		send(m.bytes, gauge, inBucket, tp.name, tierBucket)
		send(m.bytes, gauge, inLog, tp.name, tierLog)
	}
}
