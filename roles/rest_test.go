package roles_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/security/ca"
)

// restNode is a node whose clients show certificates, with its admin API over TLS.
func restNode(t *testing.T) (secured, *embed.Node, string) {
	t.Helper()
	s := newSecured(t)
	s.node(1, "127.0.0.1")
	in := func(name string) string { return filepath.Join(s.certs, name) }
	set := map[string]string{
		"network.tls": "on", "network.http_tls": "on",
		"security.tls.cert_file": in("node-1.pem"), "security.tls.key_file": in("node-1.key"),
		"security.tls.client_auth": "require", "security.tls.client_ca_file": in("bundle.pem"), "security.tls.crl_file": in("crl.pem"),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	n, err := embed.Start(ctx, embed.Options{Set: set, DataDir: dir})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return s, n, dir
}

// The admin API of a node whose clients prove who they are: by its own token, which commands of
// this user find, by a password, an API token, or a certificate; and nobody else gets in.
// It is one story, and as long as that.
func TestTheAdminAPIAsksOverTLS(t *testing.T) {
	s, n, dir := restNode(t)
	bundle := filepath.Join(s.certs, "bundle.pem")
	call := func(stdin string, args ...string) (int, string, string) {
		t.Helper()
		return rustmq(t, stdin, append([]string{"admin", "--url", "https://" + n.HTTP(), "--cafile", bundle}, args...)...)
	}
	works := func(args ...string) string {
		t.Helper()
		code, out, said := call("open sesame\n", args...)
		if code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, said)
		}
		return out
	}
	refused := func(says string, args ...string) {
		t.Helper()
		if code, out, said := call("", args...); code == 0 || !strings.Contains(said, says) {
			t.Errorf("%v: exit %d, %s%s; want %q", args, code, out, said, says)
		}
	}
	local := filepath.Join(dir, "admin.token")
	if info, err := os.Stat(local); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	works("users", "create", "alice") // who runs the node is known by its token
	works("topics", "create", "orders")
	password := filepath.Join(dir, "password")
	must(t, os.WriteFile(password, []byte("open sesame\n"), 0o600))
	wrong := filepath.Join(dir, "wrong")
	must(t, os.WriteFile(wrong, []byte("open sesamE\n"), 0o600))
	refused("rustmq admin acl create --principal alice --resource cluster --permissions describe", "brokers", "list", "--user", "alice", "--password-file", password)
	works("acl", "create", "--principal", "alice", "--resource", "cluster", "--permissions", "describe")
	works("brokers", "list", "--user", "alice", "--password-file", password)
	refused("not authenticated", "brokers", "list", "--user", "alice", "--password-file", wrong)
	refused("not authenticated", "brokers", "list", "--user", "bob", "--password-file", password)

	token := filepath.Join(dir, "token")
	must(t, os.WriteFile(token, []byte(works("tokens", "create", "ci", "--principal", "alice", "--read-only")), 0o600))
	if code, out, said := call("", "tokens", "list", "-o", "json"); code != 0 || !strings.Contains(out, `"read_only": true`) {
		t.Errorf("%d, %s%s", code, out, said)
	}
	works("brokers", "list", "--token-file", token)
	refused("read-only", "users", "delete", "alice", "--token-file", token)
	works("tokens", "revoke", "ci")
	refused("give --token-file FILE with a token that is valid", "brokers", "list", "--token-file", token)

	s.put(s.Issue(ca.Request{Name: "carol", Profile: ca.Client, Node: -1}))
	carol := []string{"brokers", "list", "--cert", filepath.Join(s.certs, "carol.pem"), "--cert-key", filepath.Join(s.certs, "carol.key")}
	refused("User:CN=carol may not describe cluster", carol...)
	works("acl", "create", "--principal", "CN=carol", "--resource", "cluster", "--permissions", "describe")
	works(carol...)
	_, err := s.Revoke("carol", "key-compromise")
	must(t, err)
	must(t, s.CopyTrust(s.certs))
	looks := time.NewTicker(50 * time.Millisecond)
	defer looks.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-looks.C {
		if code, _, said := call("", carol...); code != 0 {
			if !strings.Contains(said, "does not take the certificate") {
				t.Errorf("who is revoked is told %s", said)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("who is revoked goes on")
		}
	}

	if code, _, said := rustmq(t, "", "admin", "--url", "http://"+n.HTTP(), "topics", "list"); code == 0 || !strings.Contains(said, "speaks TLS: --url https://") {
		t.Errorf("in the clear: %d, %s", code, said)
	}
	if code, _, said := rustmq(t, "", "admin", "--url", "https://"+n.HTTP(), "topics", "list"); code == 0 || !strings.Contains(said, "--cafile") {
		t.Errorf("of an authority that is not trusted: %d, %s", code, said)
	}
	strangers := s.client("")
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: strangers, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusOK, "/api/v1/topics": http.StatusUnauthorized, "/api/v1/openapi.json": http.StatusUnauthorized} {
		resp, err := web.Get("https://" + n.HTTP() + path)
		must(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	old := strangers.Clone()
	old.MaxVersion = tls.VersionTLS12
	if conn, err := tls.Dial("tcp", n.HTTP(), old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

// A context says who calls, and the note of a server goes with it.
func TestAContextSaysWhoCallsTheAdminAPI(t *testing.T) {
	s, n, dir := restNode(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	bundle := filepath.Join(s.certs, "bundle.pem")
	if code, _, said := rustmq(t, "", "context", "add", "here", "--url", n.HTTP(), "--tls", "--cafile", bundle, "--admin-token-file", filepath.Join(dir, "admin.token")); code != 0 {
		t.Fatal(said)
	}
	if code, _, said := rustmq(t, "", "admin", "topics", "list"); code != 0 {
		t.Errorf("by the context: %s", said)
	}
	if code, _, said := rustmq(t, "", "admin", "--url", "http://10.0.0.1:9642", "topics", "list"); code != 2 || !strings.Contains(said, "would be shown to the network") {
		t.Errorf("a token in the clear: %d, %s", code, said)
	}
}

// On loopback a node that asks its clients asks for the API too, in the clear: a password, and
// a token of the identity provider that is signed as it must be, get in.
func TestTheAdminAPITakesTokensOfTheIdentityProvider(t *testing.T) {
	n, i := securedNode(t, "")
	shared := []byte("0123456789abcdef0123456789abcdef")
	for what, c := range map[string]struct {
		header string
		want   int
	}{
		"a token":               {"Bearer " + i.token(t, jose.ES256, i.key, "carol", time.Hour), http.StatusOK},
		"one that has ended":    {"Bearer " + i.token(t, jose.ES256, i.key, "carol", -time.Minute), http.StatusUnauthorized},
		"one of a shared key":   {"Bearer " + i.token(t, jose.HS256, shared, "carol", time.Hour), http.StatusUnauthorized},
		"one without signature": {"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYXJvbCJ9.", http.StatusUnauthorized},
		"a password":            {"Basic " + base64.StdEncoding.EncodeToString([]byte("alice:open sesame")), http.StatusOK},
		"nothing":               {"", http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.HTTP()+"/api/v1/session", nil)
		must(t, err)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		said, _ := io.ReadAll(resp.Body)
		if resp.Body.Close(); resp.StatusCode != c.want {
			t.Errorf("%s: %s, %s", what, resp.Status, said)
		}
	}
}
