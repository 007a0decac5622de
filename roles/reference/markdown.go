package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const introduction = `# The command line

Every command and flag, made from the code by ` + "`make generate`" + `; ` + "`make man`" + ` makes pages of the
manual of the same. ` + "`--help`" + ` after any command prints its part.

- Exit codes: 0 done, 1 failed, 2 wrong usage. What went wrong, why and what to do is on standard
  error; what was asked for is on standard output, and nothing else.
- ` + "`-o json`" + ` and ` + "`-o yaml`" + ` have the same names, and are for scripts: they stay. Tables are for people.
  Neither has colours. Progress is shown on a terminal, on standard error, alone.
- ` + "`--context NAME`" + `, RUSTMQ_CONTEXT or ` + "`rustmq context use NAME`" + ` says which cluster is meant, where
  flags do not.
- ` + "`rustmq completion bash|zsh|fish|powershell`" + ` prints a script by which the shell completes commands,
  flags, and the names of topics, groups, brokers, users, tokens, modules and contexts.
`

// markdown is docs/reference/cli.md.
func markdown(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(introduction)
	fmt.Fprintf(&b, "\nAll commands have: %s\n\n", inline(root))
	every(root, func(cmd *cobra.Command) {
		if cmd != root {
			fmt.Fprintf(&b, "- [`%s`](#%s) %s\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), escaped(cmd.Short))
		}
	})
	every(root, func(cmd *cobra.Command) {
		if cmd != root {
			section(&b, cmd, root)
		}
	})
	return b.String()
}

// inline names the flags that all commands have.
func inline(root *cobra.Command) string {
	var names []string
	for _, f := range flagsOf(root.PersistentFlags()) {
		names = append(names, fmt.Sprintf("`%s`: %s", f.long, escaped(f.usage)))
	}
	return strings.Join(names, "; ")
}

func section(b *strings.Builder, cmd, root *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	if cmd.HasAvailableSubCommands() && cmd.Long == "" {
		fmt.Fprintf(b, "%s.\n", escaped(cmd.Short))
	} else {
		fmt.Fprintf(b, "```text\n%s\n```\n", strings.Join(lines(about(cmd)), "\n"))
	}
	if cmd.Runnable() && (!cmd.HasAvailableSubCommands() || cmd.HasAvailableLocalFlags()) {
		fmt.Fprintf(b, "\n`%s`\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", strings.Join(lines(cmd.Example), "\n"))
	}
	table(b, flagsOf(cmd.LocalNonPersistentFlags()), "flag")
	if cmd != root && cmd.HasAvailableSubCommands() {
		table(b, flagsOf(cmd.PersistentFlags()), "flag of all below")
	}
}

func table(b *strings.Builder, flags []flag, title string) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| %s | default | |\n|---|---|---|\n", title)
	for _, f := range flags {
		name := "`" + f.long + "`"
		if f.short != "" {
			name = "`" + f.short + "`, " + name
		}
		unless := ""
		if f.unless != "" {
			unless = "`" + cell(f.unless) + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", cell(name), unless, cell(escaped(f.usage)))
	}
}

// cell is text in a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}

// escaped keeps what looks like Markdown's from being it.
func escaped(text string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`).Replace(text)
}
