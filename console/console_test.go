package console

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

// built is a console as build.mjs makes it.
func built() fstest.MapFS {
	return fstest.MapFS{
		"dist/.keep": {}, "dist/.built": {Data: []byte("x")}, "dist/index.html": {Data: []byte("<title>page</title>")}, "dist/licences.txt": {Data: []byte("of others")},
		"dist/assets/main-AB.js": {Data: []byte(strings.Repeat("code();", 100))}, "dist/assets/main-CD.css": {Data: []byte("a{}")},
	}
}

func ask(t *testing.T, h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Security-Policy"); got != Policy {
		t.Errorf("%s %s: policy %q", method, path, got)
	}
	return w
}

// Files are kept by their names, the page is asked for again and stands at every path of a
// browser, and programs are told what is not there.
func TestWhatIsServedWhere(t *testing.T) {
	h := handler(built(), []byte("missing"))
	for _, c := range []struct {
		path, accept     string
		status           int
		kind, kept, says string
	}{
		{"/", "", 200, "text/html", "no-cache", "page"},
		{"/index.html", "", 200, "text/html", "no-cache", "page"},
		{"/topics/a%2Fb/partitions?tab=x", "text/html,*/*", 200, "text/html", "no-cache", "page"},
		{"/topics", "*/*", 404, "text/plain", "", "/api/v1"},
		{"/api/v1/nothing", "text/html", 404, "text/plain", "", "/api/v1"},
		{"/assets/main-AB.js", "", 200, "text/javascript", "immutable", "code()"},
		{"/assets/main-CD.css", "", 200, "text/css", "immutable", "a{}"},
		{"/assets/main-ZZ.js", "text/html", 404, "text/plain", "no-store", "load the page anew"},
		{"/.built", "", 404, "text/plain", "", ""},
		{"/licences.txt", "", 200, "text/plain", "no-cache", "of others"},
	} {
		w := ask(t, h, http.MethodGet, c.path, "Accept", c.accept)
		if w.Code != c.status || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) || !strings.Contains(w.Header().Get("Cache-Control"), c.kept) || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %v %.80s", c.path, w.Code, w.Header(), w.Body)
		}
	}
	if w := ask(t, h, http.MethodPost, "/"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", w.Code)
	}
	if w := ask(t, h, http.MethodHead, "/"); w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// Who takes gzip gets it, and it is the same file.
func TestFilesAreGzippedForWhoTakesIt(t *testing.T) {
	h, plain := handler(built(), nil), built()["dist/assets/main-AB.js"].Data
	for accepts, want := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "GZIP": true, "gzip;q=0": false, "gzip; q=0.000": false, "br": false, "": false} {
		w := ask(t, h, http.MethodGet, "/assets/main-AB.js", "Accept-Encoding", accepts)
		var body io.Reader = w.Body
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("%q: %v", accepts, w.Header())
			continue
		} else if got {
			var err error
			if body, err = gzip.NewReader(w.Body); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != string(plain) {
			t.Errorf("%q: %v, %d bytes", accepts, err, len(text))
		}
	}
}

// Where nothing was built, one page says how to get the console, wherever one looks.
func TestAPageSaysHowToGetTheConsole(t *testing.T) {
	h := handler(fstest.MapFS{"dist/.keep": {}}, missing)
	for _, path := range []string{"/", "/topics"} {
		if w := ask(t, h, http.MethodGet, path, "Accept", "text/html"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "make build") || strings.Contains(w.Body.String(), "<script") || strings.Contains(w.Body.String(), "style") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// The policy lets a page have nothing of elsewhere, and nothing written into HTML.
func TestThePolicyIsStrict(t *testing.T) {
	if !strings.HasPrefix(Policy, "default-src 'none'; ") || strings.Contains(Policy, "unsafe") || strings.Contains(Policy, "*") || strings.Contains(Policy, "http") {
		t.Error(Policy)
	}
	for _, w := range []*httptest.ResponseRecorder{ask(t, Handler(), http.MethodGet, "/")} {
		for header, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %q", header, got)
			}
		}
	}
}

// A process without the API says where it is.
func TestAProcessWithoutTheAPISaysWhereItIs(t *testing.T) {
	if w := ask(t, Elsewhere(), http.MethodGet, "/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "serves no API") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
