package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// UsageError is a call that could not be understood; the process exits with 2.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

// env is what the admin commands share.
type env struct {
	stdout     io.Writer
	url        string
	output     string
	contextURL func(*cobra.Command) (string, error)
	probeURL   ProbeURL
}

// Command is `rustmq admin`. contextURL gives the URL of the chosen context, or
// "" when it names none; probeURL serves `storage probe URL`. More commands may be added to the result.
func Command(stdout io.Writer, contextURL func(*cobra.Command) (string, error), probeURL ProbeURL) *cobra.Command {
	e := &env{stdout: stdout, contextURL: contextURL, probeURL: probeURL}
	cmd := &cobra.Command{
		Use: "admin", Short: "Operate a running cluster through its /api/v1", Args: cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			switch e.output {
			case "table", "json", "yaml":
			default:
				return &UsageError{fmt.Sprintf("--output %q: want table, json or yaml", e.output)}
			}
			return nil
		},
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&e.url, "url", "", "address of a process with role admin or controller (default: the context's, else "+DefaultURL+")")
	flags.StringVarP(&e.output, "output", "o", "table", "table, json or yaml")
	cmd.AddCommand(e.topicsCommand(), e.groupsCommand(), e.brokersCommand(), e.clusterCommand(), e.controllersCommand(), e.storageCommand(), e.quotasCommand(), e.caCommand(), e.certsCommand(), e.aclCommand(), e.usersCommand(), e.auditCommand())
	return cmd
}

// resolve finds the URL: flag, context, default. Only what calls a server needs
// it: neither help nor a server waits for a context that is gone.
func (e *env) resolve(cmd *cobra.Command) (string, error) {
	base := e.url
	if base == "" {
		var err error
		if base, err = e.contextURL(cmd); err != nil {
			return "", err
		}
	}
	if base == "" {
		base = DefaultURL
	}
	if u, err := url.Parse(base); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", &UsageError{fmt.Sprintf("--url %q: want http://host:port, such as %s", base, DefaultURL)}
	}
	return base, nil
}

// client calls the cluster that the command is for; where none can be found,
// every call says why.
func (e *env) client(cmd *cobra.Command) *caller {
	base, err := e.resolve(cmd)
	c := newCaller(base)
	c.err = err
	return c
}

// patient is a client for what may take minutes.
func (e *env) patient(cmd *cobra.Command) *caller {
	c := e.client(cmd)
	c.http.Timeout = patience
	return c
}

// print writes v in the chosen format; human writes the table.
func (e *env) print(v any, human func()) error {
	switch e.output {
	case "json":
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		// Through JSON, so that both formats have the same names.
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		var plain any
		if err := json.Unmarshal(raw, &plain); err != nil {
			return err
		}
		return yaml.NewEncoder(e.stdout).Encode(plain)
	}
	human()
	return nil
}

func (e *env) table(columns ...string) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(e.stdout)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = c
	}
	t.AppendHeader(header)
	return visibleTable{t}
}
