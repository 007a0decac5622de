package roles_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealthAsksTheProcess of its configuration: it is well; it is not; it does not answer;
// it shows another's certificate.
func TestHealthAsksTheProcess(t *testing.T) {
	port := func(address string) string {
		_, port, err := net.SplitHostPort(address)
		must(t, err)
		return "network.http_port=" + port
	}
	asks := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := rustmq(t, "", append([]string{"health"}, args...)...)
		if got != code || !strings.Contains(stdout+stderr, want) {
			t.Errorf("health %v: exit %d, %s%s; want %d, %q", args, got, stdout, stderr, code, want)
		}
	}
	plain := serve(t, "--ephemeral")
	asks(0, "ok", "--set", port(plain.says.HTTP))
	asks(0, "ok", "--ready", "--set", port(plain.says.HTTP))

	dir, other := t.TempDir(), t.TempDir()
	secured := serve(t, "--data-dir", dir, "--set", "network.http_tls=on")
	serve(t, "--data-dir", other, "--set", "network.http_tls=on")
	secure := []string{"--set", "network.http_tls=on", "--set", port(secured.says.HTTP)}
	asks(0, "ok", append(secure, "--data-dir", dir, "--ready")...)
	asks(1, "certificate", append(secure, "--data-dir", other)...)
	asks(1, "read the certificate that the node shows", append(secure, "--data-dir", t.TempDir())...)

	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not well, at "+r.URL.Path, http.StatusServiceUnavailable)
	}))
	address := sick.Listener.Addr().String()
	asks(1, "not well, at /healthz", "--set", port(address))
	asks(1, "not well, at /readyz", "--ready", "--set", port(address))
	sick.Close()
	asks(1, "connection refused", "--set", port(address))
	asks(2, "any free one", "--ports", "free")
}
