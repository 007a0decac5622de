package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles"
)

// TestEveryCommandIsInTheReference with each of its flags, and has a page of the manual.
func TestEveryCommandIsInTheReference(t *testing.T) {
	root := roles.Command()
	text := markdown(root)
	dir := filepath.Join(t.TempDir(), "man")
	if err := writeManual(root, dir); err != nil {
		t.Fatal(err)
	}
	commands := 0
	every(root, func(cmd *cobra.Command) {
		commands++
		if cmd != root && !strings.Contains(text, "\n## "+cmd.CommandPath()+"\n") {
			t.Errorf("%s is not in the reference", cmd.CommandPath())
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range flagsOf(cmd.LocalFlags()) {
			name, _, _ := strings.Cut(f.long, " ")
			if !strings.Contains(string(page), strings.ReplaceAll(name, "-", `\-`)) {
				t.Errorf("%s is not in the page of %s", name, cmd.CommandPath())
			}
			if !strings.Contains(text, cell(name)) {
				t.Errorf("%s of %s is not in the reference", name, cmd.CommandPath())
			}
		}
	})
	if commands < 90 {
		t.Errorf("only %d commands", commands)
	}
}

// TestEveryCommandSaysWhatItIs in a line without a full stop, and takes wrong arguments for
// what they are; every flag has a use.
func TestEveryCommandSaysWhatItIs(t *testing.T) {
	shorthand := map[string]string{}
	every(roles.Command(), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q", path, cmd.Short)
		}
		if cmd.Args == nil && !strings.Contains(path, "completion") {
			t.Errorf("%s does not say which arguments it takes", path)
		}
		for _, f := range flagsOf(cmd.LocalFlags()) {
			if f.usage == "" {
				t.Errorf("%s: %s has no use", path, f.long)
			}
			// A letter is short for the same everywhere, but for those that kcat and rpk
			// users know otherwise of consume and produce.
			name, _, _ := strings.Cut(f.long, " ")
			if f.short == "" || strings.Contains("-o -n -c -p -s -d -r", f.short) {
				continue
			}
			if before, is := shorthand[f.short]; is && before != name {
				t.Errorf("%s: %s is short for %s, and for %s elsewhere", path, f.short, name, before)
			}
			shorthand[f.short] = name
		}
	})
}

// TestRoffIsNotSpoken to by what is quoted.
func TestRoffIsNotSpoken(t *testing.T) {
	for text, want := range map[string]string{".SH x": `\&.SH x`, "'a'": `\(aqa\(aq`, `\n`: `\en`, "…": `\[u2026]`, "--a": `\-\-a`} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
