package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/transport/kafka"
)

// maxACLFilters bounds the work of one DeleteAcls: each filter looks at every rule.
const maxACLFilters = 1000

var (
	errNoAuthorization = explained{kerr.SecurityDisabled, "nobody is authorised here: security.authorization.mode is off"}
	errManyFilters     = explained{kerr.InvalidRequest, fmt.Sprintf("at most %d filters at once", maxACLFilters)}
)

// aclFilter reads a filter; nil stands for any name, principal and host.
func aclFilter(resource kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, name, principal, host *string, op kmsg.ACLOperation, permission kmsg.ACLPermissionType) (acl.Filter, error) {
	f := acl.Filter{
		Resource: acl.ResourceType(resource), Pattern: acl.PatternType(pattern), Name: name, Principal: principal, Host: host,
		Operation: acl.Operation(op), Permission: acl.Permission(permission),
	}
	known := f.Resource >= acl.AnyResource && f.Resource <= acl.User && f.Pattern >= acl.AnyPattern && f.Pattern <= acl.Prefixed &&
		f.Operation >= acl.AnyOperation && f.Operation <= acl.TwoPhaseCommit && f.Permission >= acl.AnyPermission && f.Permission <= acl.Allow
	if !known {
		return f, explained{kerr.InvalidRequest, "the filter has a resource type, pattern type, operation or permission that is not known"}
	}
	return f, nil
}

// describeACLs lists the rules that a filter chooses, by resource.
func (b *Broker) describeACLs(_ *kafka.Request, q *kmsg.DescribeACLsRequest) *kmsg.DescribeACLsResponse {
	p := q.ResponseKind().(*kmsg.DescribeACLsResponse)
	p.Resources = []kmsg.DescribeACLsResponseResource{}
	f, err := aclFilter(q.ResourceType, q.ResourcePatternType, q.ResourceName, q.Principal, q.Host, q.Operation, q.PermissionType)
	if b.authorization == nil {
		err = errNoAuthorization
	}
	if err != nil {
		p.ErrorCode, p.ErrorMessage = codeAndMessage(err)
		return p
	}
	for r := range b.authorization.images.image().ACLs() { // in order of resources
		if !f.Matches(r) {
			continue
		}
		last := len(p.Resources) - 1
		of := kmsg.NewDescribeACLsResponseResource()
		of.ResourceType, of.ResourceName, of.ResourcePatternType = kmsg.ACLResourceType(r.Resource), r.Name, kmsg.ACLResourcePatternType(r.Pattern)
		if last < 0 || p.Resources[last].ResourceType != of.ResourceType || p.Resources[last].ResourceName != of.ResourceName || p.Resources[last].ResourcePatternType != of.ResourcePatternType {
			p.Resources = append(p.Resources, of)
			last++
		}
		out := kmsg.NewDescribeACLsResponseResourceACL()
		out.Principal, out.Host, out.Operation, out.PermissionType = r.Principal, r.Host, kmsg.ACLOperation(r.Operation), kmsg.ACLPermissionType(r.Permission)
		p.Resources[last].ACLs = append(p.Resources[last].ACLs, out)
	}
	return p
}

// createACLs adds rules. They are in force here when it answers.
func (b *Broker) createACLs(ctx context.Context, _ *kafka.Request, q *kmsg.CreateACLsRequest) *kmsg.CreateACLsResponse {
	p := q.ResponseKind().(*kmsg.CreateACLsResponse)
	changes := make([]controller.ACLChange, len(q.Creations))
	for i, c := range q.Creations {
		changes[i].Rule = acl.Rule{
			Resource: acl.ResourceType(c.ResourceType), Pattern: acl.PatternType(c.ResourcePatternType), Name: c.ResourceName,
			Principal: c.Principal, Host: c.Host, Operation: acl.Operation(c.Operation), Permission: acl.Permission(c.PermissionType),
		}
	}
	for _, err := range b.alterACLs(ctx, changes) {
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Results = append(p.Results, out)
	}
	return p
}

// deleteACLs takes the rules away that filters choose. One that several choose is told of
// with the first.
func (b *Broker) deleteACLs(ctx context.Context, _ *kafka.Request, q *kmsg.DeleteACLsRequest) *kmsg.DeleteACLsResponse {
	p := q.ResponseKind().(*kmsg.DeleteACLsResponse)
	p.Results = make([]kmsg.DeleteACLsResponseResult, len(q.Filters))
	filters := make([]*acl.Filter, len(q.Filters)) // nil: it is refused
	for i, want := range q.Filters {
		p.Results[i] = kmsg.NewDeleteACLsResponseResult()
		p.Results[i].MatchingACLs = []kmsg.DeleteACLsResponseResultMatchingACL{}
		f, err := aclFilter(want.ResourceType, want.ResourcePatternType, want.ResourceName, want.Principal, want.Host, want.Operation, want.PermissionType)
		switch {
		case b.authorization == nil:
			err = errNoAuthorization
		case len(q.Filters) > maxACLFilters:
			err = errManyFilters
		}
		if p.Results[i].ErrorCode, p.Results[i].ErrorMessage = codeAndMessage(err); err == nil {
			filters[i] = &f
		}
	}
	if b.authorization == nil || len(q.Filters) > maxACLFilters {
		return p
	}
	type place struct{ result, match int }
	var changes []controller.ACLChange
	var places []place
	for r := range b.opt.Controller.Image().ACLs() {
		i := slices.IndexFunc(filters, func(f *acl.Filter) bool { return f != nil && f.Matches(r) })
		if i < 0 {
			continue
		}
		out := kmsg.NewDeleteACLsResponseResultMatchingACL()
		out.ResourceType, out.ResourceName, out.ResourcePatternType = kmsg.ACLResourceType(r.Resource), r.Name, kmsg.ACLResourcePatternType(r.Pattern)
		out.Principal, out.Host, out.Operation, out.PermissionType = r.Principal, r.Host, kmsg.ACLOperation(r.Operation), kmsg.ACLPermissionType(r.Permission)
		changes, places = append(changes, controller.ACLChange{Rule: r, Delete: true}), append(places, place{i, len(p.Results[i].MatchingACLs)})
		p.Results[i].MatchingACLs = append(p.Results[i].MatchingACLs, out)
	}
	for i, err := range b.alterACLs(ctx, changes) {
		out := &p.Results[places[i].result].MatchingACLs[places[i].match]
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
	}
	return p
}

// alterACLs has the controller change rules, and waits until they are in force here.
func (b *Broker) alterACLs(ctx context.Context, changes []controller.ACLChange) []error {
	if b.authorization == nil {
		return slices.Repeat([]error{errNoAuthorization}, len(changes))
	}
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	errs := b.opt.Controller.AlterACLs(ctx, changes)
	if err := b.authorization.images.wait(ctx, b.opt.Controller.Image().Offset()); err != nil && !errors.Is(err, context.Canceled) {
		b.log.Debug("answering before ACLs are in force here", "error", err)
	}
	return errs
}
