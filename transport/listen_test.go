package transport_test

import (
	"strings"
	"testing"

	"rustmq.dev/rustmq/transport"
)

func TestOnlyLoopbackIsBoundUnlessInsisted(t *testing.T) {
	for _, bind := range []string{"127.0.0.1", "127.1.2.3", "::1", "localhost"} {
		if err := transport.GuardListen(bind, false); err != nil {
			t.Errorf("%s: %v", bind, err)
		}
	}
	for _, bind := range []string{"0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", ""} {
		err := transport.GuardListen(bind, false)
		if err == nil || !strings.Contains(err.Error(), "security.allow_insecure") {
			t.Errorf("%s: %v", bind, err)
		}
		if err := transport.GuardListen(bind, true); err != nil {
			t.Errorf("%s, insisted: %v", bind, err)
		}
	}
}
