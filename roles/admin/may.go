package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"rustmq.dev/rustmq/security/acl"
)

// A page offers what its user may do, and the server alone knows: a page asks by the calls that it
// would make, and is answered by the very rows that guard those.

const mayPath = sessionPath + "/may"

type (
	mayInput struct {
		Body struct {
			Calls []string `json:"calls" maxItems:"100" doc:"each METHOD /path, and where it is the body that names what the call is about, METHOD /path BODY; without a body it is about anything"`
		}
	}
	mayOutput struct {
		Body struct {
			Allowed []bool `json:"allowed" doc:"of each call, in their order: whether its row allows it; false too for what this process does not serve"`
		}
	}
)

// may is a row, as it answers who may call it.
type may struct {
	method string
	path   []string // segments; {…} is any
	// allows reports whether a subject may call it with the values of its path, and a body, or
	// none.
	allows func(who *subject, values map[string]string, body []byte) bool
}

// mayOf is a route's row.
func mayOf[I any](method, path string, a row[I]) may {
	return may{method, strings.Split(path, "/"), func(who *subject, values map[string]string, body []byte) bool {
		var in I
		fill(reflect.ValueOf(&in).Elem(), values, body)
		if a.name != nil && a.name(&in) == "" {
			return a.allowsAny(who)
		}
		return a.check(who, &in) == nil
	}}
}

// fill puts into the input of a call what of it names things: the text of its path, and its
// body.
func fill(in reflect.Value, values map[string]string, body []byte) {
	if in.Kind() != reflect.Struct {
		return
	}
	for i := range in.NumField() {
		field, to := in.Type().Field(i), in.Field(i)
		name, is := field.Tag.Lookup("path")
		switch {
		case field.Anonymous:
			fill(to, values, nil)
		case is && to.Kind() == reflect.String:
			to.SetString(values[name])
		case field.Name == "Body" && len(body) > 0:
			_ = json.Unmarshal(body, to.Addr().Interface()) // what cannot be read names nothing
		}
	}
}

// allowsAny reports whether there may be a resource for which a subject may call.
func (a row[I]) allowsAny(who *subject) bool {
	for _, n := range a.needs {
		allowed := n.missing(who, "") == nil
		if n.on != acl.Cluster {
			allowed = who.mayAny(n.op, n.on)
		}
		if allowed == a.either {
			return a.either
		}
	}
	return !a.either || len(a.needs) == 0
}

// mayAny reports whether there may be a resource of a type that the subject may do op with.
func (s *subject) mayAny(op acl.Operation, t acl.ResourceType) bool {
	return s == nil || s.operator || s.matcher == nil || s.matcher.AllowedAny(s.principal, s.host, op, t)
}

func registerMay(h *routes) {
	for _, row := range debugRows() {
		h.mays = append(h.mays, mayOf(row.Method, row.Path, onCluster[struct{}](altersCluster)))
	}
	route(h, http.MethodPost, mayPath, whoever[mayInput]("it changes nothing").act("session.may").unless(func(*mayInput) bool { return true }),
		func(ctx context.Context, in *mayInput) (*mayOutput, error) {
			out := &mayOutput{}
			out.Body.Allowed = make([]bool, len(in.Body.Calls))
			for i, call := range in.Body.Calls {
				out.Body.Allowed[i] = h.allows(subjectOf(ctx), call)
			}
			return out, nil
		})
}

// allows reports whether the row of a call lets a subject make it.
func (s *routes) allows(who *subject, call string) bool {
	method, rest, _ := strings.Cut(call, " ")
	path, body, _ := strings.Cut(rest, " ")
	path, _, _ = strings.Cut(path, "?")
	if who != nil && who.readOnly && method != http.MethodGet {
		return false
	}
	segments, most := strings.Split(path, "/"), -1
	allowed := false
	for _, m := range s.mays {
		values, plain, is := m.matches(method, segments)
		if is && plain > most { // of two the one that is about less
			most, allowed = plain, m.allows(who, values, []byte(body))
		}
	}
	return allowed
}

// matches returns the values of a path, and how many of its segments are as the row has them.
func (m *may) matches(method string, segments []string) (values map[string]string, plain int, is bool) {
	if method != m.method || len(segments) != len(m.path) {
		return nil, 0, false
	}
	for i, want := range m.path {
		name, any := strings.CutPrefix(want, "{")
		if !any {
			if want != segments[i] {
				return nil, 0, false
			}
			plain++
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, 0, false
		}
		if values == nil {
			values = map[string]string{}
		}
		values[strings.TrimSuffix(name, "}")] = value
	}
	return values, plain, true
}
