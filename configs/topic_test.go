package configs_test

import (
	"testing"

	"rustmq.dev/rustmq/configs"
)

func TestTopicConfigsAreChecked(t *testing.T) {
	for _, k := range configs.TopicKeys() {
		if k.Default == "" {
			continue
		}
		if err := configs.ValidateTopicConfig(k.Name, k.Default); err != nil {
			t.Errorf("the default of %s is refused: %v", k.Name, err)
		}
	}
	for _, wrong := range [][2]string{
		{"cleanup.policy", ""}, {"cleanup.policy", "compact,"}, {"cleanup.policy", "shrink"}, {"segment.ms", "often"},
		{"min.cleanable.dirty.ratio", "1.1"}, {"min.cleanable.dirty.ratio", "-1"}, {"min.cleanable.dirty.ratio", "NaN"}, {"min.cleanable.dirty.ratio", "half"},
		{"delete.retention.ms", "-1"}, {"min.compaction.lag.ms", "-1"}, {"max.compaction.lag.ms", "0"}, {"compression.type", "rar"},
		{"max.message.bytes", "0"}, {"max.message.bytes", "x"}, {"min.insync.replicas", "0"}, {"message.timestamp.type", ""},
		{"rustmq.expect.offset", ""}, {"rustmq.expect.offset", "1"}, {"rustmq.durability", ""}, {"rustmq.durability", "disk"},
	} {
		if err := configs.ValidateTopicConfig(wrong[0], wrong[1]); err == nil {
			t.Errorf("%s = %q is taken", wrong[0], wrong[1])
		}
	}
	for _, right := range []string{"compact", "delete", "compact,delete", "delete, compact"} {
		if err := configs.ValidateTopicConfig("cleanup.policy", right); err != nil {
			t.Errorf("cleanup.policy = %q is refused: %v", right, err)
		}
	}
}

// What nothing looks at is within Kafka's range all the same, or who moves to Kafka
// finds out there.
func TestIgnoredTopicConfigsAreWithinKafkasRanges(t *testing.T) {
	for key, values := range map[string]struct{ right, wrong []string }{
		"compression.gzip.level":                  {[]string{"-1", "1", "9"}, []string{"-2", "0", "10"}},
		"compression.lz4.level":                   {[]string{"1", "17"}, []string{"0", "18"}},
		"compression.zstd.level":                  {[]string{"-131072", "22"}, []string{"-131073", "23"}},
		"file.delete.delay.ms":                    {[]string{"0"}, []string{"-1"}},
		"flush.messages":                          {[]string{"1"}, []string{"0"}},
		"flush.ms":                                {[]string{"0"}, []string{"-1"}},
		"index.interval.bytes":                    {[]string{"0"}, []string{"-1"}},
		"leader.replication.throttled.replicas":   {[]string{"", "*", "0:1", "0:1, 10:2"}, []string{"0", "0:", ":1", "0:1,", "a:1", "0:-1", "*,0:1"}},
		"follower.replication.throttled.replicas": {[]string{"", "*", "0:1"}, []string{"all"}},
		"local.retention.bytes":                   {[]string{"-2", "-1"}, []string{"-3"}},
		"local.retention.ms":                      {[]string{"-2", "-1"}, []string{"-3"}},
		"segment.bytes":                           {[]string{"1048576", "2147483647"}, []string{"1048575", "2147483648"}},
		"segment.index.bytes":                     {[]string{"4"}, []string{"3"}},
		"segment.jitter.ms":                       {[]string{"0"}, []string{"-1"}},
		"segment.ms":                              {[]string{"1"}, []string{"0"}},
	} {
		for _, v := range values.right {
			if err := configs.ValidateTopicConfig(key, v); err != nil {
				t.Errorf("%s = %q: %v", key, v, err)
			}
		}
		for _, v := range values.wrong {
			if err := configs.ValidateTopicConfig(key, v); err == nil {
				t.Errorf("%s = %q is taken", key, v)
			}
		}
	}
	if err := configs.ValidateBrokerConfig("log.segment.bytes", "1"); err == nil {
		t.Error("the default of all is taken out of range")
	}
}

// Compaction's two ages are compared as they result: with what brokers and the code
// give by default.
func TestCompactionLagsOfATopicFit(t *testing.T) {
	type values = map[string]string
	for _, tc := range []struct {
		own, ofBrokers values
		fits           bool
	}{
		{nil, nil, true},
		{values{"min.compaction.lag.ms": "9223372036854775807"}, nil, true},
		{values{"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "5"}, nil, true},
		{values{"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"}, nil, false},
		{values{"min.compaction.lag.ms": "6"}, values{"log.cleaner.max.compaction.lag.ms": "5"}, false},
		{values{"max.compaction.lag.ms": "5"}, values{"log.cleaner.min.compaction.lag.ms": "6"}, false},
		{values{"max.compaction.lag.ms": "5", "min.compaction.lag.ms": "0"}, values{"log.cleaner.min.compaction.lag.ms": "6"}, true},
	} {
		if err := configs.ValidateTopicConfigs(tc.own, tc.ofBrokers); (err == nil) != tc.fits {
			t.Errorf("%v over %v: %v", tc.own, tc.ofBrokers, err)
		}
	}
}
