package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"rustmq.dev/rustmq/configs"
)

// fixed are keys that the chart leaves at their defaults, for its Services know them.
var fixed = []string{
	"broker.rack", "network.kafka_port", "network.http_port", "network.broker_port", "network.external.port", "network.external.advertised_host",
	"network.external.advertised_port", "controller.raft_port", "controller.port",
}

// ours are the keys that the chart sets, as its template names them, and those that are fixed.
func ours(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(chartDir, "templates/_helpers.tpl"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), `define "rustmq.keys"`)
	body, _, _ := strings.Cut(after, "define ")
	all := slices.Clone(fixed)
	for _, m := range regexp.MustCompile(`"([a-z_]+(?:\.[a-z_0-9]+)+)"`).FindAllStringSubmatch(body, -1) {
		all = append(all, m[1])
	}
	return all
}

// configSchema is the schema of value config: every key of rustmq that the chart does not set.
func configSchema(t *testing.T) map[string]any {
	t.Helper()
	section := func() map[string]any {
		return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
	}
	root, set := section(), ours(t)
	for _, key := range configs.Keys() {
		if slices.Contains(set, key.Name) {
			continue
		}
		at := root["properties"].(map[string]any)
		parts := strings.Split(key.Name, ".")
		for _, part := range parts[:len(parts)-1] {
			if at[part] == nil {
				at[part] = section()
			}
			at = at[part].(map[string]any)["properties"].(map[string]any)
		}
		value := map[string]any{"description": key.Doc}
		switch key.Type {
		case "bool":
			value["type"] = "boolean"
		case "int":
			value["type"] = "integer"
		case "size":
			value["type"], value["pattern"] = []string{"string", "integer"}, "^[0-9]+ ?([KMGT]i?B|B)?$"
		case "duration":
			value["type"], value["pattern"] = []string{"string", "integer"}, "^([0-9.]+(ns|us|µs|ms|s|m|h|d)?)+$"
		default:
			value["type"] = "string"
		}
		at[parts[len(parts)-1]] = value
	}
	return root
}

// made compares what is made with what is there, or writes it.
func made(t *testing.T, file string, want []byte) {
	t.Helper()
	file = filepath.Join(chartDir, file)
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: cd deploy/helm/test && GOWORK=off go test -run TestMade -update", file)
	}
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMadeSchemaHasEveryKey(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	schema["properties"].(map[string]any)["config"] = configSchema(t)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	made(t, "values.schema.json", b.Bytes())
}

const (
	tableBegin = "<!-- values: made of values.yaml -->\n"
	tableEnd   = "<!-- /values -->\n"
)

func TestMadeTableOfValues(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	rows.WriteString("| value | default | what |\n|---|---|---|\n")
	table(t, &rows, "", "", document.Content[0])
	readme, err := os.ReadFile(filepath.Join(chartDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("README.md has no place for the table")
	}
	made(t, "README.md", []byte(before+tableBegin+rows.String()+tableEnd+after))
}

// table writes a row for each value. What stands above a section is said of its first value;
// pools that are alike have one entry.
func table(t *testing.T, rows *strings.Builder, at, above string, of *yaml.Node) {
	t.Helper()
	for i := 0; i < len(of.Content); i += 2 {
		name, value := of.Content[i], of.Content[i+1]
		key := strings.TrimPrefix(at+"."+name.Value, ".")
		what := comment(name.HeadComment)
		if i == 0 && at == "" {
			_, what, _ = strings.Cut(name.HeadComment, "\n\n") // the first is of the file
			what = comment(what)
		}
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if above != "" && i == 0 {
			what = strings.TrimSpace(above + " " + what)
		}
		leaf := value.Kind != yaml.MappingNode || len(value.Content) == 0 || value.Style&yaml.FlowStyle != 0 || slices.Contains([]string{"podSecurityContext", "containerSecurityContext"}, key) || name.Value == "resources"
		if !leaf {
			table(t, rows, key, what, value)
			continue
		}
		value.HeadComment, value.Anchor = "", ""
		v, err := flow(value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(rows, "| `%s` | `%s` | %s |\n", key, v, what)
	}
}

// flow is a value on one line.
func flow(n *yaml.Node) (string, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return "", err
	}
	if s, ok := v.(string); ok && s != "" {
		return s, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func comment(c string) string {
	var words []string
	for line := range strings.SplitSeq(c, "\n") {
		words = append(words, strings.TrimSpace(strings.TrimPrefix(line, "#")))
	}
	return strings.TrimSpace(strings.Join(words, " "))
}
