package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// tokensCommand is `rustmq admin tokens …`.
func (e *env) tokensCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tokens", Short: "Create API tokens for programs, and take them back", Args: cobra.NoArgs}
	cmd.AddCommand(e.createToken(), e.listTokens(), e.revokeToken())
	return cmd
}

func (e *env) createToken() *cobra.Command {
	var in NewToken
	expires := lifetime(90 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create an API token, and print it",
		Long: `Create an API token, by which a program calls the admin API as a user, with what
rules allow that user. It is printed now and never again, alone on a line of
standard output; of it only a hash is kept. Who deletes the user takes its tokens
back too. To replace one, create another, give it to the program, and revoke the
one before.`,
		Example: "  rustmq admin tokens create exporter --principal monitor --read-only --expires 90d >exporter.token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			longest := lifetime(maxTokenLife)
			if expires < 0 || expires > longest || expires > 0 && expires < lifetime(time.Second) {
				return &UsageError{fmt.Sprintf("--expires %s: want 1s to %s, or 0 for never", &expires, &longest)}
			}
			in.Name, in.Seconds = args[0], int64(time.Duration(expires)/time.Second)
			var out CreatedToken
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, tokensPath, in, &out); err != nil {
				return err
			}
			return e.print(out, func() { fmt.Fprintln(e.stdout, visible(out.Secret)) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Principal, "principal", "", "`USER` that its bearer is taken for (default: who calls)")
	flags.Var(&expires, "expires", "how long it is valid, such as 30d or 12h; 0: until it is revoked")
	flags.BoolVar(&in.ReadOnly, "read-only", false, "it changes nothing, whatever rules allow its user")
	return cmd
}

func (e *env) listTokens() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List API tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Tokens []Token `json:"tokens"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, tokensPath, nil, &out); err != nil {
				return err
			}
			return e.print(out.Tokens, func() { e.showTokens(out.Tokens) })
		},
	}
}

func (e *env) showTokens(tokens []Token) {
	t := e.table("TOKEN", "PRINCIPAL", "MAY", "CREATED", "EXPIRES", "STATE")
	for _, one := range tokens {
		may, expires := "what its user may", "never"
		if one.ReadOnly {
			may = "only look"
		}
		if one.Expires != nil {
			expires = one.Expires.Format(time.RFC3339)
		}
		t.AppendRow(table.Row{one.Name, one.Principal, may, one.Created.Format(time.RFC3339), expires, one.State})
	}
	t.Render()
}

func (e *env) revokeToken() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Take an API token back, at once on every node", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dry {
				return e.wouldRevokeToken(cmd, args[0])
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodDelete, tokensPath+"/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return e.print(struct {
				Revoked string `json:"revoked"`
			}{args[0]}, func() { fmt.Fprintf(e.stdout, "token %s revoked\n", visible(args[0])) })
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say which would be taken back")
	return cmd
}

func (e *env) wouldRevokeToken(cmd *cobra.Command, name string) error {
	var out struct {
		Tokens []Token `json:"tokens"`
	}
	if err := e.client(cmd).call(cmd.Context(), http.MethodGet, tokensPath, nil, &out); err != nil {
		return err
	}
	i := slices.IndexFunc(out.Tokens, func(t Token) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no token %s: `rustmq admin tokens list` shows those there are", visible(name))
	}
	return e.print(out.Tokens[i], func() {
		e.showTokens(out.Tokens[i : i+1])
		fmt.Fprintln(e.stdout, "\nit would be taken back, at once on every node; it was not")
	})
}

// lifetime is a flag: a duration, in days too.
type lifetime time.Duration

// String is a whole number of days where it is one.
func (l *lifetime) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(*l); d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return time.Duration(*l).String()
}

// Set reads what String returns, and what time.ParseDuration reads.
func (l *lifetime) Set(s string) error {
	d, err := parseDays(s)
	if err != nil {
		return errors.New("want a time such as 30d, 12h or 90m")
	}
	*l = lifetime(d)
	return nil
}

// Type is what help calls the value.
func (l *lifetime) Type() string { return "TIME" }

// parseDays reads a duration, or a number of days such as 30d.
func parseDays(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	return time.Duration(n) * 24 * time.Hour, err
}
