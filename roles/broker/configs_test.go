package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
)

func setTo(key, value string) []kadm.AlterConfig {
	return []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}
}

func deleted(key string) []kadm.AlterConfig {
	return []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: key}}
}

// alterBrokers alters the configs of a broker, or of all by no id.
func alterBrokers(t *testing.T, ctx context.Context, adm *kadm.Client, change []kadm.AlterConfig, ids ...int32) {
	t.Helper()
	results, err := adm.AlterBrokerConfigs(ctx, change, ids...)
	if err != nil || results[0].Err != nil {
		t.Fatalf("alter brokers %v: %+v, %v", ids, results, err)
	}
}

func configOf(t *testing.T, described kadm.ResourceConfigs, err error, key string) kadm.Config {
	t.Helper()
	if err != nil || len(described) != 1 || described[0].Err != nil {
		t.Fatalf("describe: %+v, %v", described, err)
	}
	i := slices.IndexFunc(described[0].Configs, func(c kadm.Config) bool { return c.Key == key })
	if i < 0 {
		t.Fatalf("%s is not described", key)
	}
	return described[0].Configs[i]
}

// sources writes where a config has its value from, what is in effect first.
func sources(c kadm.Config) string {
	var all []string
	for _, s := range c.Synonyms {
		all = append(all, s.Key+"="+*s.Value+" "+s.Source.String())
	}
	return strings.Join(all, ", ")
}

// What brokers are given as default of topics while they run is in effect at once,
// on topics there are too, and told with all that stands behind it.
func TestDefaultsOfTopicsChangeWhileBrokersRun(t *testing.T) {
	ctx, adm, n := adminOf(t)
	cl := newClient(t, n.addr(), kgo.DefaultProduceTopic("events"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(1<<20))
	fits := func(size int) bool {
		err := cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, size)}).FirstErr()
		if err != nil && !errors.Is(err, kerr.MessageTooLarge) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, step := range []struct {
		name   string
		do     func()
		size   int
		fits   bool
		source string
	}{
		{"nothing is set", func() {}, 5000, true, "message.max.bytes=1048588 DEFAULT_CONFIG"},
		{"for all brokers", func() { alterBrokers(t, ctx, adm, setTo("message.max.bytes", "2000")) }, 2500, false,
			"message.max.bytes=2000 DYNAMIC_DEFAULT_BROKER_CONFIG, message.max.bytes=1048588 DEFAULT_CONFIG"},
		{"for the broker", func() { alterBrokers(t, ctx, adm, setTo("message.max.bytes", "3000"), 1) }, 2500, true,
			"message.max.bytes=3000 DYNAMIC_BROKER_CONFIG, message.max.bytes=2000 DYNAMIC_DEFAULT_BROKER_CONFIG, message.max.bytes=1048588 DEFAULT_CONFIG"},
		{"for the topic", func() {
			if results, err := adm.AlterTopicConfigs(ctx, setTo("max.message.bytes", "1000"), "events"); err != nil || results[0].Err != nil {
				t.Fatal(results, err)
			}
		}, 2500, false,
			"max.message.bytes=1000 DYNAMIC_TOPIC_CONFIG, message.max.bytes=3000 DYNAMIC_BROKER_CONFIG, message.max.bytes=2000 DYNAMIC_DEFAULT_BROKER_CONFIG, message.max.bytes=1048588 DEFAULT_CONFIG"},
		{"no more", func() {
			alterBrokers(t, ctx, adm, deleted("message.max.bytes"))
			alterBrokers(t, ctx, adm, deleted("message.max.bytes"), 1)
			if results, err := adm.AlterTopicConfigs(ctx, deleted("max.message.bytes"), "events"); err != nil || results[0].Err != nil {
				t.Fatal(results, err)
			}
		}, 5000, true, "message.max.bytes=1048588 DEFAULT_CONFIG"},
	} {
		step.do()
		if got := fits(step.size); got != step.fits {
			t.Errorf("%s: %d bytes fit: %v", step.name, step.size, got)
		}
		described, err := adm.DescribeTopicConfigs(ctx, "events")
		if got := sources(configOf(t, described, err, "max.message.bytes")); got != step.source {
			t.Errorf("%s: %s\nwant %s", step.name, got, step.source)
		}
	}
}

func TestBrokerConfigsAreDescribed(t *testing.T) {
	ctx, adm, _ := adminOf(t)
	described, err := adm.DescribeBrokerConfigs(ctx, 1)
	for key, want := range map[string]string{
		"message.max.bytes": "1048588", "num.partitions": "1", "log.retention.ms": "604800000", "node.id": "1", "compression.type": "producer", "max.connections": "20000",
	} {
		if c := configOf(t, described, err, key); *c.Value != want {
			t.Errorf("%s = %s, want %s", key, *c.Value, want)
		}
	}
	// All are Kafka's, or keys of ours that may change, with a value and a source.
	known := configs.KafkaBrokerKeys()
	ours := func(name string) bool { k, live := configs.LiveKey(name); return live && k.Name == name }
	for _, c := range described[0].Configs {
		if !slices.ContainsFunc(known, func(k configs.KafkaKey) bool { return k.Name == c.Key && k.Support == configs.Served }) && !ours(c.Key) || c.Value == nil || len(c.Synonyms) == 0 {
			t.Errorf("%+v", c)
		}
	}
	all, err := adm.DescribeBrokerConfigs(ctx)
	if err != nil || len(all[0].Configs) != 0 {
		t.Errorf("of all brokers, where nothing is set: %+v, %v", all, err)
	}
	alterBrokers(t, ctx, adm, setTo("log.retention.ms", "1000"))
	all, err = adm.DescribeBrokerConfigs(ctx)
	if c := configOf(t, all, err, "log.retention.ms"); *c.Value != "1000" || c.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("of all brokers: %+v", c)
	}
}

// What Kafka's topics have and ours do not look at is taken, kept and shown, and
// says so.
func TestIgnoredTopicConfigsAreKept(t *testing.T) {
	ctx, adm, n := adminOf(t)
	if results, err := adm.AlterTopicConfigs(ctx, setTo("segment.bytes", "2000000"), "events"); err != nil || results[0].Err != nil {
		t.Fatal(results, err)
	}
	described, err := adm.DescribeTopicConfigs(ctx, "events")
	if c := configOf(t, described, err, "segment.bytes"); *c.Value != "2000000" || c.Source != kmsg.ConfigSourceDynamicTopicConfig {
		t.Errorf("%+v", c)
	}
	q := kmsg.NewPtrDescribeConfigsRequest()
	q.IncludeDocumentation = true
	q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events", ConfigNames: []string{"segment.bytes", "preallocate"}}}
	p := ask[*kmsg.DescribeConfigsResponse](n.connect(), 4, q)
	if got := p.Resources[0].Configs; len(got) != 2 || got[0].ConfigType != kmsg.ConfigTypeBoolean || !strings.Contains(*got[1].Documentation, "nothing looks at it") {
		t.Errorf("%+v", got)
	}
}

func TestRefusedConfigChangesSayWhy(t *testing.T) {
	ctx, adm, n := adminOf(t)
	subtract := func(key, value string) []kadm.AlterConfig {
		return []kadm.AlterConfig{{Op: kadm.SubtractConfig, Name: key, Value: &value}}
	}
	for _, tc := range []struct {
		name   string
		change []kadm.AlterConfig
		alter  func([]kadm.AlterConfig) (kadm.AlterConfigsResponses, error)
		says   string
	}{
		{"fixed at start", setTo("socket.request.max.bytes", "5"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
			return adm.AlterBrokerConfigs(ctx, c, 1)
		}, "network.max_frame"},
		{"not served", setTo("log.cleaner.threads", "5"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) { return adm.AlterBrokerConfigs(ctx, c) }, "not served"},
		{"one for all", setTo("log.retention.ms", "5"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
			return adm.AlterBrokerConfigs(ctx, c, 1)
		}, "all brokers"},
		{"misspelt", setTo("retention.mss", "5"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
			return adm.AlterTopicConfigs(ctx, c, "events")
		}, "did you mean retention.ms?"},
		{"no list", subtract("retention.ms", "5"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
			return adm.AlterTopicConfigs(ctx, c, "events")
		}, "no list"},
		{"nothing left", subtract("cleanup.policy", "delete"), func(c []kadm.AlterConfig) (kadm.AlterConfigsResponses, error) {
			return adm.AlterTopicConfigs(ctx, c, "events")
		}, "cleanup.policy"},
	} {
		results, err := tc.alter(tc.change)
		if err != nil || !errors.Is(results[0].Err, kerr.InvalidConfig) || !strings.Contains(results[0].ErrMessage, tc.says) || strings.Count(results[0].ErrMessage, "INVALID_CONFIG") > 1 {
			t.Errorf("%s: %+v, %v; want %q", tc.name, results, err, tc.says)
		}
	}
	appended := "delete"
	if results, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: &appended}}, "events"); err != nil || results[0].Err != nil {
		t.Errorf("append to a list: %+v, %v", results, err)
	}
	q := kmsg.NewPtrDescribeConfigsRequest()
	for _, kind := range []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeBrokerLogger, 99} {
		q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kind, ResourceName: "1"})
	}
	for _, r := range ask[*kmsg.DescribeConfigsResponse](n.connect(), 4, q).Resources {
		if r.ErrorCode != kerr.InvalidRequest.Code || r.ErrorMessage == nil {
			t.Errorf("resource of type %d: %+v", r.ResourceType, r)
		}
	}
}

// What a group was given holds for its members at their next heartbeat, is told with
// what stands behind it, and is listed.
func TestGroupsHaveConfigsOfTheirOwn(t *testing.T) {
	ctx, adm, n := adminOf(t)
	c := n.connect()
	var committed kadm.Offsets
	committed.Add(kadm.Offset{Topic: "events", At: 1})
	if err := adm.CommitAllOffsets(ctx, "crew", committed); err != nil { // it has a coordinator from here on
		t.Fatal(err)
	}
	alter := func(group string, ops ...kmsg.IncrementalAlterConfigsRequestResourceConfig) kmsg.IncrementalAlterConfigsResponseResource {
		q := kmsg.NewPtrIncrementalAlterConfigsRequest()
		q.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group, Configs: ops}}
		return ask[*kmsg.IncrementalAlterConfigsResponse](c, 1, q).Resources[0]
	}
	set := func(key, value string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
		return kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Op: kmsg.IncrementalAlterConfigOpSet, Value: &value}
	}
	told := func() string {
		q := kmsg.NewPtrDescribeConfigsRequest()
		q.IncludeSynonyms = true
		q.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "crew"}}
		var all []string
		for _, of := range ask[*kmsg.DescribeConfigsResponse](c, 4, q).Resources[0].Configs {
			for _, s := range of.ConfigSynonyms {
				all = append(all, s.Name+"="+*s.Value+" "+s.Source.String())
			}
		}
		return strings.Join(all, ", ")
	}
	interval := func() int32 {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.RebalanceTimeoutMillis = "crew", "one", 20_000
		q.SubscribedTopicNames, q.Topics = []string{"events"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		p := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, 1, q)
		if p.ErrorCode != 0 {
			t.Fatalf("%+v", p)
		}
		return p.HeartbeatIntervalMillis
	}
	behind := "group.consumer.heartbeat.interval.ms=5000 STATIC_BROKER_CONFIG, "
	session := "group.consumer.session.timeout.ms=45000 STATIC_BROKER_CONFIG"
	if got := interval(); got != 5000 || told() != behind+session {
		t.Errorf("before: heartbeats every %d ms; %s", got, told())
	}
	if r := alter("crew", set("consumer.heartbeat.interval.ms", "1500")); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	if got := interval(); got != 1500 || told() != "consumer.heartbeat.interval.ms=1500 GROUP_CONFIG, "+behind+session {
		t.Errorf("set: heartbeats every %d ms; %s", got, told())
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	if all := ask[*kmsg.ListConfigResourcesResponse](c, 1, list).ConfigResources; len(all) != 1 || all[0].Name != "crew" {
		t.Errorf("listed: %+v", all)
	}
	for _, wrong := range []struct {
		group, key string
		code       *kerr.Error
	}{{"crew", "consumer.session.timeout.ms", kerr.InvalidConfig}, {"crew", "share.session.timeout.ms", kerr.InvalidConfig}, {"", "consumer.session.timeout.ms", kerr.InvalidRequest}} {
		if r := alter(wrong.group, set(wrong.key, "1")); r.ErrorCode != wrong.code.Code || r.ErrorMessage == nil {
			t.Errorf("%+v: %+v", wrong, r)
		}
	}
	if r := alter("crew", kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "consumer.heartbeat.interval.ms", Op: kmsg.IncrementalAlterConfigOpDelete}); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	if got := interval(); got != 5000 {
		t.Errorf("after: heartbeats every %d ms", got)
	}
}

func TestResourcesWithConfigsAreListed(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	for _, tc := range []struct {
		version int16
		types   []int8
		want    []string
		code    int16
	}{
		{1, nil, []string{"events", "1"}, 0}, {1, []int8{2}, []string{"events"}, 0}, {1, []int8{4, 32}, []string{"1"}, 0},
		{1, []int8{16}, nil, 0}, {0, nil, nil, 0}, {1, []int8{99}, nil, kerr.UnsupportedVersion.Code},
	} {
		q := kmsg.NewPtrListConfigResourcesRequest()
		q.ResourceTypes = tc.types
		p := ask[*kmsg.ListConfigResourcesResponse](n.connect(), tc.version, q)
		var got []string
		for _, r := range p.ConfigResources {
			got = append(got, r.Name)
		}
		if p.ErrorCode != tc.code || !slices.Equal(got, tc.want) {
			t.Errorf("v%d of types %v: %v, error %d", tc.version, tc.types, got, p.ErrorCode)
		}
	}
}

// TestSynonymsAreKafkas: a default is named by the broker's key that it is of, and
// not at all where that key has none (KIP-226).
func TestSynonymsAreKafkas(t *testing.T) {
	n := startNode(t)
	for key, want := range map[string]string{
		"flush.messages": "log.flush.interval.messages", "segment.bytes": "log.segment.bytes", "cleanup.policy": "log.cleanup.policy",
		"flush.ms": "", "segment.ms": "", "rustmq.expect.offset": "", "rustmq.durability": "",
	} {
		got := n.Broker.topicConfigs(nil, 1, []string{key})
		if len(got) != 1 || got[0].Value == nil || got[0].Source != kmsg.ConfigSourceDefaultConfig {
			t.Fatalf("%s: %+v", key, got)
		}
		name := ""
		for _, s := range got[0].ConfigSynonyms {
			name += s.Name
		}
		if name != want {
			t.Errorf("%s is named %q, want %q", key, name, want)
		}
	}
}
