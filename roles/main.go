package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/client"
)

// version is set by the linker (make build); a plain go build has none.
var version string

// Version is what this binary calls itself.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
	}
	return "dev"
}

// Exit codes of the process.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main is the whole program; it returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, cloud Cloud) int {
	// An interrupt ends the context; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	silenceQUIC()
	root := command(stdin, stdout, stderr, cloud)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(stderr, "rustmq:", err)
	return exitCode(err)
}

// silenceQUIC keeps the QUIC library from writing a warning of its own about the
// socket buffers between our lines: transport/quic says it in the log, with what
// to do. It is read from the environment only, which is the process's to set.
func silenceQUIC() {
	const key = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"
	if _, set := os.LookupEnv(key); !set {
		_ = os.Setenv(key, "true") // a warning too many is the worst
	}
}

// exitCode tells wrong usage from failure.
func exitCode(err error) int {
	var adminUsage *admin.UsageError
	var clientUsage *client.UsageError
	var flags *flagError
	var config *configs.Error
	switch {
	case errors.As(err, &adminUsage), errors.As(err, &clientUsage), errors.As(err, &flags), errors.As(err, &config):
		return exitUsage
	}
	return exitFailed
}

// flagError is a command, a flag or an argument that could not be read.
type flagError struct{ err error }

func (e *flagError) Error() string { return e.err.Error() }
func (e *flagError) Unwrap() error { return e.err }

// command is `rustmq`.
func command(stdin io.Reader, stdout, stderr io.Writer, cloud Cloud) *cobra.Command {
	root := &cobra.Command{
		Use: "rustmq", Short: "A message queue that speaks Kafka: acks on disk, one executable",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &flagError{fmt.Errorf("%s; see `%s --help`", flagProblem(err), cmd.CommandPath())}
	})
	env := client.Env{Stdin: stdin, Stdout: stdout, Stderr: stderr, Environ: os.Environ()}
	adminCmd := admin.Command(stdout, adminTarget(env), cloud.probe, localETL())
	adminCmd.AddCommand(serveCommand("serve", "Short for serve --roles=admin: the admin API of a cluster whose controllers --peers names, by a process that keeps nothing", "admin", stdout, stderr, cloud))
	for _, sub := range adminCmd.Commands() {
		switch sub.Name() {
		case "cluster":
			sub.AddCommand(recoverCommand(stdout, cloud))
		case "serve":
			admin.AsksNoServer(sub)
		}
	}
	root.AddCommand(
		serveCommand("serve", "Run rustmq in this process", "", stdout, stderr, cloud),
		roleCommand("broker", alone, stdout, stderr, cloud),
		roleCommand("controller", "controller", stdout, stderr, cloud),
		adminCmd,
		client.ProduceCommand(env), client.ConsumeCommand(env), client.BenchCommand(env), client.VerifyCommand(env),
		client.ConfigCommand(env), client.ContextCommand(env),
		doctorCommand(stdout, cloud), healthCommand(stdout), debugCommand(env, cloud), versionCommand(stdout),
	)
	client.AddGlobalFlags(root)
	client.AddGlobalCompletion(root, env)
	root.InitDefaultCompletionCmd() // else cobra adds it too late to be told
	sayUsage(root)
	return root
}

// Command is the tree of all commands, to be described: run, they would print nothing and
// open no bucket but directories.
func Command() *cobra.Command { return command(strings.NewReader(""), io.Discard, io.Discard, nil) }

// adminTarget is what a context says of the admin API.
func adminTarget(env client.Env) func(*cobra.Command) (admin.Target, error) {
	return func(cmd *cobra.Command) (admin.Target, error) {
		c, err := env.Context(cmd)
		token := c.AdminTokenFile
		if token == "" {
			token = c.TokenFile
		}
		return admin.Target{
			URL: c.URL, TLS: c.TLS, TokenFile: token, User: c.User, PasswordFile: c.PasswordFile,
			CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		}, err
	}
}

// flagProblem is what is wrong with a flag in words for a person: pflag ends some
// in those of Go's parser, "strconv.ParseInt: parsing …".
func flagProblem(err error) string {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err.Error()
	}
	if wrong.GetFlag().Value.Type() == admin.NoServerType {
		return fmt.Sprintf("--%s: %v", wrong.GetFlag().Name, wrong.Unwrap())
	}
	want := "another value"
	switch kind := wrong.GetFlag().Value.Type(); {
	case errors.Is(err, strconv.ErrRange):
		want = "a number that is nearer to 0"
	case strings.HasPrefix(kind, "int"):
		want = "a whole number"
	case kind == "TIME":
		want = "a time, such as 30d, 12h or 90m"
	case kind == "duration":
		want = "a duration, such as 250ms, 10s or 1h"
	case kind == "bool":
		want = "true or false"
	}
	return fmt.Sprintf("--%s %q: want %s", wrong.GetFlag().Name, wrong.GetValue(), want)
}

// sayUsage makes wrong arguments of cmd and all below it say what was wanted. A
// command that only has others takes none: without this cobra would answer a
// word it does not know with the help, and with success.
func sayUsage(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	cmd.SuggestionsMinimumDistance = 2 // letters; cobra's default is for root only
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			if cmd.HasSubCommands() && len(args) > 0 {
				if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
					return &flagError{fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))}
				}
				return &flagError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
			}
			given := "1 argument"
			if len(args) != 1 {
				given = fmt.Sprintf("%d arguments", len(args))
			}
			return &flagError{fmt.Errorf("%s given: want `%s`; see `%s --help`", given, cmd.UseLine(), cmd.CommandPath())}
		}
	}
	for _, sub := range cmd.Commands() {
		sayUsage(sub)
	}
}

func versionCommand(stdout io.Writer) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return client.Print(stdout, output, map[string]string{"version": Version()}, func() error {
				_, err := fmt.Fprintln(stdout, "rustmq", Version())
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

// roleCommand is `rustmq broker`, short for serve with its roles; `rustmq broker
// serve` is the same.
func roleCommand(name, roles string, stdout, stderr io.Writer, cloud Cloud) *cobra.Command {
	short := "Short for serve --roles=" + roles
	if roles == alone {
		short += ", or broker alone where --peers names others as the controllers"
	}
	cmd := serveCommand(name, short, roles, stdout, stderr, cloud)
	cmd.AddCommand(serveCommand("serve", short, roles, stdout, stderr, cloud))
	return cmd
}
