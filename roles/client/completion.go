package client

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// quiet is where a completion writes: what it said would stand in the line that a person
// writes, and nobody is asked for a password.
func (e Env) quiet() Env {
	return Env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Environ: e.Environ}
}

// words are always the same.
func words(all ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp)
}

// completeTopic offers the topics of the broker that c names, for the first argument.
func (c *connection) completeTopic(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.offered(cmd, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		topics, err := adm.ListTopics(ctx)
		return topics.Names(), err
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeGroup offers the groups of the broker that c names.
func (c *connection) completeGroup(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return c.offered(cmd, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		groups, err := adm.ListGroups(ctx)
		return groups.Groups(), err
	}), cobra.ShellCompDirectiveNoFileComp
}

// offered asks a broker, for a moment. Whatever goes wrong, it offers nothing.
func (c *connection) offered(cmd *cobra.Command, ask func(context.Context, *kadm.Client) ([]string, error)) []string {
	own := *c
	own.env = c.env.quiet()
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	// A client that closes waits for what it has asked.
	cl, done, err := own.open(ctx, cmd, kgo.RequestTimeoutOverhead(completionTime), kgo.RequestRetries(0))
	if err != nil {
		return nil
	}
	defer done()
	names, err := ask(ctx, kadm.NewClient(cl))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !PlainWord(name) })
}

// PlainWord tells whether a shell takes a name as it stands: others are not offered to one, for it
// would run a part of some.
func PlainWord(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:@/+=", r))
	})
}

// complete has the shell offer what flags may be; those that a command lacks are left out.
func (c *connection) complete(cmd *cobra.Command) {
	for flag, offer := range map[string]cobra.CompletionFunc{
		"transport": words("auto", "tcp", "quic"), "acks": words("all", "1", "0"), "compression": words("none", "gzip", "snappy", "lz4", "zstd"),
		"offset": words("start", "end"), "group": c.completeGroup, "topic": c.completeTopic, "mechanism": words("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
		"output": words("table", "json"),
	} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, offer) // the flag is there
		}
	}
}

// completeContext offers the names of contexts, for the first argument.
func (e Env) completeContext(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, _, err := e.loadContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := slices.Sorted(maps.Keys(all.Contexts))
	return slices.DeleteFunc(names, func(name string) bool { return !PlainWord(name) }), cobra.ShellCompDirectiveNoFileComp
}

// AddGlobalCompletion has the shell offer the values of the flags that every command has.
func AddGlobalCompletion(root *cobra.Command, e Env) {
	_ = root.RegisterFlagCompletionFunc("context", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return e.completeContext(cmd, nil, begun)
	}) // the flag is there
}
