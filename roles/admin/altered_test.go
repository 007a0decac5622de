package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/acl"
)

// Who may alter configurations of a topic is told of them, and of nothing else of it.
func TestWhoAltersIsToldOfConfigurationsAlone(t *testing.T) {
	a := newAsking(t)
	a.allow("alice", acl.AlterConfigs, acl.Topic, "orders")
	as := []string{"Authorization", "Bearer " + a.token("t", "alice", false, time.Time{})}
	for _, body := range []string{`{"set":{"retention.ms":"1000"},"dry_run":true}`, `{"set":{"retention.ms":"1000"}}`} {
		is := a.do(http.MethodPatch, "/api/v1/topics/orders", body, as...)
		a.want("alter", http.StatusOK, is, `"retention.ms":"1000"`)
		var told Topic
		if err := json.Unmarshal(is.Body.Bytes(), &told); err != nil {
			t.Fatal(err)
		}
		if told.Configs = nil; !reflect.DeepEqual(told, Topic{Name: "orders"}) {
			t.Errorf("it is told %+v", told)
		}
	}
	a.allow("alice", acl.Describe, acl.Topic, "orders")
	a.want("with describe", http.StatusOK, a.do(http.MethodPatch, "/api/v1/topics/orders", `{"set":{"retention.ms":"2000"}}`, as...), `"partitions":12`)
}

// Who may alter configurations may see what that would do.
func TestWhoAltersMaySeeWhatThatWouldDo(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.TLS, o.Reachable = nil, false })
	s := httptest.NewServer(a.s.http.Handler)
	t.Cleanup(s.Close)
	a.allow("alice", acl.AlterConfigs, acl.Topic, "orders")
	alter := func(args ...string) string {
		t.Helper()
		out, err := run(t.Context(), s.URL, append([]string{"topics", "alter", "orders", "--token-file", fileOf(t, "token", a.token(strings.Join(args, ""), "alice", false, time.Time{}))}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out), " ")
	}
	if out := alter("--set", "retention.ms=77", "--dry-run"); !strings.Contains(out, "retention.ms (default) 77 topic orders could be altered; nothing was changed") {
		t.Error(out)
	}
	alter("--set", "retention.ms=78")
	if out := alter("--delete", "retention.ms", "--dry-run"); !strings.Contains(out, "retention.ms 78 (default)") {
		t.Error(out)
	}
}
