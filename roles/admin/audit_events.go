package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/security/audit"
)

// call is what is known of a request beside who it comes from.
type call struct{ source, id string }

type callKey struct{}

// requestID is how a client names a request, if it does.
const requestID = "X-Request-Id"

// remembers has what is recorded of a request say where it comes from.
func remembers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		is := call{r.RemoteAddr, r.Header.Get(requestID)}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, is)))
	})
}

// event is one of a request, to be filled in.
func event(ctx context.Context) audit.Event {
	is, _ := ctx.Value(callKey{}).(call)
	e := audit.Event{Source: is.source, Request: is.id, Door: audit.DoorREST, Principal: anonymousPrincipal}
	if who := subjectOf(ctx); who != nil {
		e.Principal = who.principal
	}
	return e
}

// denied records that a rule is missing.
func (s *routes) denied(ctx context.Context, refused error) {
	e := event(ctx)
	e.Outcome, e.Reason, e.Action = audit.Denied, "no rule allows it", "api.call"
	if m, is := errors.AsType[*missingRule](refused); is {
		e.ResourceType, e.Resource = m.on.String(), m.name
		e.Action = e.ResourceType + "." + m.op.String()
	}
	s.audit.Record(e)
}

// act is a thing that a call does, as the audit log has it.
type act struct{ kind, name, detail string }

type actsKey struct{}

// tellsActs has the route of a call say with tell what it does.
func tellsActs(ctx context.Context) (context.Context, *[]act) {
	acts := new([]act)
	return context.WithValue(ctx, actsKey{}, acts), acts
}

// tell says one thing that the call is about to do: in place of what its path says, and
// recorded with what became of the call.
func tell(ctx context.Context, is act) {
	if acts, ok := ctx.Value(actsKey{}).(*[]act); ok {
		*acts = append(*acts, is)
	}
}

// onlyAsked is told of a call that says what it would do.
const onlyAsked = "a question: nothing was changed"

// changedKeys is told of configurations, in the words of Kafka's door.
func changedKeys(set []string, verb string, gone []string) string {
	words := slices.Clone(set)
	for _, key := range gone {
		words = append(words, verb+" "+key)
	}
	return strings.Join(words, ", ")
}

// acted records what was done, or was not.
func (s *routes) acted(ctx context.Context, action string, is act, err error) {
	e := event(ctx)
	e.Action, e.ResourceType, e.Resource, e.Detail, e.Outcome = action, is.kind, is.name, is.detail, audit.Allowed
	if err != nil {
		e.Outcome, e.Reason = audit.Failed, err.Error()
		if status, is := errors.AsType[huma.StatusError](err); is && (status.GetStatus() == http.StatusForbidden || status.GetStatus() == http.StatusUnauthorized) {
			e.Outcome = audit.Denied
		}
	}
	s.audit.Record(e)
}

// known records that somebody has proved who it is.
func (d *door) known(ctx context.Context, who *subject, how string) {
	e := event(ctx)
	e.Principal, e.Action, e.Outcome, e.Detail = who.principal, audit.Login, audit.Allowed, how
	d.o.Audit.Record(e)
}

// turnedAway records a call that was not served, for who calls, or how.
func (d *door) turnedAway(ctx context.Context, who *subject, path string, refused *refusal) {
	e := event(ctx)
	e.Action, e.ResourceType, e.Resource, e.Outcome, e.Reason = "api.call", "path", path, audit.Denied, refused.Error()
	if refused.status == http.StatusUnauthorized || refused.status == http.StatusTooManyRequests {
		e.Action, e.Principal = audit.Login, "" // it has not proved to be anybody
	}
	if who != nil {
		e.Principal = who.principal
	}
	d.o.Audit.Record(e)
}
