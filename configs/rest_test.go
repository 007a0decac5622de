package configs_test

import (
	"slices"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
)

// Where the admin API is bound, whether over TLS, and whom it asks: what others reach asks
// them, over TLS, or an operator insists.
func TestWhereTheAdminAPIIs(t *testing.T) {
	asks := []string{"network.tls=on", "security.sasl.mechanisms=SCRAM-SHA-512"}
	elsewhere := []string{"network.bind=10.0.0.1"}
	insists := []string{"security.allow_insecure=true"}
	for _, w := range []struct {
		what    string
		set     [][]string
		refused string
		bind    string
		tls     bool
		asks    bool
		metrics bool
	}{
		{what: "a laptop", bind: "127.0.0.1"},
		{what: "clients asked, on loopback", set: [][]string{asks}, bind: "127.0.0.1", asks: true},
		{what: "clients asked, elsewhere", set: [][]string{asks, elsewhere}, bind: "10.0.0.1", tls: true, asks: true, metrics: true},
		{what: "open metrics", set: [][]string{asks, elsewhere, {"security.rest.metrics=open"}}, bind: "10.0.0.1", tls: true, asks: true},
		{what: "metrics that ask, on loopback", set: [][]string{asks, {"security.rest.metrics=ask"}}, bind: "127.0.0.1", asks: true, metrics: true},
		{what: "clients asked, the API without TLS", set: [][]string{asks, elsewhere, {"network.http_tls=off"}}, bind: "127.0.0.1", asks: true},
		{what: "clients asked, the API asks nobody", set: [][]string{asks, elsewhere, {"security.rest.authentication=off"}}, bind: "127.0.0.1"},
		{what: "TLS for an API that asks nobody", set: [][]string{asks, elsewhere, {"security.rest.authentication=off", "network.http_tls=on"}}, bind: "127.0.0.1", tls: true},
		{what: "TLS on loopback", set: [][]string{{"network.http_tls=on"}}, bind: "127.0.0.1", tls: true},
		{what: "only the API asks", set: [][]string{{"security.rest.authentication=on"}}, bind: "127.0.0.1", asks: true},
		{what: "the operator insists", set: [][]string{elsewhere, insists}, bind: "10.0.0.1"},
		{what: "the operator insists, clients are asked", set: [][]string{asks, elsewhere, insists}, bind: "10.0.0.1", tls: true, asks: true, metrics: true},
		{what: "secrets in the clear", set: [][]string{asks, elsewhere, insists, {"network.http_tls=off"}}, refused: "would show passwords and tokens"},
		{what: "metrics that ask nobody", set: [][]string{{"security.rest.metrics=ask"}}, refused: "nobody is asked who calls"},
		{what: "a session that ends before it is idle", set: [][]string{{"security.rest.max_session=20m"}}, refused: "out of range"},
	} {
		c, err := configs.Load(configs.Sources{Set: slices.Concat(w.set...)})
		if w.refused != "" {
			if err == nil || !strings.Contains(err.Error(), w.refused) {
				t.Errorf("%s: %v; want %q", w.what, err, w.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", w.what, err)
			continue
		}
		if c.HTTPBind() != w.bind || c.HTTPTLS() != w.tls || c.RESTAsks() != w.asks || c.MetricsAsk() != w.metrics {
			t.Errorf("%s: bound to %s, TLS %v, asks %v, metrics too %v", w.what, c.HTTPBind(), c.HTTPTLS(), c.RESTAsks(), c.MetricsAsk())
		}
	}
}
