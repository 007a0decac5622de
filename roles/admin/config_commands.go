package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// configCommand is `rustmq admin config …`.
func (e *env) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Set keys on running nodes, and see what is in effect, from where, and who changed it", Args: cobra.NoArgs}
	cmd.AddCommand(e.setConfig(), e.unsetConfig(), e.listConfig(), e.configHistory())
	return cmd
}

func (e *env) setConfig() *cobra.Command {
	var patch ConfigSet
	var node int32
	cmd := &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Set keys on all nodes, or on one broker, without a restart", Args: cobra.ArbitraryArgs,
		Long: `Sets keys that may change while processes run: docs/configuration.md marks them live. The
value is obeyed at once, kept in the cluster's metadata, and over what flags, environment
and files of the nodes say, until it is unset: that of one broker first, then that of all.
Defaults of topics are set under Kafka's name, such as log.retention.ms.`,
		Example: `  rustmq admin config set operations.log_level=debug --node 2
  rustmq admin config set network.max_connections=5000 security.rest.requests=200
  rustmq admin config set compaction.bandwidth=16MiB --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := assignments("", args)
			if err != nil {
				return err
			}
			if len(set) == 0 {
				return &UsageError{"nothing to set: give KEY=VALUE, such as operations.log_level=debug"}
			}
			patch.Set = set
			return e.changeConfig(cmd, patch, node)
		},
	}
	e.configFlags(cmd, &node, &patch.DryRun)
	return cmd
}

func (e *env) unsetConfig() *cobra.Command {
	var patch ConfigSet
	var node int32
	cmd := &cobra.Command{
		Use: "unset KEY...", Short: "Give keys back to what the nodes' own configuration says", Args: cobra.ArbitraryArgs,
		Example: "  rustmq admin config unset operations.log_level --node 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &UsageError{"which keys? `rustmq admin config list` shows what is set"}
			}
			patch.Delete = args
			return e.changeConfig(cmd, patch, node)
		},
	}
	e.configFlags(cmd, &node, &patch.DryRun)
	return cmd
}

func (e *env) configFlags(cmd *cobra.Command, node *int32, dryRun *bool) {
	cmd.Flags().Int32Var(node, "node", 0, "on the broker of this `ID` alone; none: on all nodes")
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "say whether it could be done, and change nothing")
}

func (e *env) changeConfig(cmd *cobra.Command, patch ConfigSet, node int32) error {
	if cmd.Flags().Changed("node") {
		if node < 1 {
			return &UsageError{fmt.Sprintf("--node %d: ids of nodes begin with 1", node)}
		}
		patch.Broker = &node
	}
	var out ConfigView
	if err := e.client(cmd).call(cmd.Context(), http.MethodPatch, "/api/v1/config", patch, &out); err != nil {
		return err
	}
	if patch.DryRun && e.output == "table" {
		fmt.Fprintln(e.stdout, "it could be done; nothing was changed (--dry-run)")
		return nil
	}
	return e.print(out, func() { e.showSet(out.Set) })
}

func (e *env) listConfig() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "Show what is set in the cluster, and what the node that answers obeys", Args: cobra.NoArgs,
		Long: `Shows what is set in the cluster, and of the node that answers the keys that may change
while it runs, with what it obeys and where that comes from; with --all those too that wait
for a restart. --url asks another node.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out ConfigView
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/config", nil, &out); err != nil {
				return err
			}
			if !all {
				var live []Setting
				for _, s := range out.Settings {
					if s.Live != "" || s.Waits {
						live = append(live, s)
					}
				}
				out.Settings = live
			}
			return e.print(out, func() {
				e.showSet(out.Set)
				fmt.Fprintf(e.stdout, "\nnode %d obeys:\n\n", out.Node)
				e.showSettings(out.Settings)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "keys that wait for a restart too")
	return cmd
}

func (e *env) showSet(set []ClusterSetting) {
	if len(set) == 0 {
		fmt.Fprintln(e.stdout, "nothing is set in the cluster: each node obeys its own configuration")
		return
	}
	t := e.table("SET ON", "KEY", "VALUE")
	for _, s := range set {
		t.AppendRow(table.Row{where(s.Broker), s.Key, s.Value})
	}
	t.Render()
}

func (e *env) showSettings(settings []Setting) {
	t := e.table("KEY", "VALUE", "FROM", "CHANGES", "")
	for _, s := range settings {
		changes, note := "with a restart", ""
		switch s.Live {
		case "node":
			changes = "live"
		case "cluster":
			changes = "live, for all"
		}
		switch {
		case s.Refused != "":
			note = "not obeyed: " + s.Refused
		case s.Waits:
			note = "its file says something else, which waits for a restart"
		}
		t.AppendRow(table.Row{s.Key, s.Value, s.Source, changes, note})
	}
	t.Render()
}

func (e *env) configHistory() *cobra.Command {
	return &cobra.Command{
		Use: "history [KEY]", Short: "Show who changed what is set in the cluster, and when, the newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var out struct {
				Changes []ConfigChange `json:"changes"`
			}
			path := "/api/v1/config/history"
			if len(args) > 0 {
				path += "?key=" + url.QueryEscape(args[0])
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, path, nil, &out); err != nil {
				return err
			}
			return e.print(out.Changes, func() { e.showChanges(out.Changes) })
		},
	}
}

func (e *env) showChanges(changes []ConfigChange) {
	if len(changes) == 0 {
		fmt.Fprintln(e.stdout, "nobody has changed that: no change of it is in the history, which has the last 256")
		return
	}
	t := e.table("VERSION", "AT", "BY", "SET ON", "KEY", "OLD", "NEW")
	for _, c := range changes {
		at := "-"
		if c.At != nil {
			at = c.At.UTC().Format(time.RFC3339)
		}
		for _, k := range c.Keys {
			t.AppendRow(table.Row{c.Version, at, orDash(strings.TrimPrefix(c.By, "User:")), where(c.Broker), k.Key, setOrNot(k.Old), setOrNot(k.New)})
		}
	}
	t.Render()
}

func setOrNot(value *string) string {
	if value == nil {
		return "(not set)"
	}
	return *value
}
