package acl

import (
	"fmt"
	"strings"
)

// Pattern is the resources that a rule is about.
type Pattern struct {
	Resource ResourceType
	Type     PatternType // Literal or Prefixed
	Name     string
}

// ParseResource reads the short form TYPE.NAME: "topic.events" is that topic,
// "topic.events*" are those that begin with "events", "topic.events.*" with "events.",
// "topic.*" are all, and "cluster" is the cluster.
func ParseResource(short string) (Pattern, error) {
	kind, name, named := strings.Cut(short, ".")
	resource, err := ParseResourceType(kind)
	if err != nil {
		return Pattern{}, fmt.Errorf("resource %.100q: %w; write TYPE.NAME, as in topic.orders, or topic.orders.* for all that begin with \"orders.\"", short, err)
	}
	if resource == Cluster {
		if name != "" && name != ClusterName && name != Wildcard {
			return Pattern{}, fmt.Errorf("resource %.100q: there is one cluster; write cluster", short)
		}
		return Pattern{Cluster, Literal, ClusterName}, nil
	}
	if !named || name == "" {
		return Pattern{}, fmt.Errorf("resource %.100q: it has no name; write %s.NAME, or %s.* for all", short, kind, kind)
	}
	if name == Wildcard {
		return Pattern{resource, Literal, Wildcard}, nil
	}
	start, prefixed := strings.CutSuffix(name, Wildcard)
	if strings.Contains(start, Wildcard) {
		return Pattern{}, fmt.Errorf("resource %.100q: a * stands at the end, for whatever follows", short)
	}
	if prefixed {
		return Pattern{resource, Prefixed, start}, nil
	}
	return Pattern{resource, Literal, name}, nil
}

// ParseOperations reads names of operations, separated by commas.
func ParseOperations(list string) ([]Operation, error) {
	var ops []Operation
	for name := range strings.SplitSeq(list, ",") {
		op, err := ParseOperation(strings.TrimSpace(name))
		if err == nil && op == AnyOperation {
			err = fmt.Errorf("operation %q is for filters; %q is every operation", AnyOperation, All)
		}
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// ParsePrincipal reads a principal, with or without "User:".
func ParsePrincipal(name string) (string, error) {
	if !strings.HasPrefix(name, principalType) {
		name = principalType + name
	}
	return name, checkPrincipal(name)
}
