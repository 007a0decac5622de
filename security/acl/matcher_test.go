package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"rustmq.dev/rustmq/test/seeded"
)

func TestWhatNoRuleAllowsIsDenied(t *testing.T) {
	m := compiled(t, "allow alice read topic.events")
	for who, may := range map[string]bool{"User:alice": true, "User:bob": false, "User:ANONYMOUS": false, "alice": false, "User:": false, "": false, "User:*": false, "User:Alice": false} {
		if got := m.Allowed(who, local, Read, Topic, "events"); got != may {
			t.Errorf("%s: %t", who, got)
		}
	}
	if !m.Allowed("User:root", netip.Addr{}, Alter, Cluster, ClusterName) || !m.AllowedAny("User:root", local, Write, Topic) {
		t.Error("a super user is refused")
	}
	if empty := Compile(nil, nil); empty.Operations("User:alice", local, Topic, "events") != 0 || empty.AllowedAny("User:alice", local, Write, Topic) {
		t.Error("without a rule something is allowed")
	}
}

func TestDenyWins(t *testing.T) {
	for _, deny := range []string{
		"deny alice write topic.events.a", "deny alice all topic.events.a", "deny * write topic.*", "deny alice write topic.e*",
		"deny alice write topic.events.a 127.0.0.0/8", "deny * write topic.events.a* 127.0.0.1",
	} {
		for _, allow := range []string{"allow alice write topic.events.a", "allow alice all topic.*", "allow * write topic.events.*"} {
			m := compiled(t, allow, deny)
			if m.Allowed("User:alice", local, Write, Topic, "events.a") {
				t.Errorf("%s, %s: allowed", allow, deny)
			}
			if m.Allowed("User:alice", netip.Addr{}, Write, Topic, "events.a") {
				t.Errorf("%s, %s: allowed where the address is not known", allow, deny)
			}
		}
	}
}

func TestImpliedOperations(t *testing.T) {
	for _, tc := range []struct {
		rules []string
		want  string
	}{
		{[]string{"allow a read topic.t"}, "read, describe"},
		{[]string{"allow a write topic.t"}, "write, describe"},
		{[]string{"allow a delete topic.t"}, "delete, describe"},
		{[]string{"allow a alter topic.t"}, "alter, describe"},
		{[]string{"allow a create topic.t"}, "create"},
		{[]string{"allow a describe topic.t"}, "describe"},
		{[]string{"allow a alter-configs topic.t"}, "describe-configs, alter-configs"},
		{[]string{"allow a read topic.t", "deny a describe topic.t"}, "read"},
		{[]string{"allow a describe topic.t", "deny a read topic.t"}, "describe"},
		{[]string{"allow a all topic.t", "deny a all topic.t"}, ""},
		{[]string{"allow a all topic.t", "deny a describe-configs topic.t"}, "read, write, create, delete, alter, describe, alter-configs"},
	} {
		got := compiled(t, tc.rules...).Operations("User:a", local, Topic, "t") & OperationsOf(Topic)
		if got.String() != tc.want {
			t.Errorf("%v: %s", tc.rules, got)
		}
	}
}

// Names are bytes, and only a prefix that was asked for is one.
func TestNameTricks(t *testing.T) {
	m := compiled(t,
		"allow a read topic.events", "allow b read topic.events.*", "allow c read topic.__*", "allow d read topic.éclair",
		"allow e read topic.*", "allow f read group.events", "allow g read topic.e*", "allow g read topic.ev*", "allow g read topic.ex*",
	)
	for _, tc := range []struct {
		who, topic string
		may        bool
	}{
		{"a", "events", true}, {"a", "event", false}, {"a", "events.", false}, {"a", "eventsX", false}, {"a", "Events", false}, {"a", "", false},
		{"a", " events", false}, {"a", "events ", false}, {"a", "events\x00", false}, {"a", "*", false}, {"a", "еvents", false}, // a Cyrillic е
		{"b", "events.a", true}, {"b", "events.", true}, {"b", "events", false}, {"b", "events_a", false}, {"b", "eventsXa", false}, {"b", "x.events.a", false},
		{"b", "events.*", true}, {"b", "*", false}, {"b", "", false},
		{"c", "__consumer_offsets", true}, {"c", "_x", false}, {"c", "__", true},
		{"d", "éclair", true}, {"d", "e\u0301clair", false}, {"d", "eclair", false},
		{"e", "anything", true}, {"e", "*", true}, {"e", "__consumer_offsets", true},
		{"f", "events", false},
		{"g", "e", true}, {"g", "ew", true}, {"g", "evening", true}, {"g", "f", false}, {"g", "ez", true}, {"g", "d", false},
	} {
		if got := m.Allowed("User:"+tc.who, local, Read, Topic, tc.topic); got != tc.may {
			t.Errorf("%s reads %q: %t", tc.who, tc.topic, got)
		}
	}
}

func TestHosts(t *testing.T) {
	m := compiled(t, "allow a read topic.t 10.0.0.0/8", "allow b read topic.t ::1", "allow c read topic.t ::ffff:10.1.2.3", "allow d read topic.t")
	for _, tc := range []struct {
		who, at string
		may     bool
	}{
		{"a", "10.255.0.1", true}, {"a", "11.0.0.1", false}, {"a", "::1", false},
		{"b", "::1", true}, {"b", "127.0.0.1", false}, {"c", "10.1.2.3", true}, {"c", "10.1.2.4", false}, {"d", "1.2.3.4", true},
	} {
		if got := m.Allowed("User:"+tc.who, netip.MustParseAddr(tc.at), Read, Topic, "t"); got != tc.may {
			t.Errorf("%s from %s: %t", tc.who, tc.at, got)
		}
	}
	if m.Allowed("User:a", netip.Addr{}, Read, Topic, "t") || !m.Allowed("User:d", netip.Addr{}, Read, Topic, "t") {
		t.Error("an address that is not known")
	}
}

func TestAllowedAny(t *testing.T) {
	for _, tc := range []struct {
		rules []string
		may   bool
	}{
		{[]string{"allow a write topic.t"}, true},
		{[]string{"allow a all group.t"}, false},
		{[]string{"allow a read topic.t"}, false},
		{[]string{"allow a write topic.t", "deny a write topic.t"}, false},
		{[]string{"allow a write topic.t", "deny * write topic.*"}, false},
		{[]string{"allow a write topic.t", "deny a write topic.u"}, true},
		{[]string{"allow a write topic.events.*", "deny a write topic.events.a"}, true},
		{[]string{"allow a write topic.events.*", "deny a write topic.ev*"}, false},
		{[]string{"allow a write topic.ev*", "deny a write topic.events.*"}, true},
		{[]string{"allow * write topic.*", "deny a write topic.e*"}, true},
		{[]string{"allow * write topic.*", "deny a all topic.*"}, false},
		{[]string{"allow * write topic.t 10.0.0.0/8"}, false},
	} {
		if got := compiled(t, tc.rules...).AllowedAny("User:a", local, Write, Topic); got != tc.may {
			t.Errorf("%v: %t", tc.rules, got)
		}
	}
}

// world draws rules and requests that meet each other.
type world struct{ *rand.Rand }

func (w world) pick(of ...string) string { return of[w.IntN(len(of))] }

func (w world) name() string {
	n := w.pick("", "a", "ab", "abc", "b", "é", "__")
	for range w.IntN(3) {
		n += w.pick("a", "b", ".", "*", "\u0301")
	}
	return n
}

func (w world) rule() (Rule, bool) {
	r, err := Rule{
		Resource: ResourceType(w.IntN(3)) + Topic, Pattern: PatternType(w.IntN(2)) + Literal, Name: w.pick("*", w.name(), ClusterName),
		Principal: w.pick("User:*", "User:a", "User:b", "User:root"), Host: w.pick("*", "*", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::1"),
		Operation: All + Operation(w.IntN(int(TwoPhaseCommit-All)+1)), Permission: Permission(w.pick("2", "3", "3")[0] - '0'),
	}.Canonical()
	return r, err == nil
}

// plainly decides by the sentences of doc.go, rule by rule.
func plainly(rules []Rule, principal, host string, op Operation, t ResourceType, name string) bool {
	if principal == "User:root" {
		return true
	}
	allowed := false
	for _, r := range rules {
		at, known := netip.Addr{}, host != ""
		within := r.Host == "*"
		if known {
			at = netip.MustParseAddr(host)
		}
		if !within && known {
			if p, err := netip.ParsePrefix(r.Host); err == nil {
				within = p.Contains(at)
			} else {
				within = r.Host == host
			}
		}
		if !within && !known {
			within = r.Permission == Deny
		}
		named := r.Name == name || r.Name == "*" && r.Pattern == Literal
		if r.Pattern == Prefixed {
			named = strings.HasPrefix(name, r.Name)
		}
		if r.Resource != t || !within || !named || r.Principal != principal && r.Principal != "User:*" {
			continue
		}
		same := r.Operation == op || r.Operation == All
		if r.Permission == Deny {
			if same {
				return false
			}
			continue
		}
		implied := op == Describe && slices.Contains([]Operation{Read, Write, Delete, Alter}, r.Operation) || op == DescribeConfigs && r.Operation == AlterConfigs
		allowed = allowed || same || implied
	}
	return allowed
}

func TestMatcherAgreesWithAPlainModel(t *testing.T) {
	seed := seeded.Seed(t)
	w := world{rand.New(rand.NewPCG(seed, 1))}
	for round := range 400 {
		var rules []Rule
		for range w.IntN(24) {
			if r, ok := w.rule(); ok {
				rules = append(rules, r)
			}
		}
		m := Compile(rules, []string{"User:root"})
		for range 100 {
			principal, host := w.pick("User:a", "User:b", "User:c", "User:root"), w.pick("", "10.1.2.3", "10.1.9.9", "10.2.2.2", "11.1.1.1", "::1")
			op, kind, name := Read+Operation(w.IntN(int(TwoPhaseCommit-Read)+1)), ResourceType(w.IntN(3))+Topic, w.pick(w.name(), ClusterName)
			if w.IntN(3) == 0 && len(rules) > 0 {
				name = rules[w.IntN(len(rules))].Name + w.pick("", "", "x")
			}
			at, _ := netip.ParseAddr(host)
			want := plainly(rules, principal, host, op, kind, name)
			if got := m.Allowed(principal, at, op, kind, name); got != want {
				t.Fatalf("seed %d, round %d: %s from %q, %s of %s %q: %t\n%s", seed, round, principal, host, op, kind, name, got, listed(rules))
			}
			if x := m.Explain(principal, at, op, kind, name); x.Allowed != want || x.Why == "" {
				t.Fatalf("seed %d, round %d: %s from %q, %s of %s %q: explained as %+v\n%s", seed, round, principal, host, op, kind, name, x, listed(rules))
			}
			if want && !m.AllowedAny(principal, at, op, kind) {
				t.Fatalf("seed %d, round %d: %s from %q may %s %s %q, and nothing of its type\n%s", seed, round, principal, host, op, kind, name, listed(rules))
			}
		}
	}
}

func listed(rules []Rule) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}
