package configs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
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
	Environ []string // as os.Environ; what does not begin with RUSTMQ_ is ignored, and what Kubernetes sets for a Service
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
// belong to commands, or come from Kubernetes.
const environPrefix = "RUSTMQ_"

var commandVariables = map[string]bool{"RUSTMQ_CONTEXT": true, "RUSTMQ_BIN": true, "RUSTMQ_CA_PASSPHRASE": true, "RUSTMQ_MUTANT": true}

// Load merges the sources and validates the result. Errors: *Error with all
// that is wrong, or that the file cannot be read.
func Load(s Sources) (*Config, error) {
	var file []byte
	if s.File != "" {
		var err error
		if file, err = os.ReadFile(s.File); err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
	}
	return merge(s, file)
}

// merge does the work of Load; file is the content of s.File.
func merge(s Sources, file []byte) (*Config, error) {
	c := Default()
	c.origins = map[string]Origin{}
	var problems []Problem
	refuse := func(key, reason string, origin Origin) {
		problems = append(problems, Problem{origin, key, reason})
	}
	apply := func(key, value string, origin Origin) {
		k, ok := findKey(key)
		if !ok {
			refuse(key, unknown(key), origin)
			return
		}
		if err := c.set(k, value); err != nil {
			refuse(key, err.Error(), origin)
			return
		}
		c.origins[key] = origin
	}
	keys, wrong, err := readTOML(s.File, file)
	if err != nil {
		return nil, err
	}
	problems = append(problems, wrong...)
	for _, k := range keys {
		value, err := k.scalar()
		if _, known := findKey(k.name); known && err != nil {
			refuse(k.name, err.Error(), k.origin)
			continue
		}
		apply(k.name, value, k.origin)
	}
	for _, pair := range s.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ok := strings.CutPrefix(name, environPrefix); ok && !commandVariables[name] && !ofKubernetes(rest, value) {
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

// tomlKey is one key of a file.
type tomlKey struct {
	name   string // a part with a dot in it is quoted, so that it is no other key
	value  any    // as go-toml decodes it
	origin Origin
}

// readTOML lists the keys of a file in their order, and its unknown sections
// that are empty.
func readTOML(file string, raw []byte) ([]tomlKey, []Problem, error) {
	var whole map[string]any
	if err := toml.Unmarshal(raw, &whole); err != nil {
		problem := Problem{Origin: Origin(file), Reason: err.Error()}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, column := at.Position()
			problem.Origin = Origin(fmt.Sprintf("%s:%d:%d", file, line, column))
		}
		return nil, nil, &Error{[]Problem{problem}}
	}
	var keys []tomlKey
	var problems []Problem
	var p unstable.Parser
	p.Reset(raw)
	var table []string
	var empty *Problem // an unknown section without keys so far
	for p.NextExpression() {
		e := p.Expression()
		parts, line := keyOf(&p, e)
		origin := Origin(fmt.Sprintf("%s:%d", file, line))
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			if empty != nil {
				problems = append(problems, *empty)
				empty = nil
			}
			table = parts
			name := joinKey(parts)
			if e.Kind == unstable.ArrayTable {
				problems = append(problems, Problem{origin, name, "an array of tables; no key takes one"})
			} else if !isSection(name) {
				empty = &Problem{origin, name, "there is no such section"}
			}
		case unstable.KeyValue:
			empty = nil
			path := append(slices.Clone(table), parts...)
			if value, ok := lookup(whole, path); ok {
				keys = flatten(keys, path, value, origin)
			}
		}
	}
	if empty != nil {
		problems = append(problems, *empty)
	}
	return keys, problems, nil
}

// keyOf returns the parts of an expression's key, and its line.
func keyOf(p *unstable.Parser, e *unstable.Node) (parts []string, line int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		parts = append(parts, string(n.Data))
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
	}
	return parts, line
}

// flatten adds a key, or those of an inline table.
func flatten(keys []tomlKey, path []string, value any, origin Origin) []tomlKey {
	table, ok := value.(map[string]any)
	if !ok || len(table) == 0 {
		return append(keys, tomlKey{joinKey(path), value, origin})
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		keys = flatten(keys, append(slices.Clone(path), name), table[name], origin)
	}
	return keys
}

func joinKey(parts []string) string {
	quoted := make([]string, len(parts))
	for i, part := range parts {
		if quoted[i] = part; part == "" || strings.ContainsFunc(part, func(r rune) bool { return r == '.' || r < ' ' }) {
			quoted[i] = strconv.Quote(part)
		}
	}
	return strings.Join(quoted, ".")
}

// lookup walks to a value; what stands below an array of tables is not found.
func lookup(tree map[string]any, path []string) (any, bool) {
	for i, part := range path {
		v, ok := tree[part]
		if !ok || i == len(path)-1 {
			return v, ok
		}
		if tree, ok = v.(map[string]any); !ok {
			return nil, false
		}
	}
	return nil, false
}

// scalar is a TOML value as a key takes it.
func (t tomlKey) scalar() (string, error) {
	switch v := t.value.(type) {
	case string, bool, int64:
		return fmt.Sprint(v), nil
	case float64:
		return "", fmt.Errorf("%v is a fraction; no key takes one", v)
	case []any:
		return "", errors.New("an array; no key takes one")
	case map[string]any:
		return "", errors.New("a table; want one value")
	}
	return "", errors.New("a date or time; no key takes one")
}
