package admin

import (
	"encoding/json"
	"net/http"
	"reflect"
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
