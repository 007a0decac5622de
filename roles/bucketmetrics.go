package roles

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/storage/bucket"
)

// bucketMetrics exports the figures of the bucket, of what waits for it, and of
// the catalogue of what it holds.
type bucketMetrics struct {
	metric.Descs
	n *Node

	requests, errors, bytes, seconds *prometheus.Desc // by class
	circuit, slow, retries, refused  *prometheus.Desc

	uploaded, uploadedBytes, failures *prometheus.Desc
	waiting, oldest, running          *prometheus.Desc

	compacted, compactedBytes, compactedRead *prometheus.Desc
	replaced, unreplaced, compactFailures    *prometheus.Desc
	compacting                               *prometheus.Desc

	filings, filedTotal, filingFailures *prometheus.Desc

	objects, objectBytes                       *prometheus.Desc // by state
	ranges, filed, manifests, records, lagging *prometheus.Desc
}

func newBucketMetrics(n *Node) *bucketMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New(name, help, labels...)
	}
	m := &bucketMetrics{
		n:        n,
		requests: desc("bucket_requests_total", "Requests to the store, as it counts them.", "class"),
		errors:   desc("bucket_failures_total", "Calls of the store that failed; not found is an answer.", "class"),
		bytes:    desc("bucket_bytes_total", "Bytes of objects, written or read.", "class"),
		seconds:  desc("bucket_seconds_total", "Time that calls of the store took.", "class"),
		circuit:  desc("bucket_circuit_open", "1 while the store is left alone because it fails, else 0."),
		slow:     desc("bucket_slow_requests", "Requests under way that have not moved for 5 s, or for a third of what their bytes may take."),
		retries:  desc("bucket_retries_total", "Attempts beyond the first of a call."),
		refused:  desc("bucket_refused_total", "Calls that were not made, or not again, to spare the store."),

		uploaded:      desc("upload_objects_total", "Objects uploaded and committed."),
		uploadedBytes: desc("upload_bytes_total", "Bytes of the objects that were uploaded and committed."),
		failures:      desc("upload_failures_total", "Uploads that failed and are tried again."),
		waiting:       desc("upload_waiting_bytes", "Bytes that are committed and not in the bucket yet."),
		oldest:        desc("upload_oldest_waiting_seconds", "How long the oldest bytes wait that are committed and not in the bucket yet; 0: none do."),
		running:       desc("upload_running_objects", "Objects that are being uploaded."),

		compacted:       desc("compaction_objects_total", "Objects that were made of others, and committed."),
		compactedBytes:  desc("compaction_written_bytes_total", "Bytes of the objects that were made of others."),
		compactedRead:   desc("compaction_read_bytes_total", "Bytes that were read to make objects of others."),
		replaced:        desc("compaction_replaced_ranges_total", "Ranges that objects made of others took the place of."),
		unreplaced:      desc("compaction_refused_ranges_total", "Ranges that compaction left as they were: the catalogue had moved on, or they cannot be read."),
		compactFailures: desc("compaction_failures_total", "Objects that were to be made of others and were not; it is tried again."),
		filings:         desc("filing_manifests_total", "Manifests that were written, and named."),
		filedTotal:      desc("filing_ranges_total", "Ranges that moved into manifests."),
		filingFailures:  desc("filing_failures_total", "Manifests that were not named; what they list stays in the metadata, and it is tried again."),
		compacting:      desc("compaction_pending_objects", "Objects that are being made of others, or are planned."),

		objects:     desc("catalogue_objects", "Objects in the bucket by state: prepared, committed, condemned.", "state"),
		objectBytes: desc("catalogue_bytes", "Bytes of objects in the bucket by state: prepared, committed, condemned.", "state"),
		ranges:      desc("catalogue_ranges", "Ranges of partitions in the bucket that the metadata holds itself."),
		filed:       desc("catalogue_filed_ranges", "Ranges of partitions that manifests in the bucket list."),
		manifests:   desc("catalogue_manifests", "Manifests in the bucket."),
		records:     desc("catalogue_record_bytes", "Bytes of record batches that are kept in the bucket."),
		lagging:     desc("metadata_log_unshipped_entries", "Log entries of metadata that the bucket does not have yet."),
	}
	m.Descs = descs
	return m
}

// Collect implements prometheus.Collector.
func (m *bucketMetrics) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for class, c := range m.n.bucket.counted.Counts() {
		name := bucket.Class(class).String()
		counter(m.requests, float64(c.Requests), name)
		counter(m.errors, float64(c.Errors), name)
		counter(m.bytes, float64(c.Bytes), name)
		counter(m.seconds, c.Time.Seconds(), name)
	}
	health, open := m.n.bucket.bucket.State(), 0.0
	if health.Circuit != bucket.Closed {
		open = 1
	}
	gauge(m.circuit, open)
	gauge(m.slow, float64(health.Slow))
	counter(m.retries, float64(health.Retries))
	counter(m.refused, float64(health.Refused))
	if m.n.broker != nil {
		u, _ := m.n.broker.Uploads()
		oldest := 0.0
		if !u.WaitingSince.IsZero() {
			oldest = max(0, time.Since(u.WaitingSince).Seconds())
		}
		counter(m.uploaded, float64(u.Objects))
		counter(m.uploadedBytes, float64(u.Bytes))
		counter(m.failures, float64(u.Failures))
		gauge(m.waiting, float64(u.Waiting))
		gauge(m.oldest, oldest)
		gauge(m.running, float64(u.Running))
		z, _ := m.n.broker.Compactions()
		counter(m.compacted, float64(z.Objects))
		counter(m.compactedBytes, float64(z.Bytes))
		counter(m.compactedRead, float64(z.ReadBytes))
		counter(m.replaced, float64(z.RangesIn))
		counter(m.unreplaced, float64(z.RefusedRanges))
		counter(m.compactFailures, float64(z.Failures))
		gauge(m.compacting, float64(z.Running+z.Queued))
		f, _ := m.n.broker.Filings()
		counter(m.filings, float64(f.Manifests))
		counter(m.filedTotal, float64(f.Ranges))
		counter(m.filingFailures, float64(f.Failures))
	}
	image, log := m.n.door.Image(), m.n.door.BucketState()
	for state := metadata.Prepared; state <= metadata.Condemned; state++ {
		gauge(m.objects, float64(image.NumObjects(state)), state.String())
		gauge(m.objectBytes, float64(image.ObjectBytes(state)), state.String())
	}
	gauge(m.ranges, float64(image.NumRanges()))
	gauge(m.filed, float64(image.FiledRanges()))
	gauge(m.manifests, float64(image.NumManifests()))
	gauge(m.records, float64(image.LiveBytes()))
	gauge(m.lagging, float64(log.Applied-min(log.Applied, log.Shipped)))
}
