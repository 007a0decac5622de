package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rustmq.dev/rustmq/security/acl"
)

func TestACLsAreShown(t *testing.T) {
	golden(t, "acls", func(e *env) {
		clicks := ACL{"User:app", "*", "topic", "literal", "events.clicks", "write", "allow"}
		all := ACL{"User:*", "10.0.0.0/8", "topic", "prefixed", "events.", "all", "deny"}
		e.showACLs([]ACL{clicks, all, {"User:app", "*", "cluster", "literal", "kafka-cluster", "describe", "allow"}})
		e.showDecision(ACLAnswer{
			Why: "a rule denies it, and that wins", Note: "nobody looks",
			Rules: []ACLConsidered{{clicks, true, "it allows"}, {all, true, "it denies"}},
		})
		e.showDecision(ACLAnswer{Allowed: true, Why: "a super user"})
	})
}

// What is shown of a rule is read as that rule.
func TestACLsComeBackAsTheyAreShown(t *testing.T) {
	for _, r := range []acl.Rule{
		{Resource: acl.Topic, Pattern: acl.Prefixed, Name: "events.", Principal: "User:CN=app,O=x", Host: "10.0.0.0/8", Operation: acl.DescribeConfigs, Permission: acl.Deny},
		{Resource: acl.TransactionalID, Pattern: acl.Literal, Name: "*", Principal: "User:*", Host: "*", Operation: acl.TwoPhaseCommit, Permission: acl.Allow},
		{Resource: acl.Cluster, Pattern: acl.Literal, Name: acl.ClusterName, Principal: "User:a", Host: "::1", Operation: acl.IdempotentWrite, Permission: acl.Allow},
	} {
		if got, err := shownACL(r).rule(); err != nil || got != r {
			t.Errorf("%+v: %+v, %v", r, got, err)
		}
	}
	bad := ACL{"", "x", "thing", "match", "", "fly", "maybe"}
	if _, err := bad.rule(); err == nil || !strings.Contains(err.Error(), "resource type") || !strings.Contains(err.Error(), "permission") {
		t.Errorf("%v", err)
	}
}

// The flags of list and delete are filters, one for each combination.
func TestACLFlags(t *testing.T) {
	f := aclFlags{principals: []string{"a", "User:b"}, resources: []string{"topic.x*", "group.g"}, permissions: "read,write", effect: "deny"}
	queries, err := f.queries()
	if err != nil || len(queries) != 8 || queries[0].Encode() != "name=x&operation=read&pattern=prefixed&permission=deny&principal=User%3Aa&resource_type=topic" {
		t.Errorf("%v, %v", queries, err)
	}
	if _, err := f.acls(); err == nil { // a group has no write
		t.Error("a rule that cannot be")
	}
	f.permissions = "read,describe"
	if all, err := f.acls(); err != nil || len(all) != 8 || all[7] != (ACL{"User:b", "*", "group", "literal", "g", "describe", "deny"}) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, wrong := range []aclFlags{{principals: []string{""}}, {resources: []string{"x"}}, {permissions: "any"}} {
		if queries, err := wrong.queries(); err == nil {
			t.Errorf("%+v: %v", wrong, queries)
		}
	}
}

// A script may go by the exit code: what is denied is an error.
func TestCheckOfWhatIsDeniedFails(t *testing.T) {
	for allowed, want := range map[string]string{"true": "", "false": "User:app may not write topic.t"} {
		url := answers(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"allowed":%s,"why":"of a rule","rules":[]}`, allowed)
		})
		out, err := run(t.Context(), url, "acl", "check", "--principal", "app", "--resource", "topic.t", "--permissions", "write")
		if said := fmt.Sprint(err); !strings.Contains(out, ": of a rule") || (err == nil) != (want == "") || err != nil && said != want {
			t.Errorf("allowed %s: %q, %v", allowed, out, err)
		}
	}
}
