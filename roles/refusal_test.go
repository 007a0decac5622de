package roles_test

import (
	"strings"
	"testing"
)

// TestProduceTellsWhyARecordIsRefused in the broker's own words.
func TestProduceTellsWhyARecordIsRefused(t *testing.T) {
	n := node(t)
	if code, _, stderr := rustmq(t, "", "admin", "topics", "create", "t", "--config", "cleanup.policy=compact", "--url", "http://"+n.HTTP()); code != 0 {
		t.Fatal(stderr)
	}
	for _, transport := range []string{"tcp", "quic"} {
		code, _, stderr := rustmq(t, "without a key\n", "produce", "t", "-b", n.Kafka(), "--transport", transport, "--cafile", n.CAFile())
		if code != 1 || !strings.Contains(stderr, "the broker says of it: \"") || !strings.Contains(stderr, "key") {
			t.Errorf("%s: exit %d, %s", transport, code, stderr)
		}
	}
}
