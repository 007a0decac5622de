package roles_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles"
)

// shapesFile has what JSON the commands have printed so far: a line for each field.
const shapesFile = "testdata/json.txt"

// shapeOf adds a line for each value in v: its path and its type.
func shapeOf(v any, path string, to map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		to[path+" object"] = true
		for key, value := range v {
			shapeOf(value, path+"."+key, to)
		}
	case []any:
		to[path+" list"] = true
		for _, value := range v {
			shapeOf(value, path+"[]", to)
		}
	case string:
		to[path+" string"] = true
	case float64:
		to[path+" number"] = true
	case bool:
		to[path+" bool"] = true
	}
}

// TestJSONStaysAsItIs holds that what scripts read of `-o json` stays: no field is taken away,
// named otherwise or of another type. Fields may be added; go test -run TestJSON -args update
// notes them.
func TestJSONStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	n := node(t)
	server, kafka := " --url http://"+n.HTTP(), " -b "+n.Kafka()
	ca := " --ca-dir " + filepath.Join(dir, "ca")
	must(t, os.WriteFile(filepath.Join(dir, "bad.toml"), []byte("[wal]\nmemroy = 1\n"), 0o600))
	got, ran := map[string]bool{}, map[string]bool{}
	run := func(stdin, command, rest string) {
		t.Helper()
		args := append(strings.Fields(command), strings.Fields(rest)...)
		var stdout, stderr string
		eventually(t, command+" is done", func() bool { // a group whose member has just left says "try again"
			_, stdout, stderr = rustmq(t, stdin, append(args, "-o", "json")...) // some fail by what they find
			return stdout != "" || !strings.Contains(stderr, "try again")
		})
		in := json.NewDecoder(strings.NewReader(stdout))
		docs := 0
		for ; in.More(); docs++ {
			var v any
			if err := in.Decode(&v); err != nil {
				t.Fatalf("%s %s: %v, %s", command, rest, err, stderr)
			}
			shapeOf(v, command, got)
		}
		if docs == 0 {
			t.Fatalf("%s %s printed nothing: %s", command, rest, stderr)
		}
		ran[command] = true
	}
	for _, c := range []struct{ stdin, command, rest string }{
		{"", "version", ""}, {"", "config default", ""}, {"", "config show", ""}, {"", "config check", filepath.Join(dir, "bad.toml")},
		{"", "doctor", "--ports free --no-bucket --data-dir " + filepath.Join(dir, "d")},
		{"", "bench", "produce -n 10 --size 10" + kafka}, {"", "verify", "-n 10" + kafka},
		{"", "admin topics create", "orders -c retention.ms=1000000000" + server},
		{"", "admin topics list", server}, {"", "admin topics describe", "orders" + server}, {"", "admin topics alter", "orders -s retention.ms=2000000000" + server},
		{"", "admin topics add-partitions", "orders 2" + server},
	} {
		run(c.stdin, c.command, c.rest)
	}
	for _, args := range []string{"produce orders" + kafka, "consume orders -g readers -e" + kafka} {
		if code, _, stderr := rustmq(t, "x\n", strings.Fields(args)...); code != 0 {
			t.Fatal(stderr)
		}
	}
	for _, c := range []struct{ stdin, command, rest string }{
		{"", "admin groups list", server}, {"", "admin groups describe", "readers" + server}, {"", "admin groups reset-offsets", "readers --all-topics --to-earliest" + server},
		{"", "admin groups delete", "readers" + server},
		{"", "admin brokers list", server}, {"", "admin brokers describe", "1" + server}, {"", "admin brokers drain", "1" + server}, {"", "admin brokers undrain", "1" + server},
		{"", "admin brokers decommission", "1 --dry-run" + server},
		{"", "admin cluster health", server}, {"", "admin cluster describe", server}, {"", "admin cluster rebalance", "--dry-run" + server},
		{"", "admin operations list", server}, {"", "admin operations describe", "reassignment-0" + server}, {"", "admin controllers list", server}, {"", "admin controllers snapshot", server}, {"", "admin controllers remove", "1 --dry-run" + server},
		{"", "admin storage", server}, {"", "admin storage probe", server}, {"", "admin storage check", server}, {"", "admin storage cost", server}, {"", "admin storage confirm-clock", server},
		{"", "admin quotas set", "--user alice producer_byte_rate=1000000" + server}, {"", "admin quotas list", server},
		{"", "admin config set", "operations.log_level=warn" + server}, {"", "admin config list", server}, {"", "admin config history", server}, {"", "admin config unset", "operations.log_level" + server},
		{"", "admin cluster backup", filepath.Join(dir, "backup") + server},
		{"a long password\n", "admin users create", "alice" + server}, {"another password\n", "admin users set-password", "alice" + server}, {"", "admin users list", server},
		{"", "admin tokens create", "backup --principal alice" + server}, {"", "admin tokens list", server}, {"", "admin tokens revoke", "backup" + server},
		{"", "admin acl create", "--principal alice --resource topic.orders --permissions read" + server}, {"", "admin acl list", server},
		{"", "admin acl check", "--principal alice --resource topic.orders --permissions read" + server}, {"", "admin acl delete", "--principal alice" + server},
		{"", "admin users delete", "alice" + server}, {"", "admin audit verify", server}, {"", "admin audit list", server},
		{"", "admin etl batteries", server}, {"", "admin etl deploy", "tag --battery headers --topics orders --config {\"set\":[{\"name\":\"a\",\"value\":\"b\"}]}" + server}, {"", "admin etl list", server},
		{"", "admin etl describe", "tag" + server}, {"", "admin etl disable", "tag" + server}, {"", "admin etl enable", "tag" + server}, {"", "admin etl history", "tag" + server},
		{"", "admin ca init", "--no-passphrase" + ca}, {"", "admin ca show", ca}, {"", "admin ca lists", ca},
		{"", "admin certs issue", "carol --profile client --out " + dir + ca}, {"", "admin certs list", ca}, {"", "admin certs show", "carol" + ca},
		{"", "admin certs renew", "carol --out " + dir + ca}, {"", "admin certs verify", filepath.Join(dir, "carol.pem") + ca}, {"", "admin certs revoke", "carol" + ca}, {"", "admin ca rotate", ca},
		{"", "admin topics delete", "orders" + server},
		{"", "debug wal", filepath.Join(n.DataDir(), "wal")}, {"", "debug raft", n.DataDir()},
		{"", "debug bundle", "--profile 0 --out " + filepath.Join(dir, "b.tar.gz") + server},
	} {
		run(c.stdin, c.command, c.rest)
	}
	every(roles.Command(), func(cmd *cobra.Command) {
		_, path, _ := strings.Cut(cmd.CommandPath(), " ")
		if f := cmd.Flag("output"); f != nil && strings.Contains(f.Usage, "json") && cmd.Runnable() && !cmd.HasSubCommands() && !ran[path] && unshaped[path] == "" {
			t.Errorf("the JSON of `rustmq %s` is held to nothing", path)
		}
	})
	raw, err := os.ReadFile(shapesFile)
	if slices.Contains(flag.Args(), "update") {
		for line := range strings.Lines(string(raw)) {
			got[strings.TrimSuffix(line, "\n")] = true
		}
		must(t, os.MkdirAll(filepath.Dir(shapesFile), 0o755))
		must(t, os.WriteFile(shapesFile, []byte(strings.Join(slices.Sorted(maps.Keys(got)), "\n")+"\n"), 0o644))
		return
	}
	must(t, err)
	lines := 0
	for line := range strings.Lines(string(raw)) {
		lines++
		if line = strings.TrimSuffix(line, "\n"); !got[line] {
			t.Errorf("scripts read this, and it is gone: %s", line)
		}
	}
	if lines < 300 {
		t.Errorf("only %d lines are in %s", lines, shapesFile)
	}
}

// unshaped are the commands whose JSON has tests of its own, or is that of another.
var unshaped = map[string]string{
	"debug object": "TestDebugObject", "admin cluster recover": "TestControllersLostWALsSurvive", "admin controllers add": "as controllers list",
	"admin audit tail": "as audit list", "admin etl rollback": "as etl describe", "admin etl delete": "as etl describe", "admin etl test": "etl_api_test.go",
	"admin serve": "TestBannerForPrograms",
}

// every calls f for cmd and all below it.
func every(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		every(sub, f)
	}
}

// TestNothingIsColoured: what commands print has no escapes, whatever the environment wants.
func TestNothingIsColoured(t *testing.T) {
	n := node(t)
	for _, env := range []string{"NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR"} {
		t.Setenv(env, "1")
	}
	for _, args := range []string{"--help", "admin topics list --url http://" + n.HTTP(), "admin cluster health --url http://" + n.HTTP(), "doctor --ports free --no-bucket --data-dir " + t.TempDir(), "nonsense"} {
		_, stdout, stderr := rustmq(t, "", strings.Fields(args)...)
		if strings.Contains(stdout+stderr, "\x1b") {
			t.Errorf("%s: %s", args, fmt.Sprintf("%q", stdout+stderr))
		}
	}
}
