package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// docsPath is where a person finds the API shown in a browser. The page says what anybody can
// read in the code, so nobody is asked for it; it has no script, and takes nothing from
// elsewhere.
const docsPath = apiPath + "/docs"

const pageStyle = `body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem;color:#1b1f24;background:#fff}
h1{margin:.2em 0}nav{display:flex;flex-wrap:wrap}h2{margin-top:2em;border-bottom:1px solid #d0d7de}nav a{margin-right:1em;white-space:nowrap}a{color:#0b57a4}
details{border:1px solid #d0d7de;border-radius:6px;margin:.4em 0}summary{cursor:pointer;padding:.4em .7em}details>div{padding:0 .9em .8em;overflow-x:auto}
code{font:13px ui-monospace,monospace}b.m{display:inline-block;min-width:4.6em;font:bold 12px ui-monospace,monospace}
b.GET{color:#0a6b3b}b.POST{color:#0b57a4}b.PATCH,b.PUT{color:#8a5300}b.DELETE{color:#b3261e}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;border-top:1px solid #eaeef2}p.n{color:#57606a}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}a{color:#6cb6ff}details,h2,td,th{border-color:#30363d}p.n{color:#9aa4af}b.GET{color:#57d28f}b.POST{color:#6cb6ff}b.PATCH,b.PUT{color:#e0a458}b.DELETE{color:#ff8a80}}`

// docsPage serves the page of a document.
func docsPage(doc *huma.OpenAPI) http.Handler {
	sum := sha256.Sum256([]byte(pageStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	page := []byte(pageOf(doc))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(page) // whoever does not take it has gone
	})
}

// pageWriter writes HTML of what a document says.
type pageWriter struct {
	strings.Builder
	doc *huma.OpenAPI
}

// prose is text as HTML has it; what stands between backquotes is code.
func prose(s string) string {
	parts := strings.Split(html.EscapeString(s), "`")
	for i := 1; i < len(parts); i += 2 {
		parts[i] = "<code>" + parts[i] + "</code>"
	}
	return strings.Join(parts, "")
}

func pageOf(doc *huma.OpenAPI) string {
	w := &pageWriter{doc: doc}
	fmt.Fprint(w, `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>rustmq: the admin API</title><style>`+pageStyle+`</style></head><body><main>`)
	fmt.Fprintf(w, "<h1>rustmq: the admin API</h1><p>%s</p><p>The same for programs: <a href=\"%s/openapi.json\">openapi.json</a> (OpenAPI %s).</p><nav>", prose(doc.Info.Description), apiPath, html.EscapeString(doc.OpenAPI))
	for _, tag := range doc.Tags {
		fmt.Fprintf(w, `<a href="#tag-%s">%s</a>`, html.EscapeString(tag.Name), html.EscapeString(tag.Name))
	}
	fmt.Fprint(w, `<a href="#bodies">Bodies</a></nav>`)
	for _, tag := range doc.Tags {
		fmt.Fprintf(w, `<h2 id="tag-%s">%s</h2>`, html.EscapeString(tag.Name), html.EscapeString(tag.Name))
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			item := doc.Paths[path]
			for _, one := range []struct {
				method string
				op     *huma.Operation
			}{{"GET", item.Get}, {"POST", item.Post}, {"PUT", item.Put}, {"PATCH", item.Patch}, {"DELETE", item.Delete}} {
				if one.op != nil && slices.Contains(one.op.Tags, tag.Name) {
					w.operation(one.method, path, one.op)
				}
			}
		}
	}
	fmt.Fprint(w, `<h2 id="bodies">Bodies</h2>`)
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		w.schema(name, schemas[name])
	}
	fmt.Fprint(w, "</main></body></html>\n")
	return w.String()
}

func (w *pageWriter) operation(method, path string, op *huma.Operation) {
	fmt.Fprintf(w, `<details><summary><b class="m %s">%s</b> <code>%s</code> %s</summary><div>`, method, method, html.EscapeString(path), prose(op.Summary))
	fmt.Fprintf(w, `<p class="n">%s</p>`, prose(op.Description))
	if len(op.Parameters) > 0 {
		fmt.Fprint(w, "<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>")
		for _, p := range op.Parameters {
			said := p.Description
			if p.Required {
				said = strings.TrimSuffix("required; "+said, "; ")
			}
			fmt.Fprintf(w, "<tr><td><code>%s</code></td><td>%s</td><td>%s</td><td>%s</td></tr>", html.EscapeString(p.Name), html.EscapeString(p.In), w.kind(p.Schema), prose(said))
		}
		fmt.Fprint(w, "</table>")
	}
	if op.RequestBody != nil {
		fmt.Fprint(w, "<p>Body: "+w.contents(op.RequestBody.Content)+"</p>")
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		fmt.Fprintf(w, "<p>%s: %s %s</p>", html.EscapeString(status), prose(op.Responses[status].Description), w.contents(op.Responses[status].Content))
	}
	fmt.Fprint(w, "</div></details>")
}

func (w *pageWriter) contents(content map[string]*huma.MediaType) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(content)) {
		all = append(all, w.kind(content[kind].Schema)+" <code>"+html.EscapeString(kind)+"</code>")
	}
	return strings.Join(all, ", ")
}

// schema writes the fields of a body.
func (w *pageWriter) schema(name string, s *huma.Schema) {
	fmt.Fprintf(w, `<details id="body-%s" open><summary><code>%s</code> %s</summary><div><table>`, html.EscapeString(name), html.EscapeString(name), prose(s.Description))
	for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[field]
		said := p.Description
		if slices.Contains(s.Required, field) {
			said = strings.TrimSuffix("always there; "+said, "; ")
		}
		fmt.Fprintf(w, "<tr><td><code>%s</code></td><td>%s</td><td>%s</td></tr>", html.EscapeString(field), w.kind(p), prose(said))
	}
	fmt.Fprint(w, "</table></div></details>")
}

// kind is a type in HTML.
func (w *pageWriter) kind(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	if name, named := strings.CutPrefix(s.Ref, "#/components/schemas/"); named {
		return fmt.Sprintf(`<a href="#body-%s">%s</a>`, html.EscapeString(name), html.EscapeString(name))
	}
	is := s.Type
	switch {
	case s.Items != nil:
		return "list of " + w.kind(s.Items)
	case s.AdditionalProperties != nil:
		if of, ok := s.AdditionalProperties.(*huma.Schema); ok {
			return "map of " + w.kind(of)
		}
	}
	if len(s.Enum) > 0 {
		var words []string
		for _, e := range s.Enum {
			words = append(words, fmt.Sprint(e))
		}
		return html.EscapeString(strings.Join(words, " | "))
	}
	if s.Format != "" {
		is += " (" + s.Format + ")"
	}
	if s.Minimum != nil && s.Maximum != nil {
		is += fmt.Sprintf(", %v to %v", *s.Minimum, *s.Maximum)
	}
	return html.EscapeString(is)
}
