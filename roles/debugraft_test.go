package roles_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rustmq.dev/rustmq/embed"
)

// TestDebugRaft reads the metadata log of a node that has made a topic and a user, after it
// has ended: the entries are there in order, the snapshot too, and no secret is.
func TestDebugRaft(t *testing.T) {
	dir := t.TempDir()
	n, err := embed.Start(t.Context(), embed.Options{DataDir: dir})
	must(t, err)
	url := "http://" + n.HTTP()
	for _, c := range []struct{ stdin, args string }{
		{"", "topics create orders"}, {"not a secret for long\n", "users create alice"}, {"", "controllers snapshot"}, {"", "topics create bills"},
	} {
		args := append([]string{"admin"}, strings.Fields(c.args)...)
		if code, _, stderr := rustmq(t, c.stdin, append(args, "--url", url)...); code != 0 {
			t.Fatalf("%s: exit %d, %s", c.args, code, stderr)
		}
	}
	must(t, n.Close())

	code, stdout, stderr := rustmq(t, "", "debug", "raft", dir, "--bodies", "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	if strings.Contains(stdout, "stored_key") || strings.Contains(stdout, "server_key") {
		t.Error("it prints what proves a password")
	}
	var last uint64
	seen := map[string]int{}
	for line := range strings.Lines(stdout) {
		var l struct {
			Snapshot, Kind, Command, Damage string
			Index                           uint64
			Bytes                           int
			Body                            struct{ Name string }
			State                           struct{ Topics, Users, Brokers int }
		}
		must(t, json.Unmarshal([]byte(line), &l))
		if l.Damage != "" {
			t.Errorf("damage in a log that ended well: %s", line)
		}
		if l.Snapshot != "" {
			seen["snapshot"]++
			if l.Index > 1 && (l.State.Topics < 1 || l.State.Users != 1 || l.State.Brokers != 1) {
				t.Errorf("%s", line)
			}
			continue
		}
		seen[l.Kind]++
		seen[l.Command+" "+l.Body.Name]++
		if l.Kind == "command" {
			if l.Index <= last || l.Bytes == 0 {
				t.Errorf("entry %d behind %d: %s", l.Index, last, line)
			}
			last = l.Index
		}
	}
	for _, want := range []string{"snapshot", "command", "election", "state", "create_topic orders", "create_topic bills", "alter_users "} {
		if seen[want] == 0 {
			t.Errorf("no %s in %v", want, seen)
		}
	}
	// The directory raft/ is as good, and --after leaves out what is before.
	_, text, stderr := rustmq(t, "", "debug", "raft", filepath.Join(dir, "raft"), "--after", "1")
	if !strings.Contains(text, " create_topic bytes=") || !strings.Contains(text, "snapshot ") || strings.Contains(text, "index=1 ") && strings.Contains(text, "command index=1 ") || stderr != "" {
		t.Errorf("%s %s", text, stderr)
	}

	segments, err := filepath.Glob(filepath.Join(dir, "raft", "segment-*"))
	must(t, err)
	for _, name := range segments {
		raw, err := os.ReadFile(name)
		must(t, err)
		if at := bytes.Index(raw, []byte("bills")); at >= 0 {
			raw[at] ^= 1
			must(t, os.WriteFile(name, raw, 0o600))
		}
	}
	if code, text, _ = rustmq(t, "", "debug", "raft", dir); code != 0 || !strings.Contains(text, "DAMAGED") || !strings.Contains(text, "create_topic") {
		t.Errorf("of a damaged entry: exit %d, %s", code, text)
	}
	for _, args := range [][]string{{t.TempDir()}, {filepath.Join(dir, "nowhere")}} {
		if code, _, stderr := rustmq(t, "", append([]string{"debug", "raft"}, args...)...); code != 1 || stderr == "" {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	if code, _, _ := rustmq(t, "", "debug", "raft", dir, "-o", "yaml"); code != 2 {
		t.Errorf("-o yaml: exit %d", code)
	}
}
