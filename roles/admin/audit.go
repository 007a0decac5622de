package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
)

const auditPath = "/api/v1/audit"

// AuditLog is the account of who did what, as the API reads it.
type AuditLog interface {
	ReadAudit(ctx context.Context, from int64) (broker.AuditPage, error)
	AuditHeads(ctx context.Context) (heads []audit.Head, unasked []int32)
}

// Bounds of one answer about the audit log.
const (
	maxAuditEvents  = 10_000
	auditWindow     = 2_000     // offsets that are looked at together, from the end on
	maxAuditScanned = 5_000_000 // records that one request looks at
	behindAllAudit  = 1 << 62   // an offset; a page from there has no records, and says where the log ends
)

// AuditEvent is one record of the audit log as the API shows it.
type AuditEvent struct {
	Offset       int64      `json:"offset" doc:"in topic __audit"`
	Kind         string     `json:"kind" doc:"event; begin, where a process began to record; gap, where some could not be recorded"`
	Time         time.Time  `json:"time"`
	Node         int32      `json:"node" doc:"that recorded it"`
	Principal    string     `json:"principal,omitempty"`
	Source       string     `json:"source,omitempty"`
	Door         string     `json:"door,omitempty"`
	Action       string     `json:"action,omitempty"`
	ResourceType string     `json:"resource_type,omitempty"`
	Resource     string     `json:"resource,omitempty"`
	Outcome      string     `json:"outcome,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	Detail       string     `json:"detail,omitempty"`
	Request      string     `json:"request,omitempty" doc:"client id, or id of the request"`
	Count        int64      `json:"count,omitempty" doc:"events alike that this stands for, where there are several"`
	First        *time.Time `json:"first,omitempty" doc:"of them; time is the last"`
	Lost         int64      `json:"lost,omitempty" doc:"of a gap: events that were not recorded"`
	Damaged      string     `json:"damaged,omitempty" doc:"why it is no record that was written so"`
}

// AuditEvents is a part of the audit log.
type AuditEvents struct {
	Events []AuditEvent `json:"events" doc:"oldest first"`
	Start  int64        `json:"start" doc:"first offset that there is"`
	End    int64        `json:"end" doc:"offset behind the last"`
	Next   int64        `json:"next" doc:"for after: what comes behind what was looked at"`
	More   bool         `json:"more" doc:"there may be others before these, or, with after, behind them"`
}

// AuditReport is what a verification found.
type AuditReport struct {
	audit.Report
	Unasked []int32 `json:"unasked,omitempty" doc:"brokers that run and did not say how far they have written: whether the end of their chains was cut is not known"`
}

type (
	// AuditWanted says which events are.
	AuditWanted struct {
		Principal    string `query:"principal" doc:"with or without User:"`
		Action       string `query:"action" doc:"as in topic.create; with * at the end, all that begin so"`
		ResourceType string `query:"resource_type"`
		Resource     string `query:"resource" doc:"name; with * at the end, all that begin so"`
		Outcome      string `query:"outcome" enum:"allowed,denied,failed"`
	}
	auditQuery struct {
		AuditWanted
		Since time.Time `query:"since" doc:"RFC 3339"`
		Until time.Time `query:"until" doc:"RFC 3339; not included"`
		Limit int       `query:"limit" minimum:"1" maximum:"10000" default:"100" doc:"events at most: the newest or, with after, the first"`
		After int64     `query:"after" default:"-1" doc:"offset from which on to read; -1: the newest are wanted"`
	}
	auditOutput struct{ Body AuditEvents }
	auditVerify struct {
		Head []string `query:"head,explode" doc:"hash of a record that was there once, as verify has printed it; may be repeated"`
	}
	reportOutput struct{ Body AuditReport }
)

// auditAPI is /api/v1/audit.
type auditAPI struct{ log AuditLog }

// registerAudit registers them for who may read the topic.
func registerAudit(h *routes, a auditAPI) {
	route(h, http.MethodGet, auditPath, readsAudit[auditQuery](), a.list)
	route(h, http.MethodGet, auditPath+"/verify", readsAudit[auditVerify](), a.verify)
	stream(h, auditPath+"/stream", readsAudit[auditFollowed](), a.stream)
}

// readsAudit asks for what a consumer of the topic needs.
func readsAudit[I any]() row[I] {
	return to(func(*I) string { return broker.AuditTopic }, need{acl.Read, acl.Topic}).noting("of the name " + broker.AuditTopic)
}

func (q *AuditWanted) filter() audit.Filter {
	outcome, _ := audit.ParseOutcome(q.Outcome)
	return audit.Filter{Principal: q.Principal, Action: q.Action, ResourceType: q.ResourceType, Resource: q.Resource, Outcome: outcome}
}

func (a auditAPI) list(ctx context.Context, in *auditQuery) (*auditOutput, error) {
	out := &auditOutput{AuditEvents{Events: []AuditEvent{}}}
	filter := in.filter()
	filter.Since, filter.Until = in.Since, in.Until
	var err error
	if in.After >= 0 {
		err = a.after(ctx, in.After, in.Limit, &filter, &out.Body)
	} else {
		err = a.newest(ctx, in.Limit, &filter, &out.Body)
	}
	if err != nil {
		return nil, huma.NewError(http.StatusServiceUnavailable, err.Error())
	}
	return out, nil
}

// after adds the first events from an offset on.
func (a auditAPI) after(ctx context.Context, from int64, limit int, filter *audit.Filter, out *AuditEvents) error {
	out.Next = from
	for scanned := 0; scanned < maxAuditScanned; {
		page, err := a.log.ReadAudit(ctx, out.Next)
		if err != nil {
			return err
		}
		out.Start, out.End = page.Start, page.End
		for i := range page.Records {
			r := &page.Records[i]
			if e, wanted := shownRecord(r, filter); wanted {
				out.Events = append(out.Events, e)
			}
			if out.Next = r.Offset + 1; len(out.Events) == limit {
				out.More = out.Next < page.End
				return nil
			}
		}
		out.Next = max(out.Next, page.Next)
		if scanned += len(page.Records); page.Next >= page.End {
			return nil
		}
	}
	out.More = true
	return nil
}

// newest adds the last events, which are looked for from the end on.
func (a auditAPI) newest(ctx context.Context, limit int, filter *audit.Filter, out *AuditEvents) error {
	page, err := a.log.ReadAudit(ctx, behindAllAudit)
	if err != nil {
		return err
	}
	out.Start, out.End, out.Next = page.Start, page.End, page.End
	upper := page.End
	var found []AuditEvent // newest first
	for scanned := int64(0); upper > out.Start && len(found) < limit && scanned < maxAuditScanned; {
		lower := max(out.Start, upper-auditWindow)
		window, older, err := a.window(ctx, lower, upper, filter)
		if err != nil {
			return err
		}
		slices.Reverse(window)
		found = append(found, window...)
		scanned += upper - lower
		if upper = lower; older {
			upper = out.Start
		}
	}
	out.More = len(found) > limit || upper > out.Start
	found = found[:min(len(found), limit)]
	slices.Reverse(found)
	out.Events = append(out.Events, found...)
	return nil
}

// window returns the events of some offsets; older: what lies before was recorded before
// any that is wanted.
func (a auditAPI) window(ctx context.Context, lower, upper int64, filter *audit.Filter) (found []AuditEvent, older bool, err error) {
	// What several nodes have written is not in order of its time, to the second.
	const disorder = 5 * time.Minute
	for at := lower; at < upper; {
		page, err := a.log.ReadAudit(ctx, at)
		if err != nil {
			return nil, false, err
		}
		for i := range page.Records {
			r := &page.Records[i]
			if r.Offset >= upper {
				return found, older, nil
			}
			e, wanted := shownRecord(r, filter)
			if wanted {
				found = append(found, e)
			}
			if at == lower && i == 0 && !filter.Since.IsZero() && !e.Time.IsZero() {
				older = e.Time.Add(disorder).Before(filter.Since)
			}
		}
		if page.Next <= at {
			return found, older, nil
		}
		at = page.Next
	}
	return found, older, nil
}

// shownRecord is a record as it is shown, if it is wanted.
func shownRecord(r *broker.AuditRecord, filter *audit.Filter) (e AuditEvent, wanted bool) {
	if r.Value == nil {
		return e, false
	}
	is, err := audit.Parse(r.Value)
	if err != nil {
		return AuditEvent{Offset: r.Offset, Kind: "foreign", Damaged: err.Error()}, *filter == audit.Filter{}
	}
	e = AuditEvent{
		Offset: r.Offset, Kind: is.Kind, Time: is.Time, Node: is.Node, Principal: is.Principal, Source: is.Source, Door: is.Door, Action: is.Action,
		ResourceType: is.ResourceType, Resource: is.Resource, Reason: is.Reason, Detail: is.Detail, Request: is.Request, Count: is.Count, Lost: is.Lost,
	}
	if is.Outcome != 0 {
		e.Outcome = is.Outcome.String()
	}
	if !is.First.IsZero() {
		e.First = &is.First
	}
	if !is.Whole() {
		e.Damaged = "its hash is another: it was altered"
	}
	return e, filter.Wants(is)
}

func (a auditAPI) verify(ctx context.Context, in *auditVerify) (*reportOutput, error) {
	heads, unasked := a.log.AuditHeads(ctx) // before: the chains grow meanwhile
	page, err := a.log.ReadAudit(ctx, 0)
	if err != nil {
		return nil, huma.NewError(http.StatusServiceUnavailable, err.Error())
	}
	v := audit.NewVerifier(page.Start, audit.Expected{Live: heads, Hashes: in.Head})
	for first := true; ; first = false {
		if !first {
			at := page.Next
			if page, err = a.log.ReadAudit(ctx, at); err != nil {
				return nil, huma.NewError(http.StatusServiceUnavailable, fmt.Sprintf("verified up to offset %d: %v", at, err))
			}
		}
		for i := range page.Records {
			if r := &page.Records[i]; r.Value == nil {
				v.Skip(r.Offset, r.Offset+1)
			} else {
				v.Add(r.Offset, r.Value)
			}
		}
		if len(page.Records) == 0 || page.Next >= page.End {
			return &reportOutput{AuditReport{Report: v.Report(), Unasked: unasked}}, nil
		}
	}
}
