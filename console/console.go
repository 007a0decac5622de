package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed all:dist
var dist embed.FS

//go:embed missing.html
var missing []byte

//go:embed elsewhere.html
var elsewhere []byte

const indexPath = "index.html"

// Policy is the content security policy of the pages. uPlot and Preact set styles by the DOM,
// which it allows.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// types are those of what a build makes.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".svg": "image/svg+xml",
}

// file is one of the console, as it is and gzipped.
type file struct {
	kind    string
	plain   []byte
	gzipped func() []byte
}

func newFile(name string, content []byte) *file {
	return &file{kind: types[path.Ext(name)], plain: content, gzipped: sync.OnceValue(func() []byte {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
		_, _ = w.Write(content)                               // to memory
		_ = w.Close()
		return b.Bytes()
	})}
}

// Handler serves the console to GET and HEAD: files by their names, the page for any other
// path.
func Handler() http.Handler { return handler(dist, missing) }

// Elsewhere serves one page, for a process without the API: it says where that is.
func Elsewhere() http.Handler { return handler(noFiles{}, elsewhere) }

// noFiles has none.
type noFiles struct{}

func (noFiles) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// handler serves what is below dist in built; without a page there, instead.
func handler(built fs.FS, instead []byte) http.Handler {
	files := map[string]*file{}
	_ = fs.WalkDir(built, "dist", func(name string, d fs.DirEntry, err error) error { // of memory
		if err != nil || d.IsDir() || types[path.Ext(name)] == "" {
			return err
		}
		content, err := fs.ReadFile(built, name)
		if err == nil {
			files["/"+strings.TrimPrefix(name, "dist/")] = newFile(name, content)
		}
		return err
	})
	index := files["/"+indexPath]
	if index == nil {
		files, index = nil, newFile(indexPath, instead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setHeaders(h)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the console is read with GET; the API is at /api/v1", http.StatusMethodNotAllowed)
			return
		}
		f := files[r.URL.Path]
		switch {
		case f == nil && strings.HasPrefix(r.URL.Path, "/assets/"):
			// Of a page from before an upgrade. It must not be kept, for it may come to be.
			h.Set("Cache-Control", "no-store")
			http.Error(w, "there is no such file of this version of the console: load the page anew", http.StatusNotFound)
			return
		case f == nil && !takesPages(r):
			http.Error(w, "nothing is at this path: the API is at /api/v1, the console at / in a browser", http.StatusNotFound)
			return
		case f == nil:
			f = index
			fallthrough
		case !strings.HasPrefix(r.URL.Path, "/assets/"):
			h.Set("Cache-Control", "no-cache")
		default:
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		f.serve(w, r)
	})
}

// setHeaders are those of every answer.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
}

// takesPages reports whether a request is that of a browser for a page. A program that calls a
// path that is not there is told so.
func takesPages(r *http.Request) bool {
	return r.URL.Path == "/" || !strings.HasPrefix(r.URL.Path, "/api/") && slices.ContainsFunc(r.Header.Values("Accept"), func(accepts string) bool { return strings.Contains(accepts, "text/html") })
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h, content := w.Header(), f.plain
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		content = f.gzipped()
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(content) // whoever does not take it has gone
	}
}

// takesGzip reports whether a request takes gzip by name, and not with a weight of 0.
func takesGzip(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept-Encoding") {
		for one := range strings.SplitSeq(value, ",") {
			coding, weight, _ := strings.Cut(strings.TrimSpace(one), ";")
			weight = strings.TrimRight(strings.ReplaceAll(weight, " ", ""), "0")
			if strings.EqualFold(coding, "gzip") && weight != "q=" && weight != "q=0." {
				return true
			}
		}
	}
	return false
}
