package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// operationsCommand is `rustmq admin operations …`.
func (e *env) operationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "operations", Short: "List long work, and wait for it", Args: cobra.NoArgs,
		Long: `Drains, decommissions and reassignments go on by themselves, whoever has begun them: what is
shown is what the metadata say of them, at any process.`,
	}
	cmd.AddCommand(e.listOperations(), e.showOperation())
	return cmd
}

func (e *env) listOperations() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what is under way", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Operations []Operation `json:"operations"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, operationsPath, nil, &out); err != nil {
				return err
			}
			return e.print(out.Operations, func() { e.showOperations(out.Operations) })
		},
	}
}

func (e *env) showOperations(all []Operation) {
	t := e.table("OPERATION", "STATE", "LEFT", "OF", "WHAT")
	for _, o := range all {
		of := "-"
		if o.Total > 0 {
			of = fmt.Sprint(o.Total)
		}
		t.AppendRow(table.Row{o.ID, o.State, o.Left, of, o.What})
	}
	t.Render()
}

func (e *env) showOperation() *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "describe ID", Short: "Show how far an operation is", Args: cobra.ExactArgs(1),
		Example: "  rustmq admin operations describe drain-2-14 --wait --timeout 5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, path := e.client(cmd), operationsPath+"/"+url.PathEscape(args[0])
			var out Operation
			err := client.call(cmd.Context(), http.MethodGet, path, nil, &out)
			if err != nil {
				return err
			}
			if w.wait && out.State == "running" {
				err = w.until(cmd, out.ID, func(ctx context.Context) (int, error) {
					err := client.call(ctx, http.MethodGet, path, nil, &out)
					if out.State != "running" {
						return 0, err
					}
					return max(1, out.Left), err
				})
			}
			if w.wait && out.State == "stuck" {
				err = errors.Join(err, fmt.Errorf("%s is stuck: %s", out.ID, out.What))
			}
			return errors.Join(err, e.print(out, func() { e.showOperations([]Operation{out}) }))
		},
	}
	w.flags(cmd, false, "it does not run any more; it fails where a person is needed")
	return cmd
}
