package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
)

// routeBodies are of calls that are taken, by method and path of the route.
func routeBodies() map[string]string {
	return map[string]string{
		"POST /api/v1/topics": `{"name":"made"}`, "PATCH /api/v1/topics/{name}": `{}`, "POST /api/v1/topics/{name}/partitions": `{"total":2}`, "POST /api/v1/topics/{name}/records": `{"value":"x"}`, "POST /api/v1/topics/{name}/delete-records": `{"partitions":[{"partition":0,"before":1}]}`,
		"PATCH /api/v1/config": `{"set":{"operations.log_level":"info"}}`, "PATCH /api/v1/quotas": `{"set":{"request_percentage":1}}`, "POST /api/v1/acls": `{"acls":[]}`, "POST /api/v1/acls/check": `{"principal":"a","resource_type":"topic","name":"t","operation":"read"}`,
		"POST /api/v1/users": `{"name":"u","password":"xxxxxxxx"}`, "PUT /api/v1/users/{name}/password": `{"password":"xxxxxxxx"}`,
		"POST /api/v1/brokers/{id}/drain": `{"draining":true}`, "POST /api/v1/cluster/rebalance": `{"dry_run":true}`, "POST /api/v1/tokens": `{"name":"x","principal":"other"}`,
		"POST /api/v1/controllers": `{"id":9}`, "POST /api/v1/groups/{group}/reset-offsets": `{"to":"latest"}`, "POST /api/v1/storage/check": `{}`,
		"POST /api/v1/session/may": `{"calls":[]}`, "POST /api/v1/session": `{"user":"u","password":"x"}`, "POST " + modulesPath + "/{name}/versions": `{"battery":"upper","spec":{}}`, "POST " + modulesPath + "/{name}/enable": `{}`,
		"POST " + modulesPath + "/{name}/disable": `{}`, "POST " + modulesPath + "/{name}/rollback": `{}`, "POST " + modulesPath + "/{name}/test": `{"sample":[]}`, "POST " + uploadsPath: "x",
	}
}

// Each route is refused to who may do nothing, unless its row says that it is for whoever is
// known, and served to who has what the row says.
func TestEveryRouteAsksForWhatItsRowSays(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.RequestsPerIP, o.Requests = 100_000, 100_000 })
	nobody := a.token("nobody", "nobody", false, time.Time{})
	fills := strings.NewReplacer("{name}", "ghost", "{id}", "9", "{group}", "ghost")
	for _, row := range a.s.rows {
		name := row.Method + " " + row.Path
		body := routeBodies()[name]
		call := func(token string) *httptest.ResponseRecorder {
			return a.do(row.Method, fills.Replace(row.Path), body, "Authorization", "Bearer "+token)
		}
		w := call(nobody)
		if row.Needs == "" {
			if row.Path != tokensPath && (w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized && row.Path != sessionPath) {
				t.Errorf("%s asks for nothing, and answers %d %s", name, w.Code, w.Body)
			}
			continue
		}
		a.want(name+", nobody", http.StatusForbidden, w, "AUTHORIZATION_FAILED", "rustmq admin acl create --principal nobody")
		full := "full" + strings.NewReplacer("/", "-", "{", "", "}", "", " ", "").Replace(name)
		text := a.token(full, full, false, time.Time{})
		for _, words := range strings.Split(strings.ReplaceAll(row.Needs, ", or ", ", and "), ", and ") {
			op, on, _ := strings.Cut(words, " on the ")
			operation, err1 := acl.ParseOperation(op)
			resource, err2 := acl.ParseResourceType(on)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			name := "ghost"
			switch {
			case row.Path == "/api/v1/topics":
				name = "made"
			case strings.HasPrefix(row.Path, auditPath):
				name = broker.AuditTopic
			}
			a.allow(full, operation, resource, name)
		}
		if w := call(text); w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized {
			t.Errorf("%s, with its rules: %d %s", name, w.Code, w.Body)
		}
	}
}

// Of lists, only what the caller may see is shown.
func TestListsHideWhatTheCallerMayNotSee(t *testing.T) {
	a := newAsking(t)
	text := a.token("t", "alice", false, time.Time{})
	topics := func() string {
		var all struct{ Topics []Topic }
		if err := json.Unmarshal(a.do(http.MethodGet, "/api/v1/topics", "", "Authorization", "Bearer "+text).Body.Bytes(), &all); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range all.Topics {
			names = append(names, one.Name)
			if len(one.Configs) > 0 {
				names = append(names, one.Configs["min.insync.replicas"])
			}
		}
		return strings.Join(names, " ")
	}
	if got := topics(); got != "" {
		t.Errorf("without a rule: %s", got)
	}
	a.allow("alice", acl.Describe, acl.Topic, "orders")
	if got := topics(); got != "orders" {
		t.Errorf("with describe: %s", got)
	}
	a.allow("alice", acl.DescribeConfigs, acl.Topic, "orders")
	if got := topics(); got != "orders 2" {
		t.Errorf("with describe-configs: %s", got)
	}
}

// Of a group, and of its offsets, a caller sees and sets those of topics that it may.
func TestGroupsHideTopicsThatTheCallerMayNotSee(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.token("t", "alice", false, time.Time{})}
	a.allow("alice", acl.Read, acl.Group, "ghost")
	list := a.do(http.MethodGet, groupsPath, "", as...)
	if a.want("list", http.StatusOK, list, "ghost"); strings.Contains(list.Body.String(), "other") {
		t.Error(list.Body)
	}
	reset := func(body string) *httptest.ResponseRecorder {
		return a.do(http.MethodPost, groupsPath+"/ghost/reset-offsets", body, as...)
	}
	a.allow("alice", acl.Read, acl.Topic, "one")
	is := a.do(http.MethodGet, groupsPath+"/ghost", "", as...)
	if a.want("describe", http.StatusOK, is, "one"); strings.Contains(is.Body.String(), "orders") {
		t.Error(is.Body)
	}
	a.want("all topics", http.StatusForbidden, reset(`{"all_topics":true,"to":"latest","execute":true}`), "may not read topic.orders")
	a.want("another's", http.StatusForbidden, reset(`{"topics":[{"topic":"one"},{"topic":"orders"}],"to":"latest","execute":true}`), "topic.orders")
	a.want("one's own", http.StatusOK, reset(`{"topics":[{"topic":"one"}],"to":"latest","execute":true}`), `"executed":true`)
	a.allow("alice", acl.Read, acl.Topic, "orders")
	a.want("all of one's own", http.StatusOK, reset(`{"all_topics":true,"to":"latest","execute":true}`), `"executed":true`)
}

// rows of the routes say in words what they ask for; every route has one.
func TestARouteWithoutARowDoesNotStart(t *testing.T) {
	a := newAsking(t)
	if len(a.s.rows) < 20 || !slices.ContainsFunc(a.s.rows, func(r Row) bool { return r.Path == "/api/v1/topics/{name}" && r.Needs == "delete on the topic" }) {
		t.Errorf("%+v", a.s.rows)
	}
	defer func() {
		if said := recover(); said == nil {
			t.Error("it starts")
		}
	}()
	h := &routes{API: humago.New(http.NewServeMux(), huma.DefaultConfig("rustmq", "v"))}
	huma.Get(h.API, "/api/v1/forgotten", func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	h.checkRows()
}

// docs/admin-authorisation.md says what the code asks for.
func TestDocumentIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/admin-authorisation.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Document(Rows()) {
		t.Error("docs/admin-authorisation.md is stale: run make generate")
	}
}
