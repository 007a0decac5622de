package acl

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// ResourceType is what a rule is about, by Kafka's code.
type ResourceType uint8

// Resource types. AnyResource is for filters only.
const (
	AnyResource     ResourceType = 1
	Topic           ResourceType = 2
	Group           ResourceType = 3
	Cluster         ResourceType = 4 // its one name is ClusterName
	TransactionalID ResourceType = 5
	DelegationToken ResourceType = 6
	User            ResourceType = 7
)

// ClusterName is the name of the one resource of type Cluster.
const ClusterName = "kafka-cluster"

// Wildcard is the name, principal's name or host that stands for all.
const Wildcard = "*"

// Everyone is the principal that stands for all.
const Everyone = principalType + Wildcard

const principalType = "User:"

// PatternType says how the name of a rule is meant, by Kafka's code.
type PatternType uint8

// Pattern types. AnyPattern and Match are for filters only: Match stands for the patterns
// that a name falls under.
const (
	AnyPattern PatternType = 1
	Match      PatternType = 2
	Literal    PatternType = 3
	Prefixed   PatternType = 4
)

// Permission is whether a rule allows or denies, by Kafka's code.
type Permission uint8

// Permissions. AnyPermission is for filters only.
const (
	AnyPermission Permission = 1
	Deny          Permission = 2
	Allow         Permission = 3
)

// Operation is what a principal wants to do, by Kafka's code.
type Operation uint8

// Operations. AnyOperation is for filters only.
const (
	AnyOperation    Operation = 1
	All             Operation = 2
	Read            Operation = 3
	Write           Operation = 4
	Create          Operation = 5
	Delete          Operation = 6
	Alter           Operation = 7
	Describe        Operation = 8
	ClusterAction   Operation = 9
	DescribeConfigs Operation = 10
	AlterConfigs    Operation = 11
	IdempotentWrite Operation = 12
	CreateTokens    Operation = 13
	DescribeTokens  Operation = 14
	TwoPhaseCommit  Operation = 15
)

// Operations is a set of operations: bit n is the operation of code n, as Kafka's fields
// for authorised operations have it.
type Operations uint32

// every is all operations that something can be allowed to be.
const every Operations = 1<<(TwoPhaseCommit+1) - 1<<Read

// Has reports whether op is in the set.
func (o Operations) Has(op Operation) bool { return o>>op&1 != 0 }

// operationsOf is what a resource type knows, by Kafka's definition.
var operationsOf = [User + 1]Operations{
	Topic:           set(Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs),
	Group:           set(Read, Describe, Delete, DescribeConfigs, AlterConfigs),
	Cluster:         set(Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe),
	TransactionalID: set(Describe, Write, TwoPhaseCommit),
	DelegationToken: set(Describe),
	User:            set(CreateTokens, DescribeTokens),
}

// OperationsOf returns the operations that resources of a type know, without All.
func OperationsOf(t ResourceType) Operations {
	if int(t) >= len(operationsOf) {
		return 0
	}
	return operationsOf[t]
}

func set(ops ...Operation) (s Operations) {
	for _, op := range ops {
		s |= 1 << op
	}
	return s
}

// allows is what is allowed by a rule that allows op.
func allows(op Operation) Operations {
	switch op {
	case All:
		return every
	case Read, Write, Delete, Alter:
		return set(op, Describe)
	case AlterConfigs:
		return set(AlterConfigs, DescribeConfigs)
	}
	return set(op)
}

// denies is what is denied by a rule that denies op.
func denies(op Operation) Operations {
	if op == All {
		return every
	}
	return set(op)
}

// Limits of a rule. Topics have shorter names; groups, transactional ids and principals
// of certificates may be long.
const (
	MaxNameBytes      = 1 << 10
	MaxPrincipalBytes = 1 << 10
)

// Rule allows or denies. Rules are equal when they say the same, in the form that
// [Rule.Canonical] gives.
type Rule struct {
	Resource   ResourceType
	Pattern    PatternType // Literal or Prefixed
	Name       string
	Principal  string // "User:NAME", or Everyone
	Host       string // Wildcard, an address, or a CIDR
	Operation  Operation
	Permission Permission // Allow or Deny
}

// Canonical returns the rule with its host in the one form that is kept, or says why
// there can be no such rule.
func (r Rule) Canonical() (Rule, error) {
	switch {
	case r.Resource < Topic || r.Resource > User:
		return r, fmt.Errorf("resource type %s: a rule is about one type of resource", r.Resource)
	case r.Pattern != Literal && r.Pattern != Prefixed:
		return r, fmt.Errorf("pattern type %s: a rule's is literal or prefixed", r.Pattern)
	case r.Permission != Allow && r.Permission != Deny:
		return r, fmt.Errorf("permission %s: a rule allows or denies", r.Permission)
	case r.Operation < All || r.Operation > TwoPhaseCommit:
		return r, fmt.Errorf("operation %s: a rule is about one operation, or all", r.Operation)
	case r.Operation != All && !OperationsOf(r.Resource).Has(r.Operation):
		return r, fmt.Errorf("operation %s: a %s has %s", r.Operation, r.Resource, OperationsOf(r.Resource))
	case r.Name == "":
		return r, fmt.Errorf("the name of a %s is empty; %q stands for all", r.Resource, Wildcard)
	case len(r.Name) > MaxNameBytes || !utf8.ValidString(r.Name):
		return r, fmt.Errorf("a name of %d bytes: at most %d, of UTF-8", len(r.Name), MaxNameBytes)
	case r.Resource == Cluster && (r.Name != ClusterName || r.Pattern != Literal):
		return r, fmt.Errorf("the one name of the cluster is %s, literal", ClusterName)
	}
	if err := checkPrincipal(r.Principal); err != nil {
		return r, err
	}
	host, err := canonicalHost(r.Host)
	r.Host = host
	return r, err
}

func checkPrincipal(principal string) error {
	name, user := strings.CutPrefix(principal, principalType)
	switch {
	case !user || name == "":
		return fmt.Errorf("principal %.100q: it is %sNAME, or %s for everybody", principal, principalType, Everyone)
	case len(principal) > MaxPrincipalBytes || !utf8.ValidString(principal):
		return fmt.Errorf("a principal of %d bytes: at most %d, of UTF-8", len(principal), MaxPrincipalBytes)
	}
	return nil
}

// canonicalHost returns a host as rules keep it.
func canonicalHost(host string) (string, error) {
	if host == Wildcard {
		return host, nil
	}
	if prefix, ok := hostPrefix(host); ok {
		if prefix.IsSingleIP() {
			return prefix.Addr().String(), nil
		}
		return prefix.String(), nil
	}
	return host, fmt.Errorf("host %.100q: want %q, an IP address, or a range of them as in 10.0.0.0/8; names are not looked up", host, Wildcard)
}

// hostPrefix reads an address or a CIDR; an IPv4 address within IPv6 is that address.
func hostPrefix(host string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(host); err == nil {
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		return prefix.Masked(), prefix.Addr().Zone() == ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// Compare orders rules: by resource, then by whom they concern, denials first.
func Compare(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(a.Resource, b.Resource), strings.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		strings.Compare(a.Principal, b.Principal), strings.Compare(a.Host, b.Host),
		cmp.Compare(a.Permission, b.Permission), cmp.Compare(a.Operation, b.Operation),
	)
}

// Names of Kafka's codes, as its tools write them, in lower case.
var (
	resourceNames   = [...]string{AnyResource: "any", Topic: "topic", Group: "group", Cluster: "cluster", TransactionalID: "transactional-id", DelegationToken: "delegation-token", User: "user"}
	patternNames    = [...]string{AnyPattern: "any", Match: "match", Literal: "literal", Prefixed: "prefixed"}
	permissionNames = [...]string{AnyPermission: "any", Deny: "deny", Allow: "allow"}
	operationNames  = [...]string{
		AnyOperation: "any", All: "all", Read: "read", Write: "write", Create: "create", Delete: "delete", Alter: "alter",
		Describe: "describe", ClusterAction: "cluster-action", DescribeConfigs: "describe-configs", AlterConfigs: "alter-configs",
		IdempotentWrite: "idempotent-write", CreateTokens: "create-tokens", DescribeTokens: "describe-tokens", TwoPhaseCommit: "two-phase-commit",
	}
)

func nameOf[C ~uint8](names []string, code C) string {
	if int(code) < len(names) && names[code] != "" {
		return names[code]
	}
	return fmt.Sprintf("of code %d", code)
}

func (t ResourceType) String() string { return nameOf(resourceNames[:], t) }
func (t PatternType) String() string  { return nameOf(patternNames[:], t) }
func (p Permission) String() string   { return nameOf(permissionNames[:], p) }
func (o Operation) String() string    { return nameOf(operationNames[:], o) }

// String lists the operations of a set.
func (o Operations) String() string {
	var names []string
	for op := All; op <= TwoPhaseCommit; op++ {
		if o.Has(op) {
			names = append(names, op.String())
		}
	}
	return strings.Join(names, ", ")
}

// named finds a code by its name; "_" and "-" are one, as are upper and lower case.
func named[C ~uint8](what string, names []string, name string) (C, error) {
	plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if at := slices.Index(names, plain); at > 0 && plain != "" {
		return C(at), nil
	}
	known := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" })
	return 0, fmt.Errorf("%s %.100q: there are %s", what, name, strings.Join(known, ", "))
}

// ParseResourceType reads what ResourceType.String writes.
func ParseResourceType(name string) (ResourceType, error) {
	return named[ResourceType]("resource type", resourceNames[:], name)
}

// ParsePattern reads what PatternType.String writes.
func ParsePattern(name string) (PatternType, error) {
	return named[PatternType]("pattern type", patternNames[:], name)
}

// ParsePermission reads what Permission.String writes.
func ParsePermission(name string) (Permission, error) {
	return named[Permission]("permission", permissionNames[:], name)
}

// ParseOperation reads what Operation.String writes.
func ParseOperation(name string) (Operation, error) {
	return named[Operation]("operation", operationNames[:], name)
}

// String says a rule in words.
func (r Rule) String() string {
	resource := r.Resource.String()
	switch {
	case r.Resource == Cluster:
		resource = "the cluster"
	case r.Name == Wildcard && r.Pattern == Literal:
		resource = "every " + resource
	case r.Pattern == Prefixed:
		resource += fmt.Sprintf("s that begin with %q", r.Name)
	default:
		resource += fmt.Sprintf(" %q", r.Name)
	}
	host := ""
	if r.Host != Wildcard {
		host = " from " + r.Host
	}
	return fmt.Sprintf("%s %s to %s %s%s", r.Permission, r.Principal, r.Operation, resource, host)
}
