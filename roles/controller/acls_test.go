package controller

import (
	"fmt"
	"slices"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
)

// Many rules are made and deleted at once, in few commands; those that cannot be are
// refused alone, and what is so already takes none.
func TestAlterACLs(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	var changes []ACLChange
	for i := range 2*aclsPerCommand + 10 {
		changes = append(changes, ACLChange{Rule: acl.Rule{
			Resource: acl.Topic, Pattern: acl.Literal, Name: fmt.Sprintf("t-%04d", i), Principal: "User:a", Host: "10.1.2.3/8", Operation: acl.Read, Permission: acl.Allow,
		}})
	}
	changes[7].Rule.Principal = "a"
	before := c.Image().Offset()
	for i, err := range c.AlterACLs(t.Context(), slices.Clone(changes)) {
		if i == 7 {
			wantCode(t, "a principal without a type", err, metadata.InvalidRequest)
		} else if err != nil {
			t.Fatal(i, err)
		}
	}
	m := c.Image()
	if m.NumACLs() != len(changes)-1 || m.Offset()-before > 3 {
		t.Errorf("%d rules of %d, in %d commands", m.NumACLs(), len(changes)-1, m.Offset()-before)
	}
	canonical := changes[0].Rule
	canonical.Host = "10.0.0.0/8"
	if !m.HasACL(canonical) {
		t.Error("the host is not in canonical form")
	}
	for _, err := range c.AlterACLs(t.Context(), slices.Clone(changes[:5])) {
		if err != nil {
			t.Error(err)
		}
	}
	if c.Image().Offset() != m.Offset() {
		t.Error("what is there was written again")
	}
	changes[7].Rule.Principal = "User:a"
	for i := range changes {
		changes[i].Delete = i%2 == 0 // one after the other: each is a command of its own
	}
	if errs := c.AlterACLs(t.Context(), changes[4:9]); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Error(errs)
	}
	if got := c.Image().NumACLs(); got != len(changes)-3 { // 4, 6 and 8 are gone, and 7 was made
		t.Errorf("%d rules", got)
	}
}
