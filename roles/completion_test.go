package roles_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// offered is what a shell would be offered for the last of args.
func offered(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, _ := rustmq(t, "", append([]string{"__complete"}, args...)...)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if last := lines[len(lines)-1]; code != 0 || !strings.HasPrefix(last, ":") {
		t.Fatalf("%v: exit %d, %q", args, code, stdout)
	}
	var words []string
	for _, line := range lines[:len(lines)-1] {
		if word, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(word, args[len(args)-1]) { // as the script in the shell has it
			words = append(words, word)
		}
	}
	return words
}

// TestCompletionOffersWhatTheClusterHas: topics, groups, brokers, users and tokens of a node
// that runs; and nothing that a shell would take for more than a word.
func TestCompletionOffersWhatTheClusterHas(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	n := node(t)
	url := []string{"--url", "http://" + n.HTTP()}
	kafka := []string{"-b", n.Kafka()}
	do := func(stdin string, args ...string) {
		t.Helper()
		if code, _, stderr := rustmq(t, stdin, args...); code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
	}
	for _, topic := range []string{"orders", "bills"} {
		do("x\n", append([]string{"produce", topic}, kafka...)...)
	}
	for _, group := range []string{"readers", "$(reboot)"} {
		do("", append([]string{"consume", "orders", "-g", group, "-e"}, kafka...)...)
	}
	do("a long password\n", append([]string{"admin", "users", "create", "alice"}, url...)...)
	do("", append([]string{"admin", "tokens", "create", "backup", "--principal", "alice"}, url...)...)
	do("", append([]string{"admin", "config", "set", "operations.log_level=warn"}, url...)...)
	do("", append([]string{"context", "add", "here", "--url"}, url[1])...)
	ca := filepath.Join(t.TempDir(), "ca")
	do("", "admin", "ca", "init", "--no-passphrase", "--ca-dir", ca)
	do("", "admin", "certs", "issue", "carol", "--profile", "client", "--ca-dir", ca, "--out", t.TempDir())

	admin := func(words ...string) []string {
		return append(append([]string{"admin"}, words[:2]...), append(url, words[2:]...)...)
	}
	for _, c := range []struct {
		args, want []string
	}{
		{append([]string{"consume"}, append(kafka, "")...), []string{"bills", "orders"}},
		{append([]string{"produce"}, append(kafka, "o")...), []string{"orders"}},
		{append([]string{"produce", "orders"}, append(kafka, "")...), nil},
		{append([]string{"consume", "orders"}, append(kafka, "-g", "")...), []string{"readers"}},
		{admin("topics", "describe", ""), []string{"bills", "orders"}},
		{admin("topics", "delete", "bi"), []string{"bills"}},
		{admin("topics", "delete", "bills", ""), nil},
		{admin("groups", "describe", ""), []string{"readers"}},
		{admin("groups", "reset-offsets", "readers", "--topic", ""), []string{"bills", "orders"}},
		{admin("brokers", "drain", ""), []string{"1"}},
		{admin("controllers", "remove", ""), []string{"1"}},
		{admin("users", "delete", ""), []string{"alice"}},
		{admin("tokens", "revoke", ""), []string{"backup"}},
		{admin("acl", "create", "--principal", ""), []string{"alice"}},
		{admin("acl", "create", "--resource", "topic."), []string{"topic.bills", "topic.orders"}},
		{admin("acl", "create", "--resource", "gr"), []string{"group."}},
		{admin("topics", "list", "-o", ""), []string{"table", "json", "yaml"}},
		{admin("config", "set", "network.max_connections"), []string{"network.max_connections=", "network.max_connections_per_ip="}},
		{admin("config", "set", "operations.log_level=warn", "operations.slow"), []string{"operations.slow_request="}},
		{admin("config", "set", "operations.log_level=w"), nil},
		{admin("config", "set", "broker.data"), nil},
		{admin("config", "set", "--node", ""), []string{"1"}},
		{admin("config", "unset", ""), []string{"operations.log_level"}},
		{admin("config", "history", "operations.log"), []string{"operations.log_level"}},
		{[]string{"admin", "certs", "show", "--ca-dir", ca, ""}, []string{"carol"}},
		{[]string{"context", "use", ""}, []string{"here"}},
		{[]string{"admin", "topics", "list", "--context", ""}, []string{"here"}},
		{[]string{"admin", "topics", "describe", "--context", "here", ""}, []string{"bills", "orders"}},
		{[]string{"consume", "--transport", ""}, []string{"auto", "tcp", "quic"}},
	} {
		got := offered(t, c.args...)
		if slices.Sort(got); len(got) == 0 {
			got = nil
		}
		want := slices.Sorted(slices.Values(c.want))
		if got = slices.DeleteFunc(got, func(s string) bool { return s == "" }); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%v: %q, want %q", c.args, got, want)
		}
	}
}

// TestCompletionSaysNothing where nobody is, nobody answers, or a password would be asked for.
func TestCompletionSaysNothing(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	contexts := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "rustmq", "contexts.toml")
	for _, args := range [][]string{
		{"admin", "topics", "describe", "--url", "http://127.0.0.1:1", ""},
		{"admin", "topics", "describe", "--url", "nonsense", ""},
		{"admin", "topics", "describe", "--url", "http://" + silent.Addr().String(), ""},
		{"admin", "topics", "describe", "--url", "http://127.0.0.1:1", "--user", "alice", ""},
		{"consume", "-b", "127.0.0.1:1", ""},
		{"consume", "-b", silent.Addr().String(), "--transport", "tcp", ""},
		{"consume", "-b", "127.0.0.1:1", "--user", "alice", "--tls", ""},
		{"admin", "certs", "show", "--ca-dir", "/nowhere", ""},
	} {
		if got := offered(t, args...); len(got) > 0 {
			t.Errorf("%v: %q", args, got)
		}
	}
	must(t, os.MkdirAll(filepath.Dir(contexts), 0o700))
	must(t, os.WriteFile(contexts, []byte("not = [toml"), 0o600))
	if got := offered(t, "context", "use", ""); len(got) > 0 {
		t.Errorf("of a file that cannot be read: %q", got)
	}
}
