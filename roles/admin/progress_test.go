package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestWaitingForWhatMoves looks until nothing moves, and says what is left where the time is up.
func TestWaitingForWhatMoves(t *testing.T) {
	for _, c := range []struct {
		line string
		left []int // by look; the last goes on
		want string
		fail string
	}{
		{"cluster rebalance --wait", []int{2, 1, 0}, "", ""},
		{"cluster rebalance", []int{9}, "", ""},
		{"cluster rebalance --wait --timeout 20ms", []int{2}, "", "2 left, which go on by themselves"},
		{"cluster rebalance --wait --dry-run", []int{2}, "", "give one of them"},
		{"brokers drain 1 --wait", []int{1, 0}, "leads 0 partitions", ""},
		{"brokers drain 1 --wait --timeout 20ms", []int{3}, "leads 3 partitions", "3 left, which go on by themselves"},
		{"brokers drain 1", []int{3}, "no other replica in sync", ""},
		{"brokers decommission 1", []int{5, 2, 0}, "broker 1 is empty", ""},
		{"brokers decommission 1 --wait=false", []int{5}, "broker 1 has 5 replicas left", ""},
		{"brokers decommission 1 --timeout 20ms", []int{5}, "", "5 left, which go on by themselves"},
	} {
		looks := 0
		url := answers(t, func(w http.ResponseWriter, r *http.Request) {
			left := c.left[min(looks, len(c.left)-1)]
			looks++
			b := Broker{ID: 1, State: "draining", Leads: left, Replicas: left, Moving: left}
			var out any = b
			switch {
			case strings.HasSuffix(r.URL.Path, "/rebalance"):
				out = Rebalance{}
				looks--
			case strings.HasSuffix(r.URL.Path, "/decommission"):
				out = Decommission{ID: 1, Replicas: left}
			case strings.HasSuffix(r.URL.Path, "/brokers"):
				out = map[string]any{"brokers": []Broker{b}}
			}
			if err := json.NewEncoder(w).Encode(out); err != nil {
				t.Error(err)
			}
		})
		out, err := run(t.Context(), url, strings.Fields(c.line)...)
		if (err != nil) != (c.fail != "") || err != nil && !strings.Contains(err.Error(), c.fail) || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %s", c.line, err, out)
		}
		if c.fail == "" && strings.Contains(c.line, "--wait") && !strings.Contains(c.line, "=false") && looks < len(c.left) {
			t.Errorf("%s: ended after %d looks", c.line, looks)
		}
	}
}

// TestRefusalsSayEachReasonOnce, however many partitions have it, and what becomes of the broker.
func TestRefusalsSayEachReasonOnce(t *testing.T) {
	refused := []string{"b-0: no rack: none"}
	for i := range 5000 {
		refused = append(refused, fmt.Sprintf("a-%d: start another broker", i))
	}
	url := answers(t, func(w http.ResponseWriter, r *http.Request) {
		var out any = Broker{ID: 1, State: "draining", Replicas: len(refused)}
		if strings.HasSuffix(r.URL.Path, "/decommission") {
			out = Decommission{ID: 1, Replicas: len(refused), Refused: refused}
		}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			t.Error(err)
		}
	})
	_, err := run(t.Context(), url, "brokers", "decommission", "1")
	if err == nil || len(err.Error()) > 500 {
		t.Fatalf("%.600v", err)
	}
	for _, want := range []string{"5001 replicas of broker 1", "b-0: no rack: none", "a-0, a-1, a-2 and 4997 more: start another broker", "brokers undrain 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing of %q", err, want)
		}
	}
}
