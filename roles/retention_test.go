package roles

import (
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/controller"
)

// TestCompactedTopicsAreNotRetained: without delete in cleanup.policy neither
// retention.ms nor retention.bytes says anything.
func TestCompactedTopicsAreNotRetained(t *testing.T) {
	for policy, want := range map[string]controller.Retention{
		"delete":         {Age: time.Second, Bytes: 10},
		"compact":        {Age: -1, Bytes: -1},
		"compact,delete": {Age: time.Second, Bytes: 10},
		"nonsense":       {Age: -1, Bytes: -1},
	} {
		if got := retentionOf(map[string]string{"cleanup.policy": policy, "retention.ms": "1000", "retention.bytes": "10"}); got != want {
			t.Errorf("%s: %+v", policy, got)
		}
	}
	if got := retentionOf(nil); got != (controller.Retention{Age: 7 * 24 * time.Hour, Bytes: -1}) {
		t.Errorf("by default: %+v", got)
	}
}
