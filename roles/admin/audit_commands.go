package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// errBroken ends a verification whose output says why.
var errBroken = errors.New("the audit log is not as it was written: the places stand above; keep the bucket and the data directories as they are (docs/security.md)")

// auditCommand is `rustmq admin audit …`.
func (e *env) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Show who did what, and verify that the account is whole", Args: cobra.NoArgs}
	cmd.AddCommand(e.listAudit(), e.tailAudit(), e.verifyAudit())
	return cmd
}

// auditFlags are those that say which events are wanted.
type auditFlags struct {
	principal, action, resource, resourceType, outcome, since, until string
}

func (f *auditFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.principal, "principal", "", "`NAME` of who acted, with or without User:")
	flags.StringVar(&f.action, "action", "", "`ACTION`, such as topic.create, acl.*, login")
	flags.StringVar(&f.resource, "resource", "", "`NAME` of what it was done to; with * at the end, all that begin so")
	flags.StringVar(&f.resourceType, "resource-type", "", "`TYPE` of that: topic, group, cluster, user, …")
	flags.StringVar(&f.outcome, "outcome", "", "allowed, denied or failed")
}

func (f *auditFlags) bindTimes(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.since, "since", "", "`TIME` in RFC 3339, or how long ago: 2h, 7d")
	cmd.Flags().StringVar(&f.until, "until", "", "`TIME`, likewise")
}

// query is what the flags say, at a time.
func (f *auditFlags) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("principal", f.principal)
	set("action", f.action)
	set("resource", f.resource)
	set("resource_type", f.resourceType)
	switch f.outcome {
	case "", "allowed", "denied", "failed":
	default:
		return nil, &UsageError{fmt.Sprintf("--outcome %q: want allowed, denied or failed", f.outcome)}
	}
	set("outcome", f.outcome)
	for name, given := range map[string]string{"since": f.since, "until": f.until} {
		if given == "" {
			continue
		}
		at, err := momentOf(given, now)
		if err != nil {
			return nil, &UsageError{fmt.Sprintf("--%s %q: want a time such as 2026-01-31T08:00:00Z, or how long ago, such as 2h or 7d", name, given)}
		}
		q.Set(name, at.Format(time.RFC3339Nano))
	}
	return q, nil
}

// momentOf reads a time, or how long before now it was.
func momentOf(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	ago, err := parseDays(s)
	if err == nil && ago < 0 {
		err = errors.New("it has not come yet")
	}
	return now.Add(-ago), err
}

func (e *env) listAudit() *cobra.Command {
	var f auditFlags
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List who did what, the newest last",
		Example: "  rustmq admin audit list --outcome denied --since 2h\n  rustmq admin audit list --action 'acl.*' -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if limit < 1 || limit > maxAuditEvents {
				return &UsageError{fmt.Sprintf("--limit %d: want 1 to %d", limit, maxAuditEvents)}
			}
			q.Set("limit", strconv.Itoa(limit))
			var out AuditEvents
			if err := e.patient(cmd).call(cmd.Context(), http.MethodGet, auditPath+"?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return e.print(out, func() {
				if out.More {
					fmt.Fprintln(e.stdout, "(there are older ones: --limit, --since and --until say which are shown)")
				}
				t := e.table("TIME", "NODE", "PRINCIPAL", "SOURCE", "ACTION", "RESOURCE", "OUTCOME", "WHY")
				for i := range out.Events {
					t.AppendRow(auditRow(&out.Events[i]))
				}
				t.Render()
			})
		},
	}
	f.bind(cmd)
	f.bindTimes(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "events at most: the newest")
	return cmd
}

func auditRow(e *AuditEvent) table.Row {
	on := e.ResourceType
	if e.Resource != "" {
		on += " " + e.Resource
	}
	why := e.Reason
	if e.Detail != "" {
		why = strings.TrimPrefix(why+"; "+e.Detail, "; ")
	}
	if e.Count > 1 {
		why += fmt.Sprintf(" (%d times)", e.Count)
	}
	outcome, action := e.Outcome, e.Action
	switch {
	case e.Damaged != "":
		outcome, why = "DAMAGED", e.Damaged
	case e.Lost > 0:
		action, why = "(gap)", fmt.Sprintf("%d events were not recorded", e.Lost)
	case e.Kind == "begin":
		action, why = "(begin)", "the node began to record"
	}
	return table.Row{e.Time.Local().Format("2006-01-02 15:04:05.000"), e.Node, e.Principal, e.Source, action, on, outcome, why}
}

// auditPoll is the time between two looks for what is new.
const auditPoll = time.Second

func (e *env) tailAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use: "tail", Short: "Show what is recorded from now on, until interrupted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			c := e.client(cmd)
			var out AuditEvents
			if err := c.call(cmd.Context(), http.MethodGet, auditPath+"?limit=1", nil, &out); err != nil {
				return err
			}
			next := out.End
			for cmd.Context().Err() == nil {
				q.Set("after", strconv.FormatInt(next, 10))
				out = AuditEvents{}
				if err := c.call(cmd.Context(), http.MethodGet, auditPath+"?"+q.Encode(), nil, &out); err != nil {
					if cmd.Context().Err() != nil {
						return nil // interrupted, as it is meant to
					}
					return err
				}
				for i := range out.Events {
					if err := e.followed(&out.Events[i]); err != nil {
						return err
					}
				}
				if next = out.Next; out.More {
					continue
				}
				select {
				case <-cmd.Context().Done():
				case <-time.After(auditPoll):
				}
			}
			return nil
		},
	}
	f.bind(cmd)
	return cmd
}

// followed shows one event on a line.
func (e *env) followed(is *AuditEvent) error {
	if e.output != "table" {
		raw, err := json.Marshal(is)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "%s\n", raw)
		return err
	}
	var cells []string
	for _, cell := range auditRow(is) {
		if s := visible(fmt.Sprint(cell)); s != "" {
			cells = append(cells, s)
		}
	}
	_, err := fmt.Fprintln(e.stdout, strings.Join(cells, "  "))
	return err
}

func (e *env) verifyAudit() *cobra.Command {
	var heads []string
	cmd := &cobra.Command{
		Use: "verify", Short: "Verify that nothing of the account was altered or taken out",
		Long: "Reads the whole audit log and follows the chain of each node: every record names the hash of the one before. What the brokers\n" +
			"that run have written last is compared with what is there, so that a cut end, or a log that was written anew, shows.\n" +
			"The hashes that are printed, kept elsewhere, and given by --head later, show that no record up to them was touched.\n" +
			"Exits with 1 where the log is broken, and says where.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, head := range heads {
				if raw, err := hex.DecodeString(head); err != nil || len(raw) != sha256.Size {
					return &UsageError{fmt.Sprintf("--head %q: want a hash of %d hexadecimal digits, as this command has printed it", head, hex.EncodedLen(sha256.Size))}
				}
			}
			q := url.Values{"head": heads}
			var out AuditReport
			if err := e.patient(cmd).call(cmd.Context(), http.MethodGet, auditPath+"/verify?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			if err := e.print(out, func() { e.showReport(&out) }); err != nil {
				return err
			}
			if !out.Whole {
				return errBroken
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&heads, "head", nil, "`HASH` that was printed before: it is to be there still; may be repeated")
	return cmd
}

func (e *env) showReport(r *AuditReport) {
	verdict := "whole"
	if !r.Whole {
		verdict = fmt.Sprintf("BROKEN in %s", plural(int(r.Broken), "place"))
	}
	fmt.Fprintf(e.stdout, "the audit log is %s: %s of %s in %s, offsets %d to %d\n", verdict, plural(int(r.Events), "event"), plural(int(r.Records), "record"), plural(r.Lives, "chain"), r.Start, r.End)
	if r.Cut {
		fmt.Fprintln(e.stdout, "older records were deleted by retention")
	}
	if r.Lost > 0 {
		fmt.Fprintf(e.stdout, "%d events could not be recorded, as the log says itself\n", r.Lost)
	}
	for _, id := range r.Unasked {
		fmt.Fprintf(e.stdout, "broker %d did not say how far it has written: whether the end of its chain was cut is not known\n", id)
	}
	if len(r.Faults) > 0 {
		t := e.table("OFFSET", "NODE", "FAULT", "WHAT")
		for _, f := range r.Faults {
			var at, node any = f.Offset, f.Node
			if f.Offset < 0 {
				at, node = "-", "-" // it is about no record
			}
			t.AppendRow(table.Row{at, node, string(f.Kind), f.What})
		}
		t.Render()
	}
	if len(r.Heads) > 0 {
		t := e.table("NODE", "RECORD", "OFFSET", "HEAD, FOR --head LATER")
		for _, h := range r.Heads {
			t.AppendRow(table.Row{h.Node, h.Seq, h.Offset, h.Hash})
		}
		t.Render()
	}
}
