package roles

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/roles/tracing"
	"rustmq.dev/rustmq/security/sasl"
)

// Metric is a family of series that processes export, but those of Go's runtime and of the
// operating system (go_, process_).
type Metric struct {
	Name, Type string // counter, gauge or histogram
	Labels     []string
	Help       string
}

// Metrics are all that any process exports, by name.
func Metrics() []Metric {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range []interface {
			Describe(chan<- *prometheus.Desc)
		}{
			newBuildMetric(), newKafkaMetrics(nil), newStorageMetrics(nil), newBucketMetrics(nil), newCleaningMetrics(nil), newCostMetrics(nil, nil, configs.Prices{}),
			newControllerMetrics(0, nil, nil), newClusterMetrics(nil), newAuditMetrics(nil), endsCollector(nil), login.New(login.Options{Mechanisms: &sasl.Mechanisms{}}).Metrics(),
		} {
			c.Describe(descs)
		}
		broker.DescribeMetrics(descs)
		etl.DescribeMetrics(descs)
		async.DescribeMetrics(descs)
		tracing.DescribeMetrics(descs)
	}()
	// What prometheus.Desc says of itself is the only way to what it is.
	form := regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	byName := map[string]Metric{}
	for d := range descs {
		parts := form.FindStringSubmatch(d.String())
		if parts == nil {
			panic("roles: a description of a metric is " + d.String())
		}
		name, err1 := strconv.Unquote(parts[1])
		help, err2 := strconv.Unquote(parts[2])
		if err1 != nil || err2 != nil {
			panic("roles: a description of a metric is " + d.String())
		}
		m := Metric{Name: name, Help: help, Type: metricType(name)}
		for _, of := range strings.Split(parts[3], ",") {
			if label, _, is := strings.Cut(of, "="); is {
				m.Labels = append(m.Labels, label)
			}
		}
		for label := range strings.SplitSeq(parts[4], ",") {
			if label != "" {
				m.Labels = append(m.Labels, label)
			}
		}
		byName[name] = m
	}
	var all []Metric
	for _, m := range byName {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// histograms are told by their names from gauges.
var histograms = regexp.MustCompile(`^rustmq_(broker_request_(duration|stage)|kafka_answer_queue|wal_sync)_seconds$`)

func metricType(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case histograms.MatchString(name):
		return "histogram"
	}
	return "gauge"
}

// MetricsReference is docs/reference/metrics.md.
func MetricsReference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Made from the code by ` + "`make generate`" + `: every series that a process exports at ` + "`/metrics`" + ` of
` + "`network.http_port`" + `, in the format of Prometheus, beside those of Go's runtime and of the process
(` + "`go_…`, `process_…`" + `). A test compares it with what nodes export. Which of them a process has depends on its
roles: those of the broker, the log and Kafka with the role broker, ` + "`rustmq_controller_…`" + ` and ` + "`rustmq_cluster_…`" + ` with the role
controller, those of certificates, the audit log and logins where these are on.

` + "`metrics.partitions`" + ` says what ` + "`rustmq_topic_…`, `rustmq_partition_…` and `rustmq_group_lag_…`" + ` tell apart: ` + "`off`" + ` (lag by
group alone), ` + "`topics`" + ` (the default; the label ` + "`partition`" + ` of the lag is empty) or ` + "`all`" + `. With 10,000 partitions the last is
some 60,000 series a broker. Nothing else grows with partitions, topics or clients; what clients push
(` + "`rustmq_client_…`" + `) is bounded by ` + "`broker.telemetry_series`" + `, lag by ` + "`broker.groups.lag_partitions`" + `.

[runbooks.md](../runbooks.md) has the alerts that ` + "`deploy/monitoring`" + ` makes of them, and what to do. For who comes from Kafka:

| Kafka's JMX | here |
|---|---|
| UnderReplicatedPartitions | ` + "`rustmq_broker_under_replicated_partitions`" + ` |
| UnderMinIsrPartitionCount, OfflinePartitionsCount | ` + "`rustmq_cluster_partitions{state=\"under_min_isr\"}`, `{state=\"offline\"}`" + ` |
| ActiveControllerCount | ` + "`sum(rustmq_controller_leads)`" + ` |
| BytesInPerSec, MessagesInPerSec, BytesOutPerSec | ` + "`rate`" + ` of ` + "`rustmq_broker_produced_bytes_total`, `…_produced_records_total`, `…_fetched_bytes_total`" + `; of topics, ` + "`rustmq_topic_…`" + ` |
| ReplicationBytesInPerSec, OutPerSec | ` + "`rate`" + ` of ` + "`rustmq_broker_replication_received_bytes_total`, `…_sent_bytes_total`" + ` |
| IsrShrinksPerSec, IsrExpandsPerSec | ` + "`rate(rustmq_broker_isr_changes_total)`" + ` |
| TotalTimeMs | ` + "`rustmq_broker_request_duration_seconds`" + ` |
| RequestQueueTimeMs | ` + "`rustmq_broker_request_stage_seconds{stage=\"queue\"}`" + ` |
| LocalTimeMs | stages ` + "`prepare` and `sync`" + ` of Produce, ` + "`read`" + ` of Fetch |
| RemoteTimeMs | stages ` + "`replicate`" + ` of Produce, ` + "`wait`" + ` of Fetch |
| ThrottleTimeMs | ` + "`rustmq_broker_throttle_seconds_total`" + ` |
| ResponseQueueTimeMs, ResponseSendTimeMs | ` + "`rustmq_kafka_answer_queue_seconds`" + ` |
| LogFlushRateAndTimeMs | ` + "`rustmq_wal_sync_seconds`" + ` |
| PreferredReplicaImbalanceCount | none: ` + "`rustmq admin cluster rebalance --dry-run`" + ` |

`)
	group := ""
	for _, m := range Metrics() {
		if of, _, _ := strings.Cut(strings.TrimPrefix(m.Name, "rustmq_"), "_"); of != group {
			group = of
			fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n", group)
		}
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, strings.ReplaceAll(m.Help, "|", "\\|"))
	}
	return b.String()
}
