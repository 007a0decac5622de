package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage/guard"
)

// need is what a route asks of whoever calls it, by ACLs.
type need struct {
	op acl.Operation
	on acl.ResourceType
}

var (
	describesCluster = need{acl.Describe, acl.Cluster}
	altersCluster    = need{acl.Alter, acl.Cluster}
	describesConfigs = need{acl.DescribeConfigs, acl.Cluster}
)

// missing is the refusal of a subject that lacks it, for a resource of that name unless it is
// the cluster; nil: it does not.
func (n need) missing(who *subject, name string) error {
	if n.on == acl.Cluster {
		name = acl.ClusterName
	}
	if !who.may(n.op, n.on, name) {
		return &missingRule{n, who.principal, name}
	}
	if own := n.on == acl.Group && n.op != acl.Describe && strings.HasPrefix(name, pipeline.ClientPrefix); !guard.Check("admin.places-of-modules", !own) {
		return altersCluster.missing(who, "") // it is the place of a module, as for clients of Kafka
	}
	return nil
}

// missingRule says which rule would allow a call.
type missingRule struct {
	need
	principal, name string
}

// refusalNames are those of Kafka's errors.
var refusalNames = map[acl.ResourceType]string{
	acl.Topic: "TOPIC_AUTHORIZATION_FAILED", acl.Group: "GROUP_AUTHORIZATION_FAILED", acl.Cluster: "CLUSTER_AUTHORIZATION_FAILED",
}

func (m *missingRule) Error() string {
	refused, resource := refusalNames[m.on], m.on.String()
	if refused == "" {
		refused = "CLUSTER_AUTHORIZATION_FAILED"
	}
	if m.on != acl.Cluster {
		resource += "." + m.name
	}
	return fmt.Sprintf("%s: %s may not %s %s; a rule has to allow it: rustmq admin acl create --principal %s --resource %s --permissions %s",
		refused, m.principal, m.op, resource, shellName(strings.TrimPrefix(m.principal, "User:")), shellName(resource), m.op)
}

// shellName is text as one argument of a shell.
func shellName(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:,@%=", r))
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// row is what a route asks for, and what the audit log is told of its calls; [Row] is how it is shown.
type row[I any] struct {
	needs []need
	// either: one of needs is enough, the narrowest first; else all are needed.
	either bool
	// name is that of the resource that needs are about which are not about the cluster.
	name func(*I) string
	// note is what else is asked, or left out, by the route itself.
	note string
	// own is what the route itself would say, beside needs, where that can be told before;
	// nil: it cannot, or says nothing.
	own func(who *subject, in *I) error
	// what is the name of what a call is about, for the audit log; nil: name, or the cluster.
	what func(*I) string
	// action is what the audit log calls it, of what changes something; act says it.
	action string
	// says is what the audit log is told of a call beside that; nil: nothing.
	says func(*I) string
	// asks reports whether a call changes nothing; nil: each changes something.
	asks func(*I) bool
	// of is what a call is about that has an entity tag, by the image of that moment; nil: it has
	// none.
	of    func(*I) controller.Tagged
	image func() *metadata.Image
}

// to asks for all of needs, on the resource that the call names.
func to[I any](name func(*I) string, needs ...need) row[I] {
	return row[I]{needs: needs, name: name}
}

// onCluster asks for an operation on the cluster.
func onCluster[I any](n need) row[I] { return row[I]{needs: []need{n}} }

// whoever is served to all that have said who they are. note says what the route does
// itself.
func whoever[I any](note string) row[I] { return row[I]{note: note} }

func (a row[I]) or(n ...need) row[I] {
	a.needs, a.either = append(slices.Clone(a.needs), n...), true
	return a
}

func (a row[I]) noting(note string) row[I] {
	a.note = note
	return a
}

// deciding tells beforehand what the route itself refuses.
func (a row[I]) deciding(own func(who *subject, in *I) error) row[I] {
	a.own = own
	return a
}

// act names what a call does, as the audit log has it.
func (a row[I]) act(action string) row[I] {
	a.action = action
	return a
}

// about names what a call is about, for the audit log.
func (a row[I]) about(what func(*I) string) row[I] {
	a.what = what
	return a
}

// saying tells the audit log what was asked for: no secret, and no value of a configuration.
func (a row[I]) saying(says func(*I) string) row[I] {
	a.says = says
	return a
}

// unless takes calls out of the audit log that change nothing.
func (a row[I]) unless(asks func(*I) bool) row[I] {
	a.asks = asks
	return a
}

// tagged has a call tell the entity tag of what it is about, or one that changes it be refused
// where If-Match names another.
func (a row[I]) tagged(image func() *metadata.Image, of func(*I) controller.Tagged) row[I] {
	a.image, a.of = image, of
	return a
}

// served serves a call, with the tag of what it is about.
func served[I, O any](ctx context.Context, a row[I], in *I, serve func(context.Context, *I) (*O, error)) (*O, error) {
	if a.of == nil {
		return serve(ctx, in)
	}
	of := a.of(in)
	if a.action != "" {
		var err error
		if ctx, err = checkTag(ctx, a.image(), of); err != nil {
			return nil, err
		}
	}
	out, err := serve(ctx, in)
	if err == nil {
		tellTag(ctx, of.TagIn(a.image()))
	}
	return out, err
}

// resource is what a call is about, as the audit log has it.
func (a row[I]) resource(in *I) (kind, name string) {
	kind, _, _ = strings.Cut(a.action, ".")
	if a.what != nil {
		return kind, a.what(in)
	}
	if a.name != nil {
		return kind, a.name(in)
	}
	return kind, acl.ClusterName
}

// check refuses a subject that may not call.
func (a row[I]) check(who *subject, in *I) (refused error) {
	name := ""
	if a.name != nil {
		name = a.name(in)
	}
	for _, n := range a.needs {
		missing := n.missing(who, name)
		if missing == nil && a.either {
			return nil
		}
		if refused == nil && missing != nil { // of several the first, which is the narrower
			refused = missing
		}
	}
	return refused
}

// Row is what a route asks for, in words.
type Row struct {
	Method, Path string
	Needs        string
	Note         string
}

// routes registers the routes of the API, each with what it asks for.
type routes struct {
	huma.API
	rows    []Row
	audit   audit.Recorder
	asks    bool // who calls
	streams *streams
	mays    []may
}

func describeNeeds(needs []need, either bool) string {
	if len(needs) == 0 {
		return ""
	}
	var words []string
	for _, n := range needs {
		words = append(words, fmt.Sprintf("%s on the %s", n.op, n.on))
	}
	if either {
		return strings.Join(words, ", or ")
	}
	return strings.Join(words, ", and ")
}

// route serves a method of a path to whoever may call it.
func route[I, O any](s *routes, method, path string, a row[I], serve func(context.Context, *I) (*O, error), change ...func(*huma.Operation)) {
	s.rows = append(s.rows, Row{method, path, describeNeeds(a.needs, a.either), a.note})
	s.mays = append(s.mays, mayOf(method, path, a))
	if (a.action == "") != (method == http.MethodGet) {
		panic("admin: " + method + " " + path + " changes something and has no name for it, or has one and does not")
	}
	checked := func(ctx context.Context, in *I) (*O, error) {
		if a.action == "" || a.asks != nil && a.asks(in) {
			if refused := a.check(subjectOf(ctx), in); refused != nil {
				s.denied(ctx, refused)
				return nil, forbidden(refused)
			}
			return served(ctx, a, in, serve)
		}
		done := &account{action: a.action}
		done.kind, done.name = a.resource(in)
		if a.says != nil {
			done.detail = a.says(in)
		}
		if refused := a.check(subjectOf(ctx), in); refused != nil {
			s.acted(ctx, done, forbidden(refused))
			return nil, forbidden(refused)
		}
		if err := s.audit.Admit(); err != nil {
			return nil, huma.NewError(http.StatusServiceUnavailable, "what changes something has to be in the audit log, which takes nothing: "+err.Error())
		}
		out, err := served(context.WithValue(ctx, accountKey{}, done), a, in, serve)
		s.acted(ctx, done, err)
		return out, err
	}
	change = append(change, func(op *huma.Operation) { op.BodyReadTimeout = -1 }) // takeBodies has read it
	change = append(change, strictQuery(s.API))
	if a.of != nil {
		change = append(change, withRequest)
		if a.action != "" {
			change = append(change, ifMatch)
		}
	}
	switch method {
	case http.MethodGet:
		huma.Get(s.API, path, checked, change...)
	case http.MethodPost:
		huma.Post(s.API, path, checked, change...)
	case http.MethodPut:
		huma.Put(s.API, path, checked, change...)
	case http.MethodPatch:
		huma.Patch(s.API, path, checked, change...)
	case http.MethodDelete:
		huma.Delete(s.API, path, checked, change...)
	default:
		panic("admin: no routes of method " + method)
	}
}

func forbidden(refused error) error { return huma.NewError(http.StatusForbidden, refused.Error()) }

func withStatus(status int) func(*huma.Operation) {
	return func(op *huma.Operation) { op.DefaultStatus = status }
}

// checkRows panics if a route of the API was registered without saying what it asks for.
func (s *routes) checkRows() {
	for path, item := range s.OpenAPI().Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
			http.MethodHead: item.Head, http.MethodOptions: item.Options, http.MethodTrace: item.Trace,
		} {
			if op != nil && !slices.ContainsFunc(s.rows, func(r Row) bool { return r.Method == method && r.Path == path }) {
				panic("admin: " + method + " " + path + " does not say what it asks for")
			}
		}
	}
}
