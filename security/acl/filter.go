package acl

import "strings"

// Filter chooses rules, as Kafka's filters do. The zero of a field that has one stands
// for AnyResource, and so on; nil stands for any text.
type Filter struct {
	Resource   ResourceType
	Pattern    PatternType
	Name       *string
	Principal  *string
	Host       *string
	Operation  Operation
	Permission Permission
}

// Matches reports whether the filter chooses a rule.
func (f *Filter) Matches(r Rule) bool {
	switch {
	case f.Resource > AnyResource && f.Resource != r.Resource,
		f.Principal != nil && *f.Principal != r.Principal,
		f.Operation > AnyOperation && f.Operation != r.Operation,
		f.Permission > AnyPermission && f.Permission != r.Permission:
		return false
	}
	if f.Host != nil && *f.Host != r.Host {
		if host, err := canonicalHost(*f.Host); err != nil || host != r.Host {
			return false
		}
	}
	return f.matchesName(r)
}

func (f *Filter) matchesName(r Rule) bool {
	if f.Pattern == Literal || f.Pattern == Prefixed {
		return f.Pattern == r.Pattern && (f.Name == nil || *f.Name == r.Name)
	}
	switch {
	case f.Name == nil:
		return true
	case f.Pattern != Match:
		return *f.Name == r.Name
	case r.Pattern == Prefixed:
		return strings.HasPrefix(*f.Name, r.Name)
	}
	return *f.Name == r.Name || r.Name == Wildcard
}
