package metadata

import (
	"iter"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/guard"
)

// MaxACLs bounds the image: every broker holds all rules, and compiles them anew at each
// change.
const MaxACLs = 50_000

// ACLs walks the rules of who may do what, in order.
func (m *Image) ACLs() iter.Seq[acl.Rule] {
	return func(yield func(acl.Rule) bool) {
		for rule := range m.acls.all() {
			if !yield(rule) {
				return
			}
		}
	}
}

// HasACL reports whether there is that rule, in canonical form.
func (m *Image) HasACL(rule acl.Rule) bool {
	_, there := m.acls.get(rule)
	return there
}

// NumACLs returns how many rules there are.
func (m *Image) NumACLs() int { return m.acls.len() }

// SameACLs reports whether two images have the very same rules, so that what was made of
// those of one need not be made anew. It may miss that they are.
func (m *Image) SameACLs(other *Image) bool { return m.acls.root == other.acls.root }

func (m *Image) createACLs(c *pb.CreateAcls) *Error {
	for _, encoded := range c.Acls {
		rule, refused := decodeACL(encoded)
		if refused != nil {
			return refused
		}
		if m.HasACL(rule) {
			continue
		}
		if !guard.Check("metadata.acls", m.acls.len() < MaxACLs) {
			return Errorf(PolicyViolation, "there are %d ACLs, and no room for another: prefixed patterns and principals that stand for several clients need fewer", m.acls.len())
		}
		m.acls = m.acls.put(rule, &rule)
	}
	return nil
}

func (m *Image) deleteACLs(c *pb.DeleteAcls) *Error {
	for _, encoded := range c.Acls {
		rule, refused := decodeACL(encoded)
		if refused != nil {
			return refused
		}
		if m.HasACL(rule) {
			m.acls = m.acls.without(rule)
		}
	}
	return nil
}

func encodeACL(r acl.Rule) *pb.Acl {
	return &pb.Acl{
		ResourceType: uint32(r.Resource), PatternType: uint32(r.Pattern), Name: r.Name,
		Principal: r.Principal, Host: r.Host, Operation: uint32(r.Operation), Permission: uint32(r.Permission),
	}
}

// decodeACL refuses what is no rule, and one that is not in canonical form: two that say
// the same would be two.
func decodeACL(e *pb.Acl) (acl.Rule, *Error) {
	if e == nil || max(e.ResourceType, e.PatternType, e.Operation, e.Permission) > 0xff {
		return acl.Rule{}, Errorf(InvalidRequest, "no ACL: %v", e)
	}
	rule := acl.Rule{
		Resource: acl.ResourceType(e.ResourceType), Pattern: acl.PatternType(e.PatternType), Name: e.Name,
		Principal: e.Principal, Host: e.Host, Operation: acl.Operation(e.Operation), Permission: acl.Permission(e.Permission),
	}
	canonical, err := rule.Canonical()
	if err != nil {
		return rule, Errorf(InvalidRequest, "%v", err)
	}
	if !guard.Check("metadata.acl-canonical", canonical == rule) {
		return rule, Errorf(InvalidRequest, "host %s is written %s", quoted(rule.Host), canonical.Host)
	}
	return rule, nil
}

// NewCreateACLs returns the command that adds rules, which are in canonical form.
func NewCreateACLs(rules []acl.Rule) *pb.CreateAcls { return &pb.CreateAcls{Acls: encodeACLs(rules)} }

// NewDeleteACLs returns the command that takes rules away.
func NewDeleteACLs(rules []acl.Rule) *pb.DeleteAcls { return &pb.DeleteAcls{Acls: encodeACLs(rules)} }

func encodeACLs(rules []acl.Rule) []*pb.Acl {
	encoded := make([]*pb.Acl, len(rules))
	for i, r := range rules {
		encoded[i] = encodeACL(r)
	}
	return encoded
}

// acl reads one rule of a snapshot.
func (d *decoder) acl(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	rule, refused := decodeACL(r.GetAcl())
	if refused != nil || m.HasACL(rule) {
		return d.corrupt("no ACL where one is due, or one twice: %v", refused)
	}
	m.acls = m.acls.put(rule, &rule)
	return nil
}

// acls appends the rules that came and went.
func (d *Difference) acls(before *Image) {
	for was, is := range diff(before.acls, d.after.acls) {
		switch {
		case is == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneAcl{GoneAcl: encodeACL(*was)}})
		case was == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Acl{Acl: encodeACL(*is)}})
		}
	}
}

// acl takes one rule of a delta.
func (e *viewEdit) acl(encoded *pb.Acl, gone bool) error {
	rule, refused := decodeACL(encoded)
	switch {
	case refused != nil:
		return e.d.corrupt("ACL: %v", refused)
	case gone:
		e.m.acls = e.m.acls.without(rule)
	default:
		e.m.acls = e.m.acls.put(rule, &rule)
	}
	return nil
}
