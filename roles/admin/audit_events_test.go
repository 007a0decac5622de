package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rustmq.dev/rustmq/security/audit"
)

// told returns what was recorded of acts and denials since the last time.
func (r *recorded) told() string {
	var lines []string
	for _, e := range r.events {
		if e.Action != audit.Login {
			lines = append(lines, fmt.Sprintf("%s %s %s/%s (%s) %.40s", e.Action, e.Outcome, e.ResourceType, e.Resource, e.Detail, e.Reason))
		}
	}
	r.events = nil
	return strings.TrimSpace(strings.Join(lines, "; "))
}

// The record of a call says what it has done, each thing alone, as that of Kafka's does; and of
// what changes nothing there is none.
func TestTheRecordSaysWhatWasDone(t *testing.T) {
	r := &recorded{}
	a := newAsking(t, func(o *Options) { o.Audit = r })
	a.user("alice", "open sesame")
	rule := func(name, op string) string {
		return fmt.Sprintf(`{"principal":"User:alice","host":"*","resource_type":"topic","pattern":"literal","name":%q,"operation":%q,"permission":"allow"}`, name, op)
	}
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/api/v1/topics", `{"name":"t","partitions":2,"configs":{"retention.ms":"5","cleanup.policy":"delete"}}`, "topic.create allowed topic/t (partitions=2 replication_factor=0 configs=cleanup.policy,retention.ms)"},
		{http.MethodPost, "/api/v1/topics", `{"name":"v","dry_run":true}`, ""},
		{http.MethodPost, "/api/v1/topics/t/partitions", `{"total":3}`, "topic.create-partitions allowed topic/t (partitions=3)"},
		{http.MethodPatch, "/api/v1/topics/t", `{"set":{"retention.ms":"9"},"dry_run":true}`, ""},
		{http.MethodPost, "/api/v1/topics/t/records", `{"partition":1,"key":"secret","value":"no secret","headers":[{"key":"h"}]}`, "topic.produce allowed topic/t (partition=1 key_bytes=6 value_bytes=9 headers=1)"},
		{http.MethodPost, "/api/v1/topics/t/delete-records", `{"partitions":[{"partition":1,"before":2}]}`, "topic.delete-records allowed topic/t (partition=1 before=2)"},
		{http.MethodPost, "/api/v1/topics/t/delete-records", `{"partitions":[{"partition":1,"before":2},{"partition":0,"before":9999}]}`, "topic.delete-records allowed topic/t (partition=1 before=2) ; topic.delete-records failed topic/t (partition=0 before=9999) it has none of those"},
		{http.MethodDelete, "/api/v1/groups/g/offsets?topic=t", "", "group.delete-offsets allowed group/g (topic=t)"},
		{http.MethodPatch, "/api/v1/topics/t", `{"set":{"retention.ms":"7"},"delete":["cleanup.policy"]}`, "topic.alter-configs allowed topic/t (set retention.ms, delete cleanup.policy)"},
		{http.MethodPost, "/api/v1/acls", `{"acls":[` + rule("t", "read") + `,` + rule("u", "write") + `]}`,
			"acl.create allowed topic/t (allow User:alice read from * (literal)) ; acl.create allowed topic/u (allow User:alice write from * (literal))"},
		{http.MethodPost, "/api/v1/acls", `{"acls":[` + strings.Replace(rule("t", "read"), "User:alice", "nobody:x", 1) + `,` + strings.Replace(rule("t", "read"), "topic", "shelf", 1) + `]}`,
			"acl.create failed acl/kafka-cluster (2 rules) INVALID_REQUEST: resource type \"shelf\":"},
		{http.MethodPost, "/api/v1/acls/check", `{"principal":"alice","resource_type":"topic","name":"t","operation":"read"}`, ""},
		{http.MethodDelete, "/api/v1/acls?principal=User:alice&name=u", "", "acl.delete allowed topic/u (allow User:alice write from * (literal))"},
		{http.MethodPost, tokensPath, `{"name":"ci","principal":"alice","expires_in_seconds":60}`, "token.create allowed token/ci (for alice, expires 60 s after)"},
		{http.MethodDelete, tokensPath + "/ci", "", "token.revoke allowed token/ci (of User:alice)"},
		{http.MethodPatch, "/api/v1/quotas", `{"user":"alice","set":{"request_percentage":5},"delete":["producer_byte_rate"]}`, "quota.alter allowed quota/user=alice (request_percentage=5, remove producer_byte_rate)"},
		{http.MethodPost, "/api/v1/brokers/1/drain", `{"draining":true}`, "broker.drain allowed broker/1 (drained)"},
		{http.MethodPost, "/api/v1/cluster/rebalance", `{"dry_run":true}`, ""},
	} {
		a.do(c.method, c.path, c.body, "Authorization", "Bearer "+a.local)
		if got := r.told(); got != c.want {
			t.Errorf("%s %s:\n%s, want\n%s", c.method, c.path, got, c.want)
		}
	}
	// What asks only is refused all the same to who may not, and that is told.
	a.do(http.MethodPost, "/api/v1/acls/check", `{"principal":"alice","resource_type":"topic","name":"t","operation":"read"}`, "Authorization", basic("alice", "open sesame"))
	if got, want := r.told(), "cluster.describe denied cluster/kafka-cluster () no rule allows it"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// slowGroups do what they are asked for, and take longer than anybody waits.
type slowGroups struct{ noGroups }

func (slowGroups) DeleteGroup(ctx context.Context, _ string) error { return ctx.Err() }

// Who hangs up before the answer has not failed: it may have done what it asked for.
func TestWhoLeavesEarlyIsRecorded(t *testing.T) {
	r := &recorded{}
	a := newAsking(t, func(o *Options) { o.Audit, o.Groups = r, slowGroups{} })
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for _, c := range []struct {
		method, path, body, what string
		done                     bool // it may be, by then, and is recorded so
	}{
		{http.MethodPost, "/api/v1/topics", `{"name":"t"}`, "topic.create allowed topic/t ", true},
		{http.MethodDelete, "/api/v1/groups/g", "", "group.delete allowed group/g ", false},
	} {
		req := httptest.NewRequestWithContext(ctx, c.method, a.scheme+"://10.0.0.1:9642"+c.path, strings.NewReader(c.body))
		req.RemoteAddr = a.remote
		req.Header.Set("Authorization", "Bearer "+a.local)
		req.Header.Set("Content-Type", "application/json")
		a.s.http.Handler.ServeHTTP(httptest.NewRecorder(), req)
		if got := r.told(); !strings.HasPrefix(got, c.what) || !strings.HasSuffix(got, unknownOutcome[:40]) && !(c.done && strings.HasSuffix(got, ")")) {
			t.Errorf("%s", got)
		}
	}
}
