package acl

import (
	"strings"
	"testing"
)

func TestRulesThatCannotBe(t *testing.T) {
	good := rule(t, "allow alice read topic.events")
	for what, change := range map[string]func(r *Rule){
		"type any":             func(r *Rule) { r.Resource = AnyResource },
		"type unknown":         func(r *Rule) { r.Resource = 8 },
		"pattern match":        func(r *Rule) { r.Pattern = Match },
		"permission any":       func(r *Rule) { r.Permission = AnyPermission },
		"operation any":        func(r *Rule) { r.Operation = AnyOperation },
		"operation unknown":    func(r *Rule) { r.Operation = 16 },
		"cluster action":       func(r *Rule) { r.Operation = ClusterAction },
		"no name":              func(r *Rule) { r.Name = "" },
		"long name":            func(r *Rule) { r.Name = strings.Repeat("a", MaxNameBytes+1) },
		"no UTF-8":             func(r *Rule) { r.Name = "\xff" },
		"another cluster":      func(r *Rule) { r.Resource, r.Operation, r.Name = Cluster, Alter, "mine" },
		"a prefix of clusters": func(r *Rule) { r.Resource, r.Operation, r.Name, r.Pattern = Cluster, Alter, ClusterName, Prefixed },
		"no principal":         func(r *Rule) { r.Principal = "" },
		"no type of principal": func(r *Rule) { r.Principal = "alice" },
		"a group":              func(r *Rule) { r.Principal = "Group:a" },
		"nobody":               func(r *Rule) { r.Principal = "User:" },
		"long principal":       func(r *Rule) { r.Principal = "User:" + strings.Repeat("a", MaxPrincipalBytes) },
		"no host":              func(r *Rule) { r.Host = "" },
		"a host's name":        func(r *Rule) { r.Host = "example.com" },
		"a zone":               func(r *Rule) { r.Host = "fe80::1%eth0" },
		"a range of nothing":   func(r *Rule) { r.Host = "10.0.0.0/33" },
	} {
		r := good
		change(&r)
		if got, err := r.Canonical(); err == nil {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestHostsHaveOneForm(t *testing.T) {
	for host, want := range map[string]string{
		"*": "*", "10.1.2.3": "10.1.2.3", "10.1.2.3/8": "10.0.0.0/8", "10.1.2.3/32": "10.1.2.3", "::FFFF:10.1.2.3": "10.1.2.3", "::ffff:10.1.2.3/104": "10.0.0.0/8",
		"0:0:0:0:0:0:0:1": "::1", "2001:DB8::/32": "2001:db8::/32", "0.0.0.0/0": "0.0.0.0/0",
	} {
		if got, err := canonicalHost(host); got != want || err != nil {
			t.Errorf("%s: %s, %v", host, got, err)
		}
	}
}

func TestShorthand(t *testing.T) {
	for short, want := range map[string]Pattern{
		"topic.events.*": {Topic, Prefixed, "events."}, "topic.events*": {Topic, Prefixed, "events"}, "topic.events": {Topic, Literal, "events"},
		"topic.*": {Topic, Literal, "*"}, "topic.a.b": {Topic, Literal, "a.b"}, "group.g": {Group, Literal, "g"}, "cluster": {Cluster, Literal, ClusterName},
		"cluster.*": {Cluster, Literal, ClusterName}, "cluster.kafka-cluster": {Cluster, Literal, ClusterName}, "transactional_id.t-*": {TransactionalID, Prefixed, "t-"},
		"Topic.Events": {Topic, Literal, "Events"}, "user.a@b.c": {User, Literal, "a@b.c"},
	} {
		if got, err := ParseResource(short); got != want || err != nil {
			t.Errorf("%s: %+v, %v", short, got, err)
		}
	}
	for _, short := range []string{"", "topic", "topic.", "events.*", "topic.*.a", "topic.a*b", "topic.**", "cluster.mine", ".a"} {
		if got, err := ParseResource(short); err == nil {
			t.Errorf("%q: %+v", short, got)
		}
	}
	if ops, err := ParseOperations("read, WRITE,describe_configs"); err != nil || len(ops) != 3 || ops[2] != DescribeConfigs {
		t.Error(ops, err)
	}
	for _, list := range []string{"", "read,", "any", "fly"} {
		if ops, err := ParseOperations(list); err == nil {
			t.Errorf("%q: %v", list, ops)
		}
	}
	for in, want := range map[string]string{"user@domain.com": "User:user@domain.com", "User:a": "User:a", "*": Everyone} {
		if got, err := ParsePrincipal(in); got != want || err != nil {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}

func TestFilters(t *testing.T) {
	text := func(s string) *string { return &s }
	rules := []Rule{
		rule(t, "allow a read topic.events.x"), rule(t, "allow a read topic.events.*"), rule(t, "allow a read topic.*"), rule(t, "deny b delete group.events.x 10.0.0.0/8"),
	}
	for _, tc := range []struct {
		what   string
		filter Filter
		want   string
	}{
		{"everything", Filter{}, "1111"},
		{"any", Filter{AnyResource, AnyPattern, nil, nil, nil, AnyOperation, AnyPermission}, "1111"},
		{"topics", Filter{Resource: Topic}, "1110"},
		{"literal", Filter{Resource: Topic, Pattern: Literal}, "1010"},
		{"prefixed of that name", Filter{Pattern: Prefixed, Name: text("events.")}, "0100"},
		{"of that name", Filter{Name: text("events.x")}, "1001"},
		{"match", Filter{Resource: Topic, Pattern: Match, Name: text("events.x")}, "1110"},
		{"match another", Filter{Resource: Topic, Pattern: Match, Name: text("event")}, "0010"},
		{"principal", Filter{Principal: text("User:b")}, "0001"},
		{"host", Filter{Host: text("10.9.9.9/8")}, "0001"},
		{"no host", Filter{Host: text("x")}, "0000"},
		{"operation", Filter{Operation: Delete}, "0001"},
		{"permission", Filter{Permission: Allow}, "1110"},
	} {
		got := ""
		for _, r := range rules {
			got += map[bool]string{true: "1", false: "0"}[tc.filter.Matches(r)]
		}
		if got != tc.want {
			t.Errorf("%s: %s, not %s", tc.what, got, tc.want)
		}
	}
}
