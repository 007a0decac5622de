package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// emptiedPause is between two looks whether a broker is empty.
const emptiedPause = 500 * time.Millisecond

func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// brokersCommand is `rustmq admin brokers …`.
func (e *env) brokersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "brokers", Short: "List, describe, drain and decommission brokers", Args: cobra.NoArgs}
	cmd.AddCommand(e.listBrokers(), e.describeBroker(),
		e.drainBroker("drain ID", "Move the leaderships of a broker to others, and give it nothing new", true),
		e.drainBroker("undrain ID", "Let a drained broker lead and be given replicas again", false),
		e.decommissionBroker())
	return cmd
}

func (e *env) listBrokers() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List brokers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Brokers []Broker `json:"brokers"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/brokers", nil, &out); err != nil {
				return err
			}
			return e.print(out.Brokers, func() { e.showBrokers(out.Brokers) })
		},
	}
}

func (e *env) showBrokers(brokers []Broker) {
	t := e.table("BROKER", "STATE", "RACK", "LISTENERS", "LEADS", "REPLICAS", "IN SYNC", "MOVING")
	for _, b := range brokers {
		t.AppendRow(table.Row{b.ID, b.State, orDash(b.Rack), listenersText(b.Listeners), b.Leads, b.Replicas, b.InSync, b.Moving})
	}
	t.Render()
}

func listenersText(listeners []Listener) string {
	text := make([]string, len(listeners))
	for i, l := range listeners {
		text[i] = l.Name + "=" + l.Address
	}
	return strings.Join(text, " ")
}

func (e *env) describeBroker() *cobra.Command {
	return &cobra.Command{
		Use: "describe ID", Short: "Show a broker and its replicas", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := brokerPath(args[0])
			if err != nil {
				return err
			}
			var out Broker
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, path, nil, &out); err != nil {
				return err
			}
			return e.print(out, func() {
				e.showBrokers([]Broker{out})
				if len(out.ReplicaList) == 0 {
					return
				}
				fmt.Fprintln(e.stdout)
				t := e.table("TOPIC", "PARTITION", "LEADS", "IN SYNC", "MOVING")
				for _, r := range out.ReplicaList {
					t.AppendRow(table.Row{r.Topic, r.Partition, yesNo(r.Leads), yesNo(r.InSync), orDash(r.Moving)})
				}
				t.Render()
			})
		},
	}
}

func (e *env) drainBroker(use, short string, draining bool) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := brokerPath(args[0])
			if err != nil {
				return err
			}
			client := e.client(cmd)
			var out Broker
			if err := client.call(cmd.Context(), http.MethodPost, path+"/drain", Draining{draining}, &out); err != nil {
				return err
			}
			if w.wait && out.Leads > 0 {
				err = w.until(cmd, fmt.Sprintf("leaderships of broker %d", out.ID), func(ctx context.Context) (int, error) {
					err := client.call(ctx, http.MethodGet, path, nil, &out)
					return out.Leads, err
				})
			}
			return errors.Join(err, e.print(out, func() {
				fmt.Fprintf(e.stdout, "broker %d is %s: it leads %s and has %s\n", out.ID, out.State, plural(out.Leads, "partition"), plural(out.Replicas, "replica"))
				if draining && out.Leads > 0 {
					fmt.Fprintln(e.stdout, "what it leads still has no other replica in sync")
				}
			}))
		},
	}
	if draining {
		w.flags(cmd, false, "it leads nothing")
	}
	return cmd
}

func (e *env) decommissionBroker() *cobra.Command {
	var w waiting
	var dry bool
	cmd := &cobra.Command{
		Use: "decommission ID", Short: "Move everything off a broker, and forget it once it is stopped", Args: cobra.ExactArgs(1),
		Long: `Moves the leaderships and the replicas of a broker to others, and waits until it has
none. The records that are in the bucket already do not move. Then the broker can be
stopped: given again, the command forgets it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := brokerPath(args[0])
			if err != nil {
				return err
			}
			if dry {
				return e.wouldDecommission(cmd, path)
			}
			return e.decommission(cmd, path, &w)
		},
	}
	w.flags(cmd, true, "it has no replica")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would move, and move nothing")
	return cmd
}

// wouldDecommission says what a decommission would do. Whether the others take it all is for
// the controller to say, when it is asked to.
func (e *env) wouldDecommission(cmd *cobra.Command, path string) error {
	var is Broker
	if err := e.client(cmd).call(cmd.Context(), http.MethodGet, path, nil, &is); err != nil {
		return err
	}
	return e.print(is, func() {
		switch {
		case is.Replicas > 0:
			fmt.Fprintf(e.stdout, "broker %d (%s) would be drained, and its %s moved, of which it leads %d; nothing was done\n", is.ID, is.State, plural(is.Replicas, "replica"), is.Leads)
		case is.State == "fenced":
			fmt.Fprintf(e.stdout, "broker %d has nothing and does not serve: it would be forgotten; nothing was done\n", is.ID)
		default:
			fmt.Fprintf(e.stdout, "broker %d (%s) has nothing: it would be drained, and could be stopped; nothing was done\n", is.ID, is.State)
		}
	})
}

// decommission begins to move what a broker has, waits for it, and forgets a broker that
// has nothing and does not serve.
func (e *env) decommission(cmd *cobra.Command, path string, w *waiting) error {
	client, ctx := e.client(cmd), cmd.Context()
	var begun Decommission
	if err := client.call(ctx, http.MethodPost, path+"/decommission", nil, &begun); err != nil {
		return err
	}
	if w.wait && len(begun.Refused) == 0 && begun.Replicas > 0 {
		err := w.until(cmd, fmt.Sprintf("replicas of broker %d", begun.ID), func(ctx context.Context) (int, error) {
			var is Broker
			err := client.call(ctx, http.MethodGet, path, nil, &is)
			if err == nil {
				begun.Replicas = is.Replicas
			}
			return is.Replicas, err
		})
		if err != nil {
			return err
		}
	}
	var is Broker
	if err := client.call(ctx, http.MethodGet, path, nil, &is); err != nil {
		return err
	}
	begun.Replicas = is.Replicas
	said := fmt.Sprintf("broker %d has %s left", begun.ID, plural(is.Replicas, "replica"))
	if is.Replicas == 0 {
		said = fmt.Sprintf("broker %d is empty: stop it, and give this command again to have it forgotten", begun.ID)
		if is.State == "fenced" {
			if err := client.call(ctx, http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			said = fmt.Sprintf("broker %d is forgotten; if it was a controller too, `rustmq admin controllers remove %d` takes its vote", begun.ID, begun.ID)
		}
	}
	err := e.print(begun, func() { fmt.Fprintln(e.stdout, said) })
	if len(begun.Refused) > 0 {
		return errors.Join(err, fmt.Errorf("%s of broker %d cannot move: %s; it leads nothing that others can meanwhile: give the command again then, or take it back by `rustmq admin brokers undrain %d`", plural(len(begun.Refused), "replica"), begun.ID, reasons(begun.Refused), begun.ID))
	}
	return err
}

// namedByReason is how many partitions are named for each reason.
const namedByReason = 3

// reasons says each reason once of refusals of the form "partition: reason", and which partitions have it.
func reasons(refused []string) string {
	var all []string
	have := map[string][]string{}
	for _, r := range refused {
		name, why, _ := strings.Cut(r, ": ")
		if _, known := have[why]; !known {
			all = append(all, why)
		}
		have[why] = append(have[why], name)
	}
	for i, why := range all {
		names := have[why]
		more := ""
		if n := len(names) - namedByReason; n > 0 {
			names, more = names[:namedByReason], fmt.Sprintf(" and %d more", n)
		}
		all[i] = strings.Join(names, ", ") + more + ": " + why
	}
	return strings.Join(all, "; ")
}

func brokerPath(id string) (string, error) {
	n, err := strconv.ParseInt(id, 10, 32)
	if err != nil || n < 1 {
		return "", &UsageError{fmt.Sprintf("%q is no id of a broker: want a number of 1 or more, as `rustmq admin brokers list` shows", id)}
	}
	return "/api/v1/brokers/" + strconv.FormatInt(n, 10), nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
