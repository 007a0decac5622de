package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/admin"
)

// pages are the documents that people read, but for what is made from the code.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md", "docs/design/*.md"} {
		names, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(names), err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(raw)
		}
	}
	return all
}

// calls are what a page has of a person write: from the word rustmq to where the shell, or
// the page, goes on with something else. Of paths that end so, those of the executable: the
// chart's are helm's to read.
var calls = regexp.MustCompile("(?m)(?:^|[\\s`(]|bin/)rustmq ((?:[a-z][a-z-]*|--?[a-z])(?:[^`|;&\n\\\\]|\\\\\n)*)")

// TestDocsNameCommandsThatExist looks up each command line of the docs, and each flag in it.
func TestDocsNameCommandsThatExist(t *testing.T) {
	if looked := lookUp(t, pages(t)); looked < 150 {
		t.Errorf("only %d command lines were found", looked)
	}
}

// TestHintsNameCommandsThatExist does so of what programs, the console, alerts and the chart say.
func TestHintsNameCommandsThatExist(t *testing.T) {
	all := map[string]string{}
	for _, root := range []string{"roles", "configs", "consensus", "etl", "storage", "security", "transport", "embed", "console/src", "deploy"} {
		err := filepath.WalkDir(filepath.Join("../..", root), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || !slices.Contains([]string{".go", ".tsx", ".ts", ".yml", ".yaml", ".txt"}, filepath.Ext(name)) {
				return err
			}
			raw, err := os.ReadFile(name)
			all[name] = strings.ReplaceAll(string(raw), ")", "\n") // in brackets, or an argument: what is behind is other words
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if looked := lookUp(t, all); looked < 150 {
		t.Errorf("only %d command lines were found", looked)
	}
}

// lookUp finds the command lines in texts, by their names, and says how many there are.
func lookUp(t *testing.T, texts map[string]string) (looked int) {
	t.Helper()
	root := roles.Command()
	for name, text := range texts {
		for _, found := range calls.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(strings.ReplaceAll(found[1], "\\\n", " "), " #")
			words := strings.Fields(line)
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root && !strings.HasPrefix(words[0], "-") {
				continue // prose: "rustmq is", or judged by what it is called with below
			}
			looked++
			if cmd.HasSubCommands() && !cmd.HasAvailableLocalFlags() && len(rest) > 0 && regexp.MustCompile(`^[a-z][a-z-]+$`).MatchString(rest[0]) {
				t.Errorf("%s: rustmq %s: %s has no command %s", name, line, cmd.CommandPath(), rest[0])
			}
			for _, word := range rest {
				if problem := unknownFlag(cmd, word); problem != "" {
					t.Errorf("%s: rustmq %s: %s has no %s", name, line, cmd.CommandPath(), problem)
				}
			}
		}
	}
	return looked
}

// unknownFlag is the flag in a word, if the command has no such flag.
func unknownFlag(cmd *cobra.Command, word string) string {
	name, is := strings.CutPrefix(word, "--")
	name = regexp.MustCompile(`^[a-z0-9-]*`).FindString(name)
	if !is || name == "" || name == "help" {
		return ""
	}
	known := false
	see := func(f *pflag.Flag) { known = known || f.Name == name }
	cmd.LocalFlags().VisitAll(see)
	cmd.InheritedFlags().VisitAll(see)
	if known {
		return ""
	}
	return "--" + name
}

// TestDocsNameRoutesThatExist looks up each path of the API that the docs name.
func TestDocsNameRoutesThatExist(t *testing.T) {
	var known []string
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	for _, row := range admin.Rows() {
		known = append(known, "^"+parameter.ReplaceAllString(regexp.QuoteMeta(strings.NewReplacer("{", "<", "}", ">").Replace(row.Path)), "x"))
	}
	for i, k := range known {
		known[i] = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(k, "[^/]+") + "$"
	}
	paths := regexp.MustCompile(`/api/v1/[A-Za-z0-9_/{}.%-]*[A-Za-z0-9_}]`)
	looked := 0
	for name, text := range pages(t) {
		for _, path := range paths.FindAllString(text, -1) {
			if strings.HasSuffix(path, "openapi.json") || strings.HasSuffix(path, "openapi.yaml") || path == "/api/v1/docs" {
				continue
			}
			looked++
			if !slices.ContainsFunc(known, func(k string) bool {
				return regexp.MustCompile(k).MatchString(path) || strings.HasPrefix(k, "^"+path+"/")
			}) {
				t.Errorf("%s: the API has no %s", name, path)
			}
		}
	}
	if looked < 10 {
		t.Errorf("only %d paths were found", looked)
	}
}

// TestDocsNameKeysThatExist looks up each key of the configuration that the docs name.
func TestDocsNameKeysThatExist(t *testing.T) {
	known := map[string]bool{}
	sections := map[string]bool{}
	for _, k := range configs.Keys() {
		known[k.Name], sections[k.Section] = true, true
		section, _, _ := strings.Cut(k.Name, ".")
		sections[section] = true
	}
	spans := regexp.MustCompile("`([a-z_]+(?:\\.[a-z_0-9]+)+)`")
	looked := 0
	for name, text := range pages(t) {
		if base := filepath.Base(name); base == "configuration.md" || base == "kafka-compatibility.md" || base == "promises.md" {
			continue // made from the keys, from those of Kafka, and with the names of guards
		}
		for _, found := range spans.FindAllStringSubmatch(text, -1) {
			section, _, _ := strings.Cut(found[1], ".")
			if !sections[section] || strings.HasSuffix(found[1], ".go") || strings.HasSuffix(found[1], ".toml") || strings.HasSuffix(found[1], ".json") {
				continue
			}
			looked++
			if !known[found[1]] && !sections[found[1]] {
				t.Errorf("%s: there is no key %s", name, found[1])
			}
		}
	}
	if looked < 50 {
		t.Errorf("only %d keys were found", looked)
	}
}
