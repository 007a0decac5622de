package acl

import (
	"net/netip"
	"slices"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// Matcher decides by a set of rules. It never changes. A decision costs two look-ups by
// principal, of the principal's own rules and of those for everyone, and in each one by
// name and one binary search among prefixes, however many rules there are.
type Matcher struct {
	rules    []Rule // in order
	super    map[string]bool
	own      map[string]*grants
	everyone *grants         // nil: no rule is for everyone
	byHost   map[string]bool // principals of whose rules some are not from every host
}

// grants are the rules of one principal, by type of resource.
type grants [User + 1]*patterns

// patterns are the rules of one principal about resources of one type.
type patterns struct {
	any      *effect // of the name "*"
	literal  map[string]*effect
	prefixes []prefix // in order of name
	heads    []uint64 // of prefixes, so that a search rarely looks at a name
}

// prefix is a prefixed pattern. What of the list a name begins with is found from the last
// that does not come after the name: it, or its parents. For whatever lies between a
// prefix of a name and the name begins with that prefix.
type prefix struct {
	name   string
	parent int // the longest other that this one begins with; -1: none
	effect *effect
}

// effect is what the rules of one principal about one pattern come to.
type effect struct {
	allow, deny Operations // from every host
	hosts       []hostEffect
}

type hostEffect struct {
	hosts       netip.Prefix
	allow, deny Operations
}

// Compile returns the matcher of rules, which are canonical; an order does not matter, and
// what is there twice counts once. Super users are principals that may do everything.
func Compile(rules []Rule, super []string) *Matcher {
	m := &Matcher{rules: slices.Clone(rules), super: map[string]bool{}, own: map[string]*grants{}, byHost: map[string]bool{}}
	slices.SortFunc(m.rules, Compare)
	m.rules = slices.Compact(m.rules)
	for _, principal := range super {
		m.super[principal] = true
	}
	for _, r := range m.rules { // prefixes come in order of name
		m.grantsOf(r.Principal).at(r).add(r)
		if r.Host != Wildcard {
			m.byHost[r.Principal] = true
		}
	}
	if m.everyone = m.own[Everyone]; m.everyone != nil {
		delete(m.own, Everyone)
		m.everyone.link()
	}
	for _, g := range m.own {
		g.link()
	}
	return m
}

func (m *Matcher) grantsOf(principal string) *grants {
	g := m.own[principal]
	if g == nil {
		g = new(grants)
		m.own[principal] = g
	}
	return g
}

// at returns the effect that a rule belongs to.
func (g *grants) at(r Rule) *effect {
	p := g[r.Resource]
	if p == nil {
		p = &patterns{literal: map[string]*effect{}}
		g[r.Resource] = p
	}
	switch {
	case r.Pattern == Prefixed:
		if n := len(p.prefixes); n == 0 || p.prefixes[n-1].name != r.Name {
			p.prefixes = append(p.prefixes, prefix{name: r.Name, parent: -1, effect: &effect{}})
		}
		return p.prefixes[len(p.prefixes)-1].effect
	case r.Name == Wildcard:
		if p.any == nil {
			p.any = &effect{}
		}
		return p.any
	}
	e := p.literal[r.Name]
	if e == nil {
		e = &effect{}
		p.literal[r.Name] = e
	}
	return e
}

func (e *effect) add(r Rule) {
	allow, deny := &e.allow, &e.deny
	if r.Host != Wildcard {
		hosts, ok := hostPrefix(r.Host)
		if !ok {
			panic("acl: a rule that is not canonical: " + r.String())
		}
		at := slices.IndexFunc(e.hosts, func(h hostEffect) bool { return h.hosts == hosts })
		if at < 0 {
			at = len(e.hosts)
			e.hosts = append(e.hosts, hostEffect{hosts: hosts})
		}
		allow, deny = &e.hosts[at].allow, &e.hosts[at].deny
	}
	if r.Permission == Allow {
		*allow |= allows(r.Operation)
	} else {
		*deny |= denies(r.Operation)
	}
}

// link finds the parents of prefixes.
func (g *grants) link() {
	for _, p := range g {
		if p == nil {
			continue
		}
		for i := range p.prefixes {
			p.heads = append(p.heads, head(p.prefixes[i].name))
			parent := i - 1
			for parent >= 0 && !strings.HasPrefix(p.prefixes[i].name, p.prefixes[parent].name) {
				parent = p.prefixes[parent].parent
			}
			p.prefixes[i].parent = parent
		}
	}
}

// head is the first eight bytes of a name, as a number in the order of names.
func head(name string) (h uint64) {
	if len(name) >= 8 {
		_ = name[7]
		return uint64(name[0])<<56 | uint64(name[1])<<48 | uint64(name[2])<<40 | uint64(name[3])<<32 |
			uint64(name[4])<<24 | uint64(name[5])<<16 | uint64(name[6])<<8 | uint64(name[7])
	}
	for i := range len(name) {
		h |= uint64(name[i]) << (56 - 8*i)
	}
	return h
}

// Rules returns the rules, in order. They are not to be written to.
func (m *Matcher) Rules() []Rule { return m.rules }

// Super reports whether a principal may do everything.
func (m *Matcher) Super(principal string) bool { return m.super[principal] }

// Allowed reports whether a principal at a host may do op with a resource. Host is the
// zero Addr where it is not known.
func (m *Matcher) Allowed(principal string, host netip.Addr, op Operation, t ResourceType, name string) bool {
	return m.Operations(principal, host, t, name).Has(op)
}

// Operations returns all that a principal at a host may do with a resource. It holds
// whatever a rule for All allows, known to the type of the resource or not.
func (m *Matcher) Operations(principal string, host netip.Addr, t ResourceType, name string) Operations {
	if len(m.super) > 0 && m.super[principal] {
		return every
	}
	v := verdict{host: host}
	if g := m.own[principal]; g != nil {
		g.judge(&v, t, name)
	}
	if m.everyone != nil {
		m.everyone.judge(&v, t, name)
	}
	return v.allowed()
}

// AllowedAny reports whether there may be a resource of a type that a principal at a host
// may do op with, as far as rules say: Kafka's authorizeByResourceType.
func (m *Matcher) AllowedAny(principal string, host netip.Addr, op Operation, t ResourceType) bool {
	if m.super[principal] {
		return true
	}
	both := [...]*grants{m.own[principal], m.everyone}
	for _, g := range both {
		if g == nil || g[t] == nil {
			continue
		}
		for name, e := range g[t].literal {
			if e.may(host, op) && m.Allowed(principal, host, op, t, name) {
				return true
			}
		}
		if g[t].any.may(host, op) && !denied(both[:], host, op, t, "") {
			return true
		}
		for i := range g[t].prefixes {
			if p := &g[t].prefixes[i]; p.effect.may(host, op) && !denied(both[:], host, op, t, p.name) {
				return true
			}
		}
	}
	return false
}

// may reports whether e alone allows op.
func (e *effect) may(host netip.Addr, op Operation) bool {
	v := verdict{host: host}
	v.take(e)
	return v.allow.Has(op)
}

// denied reports whether all names that begin with a prefix are denied.
func denied(of []*grants, host netip.Addr, op Operation, t ResourceType, prefix string) bool {
	v := verdict{host: host}
	for _, g := range of {
		if g != nil && g[t] != nil {
			v.take(g[t].any)
			g[t].judgePrefixes(&v, prefix)
		}
	}
	return v.deny.Has(op)
}

// verdict gathers what the rules say that concern a request.
type verdict struct {
	host        netip.Addr
	allow, deny Operations
}

func (v *verdict) allowed() Operations {
	if !guard.Check("acl.deny-wins", v.allow&v.deny == 0) {
		return v.allow &^ v.deny
	}
	return v.allow
}

func (v *verdict) take(e *effect) {
	if e == nil {
		return
	}
	v.allow |= e.allow
	v.deny |= e.deny
	for i := range e.hosts {
		h := &e.hosts[i]
		if !v.host.IsValid() {
			v.deny |= h.deny
		} else if guard.Check("acl.host", h.hosts.Contains(v.host)) {
			v.allow |= h.allow
			v.deny |= h.deny
		}
	}
}

func (g *grants) judge(v *verdict, t ResourceType, name string) {
	p := g[t]
	if p == nil {
		return
	}
	v.take(p.any)
	if name != Wildcard && len(p.literal) > 0 {
		v.take(p.literal[name])
	}
	p.judgePrefixes(v, name)
}

func (p *patterns) judgePrefixes(v *verdict, name string) {
	low, h := 0, head(name)
	for high := len(p.heads); low < high; {
		mid := int(uint(low+high) >> 1)
		if p.heads[mid] < h || p.heads[mid] == h && p.prefixes[mid].name <= name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for at := low - 1; at >= 0; at = p.prefixes[at].parent {
		if guard.Check("acl.prefix", strings.HasPrefix(name, p.prefixes[at].name)) {
			v.take(p.prefixes[at].effect)
		}
	}
}
