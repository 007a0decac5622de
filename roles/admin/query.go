package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// takesAnyText reports whether an empty text is a value.
func takesAnyText(s *huma.Schema) bool {
	return s.Type == huma.TypeArray || s.Type == huma.TypeString && s.Format == "" && len(s.Enum) == 0
}

// strictQuery has a call refused whose query cannot be read, names what there is not, gives no value, or more
// than one: who misspells `version` does not mean the module with all versions.
func strictQuery(api huma.API) func(*huma.Operation) {
	return func(op *huma.Operation) {
		op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
			at := ctx.URL()
			query, err := url.ParseQuery(at.RawQuery) // what it cannot read it leaves out
			wrong := wrongQuery(ctx.Operation(), query)
			if err != nil {
				wrong = "the query cannot be read: " + err.Error()
			}
			if wrong != "" {
				_ = huma.WriteErr(api, ctx, http.StatusBadRequest, "INVALID_REQUEST: "+wrong) // who does not take it has gone
				return
			}
			next(ctx)
		})
	}
}

// wrongQuery says what is wrong with the names of a query; "": nothing is.
func wrongQuery(op *huma.Operation, query map[string][]string) string {
	known := map[string]*huma.Param{}
	for _, p := range op.Parameters {
		if p.In == "query" {
			known[p.Name] = p
		}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch p := known[name]; {
		case p == nil && len(known) == 0:
			return fmt.Sprintf("there is no parameter %.100q: this call has none", name)
		case p == nil:
			return fmt.Sprintf("there is no parameter %.100q: this call has %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case len(query[name]) > 1 && p.Schema.Type != huma.TypeArray:
			return fmt.Sprintf("%s is there %d times, and takes one value", name, len(query[name]))
		case slices.Contains(query[name], "") && !takesAnyText(p.Schema):
			return name + " has no value: leave it out, or give one"
		}
	}
	return ""
}
