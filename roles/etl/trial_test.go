package etl

import (
	"fmt"
	"strings"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
)

// TestTrialOfManyRecords: a module is given no more at once than a broker might give it.
func TestTrialOfManyRecords(t *testing.T) {
	spec, err := pipeline.ParseSpec([]byte(`{"mode":"inline","topics":["t"]}`))
	if err != nil {
		t.Fatal(err)
	}
	small, large := make([]abi.Record, 2*trialRecords+1), make([]abi.Record, 5)
	for i := range large {
		large[i].Value = []byte(strings.Repeat("x", trialBytes/2))
	}
	for name, records := range map[string][]abi.Record{"many": small, "large": large} {
		got, err := Trial{Engine: &fakeEngine{}}.Run(t.Context(), "m", []byte("new"), spec, "", records)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Logs) != 3 { // one a call
			t.Errorf("%s: %d calls", name, len(got.Logs))
		}
		for i, r := range got.Records {
			if string(r.After.Value) != "new" {
				t.Fatalf("%s: record %d becomes %q", name, i, r.After.Value)
			}
		}
	}
	_, err = Trial{Engine: &fakeEngine{}}.Run(t.Context(), "m", []byte("fails"), spec, "", small)
	if want := fmt.Sprintf("records 1 to %d: ", trialRecords); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}
