package admin

import (
	"encoding/json"
	"net/http"
	"testing"
)

// A number that is too large for what it names names nothing: it is not another one, of which
// the higher bits were lost.
func TestNumbersInPathsAreWhole(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.local}
	for _, c := range []struct{ method, path, body string }{
		{http.MethodGet, "/api/v1/brokers/4294967299", ""}, {http.MethodDelete, "/api/v1/brokers/4294967299", ""}, {http.MethodGet, "/api/v1/brokers/4294967299/replicas", ""},
		{http.MethodPost, "/api/v1/brokers/4294967299/drain", `{"draining":true}`}, {http.MethodPost, "/api/v1/brokers/4294967299/decommission", ""},
		{http.MethodGet, "/api/v1/topics/one/records?partition=4294967296", ""}, {http.MethodDelete, modulesPath + "/m?version=4294967297", ""},
	} {
		a.want(c.method+" "+c.path, http.StatusUnprocessableEntity, a.do(c.method, c.path, c.body, as...))
	}
	if b, _ := a.c.Image().Broker(3); b.Draining {
		t.Error("broker 3 is drained")
	}
	// Whatever is added is bounded too.
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct {
					Type    any
					Format  string
					Maximum *float64
				}
			}
		}
	}
	if err := json.Unmarshal(a.do(http.MethodGet, "/api/v1/openapi.json", "", as...).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			for _, p := range op.Parameters {
				if p.Schema.Type == "integer" && p.Schema.Format == "int32" && (p.Schema.Maximum == nil || *p.Schema.Maximum > 1<<31-1) {
					t.Errorf("%s %s: %s has no bound, and a larger number would be taken for another", method, path, p.Name)
				}
			}
		}
	}
}
