package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A page of another site has names of its own rebound to this machine, and an Origin.
// Whoever is no page calls the server as its network does.
func TestWhoMayCallByWhichName(t *testing.T) {
	const other = "/api"
	for _, c := range []struct {
		host, origin string
		reachable    bool
		path         string
		ok           bool
	}{
		{host: "127.0.0.1:9642", path: other, ok: true},
		{host: "[::1]:9642", path: other, ok: true},
		{host: "[::1]", path: other, ok: true},
		{host: "10.0.0.7", path: other, ok: true},
		{host: "localhost:9642", path: other, ok: true},
		{host: "LOCALHOST", path: other, ok: true},
		{host: "localhost.:9642", path: other, ok: true},
		{host: "vm.example:9642", path: other, ok: true},
		{host: "VM.example.:9642", path: other, ok: true},
		{host: "vm", path: other, ok: true},
		{host: "", path: other, reachable: true},
		{host: ".", path: other, reachable: true},
		{host: "evil.example:9642", path: other, reachable: true},
		{host: "localhost.evil.example", path: other, reachable: true},
		{host: "evil.example", path: metricsPath},
		{host: "evil.example", path: readyPath},
		{host: "broker-0.svc:9642", path: metricsPath, reachable: true, ok: true},
		{host: "broker-0.svc:9642", path: readyPath, reachable: true, ok: true},
		{host: "broker-0.svc", path: healthPath, reachable: true, ok: true},
		{host: "broker-0.svc", path: healthPath + "/", reachable: true},
		{host: "broker-0.svc", path: metricsPath, reachable: true, origin: "http://broker-0.svc"},
		{host: "127.0.0.1:9642", path: other, origin: "null"},
		{host: "vm", path: metricsPath, origin: "http://vm"},
	} {
		s := New(Options{
			Metrics: prometheus.NewRegistry(), Ready: func() error { return nil }, Healthy: func() error { return nil },
			Names: []string{"vm", "vm.example", ""}, Reachable: c.reachable,
		})
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if ok := w.Code != http.StatusForbidden; ok != c.ok {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
		if !c.ok && c.origin == "" && !strings.Contains(w.Body.String(), `"`+c.host+`"`) {
			t.Errorf("%q is not told what is wrong with it: %s", c.host, w.Body)
		}
	}
}
