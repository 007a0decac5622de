package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/controller"
)

// healthWatch is how `cluster health` goes on looking.
type healthWatch struct {
	watch, until bool
	every, limit time.Duration
	failOn       string
}

func (e *env) clusterHealth() *cobra.Command {
	w := healthWatch{}
	cmd := &cobra.Command{
		Use: "health", Short: "Say whether the cluster needs a person, and for what", Args: cobra.NoArgs,
		Long: `Looks at the controllers, the brokers, every partition, the bucket and what each node finds
wrong with itself, and says what is wrong, since when, what follows from it, and what to do.
It exits with 0 if nothing is, and with 1 otherwise. What is meant to be so, as a drained
broker, is noted and no problem.

critical: something is not served, or is about to be lost. warning: it will come to that, or
nothing else may fail meanwhile. Ids stay the same for as long as a problem lasts.`,
		Example: `  rustmq admin cluster health --fail-on critical
  rustmq admin cluster health --watch
  rustmq admin cluster health --exit-when-healthy --timeout 5m`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case w.failOn != controller.Critical && w.failOn != controller.Warning:
				return &UsageError{fmt.Sprintf("--fail-on %q: want critical or warning", w.failOn)}
			case w.every <= 0 || w.limit < 0:
				return &UsageError{"--interval and --timeout: want a time such as 5s"}
			case w.limit > 0 && !w.watch && !w.until:
				return &UsageError{"--timeout is for --watch and --exit-when-healthy"}
			}
			return e.watchHealth(cmd, w)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&w.watch, "watch", false, "go on looking, and print what has changed, until interrupted")
	flags.BoolVar(&w.until, "exit-when-healthy", false, "go on looking until nothing is wrong")
	flags.DurationVar(&w.every, "interval", 2*time.Second, "time between two looks")
	flags.DurationVar(&w.limit, "timeout", 0, "how long to wait; 0: as long as it takes")
	flags.StringVar(&w.failOn, "fail-on", controller.Warning, "exit with 1 only from this severity on: critical or warning")
	return cmd
}

// watchHealth looks once, or for as long as w says. What is printed of several looks is each
// that differs from the one before; as JSON, one to a line.
func (e *env) watchHealth(cmd *cobra.Command, w healthWatch) error {
	ctx := cmd.Context()
	if w.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.limit)
		defer cancel()
	}
	client, shown, looked := e.client(cmd), "", false
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	var last error
	for {
		var out ClusterHealth
		err := client.call(ctx, http.MethodGet, "/api/v1/cluster/health", nil, &out)
		goesOn := w.watch || w.until
		switch {
		case err != nil && (!goesOn || ctx.Err() == nil && client.err != nil):
			return err
		case ctx.Err() != nil:
			return w.ended(cmd.Context(), looked, last)
		case err != nil: // a node that is being restarted answers again
			last, looked = err, true
			if said := err.Error(); said != shown {
				shown = said
				fmt.Fprintf(cmd.ErrOrStderr(), "%s  %v\n", time.Now().UTC().Format(time.RFC3339), err)
			}
		default:
			last, looked = out.failure(w.failOn), true
			if now := out.gist(); !goesOn || now != shown {
				if err := e.printHealth(out, goesOn); err != nil {
					return err
				}
				shown = now
			}
			if !goesOn || w.until && last == nil {
				return last
			}
		}
		select {
		case <-ctx.Done():
			return w.ended(cmd.Context(), looked, last)
		case <-ticker.C:
		}
	}
}

// ended is what a watch ends with: interrupted while it only looks, that is no failure.
// last is what the last look came to; looked says whether there was one that was answered, or failed.
func (w healthWatch) ended(asked context.Context, looked bool, last error) error {
	switch {
	case asked.Err() != nil && !w.until:
		return nil
	case !looked:
		return errors.New("given up: no answer has come, and nothing is known of the cluster; see whether the node that --url names is well")
	case last != nil && w.until:
		return fmt.Errorf("given up: %w", last)
	}
	return last
}

func (e *env) printHealth(h ClusterHealth, goesOn bool) error {
	if goesOn && e.output == "json" {
		return json.NewEncoder(e.stdout).Encode(h)
	}
	if goesOn && e.output == "table" {
		fmt.Fprintf(e.stdout, "%s\n", time.Now().UTC().Format(time.RFC3339))
	}
	return e.print(h, func() { e.showHealth(h) })
}

// failure is what the command fails with, by the severity from which on it does.
func (h ClusterHealth) failure(from string) error {
	n := 0
	for _, p := range h.Problems {
		if p.Severity == controller.Critical || from == controller.Warning {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("the cluster is not healthy: %s", plural(n, "problem"))
}

// gist is what of a look tells it from another: words have times in them.
func (h ClusterHealth) gist() string {
	var b strings.Builder
	fmt.Fprintln(&b, "healthy:", h.Healthy) // never what nothing was shown is
	for _, p := range h.Problems {
		fmt.Fprintln(&b, p.ID, p.Severity, p.Since, p.Partitions)
	}
	return b.String() + strings.Join(h.Notes, "\n")
}

func (e *env) showHealth(h ClusterHealth) {
	for _, p := range h.Problems {
		fmt.Fprintf(e.stdout, "%s %s: %s\n", strings.ToUpper(p.Severity), p.ID, visible(p.What))
		if !p.Since.IsZero() {
			least := ""
			if p.Earlier {
				least = ", or longer: the node that answers has not run before"
			}
			fmt.Fprintf(e.stdout, "    since: %s (%s)%s\n", p.Since.UTC().Format(time.RFC3339), ago(time.Now(), p.Since), least)
		}
		if len(p.Partitions) > 0 {
			fmt.Fprintf(e.stdout, "    %s\n", visible(strings.Join(p.Partitions, " ")))
		}
		fmt.Fprintf(e.stdout, "    do: %s\n", visible(p.Do))
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
