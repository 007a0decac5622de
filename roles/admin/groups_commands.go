package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/client"
)

const groupsPath = "/api/v1/groups"

// groupPath is where a group is. Dots alone are a way through a path, which a
// server follows instead of taking them for a name, unless they are escaped.
func groupPath(id string) string {
	escaped := url.PathEscape(id)
	if id == "." || id == ".." {
		escaped = strings.ReplaceAll(id, ".", "%2E")
	}
	return groupsPath + "/" + escaped
}

// oneGroup takes the id of one group.
func oneGroup(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if args[0] == "" {
		return &UsageError{"GROUP is empty: want the id of a group; `rustmq admin groups list` shows those there are"}
	}
	return nil
}

// groupsCommand is `rustmq admin groups …`.
func (e *env) groupsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "groups", Short: "List, describe and delete consumer groups, and reset their offsets", Args: cobra.NoArgs}
	cmd.AddCommand(e.listGroups(), e.describeGroup(), e.deleteGroup(), e.resetOffsets())
	return cmd
}

func (e *env) listGroups() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List consumer groups, with how far they are behind", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Groups []broker.GroupSummary `json:"groups"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, groupsPath, nil, &out); err != nil {
				return err
			}
			return e.print(out.Groups, func() { e.showGroups(out.Groups) })
		},
	}
}

func (e *env) showGroups(groups []broker.GroupSummary) {
	t := e.table("GROUP", "KIND", "PROTOCOL", "STATE", "MEMBERS", "PARTITIONS", "LAG")
	for _, g := range groups {
		t.AppendRow(table.Row{g.Group, g.Kind, orDash(g.ProtocolType), g.State, g.Members, g.Partitions, g.Lag})
	}
	t.Render()
}

func (e *env) describeGroup() *cobra.Command {
	return &cobra.Command{
		Use: "describe GROUP", Short: "Show a group, its members, and how far it is in each partition", Args: oneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			var out broker.GroupDescription
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, groupPath(args[0]), nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showGroup(out) })
		},
	}
}

func (e *env) showGroup(g broker.GroupDescription) {
	fmt.Fprintf(e.stdout, "group       %s (%s, protocol %s)\n", visible(g.Group), g.Kind, visible(orDash(g.ProtocolType)))
	fmt.Fprintf(e.stdout, "state       %s, %s\n", g.State, plural(g.Members, "member"))
	fmt.Fprintf(e.stdout, "lag         %s in %s\n", plural(int(g.Lag), "record"), plural(g.Partitions, "partition"))
	if len(g.MemberList) > 0 {
		fmt.Fprintln(e.stdout)
		t := e.table("MEMBER", "INSTANCE", "CLIENT", "HOST", "CONSUMES")
		for _, m := range g.MemberList {
			t.AppendRow(table.Row{m.ID, orDash(m.InstanceID), m.ClientID, m.Host, taken(m.Assigned)})
		}
		t.Render()
	}
	if len(g.PartitionList) == 0 {
		return
	}
	fmt.Fprintln(e.stdout)
	t := e.table("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER", "NOTE")
	for _, p := range g.PartitionList {
		behind := "-"
		if p.Behind != nil {
			behind = time.Duration(*p.Behind * float64(time.Second)).Round(time.Second).String()
		}
		t.AppendRow(table.Row{p.Topic, p.Partition, offset(p.Committed), p.End, offset(p.Lag), behind, orDash(p.MemberID), p.Note})
	}
	t.Render()
}

func taken(topics []broker.PartitionsTaken) string {
	if len(topics) == 0 {
		return "-"
	}
	text := make([]string, len(topics))
	for i, t := range topics {
		text[i] = t.Topic + ":" + ids(t.Partitions)
	}
	return strings.Join(text, " ")
}

func (e *env) deleteGroup() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "delete GROUP", Short: "Delete a group without members, and what it has committed", Args: oneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				var out broker.GroupDescription
				if err := e.client(cmd).call(cmd.Context(), http.MethodGet, groupPath(args[0]), nil, &out); err != nil {
					return err
				}
				return e.print(out, func() {
					fmt.Fprintf(e.stdout, "would delete group %s with offsets of %s; it has %s\n", visible(out.Group), plural(out.Partitions, "partition"), plural(out.Members, "member"))
				})
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodDelete, groupPath(args[0]), nil, nil); err != nil {
				return err
			}
			return e.print(map[string]string{"deleted": args[0]}, func() { fmt.Fprintf(e.stdout, "group %s deleted\n", visible(args[0])) })
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be deleted")
	return cmd
}

func (e *env) resetOffsets() *cobra.Command {
	var topics []string
	var body broker.OffsetReset
	var to, shift int64
	var at string
	cmd := &cobra.Command{
		Use: "reset-offsets GROUP", Short: "Show, or with --execute do, a change of what a group has committed", Args: oneGroup,
		Long: "Says what each offset is and would become; with --execute it is done. The group must have no members: stop its consumers first.\n" +
			"What lies outside of the log becomes its start or its end. A group that does not exist yet is made, when topics are named.",
		Example: "  rustmq admin groups reset-offsets billing --all-topics --to-time 2026-01-02T03:00:00Z\n" +
			"  rustmq admin groups reset-offsets billing --topic orders:0,3 --shift-by -100 --execute",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if body.Topics, err = resetTopics(topics); err != nil {
				return err
			}
			if body.AllTopics == (len(topics) > 0) {
				return &UsageError{"which offsets? Give either --topic TOPIC[:PARTITION,...], which may be repeated, or --all-topics"}
			}
			body.To = ""
			for _, way := range []struct {
				flag, to string
				value    int64
			}{
				{"to-earliest", broker.ResetToEarliest, 0}, {"to-latest", broker.ResetToLatest, 0}, {"to-offset", broker.ResetToOffset, to},
				{"to-time", broker.ResetToTime, 0}, {"shift-by", broker.ResetByShift, shift},
			} {
				if given := cmd.Flags().Lookup(way.flag); !given.Changed || given.Value.String() == "false" {
					continue
				}
				if body.To != "" {
					return &UsageError{"where to? Give only one of --to-earliest, --to-latest, --to-offset, --to-time, --shift-by"}
				}
				body.To, body.Value = way.to, way.value
			}
			switch body.To {
			case "":
				return &UsageError{"where to? Give one of --to-earliest, --to-latest, --to-offset, --to-time, --shift-by"}
			case broker.ResetToOffset:
				if to < 0 {
					return &UsageError{fmt.Sprintf("--to-offset %d: want an offset from 0 on", to)}
				}
			case broker.ResetToTime:
				if body.Value, err = resetTime(at, time.Now()); err != nil {
					return err
				}
			}
			var plan broker.OffsetPlan
			server := e.patient(cmd)
			server.asksOnly = !body.Execute
			if err := server.call(cmd.Context(), http.MethodPost, groupPath(args[0])+"/reset-offsets", body, &plan); err != nil {
				return err
			}
			return e.print(plan, func() { e.showPlan(plan) })
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&topics, "topic", nil, "`TOPIC[:PARTITION,...]`, may be repeated")
	flags.BoolVar(&body.AllTopics, "all-topics", false, "every partition that the group has committed an offset of")
	flags.Bool("to-earliest", false, "to the log start")
	flags.Bool("to-latest", false, "to the end")
	flags.Int64Var(&to, "to-offset", 0, "to `OFFSET`")
	flags.StringVar(&at, "to-time", "", "to the first record that is not older than `TIME`: RFC 3339, a date (UTC), a duration ago (-1h), or @ and milliseconds since 1970")
	flags.Int64Var(&shift, "shift-by", 0, "by so many `RECORDS`, back when negative")
	flags.BoolVar(&body.Execute, "execute", false, "do it")
	return cmd
}

// resetTopics reads TOPIC[:PARTITION,...] flags.
func resetTopics(flags []string) ([]broker.ResetTopic, error) {
	var out []broker.ResetTopic
	for _, flag := range flags {
		name, list, some := strings.Cut(flag, ":") // no topic has a colon in its name
		t := broker.ResetTopic{Topic: name}
		if some {
			for text := range strings.SplitSeq(list, ",") {
				p, err := strconv.ParseInt(text, 10, 32)
				if err != nil || p < 0 {
					return nil, &UsageError{fmt.Sprintf("--topic %q: %q is no partition; want TOPIC or TOPIC:PARTITION,...", flag, text)}
				}
				t.Partitions = append(t.Partitions, int32(p))
			}
		}
		if name == "" {
			return nil, &UsageError{fmt.Sprintf("--topic %q: want TOPIC or TOPIC:PARTITION,...", flag)}
		}
		out = append(out, t)
	}
	return out, nil
}

// resetTime reads what `rustmq consume -o @TIME` takes, with the @ or without it,
// as milliseconds since 1970; milliseconds want it, so that no offset is taken for
// them.
func resetTime(text string, now time.Time) (int64, error) {
	when, at := strings.CutPrefix(text, "@")
	millis, err := client.ParseTime(when, now)
	if err != nil || (!at && strings.Trim(text, "0123456789") == "") {
		return 0, &UsageError{fmt.Sprintf("--to-time %q: want RFC 3339, such as 2026-01-02T03:04:05Z, a date, a duration ago (-1h), or @ and milliseconds since 1970", text)}
	}
	return millis, nil
}

func (e *env) showPlan(p broker.OffsetPlan) {
	t := e.table("TOPIC", "PARTITION", "NOW", "NEW", "CHANGE", "LOG START", "END", "NOTE")
	changes := 0
	for _, m := range p.Partitions {
		change := "-"
		if m.From != nil && m.To != nil {
			change = fmt.Sprintf("%+d", *m.To-*m.From)
		}
		if m.To != nil && (m.From == nil || *m.From != *m.To) {
			changes++
		}
		t.AppendRow(table.Row{m.Topic, m.Partition, offset(m.From), offset(m.To), change, m.Start, m.End, m.Note})
	}
	t.Render()
	offsets, made := plural(changes, "offset"), ""
	if p.Executed {
		switch {
		case p.New && changes == 0:
			made = "; there is no such group, and none was made"
		case p.New:
			made = "; the group is new"
		}
		fmt.Fprintf(e.stdout, "\ngroup %s: %s reset%s\n", visible(p.Group), offsets, made)
		return
	}
	switch {
	case p.New && changes == 0:
		made = "; there is no such group, and none would be made"
	case p.New:
		made = "; there is no such group yet: it would be made"
	}
	fmt.Fprintf(e.stdout, "\nnothing was done: with --execute, %s of group %s would change%s\n", offsets, visible(p.Group), made)
}

func offset(v *int64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatInt(*v, 10)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
