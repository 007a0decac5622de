package admin

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// TypeScript is console/src/types.ts: the bodies of the API as the console knows them, from the
// document of the API.
func TypeScript() string {
	w := &typeWriter{schemas: registered().OpenAPI().Components.Schemas.Map()}
	fmt.Fprintln(w, "// The bodies of /api/v1, made from the code that serves it by `make generate`.")
	for _, name := range slices.Sorted(maps.Keys(w.schemas)) {
		w.schema(name, w.schemas[name])
	}
	return w.String()
}

type typeWriter struct {
	strings.Builder
	schemas map[string]*huma.Schema
}

var plainName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

func (w *typeWriter) schema(name string, s *huma.Schema) {
	fmt.Fprintln(w)
	if s.Type != huma.TypeObject || s.AdditionalProperties != nil && s.AdditionalProperties != false {
		fmt.Fprintf(w, "export type %s = %s;\n", name, w.kind(s))
		return
	}
	fmt.Fprintf(w, "export interface %s {\n", name)
	for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[field]
		if p.Description != "" {
			fmt.Fprintf(w, "  /** %s */\n", strings.ReplaceAll(p.Description, "*/", "* /"))
		}
		key, optional := field, "?"
		if !plainName.MatchString(field) {
			key = fmt.Sprintf("%q", field)
		}
		if slices.Contains(s.Required, field) {
			optional = ""
		}
		fmt.Fprintf(w, "  %s%s: %s;\n", key, optional, w.kind(p))
	}
	fmt.Fprintln(w, "}")
}

// kind is a type in TypeScript.
func (w *typeWriter) kind(s *huma.Schema) string {
	is := w.bare(s)
	if s.Nullable {
		is += " | null"
	}
	return is
}

func (w *typeWriter) bare(s *huma.Schema) string {
	if name, named := strings.CutPrefix(s.Ref, "#/components/schemas/"); named {
		return name
	}
	if len(s.Enum) > 0 {
		var words []string
		for _, e := range s.Enum {
			words = append(words, fmt.Sprintf("%#v", e))
		}
		return strings.Join(words, " | ")
	}
	switch s.Type {
	case huma.TypeArray:
		of := w.kind(s.Items)
		if strings.Contains(of, " | ") {
			of = "(" + of + ")"
		}
		return of + "[]"
	case huma.TypeString:
		return "string"
	case huma.TypeInteger, huma.TypeNumber:
		return "number"
	case huma.TypeBoolean:
		return "boolean"
	case huma.TypeObject:
		if of, ok := s.AdditionalProperties.(*huma.Schema); ok {
			return "Record<string, " + w.kind(of) + ">"
		}
		return "Record<string, unknown>"
	}
	return "unknown"
}
