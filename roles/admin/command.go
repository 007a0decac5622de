package admin

import (
	"encoding/json"
	"fmt"
	"io"

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
	stdout   io.Writer
	target   Target
	output   string
	context  func(*cobra.Command) (Target, error)
	probeURL ProbeURL
	etl      LocalETL
}

// Command is `rustmq admin`. context gives what the chosen context says, nothing when there is
// none; probeURL serves `storage probe URL`, etl `etl test FILE`. More commands may be added to the result.
func Command(stdout io.Writer, context func(*cobra.Command) (Target, error), probeURL ProbeURL, etl LocalETL) *cobra.Command {
	e := &env{stdout: stdout, context: context, probeURL: probeURL, etl: etl}
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
	e.target.flags(cmd)
	flags.StringVarP(&e.output, "output", "o", "table", "table, json or yaml")
	cmd.AddCommand(e.topicsCommand(), e.groupsCommand(), e.brokersCommand(), e.clusterCommand(), e.controllersCommand(), e.operationsCommand(), e.storageCommand(), e.quotasCommand(), e.configCommand(), e.caCommand(), e.certsCommand(), e.aclCommand(), e.usersCommand(), e.tokensCommand(), e.auditCommand(), e.etlCommand())
	e.addCompletion(cmd)
	return cmd
}

// resolve finds the server, and who calls it: flags, context, what is on this machine. said: it is the first two that
// say who calls. Only what calls a server needs it: neither help nor a server waits for a context that is gone.
func (e *env) resolve(cmd *cobra.Command) (t Target, said bool, err error) {
	named, err := e.context(cmd)
	if err != nil {
		return Target{}, false, err
	}
	t = e.target.within(named)
	said = t.TokenFile != "" || t.User != "" || t.CertFile != ""
	t = t.found()
	return t, said, t.check()
}

// client calls the cluster that the command is for; where none can be found,
// every call says why.
func (e *env) client(cmd *cobra.Command) *caller {
	t, said, err := e.resolve(cmd)
	c := newCaller(t.URL)
	if err == nil {
		err = c.as(t, cmd.InOrStdin(), cmd.ErrOrStderr())
	}
	if c.err = err; !said {
		c.found = func() string {
			authorization, err := Target{URL: t.URL}.found().authorization(nil, nil)
			if err != nil {
				return "" // the server is about to end, or to start
			}
			return authorization
		}
	}
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
