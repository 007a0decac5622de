package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
)

// Authorization is how brokers of this node's configuration decide what clients may do.
type Authorization struct {
	On         bool // otherwise ACLs are kept, and nobody looks at them
	SuperUsers []string
}

// ACL is a rule as the API shows and takes it.
type ACL struct {
	Principal    string `json:"principal" doc:"User:NAME, or User:* for everybody"`
	Host         string `json:"host" doc:"an address, a range such as 10.0.0.0/8, or *"`
	ResourceType string `json:"resource_type" doc:"topic, group, cluster, transactional-id, delegation-token or user"`
	Pattern      string `json:"pattern" doc:"literal, or prefixed: for all names that begin so"`
	Name         string `json:"name" doc:"of the resource, * for all; of the cluster: kafka-cluster"`
	Operation    string `json:"operation" doc:"read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs, idempotent-write or all"`
	Permission   string `json:"permission" doc:"allow, or deny, which wins"`
}

func shownACL(r acl.Rule) ACL {
	return ACL{r.Principal, r.Host, r.Resource.String(), r.Pattern.String(), r.Name, r.Operation.String(), r.Permission.String()}
}

// rule reads what shownACL shows.
func (a ACL) rule() (acl.Rule, error) {
	resource, err1 := acl.ParseResourceType(a.ResourceType)
	pattern, err2 := acl.ParsePattern(a.Pattern)
	op, err3 := acl.ParseOperation(a.Operation)
	permission, err4 := acl.ParsePermission(a.Permission)
	principal, err5 := acl.ParsePrincipal(a.Principal)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return acl.Rule{}, err
	}
	return acl.Rule{Resource: resource, Pattern: pattern, Name: a.Name, Principal: principal, Host: a.Host, Operation: op, Permission: permission}.Canonical()
}

// ACLFilter chooses rules; what is empty stands for any.
type ACLFilter struct {
	Principal    string `query:"principal" json:"principal,omitempty"`
	Host         string `query:"host" json:"host,omitempty"`
	ResourceType string `query:"resource_type" json:"resource_type,omitempty"`
	Pattern      string `query:"pattern" json:"pattern,omitempty" doc:"literal, prefixed, any, or match: whatever a name falls under"`
	Name         string `query:"name" json:"name,omitempty"`
	Operation    string `query:"operation" json:"operation,omitempty"`
	Permission   string `query:"permission" json:"permission,omitempty"`
}

func (f ACLFilter) filter() (is acl.Filter, err error) {
	var errs []error
	if f.ResourceType != "" {
		is.Resource, err = acl.ParseResourceType(f.ResourceType)
		errs = append(errs, err)
	}
	if f.Pattern != "" {
		is.Pattern, err = acl.ParsePattern(f.Pattern)
		errs = append(errs, err)
	}
	if f.Operation != "" {
		is.Operation, err = acl.ParseOperation(f.Operation)
		errs = append(errs, err)
	}
	if f.Permission != "" {
		is.Permission, err = acl.ParsePermission(f.Permission)
		errs = append(errs, err)
	}
	if f.Principal != "" {
		principal, err := acl.ParsePrincipal(f.Principal)
		is.Principal = &principal
		errs = append(errs, err)
	}
	if f.Name != "" {
		is.Name = &f.Name
	}
	if f.Host != "" {
		is.Host = &f.Host
	}
	return is, errors.Join(errs...)
}

// ACLQuestion is what somebody wants to do.
type ACLQuestion struct {
	Principal    string `json:"principal"`
	Host         string `json:"host,omitempty" doc:"the client's address; left out: not known, as rules see it"`
	ResourceType string `json:"resource_type"`
	Name         string `json:"name"`
	Operation    string `json:"operation"`
}

// ACLAnswer is whether it may, and why.
type ACLAnswer struct {
	Allowed bool            `json:"allowed"`
	Why     string          `json:"why"`
	Note    string          `json:"note,omitempty"`
	Rules   []ACLConsidered `json:"rules" doc:"for the principal, or everybody, about the type of resource"`
}

// ACLConsidered is a rule with what it says of a question.
type ACLConsidered struct {
	ACL
	Counts bool   `json:"counts"`
	Why    string `json:"why"`
}

type (
	aclsBody struct {
		ACLs []ACL `json:"acls" maxItems:"5000"`
	}
	aclsOutput struct{ Body aclsBody }
	aclsPage   struct {
		Body struct {
			ACLs []ACL `json:"acls"`
			NextPage
		}
	}
	aclsInput    struct{ Body aclsBody }
	aclsFiltered struct {
		ACLFilter
		PageQuery
	}
	aclsToDelete struct {
		ACLFilter
		All bool `query:"all" doc:"without a filter: all ACLs"`
	}
	aclAsked    struct{ Body ACLQuestion }
	aclAnswered struct{ Body ACLAnswer }
)

type aclsAPI struct {
	cluster Cluster
	by      Authorization
}

func registerACLs(h *routes, a aclsAPI) {
	route(h, http.MethodGet, "/api/v1/acls", onCluster[aclsFiltered](describesCluster).tagged(imageOf(a.cluster), aclsOfAll), a.list)
	route(h, http.MethodPost, "/api/v1/acls", onCluster[aclsInput](altersCluster).act("acl.create").saying(func(in *aclsInput) string { return fmt.Sprintf("%d rules", len(in.Body.ACLs)) }).tagged(imageOf(a.cluster), aclsOfAll), a.create, withStatus(http.StatusCreated))
	route(h, http.MethodDelete, "/api/v1/acls", onCluster[aclsToDelete](altersCluster).act("acl.delete").saying(func(in *aclsToDelete) string { return "those of " + in.words() }).tagged(imageOf(a.cluster), aclsOfAll), a.delete, withStatus(http.StatusOK))
	route(h, http.MethodPost, "/api/v1/acls/check", onCluster[aclAsked](describesCluster).act("acl.check").unless(func(*aclAsked) bool { return true }), a.check, withStatus(http.StatusOK))
}

// aclKey is where a rule comes in a list.
func aclKey(r acl.Rule) string { return strings.Join(shownACL(r).fields(), "\x00") }

func (a ACL) fields() []string {
	return []string{a.ResourceType, a.Name, a.Pattern, a.Principal, a.Host, a.Operation, a.Permission}
}

func badRequest(err error) error {
	return huma.NewError(http.StatusBadRequest, "INVALID_REQUEST: "+err.Error())
}

func (a aclsAPI) chosen(f ACLFilter) ([]acl.Rule, error) {
	filter, err := f.filter()
	if err != nil {
		return nil, badRequest(err)
	}
	return slices.DeleteFunc(slices.Collect(a.cluster.Image().ACLs()), func(r acl.Rule) bool { return !filter.Matches(r) }), nil
}

func shownACLs(rules []acl.Rule) *aclsOutput {
	out := &aclsOutput{}
	out.Body.ACLs = make([]ACL, len(rules))
	for i, r := range rules {
		out.Body.ACLs[i] = shownACL(r)
	}
	return out
}

func (a aclsAPI) list(_ context.Context, in *aclsFiltered) (*aclsPage, error) {
	rules, err := a.chosen(in.ACLFilter)
	if err != nil {
		return nil, err
	}
	out := &aclsPage{}
	if in.PageQuery != (PageQuery{}) { // else they come as they stand
		if rules, out.Body.NextPage, err = partOf(in.PageQuery, rules, aclKey); err != nil {
			return nil, err
		}
	}
	out.Body.ACLs = shownACLs(rules).Body.ACLs
	return out, nil
}

func (a aclsAPI) create(ctx context.Context, in *aclsInput) (*aclsOutput, error) {
	var rules []acl.Rule
	for _, one := range in.Body.ACLs {
		r, err := one.rule()
		if err != nil {
			return nil, badRequest(err)
		}
		rules = append(rules, r)
	}
	if err := a.alter(ctx, rules, false); err != nil {
		return nil, err
	}
	return shownACLs(rules), nil
}

func (a aclsAPI) delete(ctx context.Context, in *aclsToDelete) (*aclsOutput, error) {
	if in.ACLFilter == (ACLFilter{}) && !in.All {
		return nil, badRequest(errors.New("which ACLs? Name a principal or a resource, or all=true"))
	}
	rules, err := a.chosen(in.ACLFilter)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		tell(ctx, "acl", acl.ClusterName, "no rule is so", nil)
	}
	if err := a.alter(ctx, rules, true); err != nil {
		return nil, err
	}
	return shownACLs(rules), nil
}

func (a aclsAPI) alter(ctx context.Context, rules []acl.Rule, remove bool) error {
	changes := make([]controller.ACLChange, len(rules))
	for i, r := range rules {
		changes[i] = controller.ACLChange{Rule: r, Delete: remove}
	}
	var first error
	for i, err := range a.cluster.AlterACLs(ctx, changes) {
		if refused, ok := errors.AsType[*metadata.Error](err); ok {
			err = problem(metadata.Errorf(refused.Code, "%s: %s", rules[i], refused.Message))
		} else if err != nil {
			err = problem(err)
		}
		tell(ctx, rules[i].Resource.String(), rules[i].Name, toldRule(rules[i]), err)
		if first == nil {
			first = err
		}
	}
	return first
}

// toldRule is a rule as the audit log has it, beside its resource.
func toldRule(r acl.Rule) string {
	return fmt.Sprintf("%s %s %s from %s (%s)", r.Permission, r.Principal, r.Operation, r.Host, r.Pattern)
}

// words is what a filter says, as the audit log has it.
func (f ACLFilter) words() string {
	var said []string
	for _, part := range [][2]string{
		{"principal", f.Principal}, {"host", f.Host}, {"resource_type", f.ResourceType}, {"pattern", f.Pattern}, {"name", f.Name}, {"operation", f.Operation}, {"permission", f.Permission},
	} {
		if part[1] != "" {
			said = append(said, part[0]+"="+part[1])
		}
	}
	if said == nil {
		return "all"
	}
	return strings.Join(said, " ")
}

// check explains a decision by the rules of now.
func (a aclsAPI) check(_ context.Context, in *aclAsked) (*aclAnswered, error) {
	q := in.Body
	resource, err1 := acl.ParseResourceType(q.ResourceType)
	op, err2 := acl.ParseOperation(q.Operation)
	principal, err3 := acl.ParsePrincipal(q.Principal)
	err := errors.Join(err1, err2, err3)
	var host netip.Addr
	if q.Host != "" && err == nil {
		if host, err = netip.ParseAddr(q.Host); err != nil {
			err = fmt.Errorf("host %.100q is no IP address", q.Host)
		}
	}
	if err == nil && (op <= acl.All || resource < acl.Topic || !acl.OperationsOf(resource).Has(op)) {
		err = fmt.Errorf("operation %s: a %s has %s", op, resource, acl.OperationsOf(resource))
	}
	if err != nil {
		return nil, badRequest(err)
	}
	m := acl.Compile(slices.Collect(a.cluster.Image().ACLs()), a.by.SuperUsers)
	x := m.Explain(principal, host.Unmap(), op, resource, q.Name)
	out := &aclAnswered{ACLAnswer{Allowed: x.Allowed, Why: x.Why, Rules: []ACLConsidered{}}}
	if !a.by.On {
		out.Body.Note = "nobody looks at ACLs by this node's configuration, where security.authorization.mode is off or nobody is authenticated: every client may do everything"
	}
	for _, c := range x.Rules {
		out.Body.Rules = append(out.Body.Rules, ACLConsidered{shownACL(c.Rule), c.Counts, c.Why})
	}
	return out, nil
}
