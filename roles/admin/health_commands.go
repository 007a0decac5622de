package admin

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

func (e *env) clusterHealth() *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Say whether the cluster needs a person, and for what", Args: cobra.NoArgs,
		Long: `Looks at the controllers, the brokers, every partition and the bucket, and says what is
wrong, what follows from it, and what to do. It exits with 0 if nothing is, and with 1
otherwise. What is meant to be so, as a drained broker, is noted and no problem.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out ClusterHealth
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/cluster/health", nil, &out); err != nil {
				return err
			}
			err := e.print(out, func() { e.showHealth(out) })
			if err == nil && !out.Healthy {
				err = fmt.Errorf("the cluster is not healthy: %s", plural(len(out.Problems), "problem"))
			}
			return err
		},
	}
}

func (e *env) showHealth(h ClusterHealth) {
	for _, p := range h.Problems {
		fmt.Fprintf(e.stdout, "%s: %s\n", p.Kind, p.What)
		if len(p.Partitions) > 0 {
			fmt.Fprintf(e.stdout, "    %s\n", strings.Join(p.Partitions, " "))
		}
		fmt.Fprintf(e.stdout, "    do: %s\n", p.Do)
	}
	if h.Healthy {
		fmt.Fprintln(e.stdout, "healthy: a controller leads, every broker serves, and every replica is in sync")
	}
	for _, note := range h.Notes {
		fmt.Fprintf(e.stdout, "note: %s\n", note)
	}
}

func (e *env) describeCluster() *cobra.Command {
	return &cobra.Command{
		Use: "describe", Short: "Show what the cluster is made of", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out ClusterView
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/cluster", nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showCluster(out) })
		},
	}
}

func (e *env) showCluster(c ClusterView) {
	t := e.table("CLUSTER", "INCARNATION", "FEATURE LEVEL", "CONTROLLER", "TOPICS", "PARTITIONS", "OBJECTS", "IN THE BUCKET")
	leads := "none"
	if c.Controller >= 0 {
		leads = strconv.Itoa(int(c.Controller))
	}
	t.AppendRow(table.Row{c.ClusterID, c.Incarnation, fmt.Sprintf("%d of %d", c.FeatureLevel, c.KnownLevel), leads, c.Topics, c.Partitions, c.Objects, size(c.BucketBytes)})
	t.Render()
	fmt.Fprintf(e.stdout, "\nbucket   %s\nversion  %s (of the node that answers)\n\n", orDash(c.Bucket), orDash(c.Version))
	nodes := e.table("NODE", "ROLES", "RACK", "BROKER", "KNOWS LEVEL")
	for _, n := range c.Nodes {
		nodes.AppendRow(table.Row{n.ID, strings.Join(n.Roles, ","), orDash(n.Rack), orDash(n.State), n.FeatureLevel})
	}
	nodes.Render()
}
