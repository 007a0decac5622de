package metadata

import (
	"fmt"
	"slices"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/security/acl"
)

func testACL(user string) acl.Rule {
	return acl.Rule{Resource: acl.Topic, Pattern: acl.Prefixed, Name: "events.", Principal: "User:" + user, Host: "10.0.0.0/8", Operation: acl.Read, Permission: acl.Allow}
}

// Rules are made and deleted, many in a command, and come back from a snapshot and by a
// delta.
func TestACLsAreKept(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: ObjectTopicsFeatureLevel})
	a, b, c := testACL("a"), testACL("b"), testACL("c")
	if _, err := Encode(l.state.Image(), NewCreateACLs([]acl.Rule{a})); CodeOf(err) != UnsupportedVersion {
		t.Fatalf("below its feature level: %v", err)
	}
	l.accepted(&pb.SetFeatureLevel{Level: SecurityFeatureLevel})
	view := NewView()
	if err := view.Apply(EncodeDelta(nil, l.state.Image(), NoBroker)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		command *pb.CreateAcls
		remove  *pb.DeleteAcls
		want    []acl.Rule
	}{
		{command: NewCreateACLs([]acl.Rule{c, a, a}), want: []acl.Rule{a, c}},
		{command: NewCreateACLs([]acl.Rule{a, b}), want: []acl.Rule{a, b, c}},
		{remove: NewDeleteACLs([]acl.Rule{c, a, testACL("d")}), want: []acl.Rule{b}},
		{remove: NewDeleteACLs([]acl.Rule{b}), want: nil},
		{command: NewCreateACLs([]acl.Rule{b}), want: []acl.Rule{b}},
	} {
		before := l.state.Image()
		if step.command != nil {
			l.accepted(step.command)
		} else {
			l.accepted(step.remove)
		}
		after := l.state.Image()
		if err := view.Apply(EncodeDelta(before, after, NoBroker)); err != nil {
			t.Fatal(err)
		}
		restored, err := decodeSnapshot(after.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		for what, m := range map[string]*Image{"image": after, "snapshot": restored, "view": view.Image()} {
			if got := slices.Collect(m.ACLs()); !slices.Equal(got, step.want) || m.NumACLs() != len(step.want) {
				t.Errorf("%s: %v, not %v", what, got, step.want)
			}
		}
	}
	if m := l.state.Image(); !m.SameACLs(m) || m.SameACLs(NewState().Image()) {
		t.Error("the same rules")
	}
}

// Two rules that say the same would be two: only the canonical form is taken.
func TestACLsAreCanonical(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: SecurityFeatureLevel})
	for what, change := range map[string]func(*acl.Rule){
		"host":      func(r *acl.Rule) { r.Host = "10.1.2.3/8" },
		"principal": func(r *acl.Rule) { r.Principal = "alice" },
		"name":      func(r *acl.Rule) { r.Name = "" },
		"operation": func(r *acl.Rule) { r.Operation = acl.AnyOperation },
	} {
		r := testACL("a")
		change(&r)
		command, err := Encode(l.state.Image(), NewCreateACLs([]acl.Rule{testACL("b"), r}))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.state.Image().Check(command); CodeOf(err) != InvalidRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestACLsAreBounded(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: SecurityFeatureLevel})
	m := *l.state.Image()
	entries := make([]entry[acl.Rule, *acl.Rule], MaxACLs-1)
	for i := range entries {
		r := testACL(fmt.Sprintf("%09d", i))
		entries[i] = entry[acl.Rule, *acl.Rule]{r, &r}
	}
	m.acls = m.acls.built(entries)
	l.state.image.Store(&m)
	for n, want := range map[int]Code{1: 0, 2: PolicyViolation} {
		var rules []acl.Rule
		for i := range n {
			rules = append(rules, testACL(fmt.Sprint("more", i)), testACL("000000007"))
		}
		command, err := Encode(l.state.Image(), NewCreateACLs(rules))
		if err != nil {
			t.Fatal(err)
		}
		err = l.state.Image().Check(command)
		if (err == nil) != (want == 0) || err != nil && CodeOf(err) != want {
			t.Errorf("%d more: %v", n, err)
		}
	}
}
