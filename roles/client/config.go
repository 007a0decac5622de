package client

import (
	"encoding/json"
	"fmt"

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

func configDefault(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "default", Short: "Print every key with its default and what it is for, as a file", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(e.Stdout, configs.Default().TOML())
			return err
		},
	}
}

func configCheck(e Env) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Say everything that is wrong with a file", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := configs.Load(configs.Sources{File: args[0]}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.Stdout, "%s is valid\n", args[0])
			return err
		},
	}
}

// shownKey is one key as `config show` prints it.
type shownKey struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"`
	Origin string `json:"origin" yaml:"origin"`
}

func configShow(e Env) *cobra.Command {
	var file, output string
	var set []string
	cmd := &cobra.Command{
		Use: "show", Short: "Print the merged configuration, and where each value came from", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := configs.Load(configs.Sources{File: file, Environ: e.Environ, Set: set})
			if err != nil {
				return err
			}
			var shown []shownKey
			for _, k := range configs.Keys() {
				shown = append(shown, shownKey{k.Name, c.Value(k), string(c.Origin(k.Name))})
			}
			switch output {
			case "json":
				enc := json.NewEncoder(e.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(shown)
			case "yaml":
				return yaml.NewEncoder(e.Stdout).Encode(shown)
			case "table":
				for _, s := range shown {
					if _, err := fmt.Fprintf(e.Stdout, "%-40s %-28s %s\n", s.Key, s.Value, s.Origin); err != nil {
						return err
					}
				}
				return nil
			}
			return usage("--output %q: want table, json or yaml", output)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "TOML `FILE`")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`section.key=value`, may be repeated")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}
