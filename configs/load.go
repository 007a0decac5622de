package configs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Origin says where a value came from: "default", "broker.toml:12",
// "environment RUSTMQ_WAL__MEMORY", "--set", "--data-dir".
type Origin string

const fromDefault Origin = "default"

// Setting is one key=value from a flag.
type Setting struct {
	Key, Value string
	Origin     Origin
}

// Sources are where a configuration comes from, each over the one before.
type Sources struct {
	File    string   // path of a TOML file, "" for none
	Environ []string // as os.Environ; what does not begin with RUSTMQ_ is ignored
	Set     []string // "key=value" of --set
	Flags   []Setting
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Origin Origin
	Key    string
	Reason string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.Origin != "" && p.Origin != fromDefault {
		b.WriteString(string(p.Origin) + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Reason
}

// Error is everything that is wrong with a configuration.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return "the configuration cannot be used:\n  " + strings.Join(lines, "\n  ")
}

// environPrefix begins the variables that set keys. The others that begin so
// belong to commands.
const environPrefix = "RUSTMQ_"

var commandVariables = map[string]bool{"RUSTMQ_CONTEXT": true, "RUSTMQ_BIN": true, "RUSTMQ_MUTANT": true}

// Load merges the sources and validates the result. Errors: *Error with all
// that is wrong, or that the file cannot be read.
func Load(s Sources) (*Config, error) {
	c := Default()
	c.origins = map[string]Origin{}
	var problems []Problem
	apply := func(key, value string, origin Origin) {
		k, ok := findKey(key)
		if !ok {
			reason := "there is no such key"
			if near := nearest(key); near != "" {
				reason += "; did you mean " + near + "?"
			}
			problems = append(problems, Problem{origin, key, reason})
			return
		}
		if err := c.set(k, value); err != nil {
			problems = append(problems, Problem{origin, key, err.Error()})
			return
		}
		c.origins[key] = origin
	}
	if s.File != "" {
		raw, err := os.ReadFile(s.File)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		if err := readTOML(s.File, raw, apply); err != nil {
			return nil, err
		}
	}
	for _, pair := range s.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ok := strings.CutPrefix(name, environPrefix); ok && !commandVariables[name] {
			apply(strings.ToLower(strings.ReplaceAll(rest, "__", ".")), value, Origin("environment "+name))
		}
	}
	for _, pair := range s.Set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			problems = append(problems, Problem{"--set", pair, "want section.key=value"})
			continue
		}
		apply(strings.TrimSpace(key), value, "--set")
	}
	for _, f := range s.Flags {
		apply(f.Key, f.Value, f.Origin)
	}
	for _, p := range c.validate() {
		p.Origin = c.Origin(p.Key)
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return c, nil
}

// Origin says where the value of a key came from.
func (c *Config) Origin(key string) Origin {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return fromDefault
}

// readTOML gives every key of the file with its line to apply.
func readTOML(file string, raw []byte, apply func(key, value string, origin Origin)) error {
	var whole map[string]any
	if err := toml.Unmarshal(raw, &whole); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, column := at.Position()
			return &Error{[]Problem{{Origin(fmt.Sprintf("%s:%d:%d", file, line, column)), "", at.Error()}}}
		}
		return &Error{[]Problem{{Origin(file), "", err.Error()}}}
	}
	var p unstable.Parser
	p.Reset(raw)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		line := 0
		for keys := e.Key(); keys.Next(); {
			n := keys.Node()
			parts = append(parts, string(n.Data))
			if line == 0 {
				line = p.Shape(n.Raw).Start.Line
			}
		}
		name := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			table = name + "."
		case unstable.KeyValue:
			key := table + name
			origin := Origin(fmt.Sprintf("%s:%d", file, line))
			switch v := lookup(whole, strings.Split(key, ".")).(type) {
			case string, bool, int64, float64:
				apply(key, fmt.Sprint(v), origin)
			case nil:
			default:
				apply(key, fmt.Sprintf("a %T", v), origin)
			}
		case unstable.ArrayTable:
			apply(name, "an array of tables", Origin(fmt.Sprintf("%s:%d", file, line)))
		}
	}
	return nil
}

func lookup(tree map[string]any, path []string) any {
	for i, part := range path {
		v, ok := tree[part]
		if !ok {
			return nil
		}
		if i == len(path)-1 {
			return v
		}
		if tree, ok = v.(map[string]any); !ok {
			return nil
		}
	}
	return nil
}
