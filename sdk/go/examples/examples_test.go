package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func TestExamplesSayWhatTheyShow(t *testing.T) {
	quakes, err := read("../../../test/data/earthquakes.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	server := rustmqtest.Start(t)
	want := map[string]string{
		"hello":        "offset 0: hello",
		"produce":      "1707 quakes were delivered, 0 failed",
		"typed":        "the strongest of 1707: 6.4, 22km NNE of Hualian, Taiwan",
		"group":        "1707 quakes handled, 0 not committed",
		"workers":      "each in order",
		"retry":        "1706 handled, 1 put aside",
		"time":         "10 quakes since",
		"transaction":  "84 transactions committed, 1 aborted",
		"conditional":  "20 entries, each number once",
		"exactly-once": "39 strong quakes, 39 of them there once",
	}
	for _, e := range examples() {
		t.Run(e.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out strings.Builder
			if err := e.run(ctx, &program{[]rustmq.Option{rustmq.WithBrokers(server.Addr())}, quakes, &out, e.name}); err != nil {
				t.Fatal(err)
			}
			if want[e.name] == "" || !strings.Contains(out.String(), want[e.name]) {
				t.Errorf("it says %q: want %q", out.String(), want[e.name])
			}
		})
	}
}
