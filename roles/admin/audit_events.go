package admin

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage/guard"
)

// call is what is known of a request beside who it comes from.
type call struct {
	source, id string
	host       netip.Prefix // what callers from there have in common
}

type callKey struct{}

// requestID is how a client names a request, if it does.
const requestID = "X-Request-Id"

// remembers has what is recorded of a request say where it comes from.
func remembers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		is := call{r.RemoteAddr, r.Header.Get(requestID), prefixOf(hostOf(r))}
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

// account is what a call does, as the audit log is told of it.
type account struct {
	action string
	deed
	parts []deed // in place of deed, where the call does several things; see tell
}

// deed is one thing that was done, or was not.
type deed struct {
	kind, name, detail string
	err                error
}

type accountKey struct{}

// tell says one of the things that a call has done, or has not. Who tells of none has done
// what the route says.
func tell(ctx context.Context, kind, name, detail string, err error) {
	if done, is := ctx.Value(accountKey{}).(*account); is {
		done.parts = append(done.parts, deed{kind, name, detail, err})
	}
}

// acted records what was done, or was not.
func (s *routes) acted(ctx context.Context, done *account, err error) {
	parts := done.parts
	if len(parts) == 0 {
		parts = []deed{{done.kind, done.name, done.detail, err}}
	}
	for _, one := range parts {
		e := event(ctx)
		e.Action, e.ResourceType, e.Resource, e.Detail = done.action, one.kind, one.name, one.detail
		e.Outcome, e.Reason = outcomeOf(ctx, one.err)
		s.audit.Record(e)
	}
}

// unknownOutcome is the reason of what may have been done: who goes away before the answer has
// no other record of it than who waits.
const unknownOutcome = "the call ended before it was known whether it was done"

func outcomeOf(ctx context.Context, err error) (audit.Outcome, string) {
	status := 0
	if is, known := errors.AsType[huma.StatusError](err); known {
		status = is.GetStatus()
	}
	switch {
	case err == nil:
		return audit.Allowed, ""
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return audit.Denied, err.Error()
	case status == http.StatusGatewayTimeout || !guard.Check("admin.audit-unknown", ctx.Err() == nil):
		return audit.Allowed, unknownOutcome
	}
	return audit.Failed, err.Error()
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
