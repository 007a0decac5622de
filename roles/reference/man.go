package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// writeManual writes a page of section 1 for each command into a directory, which is made.
func writeManual(root *cobra.Command, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	every(root, func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".1"), []byte(manPage(cmd, root)), 0o644)
		}
	})
	return err
}

// manPage is the page of a command, for man(7)'s macros. It has no date, so that the same
// code makes the same page.
func manPage(cmd, root *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"rustmq\" \"rustmq\"\n.nh\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(name), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	verbatim(&b, about(cmd))
	if flags := flagsOf(cmd.LocalFlags()); len(flags) > 0 {
		options(&b, "OPTIONS", flags)
	}
	if flags := flagsOf(cmd.InheritedFlags()); len(flags) > 0 {
		options(&b, "OPTIONS OF ALL COMMANDS BESIDE IT", flags)
	}
	if cmd.Example != "" {
		b.WriteString(".SH EXAMPLES\n")
		verbatim(&b, cmd.Example)
	}
	if cmd == root {
		b.WriteString(".SH EXIT STATUS\n0: done. 1: failed. 2: wrong usage.\n")
	}
	var also []string
	if parent := cmd.Parent(); parent != nil {
		also = append(also, parent.CommandPath())
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			also = append(also, sub.CommandPath())
		}
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, path := range also {
			comma := ","
			if i == len(also)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(strings.ReplaceAll(path, " ", "-")), comma)
		}
	}
	return b.String()
}

// verbatim is text whose lines stay as they are.
func verbatim(b *strings.Builder, text string) {
	b.WriteString(".nf\n")
	for _, line := range lines(text) {
		b.WriteString(roff(line) + "\n")
	}
	b.WriteString(".fi\n")
}

func options(b *strings.Builder, title string, flags []flag) {
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, f := range flags {
		name := f.long
		if f.short != "" {
			name = f.short + ", " + name
		}
		usage := f.usage
		if f.unless != "" {
			usage += " (default " + f.unless + ")"
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(strings.ReplaceAll(usage, "\n", " ")))
	}
}

// roff is text that says nothing to roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	var b strings.Builder
	for _, r := range text {
		if r < 0x80 {
			b.WriteRune(r)
		} else { // whatever the locale of who reads it
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}
