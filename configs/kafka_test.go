package configs_test

import (
	"slices"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
)

// Every config of Kafka is served, ignored or refused, and for a reason; and those
// that are served are Kafka's.
func TestEveryKafkaConfigIsAccountedFor(t *testing.T) {
	for what, keys := range map[string][]configs.KafkaKey{"topic": configs.KafkaTopicKeys(), "broker": configs.KafkaBrokerKeys()} {
		if len(keys) < 30 || !slices.IsSortedFunc(keys, func(a, b configs.KafkaKey) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s: %d keys, not in order", what, len(keys))
		}
		for _, k := range keys {
			if k.Why == "" {
				t.Errorf("%s config %s is %v without a reason", what, k.Name, k.Support)
			}
		}
	}
	names := func(keys []configs.KafkaKey) (names []string) {
		for _, k := range keys {
			names = append(names, k.Name)
		}
		return names
	}
	topic, broker := names(configs.KafkaTopicKeys()), names(configs.KafkaBrokerKeys())
	for _, k := range configs.TopicKeys() {
		if strings.HasPrefix(k.Name, "rustmq.") {
			continue // its own
		}
		if !slices.Contains(topic, k.Name) || !slices.Contains(broker, k.Synonym) {
			t.Errorf("topic config %s, default %s: not Kafka's", k.Name, k.Synonym)
		}
	}
	for _, k := range configs.IgnoredTopicKeys() {
		if !slices.Contains(topic, k.Name) || k.Synonym != "" && !slices.Contains(broker, k.Synonym) {
			t.Errorf("ignored topic config %s, default %s: not Kafka's", k.Name, k.Synonym)
		}
		if err := configs.ValidateTopicConfig(k.Name, k.Default); err != nil {
			t.Errorf("the default of %s is refused: %v", k.Name, err)
		}
	}
	for _, v := range configs.BrokerValues(configs.Default()) {
		own, live := configs.LiveKey(v.Name)
		if !slices.Contains(broker, v.Name) && !(live && own.Name == v.Name) || v.Type == "" || v.Static {
			t.Errorf("broker config %+v: neither Kafka's nor a live key of ours, or not a default", v)
		}
	}
}

// What is refused is told why, and what to do instead.
func TestRefusedConfigsSayWhy(t *testing.T) {
	for _, tc := range []struct{ key, value, says string }{
		{"segment.bytes", "many", "no int"},
		{"preallocate", "yes", "not true or false"},
		{"remote.storage.enable", "false", "can only be true"},
		{"remote.log.copy.disable", "true", "all records go to the bucket"},
		{"retension.ms", "1", "did you mean retention.ms?"},
		{"segment.byte", "1", "did you mean segment.bytes?"},
		{"entirely.unlike.anything", "1", "docs/kafka-compatibility.md"},
		{strings.Repeat("x", 1<<20), "1", "docs/kafka-compatibility.md"},
	} {
		if err := configs.ValidateTopicConfig(tc.key, tc.value); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("topic config %.30s: %.200v, want %q", tc.key, err, tc.says)
		}
	}
	for _, tc := range []struct{ key, value, says string }{
		{"socket.request.max.bytes", "5", "set network.max_frame"},
		{"delete.topic.enable", "false", "is fixed"},
		{"log.cleaner.threads", "2", "is not served"},
		{"log.retention.ms", "soon", "not a whole number"},
		{"message.max.bytes", "0", "not a whole number"},
		{"leader.replication.throttled.rate", "fast", "no long"},
		{"log.retension.ms", "5", "did you mean log.retention.ms?"},
	} {
		if err := configs.ValidateBrokerConfig(tc.key, tc.value); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("broker config %s: %v, want %q", tc.key, err, tc.says)
		}
	}
	for _, right := range [][2]string{{"log.retention.ms", "-1"}, {"message.max.bytes", "1000"}, {"leader.replication.throttled.rate", "1000"}} {
		if err := configs.ValidateBrokerConfig(right[0], right[1]); err != nil {
			t.Errorf("broker config %s = %s: %v", right[0], right[1], err)
		}
	}
}

func TestGroupConfigsAreChecked(t *testing.T) {
	c := configs.Default()
	type values = map[string]string
	for _, right := range []values{nil, {configs.GroupSession: "60000"}, {configs.GroupHeartbeat: "1000"}, {configs.GroupSession: "6000", configs.GroupHeartbeat: "2000"}} {
		if err := c.ValidateGroupConfigs(right); err != nil {
			t.Errorf("%v: %v", right, err)
		}
	}
	for _, tc := range []struct {
		values values
		says   string
	}{
		{values{configs.GroupSession: "5999"}, "from 6000 to 1800000"},
		{values{configs.GroupSession: "1800001"}, "from 6000 to 1800000"},
		{values{configs.GroupSession: "a minute"}, "not a whole number"},
		{values{configs.GroupHeartbeat: "999"}, "from 1000 to 60000"},
		{values{configs.GroupHeartbeat: "60001"}, "from 1000 to 60000"},
		{values{configs.GroupHeartbeat: "45000"}, "set consumer.session.timeout.ms and"},
		{values{configs.GroupSession: "8000", configs.GroupHeartbeat: "8000"}, "not more than"},
		{values{"share.session.timeout.ms": "45000"}, "share groups are not served"},
		{values{"consumer.sesion.timeout.ms": "45000"}, "did you mean consumer.session.timeout.ms?"},
	} {
		if err := c.ValidateGroupConfigs(tc.values); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want %q", tc.values, err, tc.says)
		}
	}
}

// A broker's configs follow its configuration, and say when they do.
func TestBrokerConfigsFollowTheConfiguration(t *testing.T) {
	c, err := configs.Load(configs.Sources{Set: []string{"broker.message_max_bytes=2KiB", "network.idle_timeout=1m", "broker.auto_create_topics=false"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]configs.BrokerValue{
		"message.max.bytes":         {Value: "2048", Static: true, Dynamic: true},
		"connections.max.idle.ms":   {Value: "60000", Static: true, Dynamic: true},
		"auto.create.topics.enable": {Value: "false", Static: true, Dynamic: true},
		"process.roles":             {Value: "broker,controller,admin"},
		"log.retention.ms":          {Value: "604800000", Dynamic: true},
	}
	for _, v := range configs.BrokerValues(c) {
		if w, asked := want[v.Name]; asked {
			if v.Value != w.Value || v.Static != w.Static || v.Dynamic != w.Dynamic {
				t.Errorf("%+v, want %+v", v, w)
			}
			delete(want, v.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}
}
