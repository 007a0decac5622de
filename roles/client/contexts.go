package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// Context is a cluster that commands can name.
type Context struct {
	Brokers   string `toml:"brokers,omitempty"`
	URL       string `toml:"url,omitempty"`
	CAFile    string `toml:"cafile,omitempty"`
	Transport string `toml:"transport,omitempty"`
	TLS       bool   `toml:"tls,omitempty"`
	// AdminTokenFile has an API token, by which admin commands say who they are in place of
	// what Login says.
	AdminTokenFile string `toml:"admin_token_file,omitempty"`
	Login
}

// contexts is the file of all of them.
type contexts struct {
	Current  string             `toml:"current"`
	Contexts map[string]Context `toml:"contexts"`
}

// contextsFile is where contexts are kept: as os.UserConfigDir says, for the
// environment that was given.
func (e Env) contextsFile() (string, error) {
	if dir := e.getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "rustmq", "contexts.toml"), nil
	}
	home := e.getenv("HOME")
	if home == "" {
		return "", errors.New("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for contexts")
	}
	return filepath.Join(home, ".config", "rustmq", "contexts.toml"), nil
}

func (e Env) loadContexts() (contexts, string, error) {
	all := contexts{Contexts: map[string]Context{}}
	name, err := e.contextsFile()
	if err != nil {
		return all, "", nil // without a home there are no contexts
	}
	raw, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, name, nil
	}
	if err != nil {
		return all, name, fmt.Errorf("read the contexts: %w; make the file readable, or name another directory by XDG_CONFIG_HOME", err)
	}
	if err := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(&all); err != nil {
		return all, name, fmt.Errorf("read the contexts in %s: %w; mend the file, or remove it and add them again", name, err)
	}
	if all.Contexts == nil {
		all.Contexts = map[string]Context{}
	}
	return all, name, nil
}

func (e Env) saveContexts(all contexts, name string) error {
	if name == "" {
		_, err := e.contextsFile()
		return err
	}
	raw, err := toml.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("save the contexts: %w", err)
	}
	err = WriteWhole(name, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return fmt.Errorf("save the contexts: %w", err)
	}
	return nil
}

// AddGlobalFlags adds the flags that every command has.
func AddGlobalFlags(root *cobra.Command) {
	root.PersistentFlags().String("context", "", "`NAME` of the context to use (default: RUSTMQ_CONTEXT, else the one of `rustmq context use`)")
}

// context returns the context a command runs in; the zero one when none is
// named.
func (e Env) context(cmd *cobra.Command) (Context, error) {
	name := ""
	if cmd != nil {
		if flag := cmd.Flag("context"); flag != nil {
			name = flag.Value.String()
		}
	}
	if name == "" {
		name = e.getenv("RUSTMQ_CONTEXT")
	}
	all, _, err := e.loadContexts()
	if err != nil {
		return Context{}, err
	}
	if name == "" {
		name = all.Current
	}
	if name == "" {
		return Context{}, nil
	}
	c, ok := all.Contexts[name]
	if !ok {
		return Context{}, usage("there is no context %q; `rustmq context list` shows those there are", name)
	}
	return c, nil
}

// Context returns the context that a command runs in; the zero one when none is named.
func (e Env) Context(cmd *cobra.Command) (Context, error) { return e.context(cmd) }

// ContextCommand is `rustmq context …`.
func ContextCommand(e Env) *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Name clusters, and choose the one that commands use", Args: cobra.NoArgs}
	cmd.AddCommand(contextAdd(e), contextUse(e), contextDelete(e), contextList(e), contextShow(e))
	return cmd
}

func contextAdd(e Env) *cobra.Command {
	var c Context
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a context, or replace it", Args: cobra.ExactArgs(1),
		Example: "  rustmq context add prod --brokers b1:9092,b2:9092 --url http://10.0.0.5:9642 --cafile ca.pem --tls",
		RunE: func(_ *cobra.Command, args []string) error {
			all, file, err := e.loadContexts()
			if err != nil {
				return err
			}
			if args[0] == "" || strings.ContainsFunc(args[0], func(r rune) bool { return !unicode.IsPrint(r) }) {
				return usage("context add %q: want a name that can be read", args[0])
			}
			if c.Transport != "" {
				if _, err := transportMode(c.Transport); err != nil {
					return err
				}
			}
			if c.CAFile != "" {
				if c.CAFile, err = filepath.Abs(c.CAFile); err != nil {
					return err
				}
			}
			if c.AdminTokenFile != "" {
				if c.AdminTokenFile, err = filepath.Abs(c.AdminTokenFile); err != nil {
					return err
				}
			}
			if err := c.Login.check(); err != nil {
				return err
			}
			if err := c.Login.absolute(); err != nil {
				return err
			}
			all.Contexts[args[0]] = c
			if all.Current == "" {
				all.Current = args[0]
			}
			if err := e.saveContexts(all, file); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.Stderr, "context %s saved; in use: %s\n", args[0], all.Current)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&c.Brokers, "brokers", "b", "", "`host:port,…` of Kafka")
	flags.StringVar(&c.URL, "url", "", "of the admin API: `https://address:port`, or http:// on loopback; without either, https with --tls")
	flags.StringVar(&c.AdminTokenFile, "admin-token-file", "", "`FILE` with an API token for admin commands, in place of --user or --token-file")
	flags.StringVar(&c.CAFile, "cafile", "", "PEM `FILE` of the CA to trust")
	flags.StringVar(&c.Transport, "transport", "", "auto, tcp or quic")
	flags.BoolVar(&c.TLS, "tls", false, "TLS on TCP")
	c.Login.flags(cmd)
	return cmd
}

func contextUse(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Choose the context that commands use", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			all, file, err := e.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return usage("there is no context %q; `rustmq context list` shows those there are", args[0])
			}
			all.Current = args[0]
			return e.saveContexts(all, file)
		},
	}
}

func contextDelete(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a context; the cluster and the files that it names stay", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			all, file, err := e.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return usage("there is no context %q; `rustmq context list` shows those there are", args[0])
			}
			delete(all.Contexts, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			return e.saveContexts(all, file)
		},
	}
}

func contextList(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List contexts; * marks the one in use", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, _, err := e.loadContexts()
			if err != nil {
				return err
			}
			if len(all.Contexts) == 0 {
				_, err := fmt.Fprintln(e.Stderr, "no contexts: add one with `rustmq context add NAME --brokers host:port --url http://address:port`")
				return err
			}
			t := tabwriter.NewWriter(e.Stdout, 0, 0, 1, ' ', 0)
			fmt.Fprintln(t, "  CONTEXT\tBROKERS\tADMIN URL\tUSER") // a tabwriter says at Flush what failed
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				mark := " "
				if name == all.Current {
					mark = "*"
				}
				c := all.Contexts[name]
				fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\n", mark, name, orNone(c.Brokers), orNone(c.URL), orNone(c.User))
			}
			return t.Flush()
		},
	}
}

// orNone is what a cell of a table shows.
func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func contextShow(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "Show a context, by default the one in use", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeContext,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.context(cmd)
			if len(args) == 1 {
				all, _, loadErr := e.loadContexts()
				var ok bool
				if c, ok = all.Contexts[args[0]]; !ok && loadErr == nil {
					return usage("there is no context %q; `rustmq context list` shows those there are", args[0])
				}
				err = loadErr
			}
			if err != nil {
				return err
			}
			raw, err := toml.Marshal(c)
			if err != nil {
				return err
			}
			_, err = e.Stdout.Write(raw)
			return err
		},
	}
}
