package rustmq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ACL is a rule of who may do what. In a filter what is empty stands for any.
type ACL struct {
	Principal  string // User:NAME, or User:* for everybody
	Host       string // an address, a range, or *; default of a rule: *
	Resource   string // topic, group, cluster, transactional-id, delegation-token or user
	Pattern    string // literal, the default of a rule, or prefixed
	Name       string // of the resource, * for all; of the cluster: kafka-cluster
	Operation  string // read, write, create, delete, alter, describe, describe-configs, alter-configs, idempotent-write, all, …
	Permission string // allow, the default of a rule, or deny, which wins
}

// kafkaACL is an ACL in Kafka's numbers.
type kafkaACL struct {
	resource   kmsg.ACLResourceType
	pattern    kmsg.ACLResourcePatternType
	operation  kmsg.ACLOperation
	permission kmsg.ACLPermissionType
}

func (a ACL) parse(filter bool) (k kafkaACL, err error) {
	unset := func(v, any, rule string) string {
		switch {
		case v != "":
			return v
		case filter:
			return any
		}
		return rule
	}
	var errs [4]error
	k.resource, errs[0] = kmsg.ParseACLResourceType(unset(a.Resource, "any", ""))
	k.pattern, errs[1] = kmsg.ParseACLResourcePatternType(unset(a.Pattern, "any", "literal"))
	k.operation, errs[2] = kmsg.ParseACLOperation(unset(a.Operation, "any", ""))
	k.permission, errs[3] = kmsg.ParseACLPermissionType(unset(a.Permission, "any", "allow"))
	if err := errors.Join(errs[:]...); err != nil {
		return k, fmt.Errorf("rustmq: ACL: %w", err)
	}
	return k, nil
}

// CreateACLs makes rules. It returns the first that was refused; those before are made.
func (a *Admin) CreateACLs(ctx context.Context, rules ...ACL) error {
	req := kmsg.NewPtrCreateACLsRequest()
	for _, rule := range rules {
		k, err := rule.parse(false)
		if err != nil {
			return err
		}
		if rule.Host == "" {
			rule.Host = "*"
		}
		c := kmsg.NewCreateACLsRequestCreation()
		c.Principal, c.Host, c.ResourceName = rule.Principal, rule.Host, rule.Name
		c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType = k.resource, k.pattern, k.operation, k.permission
		req.Creations = append(req.Creations, c)
	}
	resp, err := req.RequestWith(ctx, a.requests)
	if err != nil {
		return fmt.Errorf("rustmq: create ACLs: %w", err)
	}
	for i, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("rustmq: create ACL %+v: %w%s", rules[i], err, said(r.ErrorMessage))
		}
	}
	return nil
}

// ACLs lists the rules that a filter chooses; the zero ACL chooses all.
func (a *Admin) ACLs(ctx context.Context, filter ACL) ([]ACL, error) {
	k, err := filter.parse(true)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrDescribeACLsRequest()
	req.Principal, req.Host, req.ResourceName = orNil(filter.Principal), orNil(filter.Host), orNil(filter.Name)
	req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = k.resource, k.pattern, k.operation, k.permission
	resp, err := req.RequestWith(ctx, a.requests)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("rustmq: list ACLs: %w", err)
	}
	var rules []ACL
	for _, r := range resp.Resources {
		for _, rule := range r.ACLs {
			rules = append(rules, ACL{
				Principal: rule.Principal, Host: rule.Host, Resource: dashed(r.ResourceType.String()), Pattern: dashed(r.ResourcePatternType.String()),
				Name: r.ResourceName, Operation: dashed(rule.Operation.String()), Permission: dashed(rule.PermissionType.String()),
			})
		}
	}
	return rules, nil
}

// DeleteACLs deletes the rules that a filter chooses, and returns how many. The zero ACL,
// which would choose all, is refused.
func (a *Admin) DeleteACLs(ctx context.Context, filter ACL) (int, error) {
	if filter == (ACL{}) {
		return 0, errors.New("rustmq: delete ACLs: the filter is empty, and would choose all")
	}
	k, err := filter.parse(true)
	if err != nil {
		return 0, err
	}
	f := kmsg.NewDeleteACLsRequestFilter()
	f.Principal, f.Host, f.ResourceName = orNil(filter.Principal), orNil(filter.Host), orNil(filter.Name)
	f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType = k.resource, k.pattern, k.operation, k.permission
	req := kmsg.NewPtrDeleteACLsRequest()
	req.Filters = append(req.Filters, f)
	resp, err := req.RequestWith(ctx, a.requests)
	if err != nil {
		return 0, fmt.Errorf("rustmq: delete ACLs: %w", err)
	}
	deleted := 0
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return deleted, fmt.Errorf("rustmq: delete ACLs: %w%s", err, said(r.ErrorMessage))
		}
		for _, m := range r.MatchingACLs {
			if err := kerr.ErrorForCode(m.ErrorCode); err != nil {
				return deleted, fmt.Errorf("rustmq: delete ACLs: %w%s", err, said(m.ErrorMessage))
			}
			deleted++
		}
	}
	return deleted, nil
}

func said(message *string) string {
	if message == nil || *message == "" {
		return ""
	}
	return ": " + *message
}

// dashed is a name of Kafka's as rules here have it: DESCRIBE_CONFIGS is describe-configs.
func dashed(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
