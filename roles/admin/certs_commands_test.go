package admin

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/ca"
)

// TestCertificatesByCommand goes the whole way of an operator, from an authority to a
// certificate that is refused, and what is not understood on it.
// It is one story, and as long as that.
func TestCertificatesByCommand(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	do := func(args ...string) string {
		t.Helper()
		out, err := run(t.Context(), "", args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	fails := func(want string, args ...string) error {
		t.Helper()
		out, err := run(t.Context(), "", args...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, %s; want %q", args, err, out, want)
		}
		return err
	}
	fails("rustmq admin ca init", "certs", "list")
	t.Setenv("RUSTMQ_CA_PASSPHRASE", "short")
	fails("want 8 at least", "ca", "init")
	if err := os.Unsetenv("RUSTMQ_CA_PASSPHRASE"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("empty", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("want a line of", "ca", "init", "--passphrase-file", "empty")
	var usage *UsageError
	if err := fails("want one of ecdsa", "ca", "init", "--no-passphrase", "--key", "dsa"); !errors.As(err, &usage) {
		t.Errorf("a wrong flag is %T", err)
	}
	if out := do("ca", "init", "--cn", "RustMQ Root CA", "--org", "MyOrg", "--no-passphrase"); !strings.Contains(out, "CN=RustMQ Root CA,O=MyOrg") || !strings.Contains(out, "rustmq-ca/bundle.pem") {
		t.Errorf("made: %s", out)
	}
	fails("it is not replaced: name another directory with --ca-dir", "ca", "init", "--no-passphrase")
	fails("which profile?", "certs", "issue", "alice")
	do("certs", "issue", "node-1", "--profile", "broker,controller", "--cluster", "prod", "--node", "1", "--host", "127.0.0.1", "--out", "certs")
	fails("`rustmq admin certs renew node-1 --out certs` replaces", "certs", "issue", "node-1", "--profile", "client", "--out", "certs")
	do("certs", "issue", "alice", "--profile", "client", "--out", "certs", "--key", "rsa-3072")
	for _, file := range []string{"node-1.pem", "node-1.key", "alice.pem", "bundle.pem", "crl.pem"} {
		info, err := os.Stat(filepath.Join("certs", file))
		if err != nil || strings.HasSuffix(file, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if out := do("certs", "verify", "certs/node-1.pem", "--use", "node", "--host", "127.0.0.1"); !strings.HasPrefix(out, "good\n  CN=node-1\n") {
		t.Errorf("a good one: %s", out)
	}
	fails("wrong usage", "certs", "verify", "certs/alice.pem", "--use", "server")
	fails("name the certificate's file, such as certs/alice.pem", "certs", "verify", "alice")
	fails("want one of server", "certs", "verify", "certs/alice.pem", "--use", "tea")
	do("certs", "renew", "node-1", "--out", "certs")
	if out := do("certs", "revoke", "alice", "--reason", "key-compromise"); !strings.Contains(out, "revoked") || !strings.Contains(out, "rustmq-ca/crl.pem") {
		t.Errorf("revoked: %s", out)
	}
	var v ca.Verdict
	out, err := run(t.Context(), "", "certs", "verify", "certs/alice.pem", "-o", "json")
	if json.Unmarshal([]byte(out), &v) != nil || v.Reason != ca.ReasonRevoked || err == nil {
		t.Errorf("a revoked one: %s, %v", out, err)
	}
	var all []struct{ Name, State string }
	if err := json.Unmarshal([]byte(do("certs", "list", "--all", "-o", "json")), &all); err != nil || len(all) != 3 || all[0].Name != "alice" || all[0].State != "revoked" || all[1].Name != "node-1" || all[2].Name != "node-1" {
		t.Errorf("the list: %+v, %v", all, err)
	}
	if out := do("certs", "show", "alice"); !strings.Contains(out, "subject     CN=alice") || !strings.Contains(out, "key-compromise") {
		t.Errorf("shown: %s", out)
	}
	fails("goes with --finish", "ca", "rotate", "--force")
	do("ca", "rotate")
	fails("renew or revoke them first", "ca", "rotate", "--finish")
	do("certs", "renew", "node-1", "--out", "certs")
	if out := do("ca", "rotate", "--finish"); strings.Count(out, "yes") != 3 {
		t.Errorf("rotated: %s", out)
	}
	do("ca", "lists")
	if out := do("certs", "verify", "certs/node-1.pem", "--use", "node"); !strings.HasPrefix(out, "good\n") {
		t.Errorf("after the rotation: %s", out)
	}
}

// TestRenewalOfWhatIsDue renews who has little time left, for as long as before, and nobody
// else; who had it done has nothing due.
func TestRenewalOfWhatIsDue(t *testing.T) {
	t.Chdir(t.TempDir())
	do := func(args ...string) string {
		t.Helper()
		out, err := run(t.Context(), "", args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	do("ca", "init", "--no-passphrase")
	do("certs", "issue", "node-1", "--profile", "broker,controller", "--cluster", "prod", "--node", "1", "--host", "127.0.0.1", "--days", "20", "--out", "certs")
	do("certs", "issue", "long", "--profile", "client", "--out", "certs")
	do("certs", "issue", "gone", "--profile", "client", "--days", "5", "--out", "certs")
	do("certs", "revoke", "gone")
	before, err := os.ReadFile("certs/node-1.pem")
	if err != nil {
		t.Fatal(err)
	}
	due := func(days string) (names []string) {
		t.Helper()
		var renewed []struct{ Name string }
		if err := json.Unmarshal([]byte(do("certs", "renew", "--due", days, "--out", "certs", "-o", "json")), &renewed); err != nil {
			t.Fatal(err)
		}
		for _, r := range renewed {
			names = append(names, r.Name)
		}
		return names
	}
	if names := due("19"); len(names) != 0 {
		t.Errorf("renewed before their time: %v", names)
	}
	if names := due("30"); len(names) != 1 || names[0] != "node-1" {
		t.Errorf("renewed: %v", names)
	}
	if after, err := os.ReadFile("certs/node-1.pem"); err != nil || string(after) == string(before) {
		t.Errorf("the file of node-1 is what it was: %v", err)
	}
	if out := do("certs", "verify", "certs/node-1.pem", "--use", "node", "--host", "127.0.0.1"); !strings.HasPrefix(out, "good\n") {
		t.Errorf("renewed: %s", out)
	}
	var all []struct {
		Name     string
		NotAfter time.Time `json:"not_after"`
	}
	if err := json.Unmarshal([]byte(do("certs", "list", "-o", "json")), &all); err != nil || len(all) != 3 {
		t.Fatalf("the list: %+v, %v", all, err)
	}
	if left := time.Until(all[2].NotAfter); all[2].Name != "node-1" || left < 19*24*time.Hour || left > 21*24*time.Hour {
		t.Errorf("node-1 is renewed for %v", left)
	}
	if out := do("certs", "renew", "--due", "10"); !strings.Contains(out, "no certificate ends within 10 days") {
		t.Errorf("nothing is due: %s", out)
	}
	for _, wrong := range [][]string{{"renew"}, {"renew", "node-1", "--due", "3"}, {"renew", "--due", "0"}, {"renew", "--due", "9", "--days", "0"}} {
		var usage *UsageError
		if _, err := run(t.Context(), "", append([]string{"certs"}, wrong...)...); !errors.As(err, &usage) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}
