package roles_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDryRunsChangeNothing tries each command that destroys something with --dry-run: it says
// what would go, what is not there is an error, and all is there afterwards.
func TestDryRunsChangeNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	n := node(t)
	ca := []string{"--ca-dir", filepath.Join(dir, "ca")}
	server := []string{"--url", "http://" + n.HTTP()}
	do := func(stdin string, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, stdin, args...)
		if code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
		return stdout
	}
	admin := func(target []string, line string) []string {
		return append(append([]string{"admin"}, strings.Fields(line)...), target...)
	}
	do("x\n", "produce", "orders", "-b", n.Kafka())
	do("", "consume", "orders", "-g", "readers", "-e", "-b", n.Kafka())
	do("a long password\n", admin(server, "users create alice")...)
	do("", admin(server, "tokens create backup --principal alice")...)
	do("", admin(server, "acl create --principal alice --resource topic.orders --permissions read")...)
	do("", admin(server, "topics alter orders --set retention.ms=77")...)
	do("", admin(server, "quotas set --user alice producer_byte_rate=10MiB")...)
	do("", admin(ca, "ca init --no-passphrase")...)
	do("", append(admin(ca, "certs issue carol --profile client"), "--out", dir)...)
	do("", admin(ca, "ca rotate")...)
	lists := map[string][]string{
		"topics list": server, "groups list": server, "users list": server, "tokens list": server, "acl list": server, "certs list": ca, "brokers list": server, "controllers list": server,
		"quotas list": server, "ca show": ca,
	}
	before := map[string]string{}
	for line, target := range lists {
		before[line] = do("", admin(target, line+" -o json")...)
	}
	for _, c := range []struct {
		target    []string
		line, say string
		nobody    string // in place of the last word of line; "": there is always one
	}{
		{server, "topics delete orders", "would delete topic orders", "bills"},
		{server, "groups delete readers", "would delete group readers", "writers"},
		{server, "users delete alice", "would delete user alice", "bob"},
		{server, "tokens revoke backup", "would be taken back", "restore"},
		{server, "acl delete --principal alice", "1 rule would be taken away", ""},
		{server, "acl delete --all", "1 rule would be taken away", ""},
		{server, "brokers decommission 1", "nothing was done", "7"},
		{server, "controllers remove 1", "would be taken out", "7"},
		{ca, "certs revoke carol", "1 certificate would be taken back", "dave"},
		{ca, "ca rotate --finish", "carol  was neither renewed", ""},
		{server, "topics alter orders --delete retention.ms", "retention.ms 77 (default)", "nonsense"},
		{server, "topics alter orders --set retention.ms=78", "retention.ms 77 78", "retention.ms=x"},
		{server, "quotas set --user alice --delete producer_byte_rate", "nothing was changed", "nonsense"},
	} {
		if out := do("", admin(c.target, c.line+" --dry-run")...); !strings.Contains(out, c.say) {
			t.Errorf("%s: %s", c.line, out)
		}
		if out := do("", admin(c.target, c.line+" --dry-run -o json")...); !json.Valid([]byte(out)) {
			t.Errorf("%s: %s", c.line, out)
		}
		if c.nobody == "" {
			continue
		}
		words := strings.Fields(c.line)
		words[len(words)-1] = c.nobody
		if code, _, stderr := rustmq(t, "", admin(c.target, strings.Join(words, " ")+" --dry-run")...); code != 1 || stderr == "" {
			t.Errorf("%v: exit %d, %s", words, code, stderr)
		}
	}
	for line, target := range lists {
		if after := do("", admin(target, line+" -o json")...); line != "groups list" && after != before[line] {
			t.Errorf("%s was\n%s, and is\n%s", line, before[line], after)
		}
	}
}

// TestRenewalSaysWhereItWrites: without --out it replaces what lies in this directory, and
// issues nothing where that is not there.
func TestRenewalSaysWhereItWrites(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if code, _, stderr := rustmq(t, "", "admin", "ca", "init", "--no-passphrase"); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := rustmq(t, "", "admin", "certs", "issue", "carol", "--profile", "client", "--out", "certs", "--days", "5"); code != 0 {
		t.Fatal(stderr)
	}
	for _, args := range [][]string{{"carol"}, {"--due", "30"}} {
		if code, _, stderr := rustmq(t, "", append([]string{"admin", "certs", "renew"}, args...)...); code != 1 || !strings.Contains(stderr, "--out DIR") {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	if _, stdout, _ := rustmq(t, "", "admin", "certs", "list", "-o", "json"); strings.Count(stdout, `"carol"`) != 1 {
		t.Errorf("a certificate was issued that nobody has: %s", stdout)
	}
	if _, err := os.Stat("carol.key"); err == nil {
		t.Error("a key was written to where nobody looks for it")
	}
	t.Chdir(filepath.Join(dir, "certs"))
	for _, args := range [][]string{{"--due", "30"}, {"carol"}} {
		was, err := os.ReadFile("carol.pem")
		must(t, err)
		if code, _, stderr := rustmq(t, "", append([]string{"admin", "certs", "renew", "--ca-dir", "../rustmq-ca"}, args...)...); code != 0 {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
		if is, err := os.ReadFile("carol.pem"); err != nil || string(is) == string(was) {
			t.Errorf("%v: it was not replaced, %v", args, err)
		}
	}
}

// TestCommandsOnFilesRefuseAServer: a flag that says which server to ask is not ignored where
// none is asked, nor shown.
func TestCommandsOnFilesRefuseAServer(t *testing.T) {
	for _, line := range []string{"ca show", "ca init", "certs list", "certs renew x", "cluster recover --from mem://"} {
		words := strings.Fields(line)
		for _, flag := range []string{"--url", "--token-file", "--user"} {
			if code, _, stderr := rustmq(t, "", append(append([]string{"admin"}, words...), flag, "x")...); code != 2 || !strings.Contains(stderr, flag+": the command asks no server") {
				t.Errorf("%s %s: exit %d, %s", line, flag, code, stderr)
			}
		}
		if _, help, _ := rustmq(t, "", append(append([]string{"admin"}, words[:2]...), "--help")...); strings.Contains(help, "--url") || strings.Contains(help, "--token-file") || !strings.Contains(help, "--output") {
			t.Errorf("%s: %s", line, help)
		}
	}
	// verify has flags of that name of its own.
	if code, _, stderr := rustmq(t, "", "admin", "certs", "verify", "/nowhere.pem", "--cafile", "/nowhere.pem"); code != 1 || strings.Contains(stderr, "asks no server") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
