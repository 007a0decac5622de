package broker

import (
	"context"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/telemetry"
	"rustmq.dev/rustmq/roles/metric"
	"rustmq.dev/rustmq/transport/kafka"
)

// changeClientMetrics brings what clients are to push to the subscriptions of an image.
func (b *Broker) changeClientMetrics(before, image *metadata.Image) {
	if before != nil && image.SameConfigs(before) {
		return
	}
	var all []*telemetry.Subscription
	for c := range image.ClientMetrics() {
		s, err := telemetry.Parse(c.Values)
		if err != nil {
			b.log.Warn("a client metrics subscription is left out", "subscription", c.Resource.Name, "error", err)
			continue
		}
		all = append(all, s)
	}
	b.telemetry.SetSubscriptions(all)
}

// telemetryClient is whose request r is.
func telemetryClient(r *kafka.Request, instance [16]byte) telemetry.Client {
	c := telemetry.Client{Instance: instance, ID: r.ClientID}
	c.SoftwareName, c.SoftwareVersion = r.Conn.Software()
	if host, port, err := net.SplitHostPort(r.Conn.RemoteAddr().String()); err == nil {
		c.Address, c.Port = host, port
	}
	return c
}

// getTelemetrySubscriptions tells a client which metrics to push, and how often.
func (b *Broker) getTelemetrySubscriptions(r *kafka.Request, q *kmsg.GetTelemetrySubscriptionsRequest) *kmsg.GetTelemetrySubscriptionsResponse {
	p := q.ResponseKind().(*kmsg.GetTelemetrySubscriptionsResponse)
	a := b.telemetry.Subscribe(telemetryClient(r, q.ClientInstanceID))
	p.ClientInstanceID, p.SubscriptionID = a.Instance, a.ID
	p.PushIntervalMillis = int32(a.Interval.Milliseconds())
	p.TelemetryMaxBytes, p.DeltaTemporality = configs.TelemetryMaxBytes, true
	p.RequestedMetrics = a.Prefixes
	for _, codec := range telemetry.AcceptedCodecs() {
		p.AcceptedCompressionTypes = append(p.AcceptedCompressionTypes, int8(codec))
	}
	return p
}

// pushTelemetry takes the metrics of a client.
func (b *Broker) pushTelemetry(_ context.Context, r *kafka.Request, q *kmsg.PushTelemetryRequest) *kmsg.PushTelemetryResponse {
	p := q.ResponseKind().(*kmsg.PushTelemetryResponse)
	err := b.telemetry.Push(b.opt.Now(), telemetryClient(r, q.ClientInstanceID), telemetry.Push{
		Subscription: q.SubscriptionID, Terminating: q.Terminating, Codec: q.CompressionType, Metrics: q.Metrics,
	})
	if err != nil {
		b.log.Debug("metrics of a client are not taken", "client_id", r.ClientID, "error", err)
	}
	p.ErrorCode = code(err)
	return p
}

// clientMetrics exports what clients have pushed.
type clientMetrics struct {
	metric.Descs
	b                                      *Broker
	value, sum, series, instances, leftOut *prometheus.Desc
}

func newClientMetrics(b *Broker) *clientMetrics {
	var descs metric.Descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return descs.New("client_"+name, help, labels...)
	}
	m := &clientMetrics{
		b: b,
		value: desc("value", "The latest value of a metric that clients push (KIP-714), in their unit: milliseconds and bytes, but where the "+
			"metric's name says otherwise.", telemetry.Labels()...),
		sum: desc("sum_total", "The sum of a metric that clients push as a counter, since this broker has known it, in their unit; clients "+
			"with one client id, software and version count together.", telemetry.Labels()...),
		series:    desc("series", "Series of metrics that clients have pushed, and that are exported."),
		instances: desc("instances", "Clients that have pushed metrics within three intervals."),
		leftOut: desc("points_left_out_total", "Values that clients have pushed and that are not exported: beyond broker.telemetry_series, "+
			"with names that are too long or no UTF-8, of another type than sum and gauge, or that no subscription asks for.", "reason"),
	}
	m.Descs = descs
	return m
}

func (m *clientMetrics) collect(out chan<- prometheus.Metric) {
	samples, counts := m.b.telemetry.Collect(m.b.opt.Now())
	for _, s := range samples {
		desc, kind := m.value, prometheus.GaugeValue
		if s.Counter {
			desc, kind = m.sum, prometheus.CounterValue
		}
		out <- prometheus.MustNewConstMetric(desc, kind, s.Value, s.Labels[:]...)
	}
	out <- prometheus.MustNewConstMetric(m.series, prometheus.GaugeValue, float64(counts.Series))
	out <- prometheus.MustNewConstMetric(m.instances, prometheus.GaugeValue, float64(counts.Instances))
	for reason, n := range counts.Left {
		out <- prometheus.MustNewConstMetric(m.leftOut, prometheus.CounterValue, float64(n), reason)
	}
}
