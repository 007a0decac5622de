package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// every calls f for cmd and all below it that a person is shown, in order.
func every(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	below := cmd.Commands()
	slices.SortFunc(below, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, sub := range below {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			every(sub, f)
		}
	}
}

// flag is how one is written, and what it is for.
type flag struct {
	long, short string // --name VALUE, -n
	usage       string
	unless      string // its default, "" for none that says anything
}

// flagsOf are the flags of a set, in order of name, without those that are hidden and --help.
func flagsOf(set *pflag.FlagSet) (all []flag) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		one := flag{long: "--" + f.Name, usage: usage}
		if value != "" {
			one.long += " " + value
		}
		if f.Shorthand != "" {
			one.short = "-" + f.Shorthand
		}
		switch f.DefValue {
		case "", "0", "0s", "false", "[]":
		default:
			one.unless = f.DefValue
		}
		all = append(all, one)
	})
	return all
}

// about is what a command says of itself at length.
func about(cmd *cobra.Command) string {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	return strings.TrimSpace(text)
}

// lines are those of a text, without space at their ends.
func lines(text string) []string {
	all := strings.Split(strings.Trim(text, "\n"), "\n")
	for i := range all {
		all[i] = strings.TrimRight(all[i], " ")
	}
	return all
}
