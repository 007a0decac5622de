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
		{"rustmq.expect.offset", ""}, {"rustmq.expect.offset", "1"},
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
