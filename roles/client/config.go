package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"rustmq.dev/rustmq/configs"
)

// ConfigCommand is `rustmq config …`.
func ConfigCommand(e Env) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Print, check and explain configurations", Args: cobra.NoArgs}
	cmd.AddCommand(configDefault(e), configCheck(e), configShow(e))
	return cmd
}

// outputFlag adds -o to a command that prints a result.
func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table, json or yaml")
}

// Print writes v as -o says; human writes the table.
func Print(w io.Writer, output string, v any, human func() error) error {
	switch output {
	case "table":
		return human()
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		return yaml.NewEncoder(w).Encode(v)
	}
	return CheckOutput(output)
}

// CheckOutput refuses an -o that Print would refuse, for commands that take their time.
func CheckOutput(output string) error {
	if output == "table" || output == "json" || output == "yaml" {
		return nil
	}
	return usage("--output %q: want table, json or yaml", output)
}

func configDefault(e Env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "default", Short: "Print every key with its default and what it is for, as a file", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c := configs.Default()
			return Print(e.Stdout, output, keysOf(c), func() error {
				_, err := fmt.Fprint(e.Stdout, c.TOML())
				return err
			})
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// checked is what `config check` says of a file.
type checked struct {
	File     string         `json:"file" yaml:"file"`
	Valid    bool           `json:"valid" yaml:"valid"`
	Problems []shownProblem `json:"problems" yaml:"problems"`
}

type shownProblem struct {
	Origin string `json:"origin" yaml:"origin"`
	Key    string `json:"key" yaml:"key"`
	Reason string `json:"reason" yaml:"reason"`
}

func configCheck(e Env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Say everything that is wrong with a file", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := configs.Load(configs.Sources{File: args[0]})
			var wrong *configs.Error
			if err != nil && !errors.As(err, &wrong) {
				return err // there was no file to check
			}
			out := checked{File: args[0], Valid: err == nil, Problems: []shownProblem{}}
			if wrong != nil {
				for _, p := range wrong.Problems {
					out.Problems = append(out.Problems, shownProblem{string(p.Origin), p.Key, p.Reason})
				}
			}
			printed := Print(e.Stdout, output, out, func() error {
				if err != nil {
					return nil // the error says it
				}
				_, err := fmt.Fprintf(e.Stdout, "%s is valid\n", args[0])
				return err
			})
			if printed != nil {
				return printed
			}
			return err
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// shownKey is one key as `config show` prints it.
type shownKey struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"`
}

// Keys is every key of a configuration with its value and where that came from, as `config
// show -o json` has them.
func Keys(c *configs.Config) any { return keysOf(c) }

func keysOf(c *configs.Config) []shownKey {
	var shown []shownKey
	for _, k := range configs.Keys() {
		shown = append(shown, shownKey{k.Name, c.Value(k), string(c.Origin(k.Name))})
	}
	return shown
}

func configShow(e Env) *cobra.Command {
	var file, output string
	var set []string
	cmd := &cobra.Command{
		Use: "show", Short: "Print the merged configuration, and where each value came from", Args: cobra.NoArgs,
		Long: `Prints what a node would start with, from a file, the environment and --set. What is set in
a running cluster is over all of these: ` + "`rustmq admin config list`" + ` shows that, and what a node obeys.`,
		RunE: func(*cobra.Command, []string) error {
			c, err := configs.Load(configs.Sources{File: file, Environ: e.Environ, Set: set})
			if err != nil {
				return err
			}
			shown := keysOf(c)
			return Print(e.Stdout, output, shown, func() error {
				for _, s := range shown {
					if _, err := fmt.Fprintf(e.Stdout, "%-40s %-28s %s\n", s.Key, s.Value, s.Origin); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "TOML `FILE`")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`section.key=value`, may be repeated")
	outputFlag(cmd, &output)
	return cmd
}
