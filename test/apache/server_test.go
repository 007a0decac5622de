//go:build suites

package apache

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A node is started, serves, runs a tool of its own version and is gone when stopped.
func TestNodeServesUntilItIsStopped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	s, err := Start(ctx, Options{Lib: "../../build/kafka/lib", Dir: t.TempDir(), HeapMiB: 512})
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	out, err := s.Tool(ctx, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", s.Addr(), "--create", "--topic", "made").CombinedOutput()
	if err != nil {
		t.Fatalf("create a topic: %v\n%s", err, out)
	}
	s.Stop()
	if n, err := s.brokers(ctx); err == nil {
		t.Errorf("stopped, it still names %d brokers", n)
	}
}
