package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rustmq.dev/rustmq/security/sasl"
)

func userPath(name string) string { return usersPath + "/" + url.PathEscape(name) }

// usersCommand is `rustmq admin users …`.
func (e *env) usersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "users", Short: "Create users, and set their passwords", Args: cobra.NoArgs}
	cmd.AddCommand(e.createUser(), e.listUsers(), e.setPassword(), e.deleteUser())
	return cmd
}

// passwordFlags are those of a command that sets a password.
type passwordFlags struct {
	file       string
	mechanisms []string
}

func (p *passwordFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.file, "password-file", "", "`FILE` whose first line is the password; - is standard input (default: asked for on a terminal, else standard input)")
	flags.StringSliceVar(&p.mechanisms, "mechanism", nil, "SCRAM-SHA-256 or SCRAM-SHA-512, may be repeated (default: both); PLAIN is checked against either")
}

const passwordHelp = `

The password is asked for on a terminal, or is the first line of a file or of
standard input; it is never an argument, which every process of the machine can
read. Of it only the keys of SCRAM are kept.`

func (e *env) createUser() *cobra.Command {
	var p passwordFlags
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a user", Long: "Create a user that clients of Kafka can authenticate as (SASL)." + passwordHelp,
		Example: "  rustmq admin users create alice\n  pwgen -s 24 1 | tee alice.password | rustmq admin users create alice", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := p.read(cmd, args[0])
			if err != nil {
				return err
			}
			var out User
			in := NewUser{args[0], NewPassword{password, p.mechanisms}}
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, usersPath, in, &out); err != nil {
				return err
			}
			return e.print(out, func() { fmt.Fprintf(e.stdout, "user %s created\n", visible(out.Name)) })
		},
	}
	p.add(cmd)
	return cmd
}

func (e *env) setPassword() *cobra.Command {
	var p passwordFlags
	cmd := &cobra.Command{
		Use: "set-password NAME", Short: "Give a user another password",
		Long: "Give a user another password, in place of the one before. Connections that are open stay as they are." + passwordHelp, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := p.read(cmd, args[0])
			if err != nil {
				return err
			}
			var out User
			if err := e.client(cmd).call(cmd.Context(), http.MethodPut, userPath(args[0])+"/password", NewPassword{password, p.mechanisms}, &out); err != nil {
				return err
			}
			return e.print(out, func() { fmt.Fprintf(e.stdout, "user %s has another password\n", visible(out.Name)) })
		},
	}
	p.add(cmd)
	return cmd
}

func (e *env) listUsers() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List users", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Users []User `json:"users"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, usersPath, nil, &out); err != nil {
				return err
			}
			return e.print(out.Users, func() { e.showUsers(out.Users) })
		},
	}
}

func (e *env) showUsers(users []User) {
	t := e.table("USER", "PASSWORD FOR", "ITERATIONS")
	for _, u := range users {
		for _, c := range u.Mechanisms {
			mechanism := c.Mechanism
			if c.Lost {
				mechanism += " (lost: set it anew)"
			}
			t.AppendRow(table.Row{u.Name, mechanism, c.Iterations})
		}
	}
	t.Render()
}

func (e *env) deleteUser() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a user", Args: cobra.ExactArgs(1),
		Long: "Delete a user: nobody can authenticate as it any more. Connections that are open stay as they are; quotas and access rules by that name too.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dry {
				return e.wouldDeleteUser(cmd, args[0])
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodDelete, userPath(args[0]), nil, nil); err != nil {
				return err
			}
			return e.print(struct {
				Deleted string `json:"deleted"`
			}{args[0]}, func() { fmt.Fprintf(e.stdout, "user %s deleted\n", visible(args[0])) })
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be deleted")
	return cmd
}

func (e *env) wouldDeleteUser(cmd *cobra.Command, name string) error {
	var out struct {
		Users []User `json:"users"`
	}
	if err := e.client(cmd).call(cmd.Context(), http.MethodGet, usersPath, nil, &out); err != nil {
		return err
	}
	i := slices.IndexFunc(out.Users, func(u User) bool { return u.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no user %s: `rustmq admin users list` shows those there are", visible(name))
	}
	return e.print(out.Users[i], func() {
		fmt.Fprintf(e.stdout, "would delete user %s with %s; its quotas and rules would stay\n", visible(name), plural(len(out.Users[i].Mechanisms), "password"))
	})
}

// read finds the password, and says what is wrong with it before anything is sent.
func (p *passwordFlags) read(cmd *cobra.Command, user string) (string, error) {
	password, err := p.find(cmd, user)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return password, sasl.CheckPassword(password)
}

func (p *passwordFlags) find(cmd *cobra.Command, user string) (string, error) {
	if p.file != "" && p.file != "-" {
		f, err := os.Open(p.file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return sasl.ReadPassword(f)
	}
	in := cmd.InOrStdin()
	file, isFile := in.(*os.File)
	if p.file == "-" || !isFile || !term.IsTerminal(int(file.Fd())) {
		password, err := sasl.ReadPassword(in)
		if err != nil {
			return "", fmt.Errorf("standard input (--password-file names a file instead): %w", err)
		}
		return password, nil
	}
	first, err := prompt(cmd.ErrOrStderr(), file, "Password of "+visible(user)+": ")
	if err != nil {
		return "", err
	}
	again, err := prompt(cmd.ErrOrStderr(), file, "Once more: ")
	if err == nil && first != again {
		err = errors.New("the two are not the same")
	}
	return first, err
}

// prompt reads a line of a terminal that does not show it.
func prompt(to io.Writer, from *os.File, text string) (string, error) {
	fmt.Fprint(to, text)
	raw, err := term.ReadPassword(int(from.Fd()))
	fmt.Fprintln(to)
	return strings.TrimRight(string(raw), "\r\n"), err
}
