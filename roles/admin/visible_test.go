package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/broker"
)

// TestNamesOfClientsAreVisible: an id is any bytes, and none of them reaches a terminal
// as anything but text in its place.
func TestNamesOfClientsAreVisible(t *testing.T) {
	const id = "a\x1b[2J\nb\u009b\u202eü ☃"
	const shown = `a\x1b[2J\nb\u009b\u202eü ☃`
	url := answers(t, func(w http.ResponseWriter, r *http.Request) {
		summary := broker.GroupSummary{Group: id, Kind: "classic", ProtocolType: id, State: "Empty"}
		var out any = broker.GroupDescription{
			GroupSummary:  summary,
			MemberList:    []broker.GroupMember{{ID: id, InstanceID: id, ClientID: id, Host: id}},
			PartitionList: []broker.GroupPartition{{Topic: "t", MemberID: id, Note: id}},
		}
		switch {
		case r.Method == http.MethodGet && r.URL.Path == groupsPath:
			out = map[string]any{"groups": []broker.GroupSummary{summary}}
		case strings.HasSuffix(r.URL.Path, "/reset-offsets"):
			out = broker.OffsetPlan{Group: id}
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusConflict)
			out = problemBody{Detail: "NON_EMPTY_GROUP: " + id}
		}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{
		{"groups", "list"}, {"groups", "describe", "g"}, {"groups", "delete", "g", "--dry-run"}, {"groups", "delete", "g"},
		{"groups", "reset-offsets", "g", "--all-topics", "--to-latest"}, {"groups", "reset-offsets", "g", "--all-topics", "--to-latest", "--execute"},
		{cobra.ShellCompNoDescRequestCmd, "groups", "describe", ""},
	} {
		out, err := run(t.Context(), url, args...)
		if err != nil {
			out += err.Error()
		}
		if strings.ContainsAny(out, "\x1b\u009b\u202e") || strings.Contains(out, "\nb") {
			t.Errorf("%q: %q", args, out)
		}
		if !strings.Contains(out, shown) && args[0] == "groups" {
			t.Errorf("%q does not show the name: %q", args, out)
		}
	}
}

// TestRowsEndWithTheirText: a long cell in the last column does not fill a terminal
// with spaces behind those of the other rows.
func TestRowsEndWithTheirText(t *testing.T) {
	var out strings.Builder
	table := (&env{stdout: &out}).table("STEP", "RESULT")
	table.AppendRow([]any{"put", "ok"})
	table.AppendRow([]any{"get", "FAILED: no credentials were found"})
	table.Render()
	if want := "STEP RESULT\nput  ok\nget  FAILED: no credentials were found\n"; out.String() != want {
		t.Errorf("got\n%q, want\n%q", out.String(), want)
	}
}
