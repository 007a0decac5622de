package admin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/test/seeded"
)

// may asks which of some calls it may make.
func (a *asking) may(token string, calls ...string) []bool {
	a.t.Helper()
	body, _ := json.Marshal(map[string]any{"calls": calls})
	w := a.do(http.MethodPost, mayPath, string(body), "Authorization", "Bearer "+token)
	a.want("may", http.StatusOK, w)
	var out struct{ Allowed []bool }
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Allowed) != len(calls) {
		a.t.Fatalf("%v: %s", err, w.Body)
	}
	return out.Allowed
}

// For whoever has whatever rules, a page is told that a call is allowed exactly where the route
// does not refuse it.
func TestMayAnswersAsTheRoutesDo(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.RequestsPerIP, o.Requests = 1_000_000, 1_000_000 })
	random := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	var needs []need
	for _, row := range a.s.rows {
		for _, words := range strings.Split(strings.ReplaceAll(row.Needs, ", or ", ", and "), ", and ") {
			op, on, there := strings.Cut(words, " on the ")
			if there {
				operation, _ := acl.ParseOperation(op)
				resource, _ := acl.ParseResourceType(on)
				needs = append(needs, need{operation, resource})
			}
		}
	}
	names := []string{"ghost", "made", broker.AuditTopic, "other"}
	allowed, refused := 0, 0
	for n := range 12 {
		user := fmt.Sprintf("user-%d", n)
		a.remote = fmt.Sprintf("10.0.1.%d:1234", n) // of one address few calls that are heavy are taken
		for range n {                               // the first has nothing
			one := needs[random.IntN(len(needs))]
			a.allow(user, one.op, one.on, names[random.IntN(len(names))])
		}
		readOnly := n%4 == 3
		token := a.token(user, user, readOnly, time.Time{})
		for _, row := range a.s.rows {
			if row.Path == sessionPath || row.Path == tokensPath || row.Path == tokensPath+"/{name}" {
				continue // they look at who calls, not at rules
			}
			path := strings.NewReplacer("{name}", "ghost", "{id}", "9", "{group}", "ghost").Replace(row.Path)
			call, body := row.Method+" "+path, routeBodies()[row.Method+" "+row.Path]
			if body != "" {
				call += " " + body
			}
			told := a.may(rightsOf(a, user), call)[0]
			w := a.do(row.Method, path, body, "Authorization", "Bearer "+token)
			if readOnly { // what only looks is asked as itself; the rest its token refuses
				told = told && row.Method == http.MethodGet
			}
			if told == (w.Code == http.StatusForbidden) {
				t.Errorf("%s: may says %v to %s, and the route %d %.200s", call, told, user, w.Code, w.Body)
			}
			if told {
				allowed++
			} else {
				refused++
			}
		}
	}
	if allowed < 50 || refused < 50 {
		t.Errorf("%d calls were allowed, %d refused", allowed, refused)
	}
}

// rightsOf is a whole token of a user, by which it asks what it may.
func rightsOf(a *asking, user string) string {
	name := "whole-" + user
	if text, made := a.whole[name]; made {
		return text
	}
	if a.whole == nil {
		a.whole = map[string]string{}
	}
	a.whole[name] = a.token(name, user, false, time.Time{})
	return a.whole[name]
}

// A call that does not say what it is about is allowed where it may be about something.
func TestMayOfAnything(t *testing.T) {
	a := newAsking(t)
	token := a.token("t", "alice", false, time.Time{})
	calls := []string{"POST /api/v1/topics", `POST /api/v1/topics {"name":"mine"}`, `POST /api/v1/topics {"name":"other"}`, "POST /api/v1/topics {", "DELETE /api/v1/topics/mine", "DELETE /api/v1/topics/a%2Fb"}
	is := func(want ...bool) {
		t.Helper()
		if got := a.may(token, calls...); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	is(false, false, false, false, false, false)
	a.allow("alice", acl.Create, acl.Topic, "mine")
	is(true, true, false, true, false, false)
	a.allow("alice", acl.Delete, acl.Topic, "a/b")
	is(true, true, false, true, false, true)
	a.allow("alice", acl.Create, acl.Cluster, "")
	is(true, true, true, true, false, true)
}

// Whose token it is decides who may revoke it, and that is told before.
func TestMayOfATokenOfAnother(t *testing.T) {
	a := newAsking(t)
	looks, own := a.token("looks", "alice", false, time.Time{}), "DELETE /api/v1/tokens/looks"
	a.allow("alice", acl.Describe, acl.Cluster, "")
	a.token("others", "bob", false, time.Time{})
	calls := []string{own, "DELETE /api/v1/tokens/others", "DELETE /api/v1/tokens/ghost"}
	is := func(want ...bool) {
		t.Helper()
		if got := a.may(looks, calls...); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	is(true, false, false)
	a.want("one of another", http.StatusForbidden, a.do(http.MethodDelete, "/api/v1/tokens/others", "", "Authorization", "Bearer "+looks))
	a.allow("alice", acl.CreateTokens, acl.User, "User:bob")
	is(true, true, false)
	a.want("one of another", http.StatusNoContent, a.do(http.MethodDelete, "/api/v1/tokens/others", "", "Authorization", "Bearer "+looks))
}

// What there is not nobody may call, also where nobody is asked.
func TestMayOfWhatIsNotThere(t *testing.T) {
	a := newAsking(t)
	for call, want := range map[string]bool{
		"GET /api/v1/brokers": true, "GET /api/v1/brokers?x=y": true, "GET /api/v1/nothing": false, "PUT /api/v1/brokers": false, "GET /api/v1/brokers/9/": false,
		"": false, "GET": false, "GET /api/v1/topics/%zz": false, "GET /debug/logs": true, "GET /api/v1/brokers/9": true, "get /api/v1/brokers": false,
	} {
		if got := a.may(a.local, call)[0]; got != want {
			t.Errorf("%q: %v", call, got)
		}
	}
	a.want("too many", http.StatusUnprocessableEntity, a.do(http.MethodPost, mayPath, `{"calls":[`+strings.Repeat(`"x",`, 100)+`"x"]}`, "Authorization", "Bearer "+a.local))
	open := askingOf(t, a.c, func(o *Options) { o.Access = nil })
	open.want("where nobody is asked", http.StatusOK, open.do(http.MethodPost, mayPath, `{"calls":["DELETE /api/v1/topics/x","GET /api/v1/nothing"]}`), "[true,false]")
	open.want("who it is, where nobody is asked", http.StatusOK, open.do(http.MethodGet, sessionPath, ""), `"open":true`)
}
