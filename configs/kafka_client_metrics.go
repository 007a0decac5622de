package configs

// The configs of a subscription to metrics of clients (KIP-714).
const (
	ClientMetricsInterval = "interval.ms"
	ClientMetricsMatch    = "match"
	ClientMetricsMetrics  = "metrics"
)

// TelemetryMaxBytes is what a push of metrics has at most, as it is sent:
// telemetry.max.bytes of Kafka.
const TelemetryMaxBytes = 1 << 20

// KafkaClientMetricsKeys lists the configs of subscriptions to metrics of clients.
func KafkaClientMetricsKeys() []KafkaKey {
	return []KafkaKey{
		{ClientMetricsInterval, "int", "300000", Served, "how often the clients that match push; the least of those that match a client"},
		{ClientMetricsMatch, "list", "", Served, "which clients, as `key=pattern`; all keys that are named have to match; empty: all clients"},
		{ClientMetricsMetrics, "list", "", Served, "which metrics, by the beginnings of their names; `*`: all; empty: none"},
	}
}

// ListClientMetricsConfig reports whether a config of a subscription is a list, and its
// default.
func ListClientMetricsConfig(key string) (defaultValue string, isList bool) {
	k, known := findKafkaKey(KafkaClientMetricsKeys(), key)
	return k.Default, known && k.Type == "list"
}

// UnknownClientMetricsKey says that a subscription has no such config.
func UnknownClientMetricsKey(key string) error {
	return unknownKey("client metrics", key, kafkaKeyNames(KafkaClientMetricsKeys()))
}
