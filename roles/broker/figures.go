package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/figures"
	"rustmq.dev/rustmq/roles/metric"
)

// Figures adds to c what this broker has counted, and how it stands.
func (b *Broker) Figures(c *figures.Counts) {
	total := func(of prometheus.Collector) (sum float64) {
		metric.Each(of, func(_ map[string]string, n float64) { sum += n })
		return sum
	}
	c.ProducedBytes, c.ProducedRecords = total(b.metrics.producedBytes), total(b.metrics.producedRecords)
	c.FetchedBytes = total(b.metrics.fetchedBytes)
	c.Produce, c.Fetch = b.metrics.produceTimes.Total(), b.metrics.fetchTimes.Total()
	_, led, _ := b.table.counts()
	c.Partitions = float64(led)
	if u, uploads := b.Uploads(); uploads {
		c.UploadedBytes, c.WaitingBytes = float64(u.Bytes), float64(u.Waiting)
	}
}
