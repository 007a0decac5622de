package admin

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What was changed since it was read is not changed by who has not seen that.
func TestAChangeOfWhatIsAnotherByNowIsRefused(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.local}
	call := func(method, path, body, match string) *httptest.ResponseRecorder {
		headers := as
		if match != "" {
			headers = append([]string{"If-Match", match}, as...)
		}
		return a.do(method, path, body, headers...)
	}
	tag := func(path string) string {
		t.Helper()
		w := call(http.MethodGet, path, "", "")
		if w.Code != http.StatusOK || w.Header().Get("ETag") == "" {
			t.Fatalf("%s: %d, ETag %q", path, w.Code, w.Header().Get("ETag"))
		}
		return w.Header().Get("ETag")
	}
	a.user("alice", "open sesame")
	a.want("deploy", http.StatusCreated, call(http.MethodPost, modulesPath+"/m/versions", `{"battery":"upper","spec":{"mode":"inline","topics":["one"]}}`, ""))
	for _, c := range []struct{ get, method, path, body string }{
		{"/api/v1/topics/orders", http.MethodPatch, "/api/v1/topics/orders", `{"set":{"retention.ms":"1000"}}`},
		{"/api/v1/topics/orders", http.MethodPost, "/api/v1/topics/orders/partitions", `{"total":13}`},
		{"/api/v1/topics/orders", http.MethodDelete, "/api/v1/topics/orders", ""},
		{"/api/v1/acls", http.MethodPost, "/api/v1/acls", `{"acls":[{"principal":"User:a","host":"*","resource_type":"topic","pattern":"literal","name":"t","operation":"read","permission":"allow"}]}`},
		{"/api/v1/acls", http.MethodDelete, "/api/v1/acls?all=true", ""},
		{"/api/v1/users", http.MethodPut, "/api/v1/users/alice/password", `{"password":"another one"}`},
		{"/api/v1/users", http.MethodPost, "/api/v1/users", `{"name":"bob","password":"open sesame"}`},
		{"/api/v1/users", http.MethodDelete, "/api/v1/users/alice", ""},
		{"/api/v1/quotas", http.MethodPatch, "/api/v1/quotas", `{"user":"alice","set":{"request_percentage":5}}`},
		{"/api/v1/config", http.MethodPatch, "/api/v1/config", `{"set":{"operations.log_level":"debug"}}`},
		{"/api/v1/config", http.MethodPatch, "/api/v1/config", `{"broker":3,"set":{"operations.log_level":"debug"}}`},
		{"/api/v1/config", http.MethodPatch, "/api/v1/config", `{"broker":3,"delete":["operations.log_level"]}`},
		{"/api/v1/brokers/3", http.MethodPost, "/api/v1/brokers/3/drain", `{"draining":true}`},
		{modulesPath + "/m", http.MethodPost, modulesPath + "/m/disable", `{}`},
		{modulesPath + "/m", http.MethodDelete, modulesPath + "/m?force=true", ""},
	} {
		name := c.method + " " + c.path
		before := tag(c.get)
		if again := tag(c.get); again != before {
			t.Errorf("%s: two looks, two tags", c.get)
		}
		for _, other := range []string{`"another"`, `"a", "b"`, "W/" + before, before[:len(before)-1]} {
			a.want(name+", of another", http.StatusPreconditionFailed, call(c.method, c.path, c.body, other), "read it again")
		}
		if tag(c.get) != before {
			t.Errorf("%s: it was changed though it was refused", name)
		}
		w := call(c.method, c.path, c.body, `"x", `+before)
		if w.Code >= http.StatusBadRequest {
			t.Errorf("%s, as it was seen: %d %s", name, w.Code, w.Body)
		}
		if w := call(c.method, c.path, c.body, before); w.Code != http.StatusPreconditionFailed {
			t.Errorf("%s, a second time: %d %s", name, w.Code, w.Body)
		}
	}
	a.want("of what is not there", http.StatusPreconditionFailed, call(http.MethodPatch, "/api/v1/topics/orders", `{}`, "*"), "not there")
	a.want("of what is", http.StatusOK, call(http.MethodPatch, "/api/v1/topics/one", `{"set":{"retention.ms":"5"}}`, "*"))
	a.want("who may not is told so first", http.StatusForbidden, a.do(http.MethodPatch, "/api/v1/topics/one", `{}`, "If-Match", `"x"`, "Authorization", "Bearer "+a.token("n", "nobody", false, time.Time{})))
}

// Of many who have seen the same, one changes it.
func TestOneOfManyChangesWhatAllHaveSeen(t *testing.T) {
	a := newAsking(t)
	a.user("alice", "open sesame")
	a.want("deploy", http.StatusCreated, a.do(http.MethodPost, modulesPath+"/m/versions", `{"battery":"upper","spec":{"mode":"inline","topics":["one"]}}`, "Authorization", "Bearer "+a.local))
	for _, c := range []struct{ get, method, path, body string }{
		{"/api/v1/topics/one", http.MethodPatch, "/api/v1/topics/one", `{"set":{"retention.ms":"77"}}`},
		{"/api/v1/topics/one", http.MethodPost, "/api/v1/topics/one/partitions", `{"total":7}`},
		{"/api/v1/config", http.MethodPatch, "/api/v1/config", `{"set":{"network.max_connections":"77"}}`},
		{"/api/v1/quotas", http.MethodPatch, "/api/v1/quotas", `{"user":"alice","set":{"request_percentage":7}}`},
		{"/api/v1/acls", http.MethodPost, "/api/v1/acls", `{"acls":[{"principal":"User:a","host":"*","resource_type":"topic","pattern":"literal","name":"t","operation":"read","permission":"allow"}]}`},
		{"/api/v1/users", http.MethodPut, "/api/v1/users/alice/password", `{"password":"another one"}`},
		{"/api/v1/brokers/3", http.MethodPost, "/api/v1/brokers/3/drain", `{"draining":true}`},
		{modulesPath + "/m", http.MethodPost, modulesPath + "/m/disable", `{}`},
	} {
		seen := a.do(http.MethodGet, c.get, "", "Authorization", "Bearer "+a.local).Header().Get("ETag")
		var changed atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				w := a.do(c.method, c.path, c.body, "If-Match", seen, "Authorization", "Bearer "+a.local)
				switch w.Code {
				case http.StatusOK, http.StatusCreated, http.StatusNoContent:
					changed.Add(1)
				case http.StatusPreconditionFailed:
				default:
					t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
				}
			})
		}
		if all.Wait(); changed.Load() != 1 {
			t.Errorf("%s: %d have changed it", c.path, changed.Load())
		}
	}
}
