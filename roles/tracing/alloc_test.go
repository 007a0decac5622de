//go:build !race

package tracing_test

import (
	"context"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/tracing"
)

// What has no context of its own and is not drawn costs nothing: it is most, where tracing is
// on for a share of a busy broker.
func TestWhatIsNotDrawnAllocatesNothing(t *testing.T) {
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: "http://127.0.0.1:1", Sample: 1e-12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	now := time.Now()
	produce := broker.TracedProduce{Topic: "t", ClientID: "c", Records: 1, Bytes: 100, Received: now, Begun: now, Appended: now, Synced: now, Acked: now, Answered: now}
	fetch := broker.TracedFetch{Topic: "t", Partitions: 1, Received: now, Begun: now, Answered: now}
	done := upload.Done{Begun: now, Ended: now, Parts: 1}
	for name, tell := range map[string]func(){
		"a batch":   func() { tracer.Produced(&produce) },
		"a fetch":   func() { tracer.Fetched(&fetch) },
		"an upload": func() { tracer.Uploaded(&done) },
	} {
		if n := testing.AllocsPerRun(100, tell); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
