package acl

import (
	"net/netip"
	"strings"
	"testing"
)

func rule(t testing.TB, text string) Rule {
	t.Helper()
	f := strings.Fields(text) // permission principal operation type[~]name [host]
	permission, err := ParsePermission(f[0])
	if err != nil {
		t.Fatal(err)
	}
	op, err := ParseOperation(f[2])
	if err != nil {
		t.Fatal(err)
	}
	on, err := ParseResource(f[3])
	if err != nil {
		t.Fatal(err)
	}
	host := Wildcard
	if len(f) > 4 {
		host = f[4]
	}
	r, err := Rule{on.Resource, on.Type, on.Name, "User:" + f[1], host, op, permission}.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func compiled(t testing.TB, rules ...string) *Matcher {
	t.Helper()
	var all []Rule
	for _, r := range rules {
		all = append(all, rule(t, r))
	}
	return Compile(all, []string{"User:root"})
}

var local = netip.MustParseAddr("127.0.0.1")
