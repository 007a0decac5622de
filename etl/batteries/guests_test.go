package batteries

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
)

// The examples of both kits do the same, in the real runtime.
func TestTheExamplesOfTheKitsAgree(t *testing.T) {
	catalogue, err := os.ReadFile("../../test/data/earthquakes.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	batch := &abi.Batch{Topic: "quakes", Timestamp: 1_700_000_000_000}
	for _, line := range append(strings.Split(strings.TrimSpace(string(catalogue)), "\n"), "", "{}", "\xff", `{"mag":}`) {
		batch.Records = append(batch.Records, abi.Record{Value: []byte(line), Headers: []abi.Header{{Name: "a", Value: []byte("b")}, {Name: "null"}}})
	}
	batch.Records = append(batch.Records, abi.Record{})
	decided := map[string][]abi.Decision{}
	for name, code := range map[string][]byte{"rust": rustExample(t), "go": goExample(t)} {
		var log []string
		m := load(t, code, `{"at_least":5}`, func(text string) { log = append(log, text) })
		decided[name] = transform(t, m, batch)
		if len(log) == 0 || !strings.Contains(log[0], "strong: from 5 on") {
			t.Errorf("%s logged %q", name, log)
		}
		if _, err := tryLoad(t, code, "{}", nil); err == nil || !strings.Contains(err.Error(), "at_least") {
			t.Errorf("%s: a wrong config gives %v", name, err)
		}
		m = load(t, code, "null", nil)
		if all, err := m.Transform(context.Background(), &abi.Batch{Topic: "t"}); err != nil || len(all) != 0 {
			t.Errorf("%s: an empty batch: %v, %v", name, all, err)
		}
	}
	var routed, rejected int
	for i, d := range decided["rust"] {
		if other := decided["go"][i]; fmt.Sprintf("%+v", d) != fmt.Sprintf("%+v", other) {
			t.Errorf("%s:\nrust %+v\ngo   %+v", batch.Records[i].Value, d, other)
		}
		switch d.Action {
		case abi.Route:
			routed++
			if d.Text != "quakes.strong" || d.Replaces != abi.Headers || len(d.Headers) != 3 || d.Headers[1].Value != nil {
				t.Errorf("routed as %+v", d)
			}
		case abi.Reject:
			rejected++
		}
	}
	if routed != 39 || rejected != 5 {
		t.Errorf("%d routed and %d rejected; 39 and 5 are to be", routed, rejected)
	}
}

func rustExample(t testing.TB) []byte {
	t.Helper()
	code, err := os.ReadFile("built/strong.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func goExample(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "strong.wasm")
	build := exec.Command("go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./examples/strong")
	build.Dir = "../../sdk/go-etl"
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code
}
