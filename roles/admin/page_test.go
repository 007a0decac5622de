package admin

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page shows every call and every body, to anybody, and can run nothing and fetch nothing.
func TestThePageShowsTheWholeAPI(t *testing.T) {
	a := newAsking(t)
	w := a.do(http.MethodGet, docsPath, "")
	a.want("the page, nobody", http.StatusOK, w)
	page := w.Body.String()
	for _, row := range a.calls() {
		want := `<b class="m ` + row.Method + `">` + row.Method + `</b> <code>` + row.Path + `</code>`
		if strings.Count(page, want) != 1 {
			t.Errorf("%s %s is there %d times", row.Method, row.Path, strings.Count(page, want))
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	if kind := w.Header().Get("Content-Type"); kind != "text/html; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", w.Header())
	}
	for _, forbidden := range []string{"<script", "javascript:", "src=", "http://", "https://", "style=\""} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page has %q", forbidden)
		}
	}
	for _, link := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `id="`+link[1]+`"`) {
			t.Errorf("a link to %s leads nowhere", link[1])
		}
	}
	a.want("the page of another site", http.StatusForbidden, a.do(http.MethodGet, docsPath, "", "Origin", "https://evil.example"))
	a.want("what changes nothing", http.StatusUnauthorized, a.do(http.MethodPost, docsPath, ""))
}

// The document says of each call what it does and asks for.
func TestTheDocumentDescribesEachCall(t *testing.T) {
	a := newAsking(t)
	var doc struct {
		Paths map[string]map[string]struct {
			Summary, Description string
			Tags                 []string
			Security             []map[string][]string
			Parameters           []struct{ Name, In string }
		}
		Security []map[string][]string
	}
	if err := json.Unmarshal(a.do(http.MethodGet, "/api/v1/openapi.json", "", "Authorization", "Bearer "+a.local).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	known := summaries()
	for _, row := range a.calls() {
		op, short := doc.Paths[row.Path][strings.ToLower(row.Method)], row.Method+" "+strings.TrimPrefix(row.Path, apiPath)
		if op.Summary == "" || !strings.Contains(op.Description, "Asks for: ") || len(op.Tags) != 1 {
			t.Errorf("%s: %+v", short, op)
		}
		delete(known, short)
	}
	for left := range known {
		t.Errorf("%q is described, and is no call", left)
	}
	if len(doc.Security) != 3 {
		t.Errorf("%v", doc.Security)
	}
	change := doc.Paths["/api/v1/topics/{name}"]["patch"].Parameters
	if !slices.Contains(change, struct{ Name, In string }{"If-Match", "header"}) {
		t.Errorf("%+v", change)
	}
	open := newAsking(t, func(o *Options) { o.Access = nil })
	if said := open.do(http.MethodGet, "/api/v1/openapi.json", "").Body.String(); strings.Contains(said, `"security":[{"token"`) {
		t.Error("a server that asks nobody says that it does")
	}
}

// calls are the rows of the API itself; what looks into the process is no part of it.
func (a *asking) calls() []Row {
	return slices.DeleteFunc(slices.Clone(a.s.rows), func(r Row) bool { return !strings.HasPrefix(r.Path, apiPath) })
}

// Calls that the docs name are there: their whole paths, or the beginning of some.
func TestCallsThatDocsNameExist(t *testing.T) {
	routes := []string{docsPath, "/api/v1/openapi.json", "/api/v1/session"} // of these there is no row
	for _, row := range Rows() {
		routes = append(routes, row.Path)
	}
	is := func(named string) bool {
		segments := strings.Split(strings.TrimPrefix(named, "/"), "/")
		return slices.ContainsFunc(routes, func(route string) bool {
			of := strings.Split(strings.TrimPrefix(route, "/"), "/")
			return len(of) >= len(segments) && !slices.ContainsFunc(segments, func(s string) bool {
				at := of[0]
				of = of[1:]
				return s != at && !strings.HasPrefix(at, "{")
			})
		})
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	path := regexp.MustCompile(`/api/v1(/[A-Za-z0-9_{}-]+(\.json)?)+`)
	found := 0
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md", "../../sdk/go/README.md", "../../sdk/rust/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, named := range path.FindAllString(string(text), -1) {
			if found++; !is(named) {
				t.Errorf("%s names %s, which is no call", filepath.Base(page), named)
			}
		}
	}
	if found < 40 {
		t.Errorf("the docs name %d calls", found)
	}
}

// The types of the console are those of the code: make generate remakes them.
func TestTypesOfTheConsoleAreFresh(t *testing.T) {
	committed, err := os.ReadFile("../../console/src/types.ts")
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != TypeScript() {
		t.Error("console/src/types.ts is of other bodies than the API has: make generate")
	}
}
