package broker

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker/telemetry"
)

// noSubscription is the subscription id of an instance that nothing is asked of.
func noSubscription(instance [16]byte) int32 {
	return telemetry.New(telemetry.Options{}).Subscribe(telemetry.Client{Instance: instance}).ID
}

// subscribe gives a subscription configs, or takes them where they are empty.
func subscribe(c *client, name string, pairs ...string) kmsg.IncrementalAlterConfigsResponseResource {
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: name}
	for i := 0; i < len(pairs); i += 2 {
		op := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: pairs[i], Op: kmsg.IncrementalAlterConfigOpSet, Value: &pairs[i+1]}
		if pairs[i+1] == "" {
			op.Op, op.Value = kmsg.IncrementalAlterConfigOpDelete, nil
		}
		r.Configs = append(r.Configs, op)
	}
	q.Resources = append(q.Resources, r)
	return ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, q).Resources[0]
}

// toldOf describes a subscription, with where its values are from.
func toldOf(c *client, name string) string {
	q := kmsg.NewPtrDescribeConfigsRequest()
	q.IncludeSynonyms = true
	q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: name}}
	p := ask[*kmsg.DescribeConfigsResponse](c, 4, q).Resources[0]
	if p.ErrorCode != 0 {
		return kerr.ErrorForCode(p.ErrorCode).Error()
	}
	var all []string
	for _, of := range p.Configs {
		s := of.Name + "=" + *of.Value + " " + of.ConfigType.String() + " " + of.Source.String()
		for _, synonym := range of.ConfigSynonyms {
			s += " " + synonym.Name + ":" + *synonym.Value + " " + synonym.Source.String()
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// subscriptions lists the subscriptions as the tools of a version do.
func subscriptions(c *client, version int16) []string {
	q := kmsg.NewPtrListConfigResourcesRequest()
	if version > 0 {
		q.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeClientMetrics)}
	}
	var names []string
	for _, r := range ask[*kmsg.ListConfigResourcesResponse](c, version, q).ConfigResources {
		names = append(names, fmt.Sprint(r.Name, " ", r.Type))
	}
	return names
}

// TestClientMetricsSubscriptionsAreConfigs: given, described, listed and deleted as
// Kafka's tools do, and refused with the reason.
func TestClientMetricsSubscriptionsAreConfigs(t *testing.T) {
	n, _ := startCluster(t)
	c := n.connect()
	const defaults = "interval.ms=300000 INT DEFAULT_CONFIG, match= LIST DEFAULT_CONFIG, metrics= LIST DEFAULT_CONFIG"
	if got := toldOf(c, "basic"); got != defaults {
		t.Errorf("before: %s", got)
	}
	if r := subscribe(c, "basic", "metrics", "org.apache.kafka.producer.", "interval.ms", "1000"); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	const want = "interval.ms=1000 INT CLIENT_METRICS_CONFIG interval.ms:1000 CLIENT_METRICS_CONFIG, match= LIST DEFAULT_CONFIG, " +
		"metrics=org.apache.kafka.producer. LIST CLIENT_METRICS_CONFIG metrics:org.apache.kafka.producer. CLIENT_METRICS_CONFIG"
	if got := toldOf(c, "basic"); got != want {
		t.Errorf("set: %s", got)
	}
	appended := kmsg.NewPtrIncrementalAlterConfigsRequest()
	more := "org.apache.kafka.consumer."
	appended.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: "basic",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "metrics", Op: kmsg.IncrementalAlterConfigOpAppend, Value: &more}}}}
	if r := ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, appended).Resources[0]; r.ErrorCode != 0 {
		t.Errorf("append: %+v", r)
	}
	if got := toldOf(c, "basic"); !strings.Contains(got, "metrics=org.apache.kafka.producer.,org.apache.kafka.consumer. ") {
		t.Errorf("appended: %s", got)
	}
	for version := range int16(2) {
		if got := subscriptions(c, version); !slices.Equal(got, []string{"basic 16"}) {
			t.Errorf("listed by v%d: %q", version, got)
		}
	}
	for _, wrong := range []struct {
		name, key, value string
		code             *kerr.Error
	}{
		{"basic", "interval.ms", "99", kerr.InvalidConfig}, {"basic", "match", "client_id=(", kerr.InvalidConfig},
		{"basic", "metric", "a", kerr.InvalidConfig}, {"", "metrics", "*", kerr.InvalidRequest},
	} {
		if r := subscribe(c, wrong.name, wrong.key, wrong.value); r.ErrorCode != wrong.code.Code || r.ErrorMessage == nil {
			t.Errorf("%+v: %+v", wrong, r)
		}
	}
	if got := toldOf(c, ""); got != kerr.InvalidRequest.Error() {
		t.Errorf("without a name: %s", got)
	}
	whole := kmsg.NewPtrAlterConfigsRequest()
	match := "client_id=a"
	whole.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: "basic",
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "match", Value: &match}}}}
	if r := ask[*kmsg.AlterConfigsResponse](c, 2, whole).Resources[0]; r.ErrorCode != 0 {
		t.Errorf("as a whole: %+v", r)
	}
	if got := toldOf(c, "basic"); !strings.HasPrefix(got, "interval.ms=300000 ") || !strings.Contains(got, "match=client_id=a ") {
		t.Errorf("as a whole: %s", got)
	}
	if r := subscribe(c, "basic", "match", ""); r.ErrorCode != 0 || len(subscriptions(c, 0)) > 0 || toldOf(c, "basic") != defaults {
		t.Errorf("deleted: %+v; %q, %s", r, subscriptions(c, 0), toldOf(c, "basic"))
	}
}

// What is wrong with a push is said in Kafka's words, and a client is asked for nothing
// while no subscription matches it.
func TestTelemetryIsAnsweredInKafkasWords(t *testing.T) {
	n, _ := startCluster(t)
	c := n.connect()
	get := func(instance [16]byte) *kmsg.GetTelemetrySubscriptionsResponse {
		q := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
		q.ClientInstanceID = instance
		return ask[*kmsg.GetTelemetrySubscriptionsResponse](c, 0, q)
	}
	none := get([16]byte{})
	if none.ErrorCode != 0 || none.ClientInstanceID == [16]byte{} || len(none.RequestedMetrics) > 0 || none.PushIntervalMillis != 300_000 ||
		none.TelemetryMaxBytes != configs.TelemetryMaxBytes || !none.DeltaTemporality || !slices.Equal(none.AcceptedCompressionTypes, []int8{4, 3, 1, 2}) {
		t.Errorf("without a subscription: %+v", none)
	}
	if r := subscribe(c, "s", "metrics", "*", "interval.ms", "3600000", "match", "client_software_name="); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	if r := subscribe(c, "other", "metrics", "*", "match", "client_software_name=nobody"); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	now := get(none.ClientInstanceID)
	if now.ClientInstanceID != none.ClientInstanceID || now.SubscriptionID == none.SubscriptionID || now.PushIntervalMillis != 3_600_000 || !slices.Equal(now.RequestedMetrics, []string{""}) {
		t.Fatalf("%+v", now)
	}
	push := func(what string, want *kerr.Error, change func(*kmsg.PushTelemetryRequest)) {
		t.Helper()
		q := kmsg.NewPtrPushTelemetryRequest()
		q.ClientInstanceID, q.SubscriptionID = now.ClientInstanceID, now.SubscriptionID
		change(q)
		if p := ask[*kmsg.PushTelemetryResponse](c, 0, q); kerr.TypedErrorForCode(p.ErrorCode) != want {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(p.ErrorCode), want)
		}
	}
	push("another subscription", kerr.UnknownSubscriptionID, func(q *kmsg.PushTelemetryRequest) { q.SubscriptionID = none.SubscriptionID })
	push("another codec", kerr.UnsupportedCompressionType, func(q *kmsg.PushTelemetryRequest) { q.CompressionType = 9 })
	push("too much", kerr.TelemetryTooLarge, func(q *kmsg.PushTelemetryRequest) { q.Metrics = make([]byte, 3<<20) })
	push("no instance", kerr.InvalidRequest, func(q *kmsg.PushTelemetryRequest) { q.ClientInstanceID = [16]byte{} })
	push("no metrics", kerr.InvalidRecord, func(q *kmsg.PushTelemetryRequest) { q.Metrics = []byte{0xff} })
	push("too early", kerr.ThrottlingQuotaExceeded, func(*kmsg.PushTelemetryRequest) {})
	push("the last", nil, func(q *kmsg.PushTelemetryRequest) { q.Terminating = true })
	push("behind the last", kerr.InvalidRequest, func(q *kmsg.PushTelemetryRequest) { q.Terminating = true })
}

// sawAnswer tells when a request of some kind was answered.
type sawAnswer struct {
	key int16
	ok  chan struct{}
}

func (a sawAnswer) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == a.key && e2e.Err() == nil {
		select {
		case a.ok <- struct{}{}:
		default:
		}
	}
}

// clientSeries is what is exported of clients.
func (n *node) clientSeries() map[string]float64 {
	n.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(n.Metrics())
	families, err := r.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		name, is := strings.CutPrefix(f.GetName(), "rustmq_client_")
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() { // in order of their names
				if l.GetName() != "client_software_version" {
					key += " " + l.GetName() + "=" + l.GetValue()
				}
			}
			if is {
				found[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return found
}

// What a client pushes that Kafka's users run is exported, its last push included.
func TestClientsPushWhatTheyAreAskedFor(t *testing.T) {
	n, addr := startCluster(t)
	if r := subscribe(n.connect(), "s", "metrics", "org.apache.kafka.producer.connection.,app.", "match", "client_id=pusher,client_software_name=kgo"); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	run := func(id string) {
		asked := sawAnswer{int16(kmsg.GetTelemetrySubscriptions), make(chan struct{}, 1)}
		cl := newClient(t, addr, kgo.ClientID(id), kgo.DefaultProduceTopic("events"), kgo.AllowAutoTopicCreation(), kgo.WithHooks(asked),
			kgo.UserMetricsFn(func() iter.Seq[kgo.Metric] {
				return func(yield func(kgo.Metric) bool) {
					yield(kgo.Metric{Name: "app.queue", Type: kgo.MetricTypeGauge, ValueFloat: 2.5, Attrs: map[string]any{"topic": "events", "lane": 3}})
				}
			}))
		if err := cl.ProduceSync(within(t, 30*time.Second), &kgo.Record{Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-asked.ok:
		case <-within(t, 30*time.Second).Done():
			t.Fatal("the client does not ask what to push")
		}
		cl.Close() // pushes for the last time
	}
	run("pusher")
	run("silent")
	found := n.clientSeries()
	const who = " client_id=pusher client_software_name=kgo metric="
	if got := found["value attributes=lane=3,topic=events"+who+"app.queue"]; got != 2.5 {
		t.Errorf("the gauge is %v", got)
	}
	if got := found["sum_total attributes="+who+"org.apache.kafka.producer.connection.creation.total"]; got < 1 {
		t.Errorf("connections made: %v", got)
	}
	if found["instances"] != 1 || found["series"] < 2 {
		t.Errorf("%v", found)
	}
	for key := range found {
		if strings.Contains(key, "silent") || strings.Contains(key, "latency") {
			t.Errorf("nobody has asked for %s", key)
		}
	}
	if t.Failed() {
		t.Logf("%v", found)
	}
}
