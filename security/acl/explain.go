package acl

import (
	"fmt"
	"net/netip"
	"strings"
)

// Explanation is a decision with the reasons for it.
type Explanation struct {
	Allowed bool
	Why     string       // in a sentence
	Rules   []Considered // for the principal, or for everyone, about the type of resource; in order
}

// Considered is a rule with what it says of a request.
type Considered struct {
	Rule   Rule
	Counts bool   // it allows or denies the request
	Why    string // it counts, or does not
}

// Explain decides as [Matcher.Allowed] does, by going over every rule.
func (m *Matcher) Explain(principal string, host netip.Addr, op Operation, t ResourceType, name string) Explanation {
	if m.super[principal] {
		return Explanation{Allowed: true, Why: principal + " is a super user: no rule concerns it"}
	}
	var x Explanation
	var allowing, denying *Rule
	for i := range m.rules {
		r := &m.rules[i]
		if r.Resource != t || r.Principal != principal && r.Principal != Everyone {
			continue
		}
		why, counts := r.concerns(host, op, name)
		x.Rules = append(x.Rules, Considered{*r, counts, why})
		switch {
		case counts && r.Permission == Deny && denying == nil:
			denying = r
		case counts && r.Permission == Allow && allowing == nil:
			allowing = r
		}
	}
	switch {
	case denying != nil:
		x.Why = "a rule denies it, and that wins: " + denying.String()
	case allowing != nil:
		x.Allowed, x.Why = true, "a rule allows it, and none denies it: "+allowing.String()
	case len(x.Rules) == 0:
		x.Why = fmt.Sprintf("no rule for %s, or for %s, is about a %s; what no rule allows is denied", principal, Everyone, t)
	default:
		x.Why = fmt.Sprintf("no rule for %s allows it; what no rule allows is denied", principal)
	}
	return x
}

// concerns reports whether a rule for the principal about the type of resource counts.
func (r *Rule) concerns(host netip.Addr, op Operation, name string) (why string, counts bool) {
	switch {
	case r.Pattern == Prefixed && !strings.HasPrefix(name, r.Name):
		return fmt.Sprintf("%q does not begin with %q", name, r.Name), false
	case r.Pattern == Literal && r.Name != Wildcard && r.Name != name:
		return fmt.Sprintf("it is for %q alone", r.Name), false
	}
	if r.Host != Wildcard {
		hosts, _ := hostPrefix(r.Host)
		switch {
		case !host.IsValid() && r.Permission == Allow:
			return "the client's address is not known, and the rule is for " + r.Host, false
		case host.IsValid() && !hosts.Contains(host):
			return fmt.Sprintf("%s is not in %s", host, r.Host), false
		}
	}
	if r.Permission == Deny {
		if !denies(r.Operation).Has(op) {
			return fmt.Sprintf("to deny %s is not to deny %s", r.Operation, op), false
		}
		return "it denies", true
	}
	switch {
	case !allows(r.Operation).Has(op):
		return fmt.Sprintf("to allow %s is not to allow %s", r.Operation, op), false
	case r.Operation != op:
		return fmt.Sprintf("it allows: %s includes %s", r.Operation, op), true
	}
	return "it allows", true
}
