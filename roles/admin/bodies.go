package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
)

// maxDepth bounds how deep a body of JSON may be nested; none that the API takes has more
// than four levels.
const maxDepth = 32

// Bodies are held in memory while they come. Of a stranger it is a name and a password, every
// letter of which may be escaped; what exceeds a small one takes a place.
const (
	maxLoginBytes  = 16 << 10
	smallBodyBytes = 16 << 10
	maxLargeBodies = 16

	// Modules are few, and large: at most two are held at a time, and each may take that long.
	maxModuleBodies = 2
	moduleTime      = 5 * time.Minute
)

// uploads reports whether the body of a request is the bytes of a module.
func uploads(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Path == uploadsPath }

// mostOf is how large the body of a request may be. What only looks has a small one at most, which
// nobody reads: a stream would keep its place among the large ones for an hour.
func mostOf(r *http.Request) int64 {
	if looksOnly(r) {
		return smallBodyBytes - 1
	}
	if uploads(r) {
		return metadata.MaxModuleBytes
	}
	return maxBodyBytes
}

// boundBodies ends the connection of who sends more than a body may have.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bounded := *r
		bounded.Body = http.MaxBytesReader(w, r.Body, mostOf(r))
		next.ServeHTTP(w, &bounded)
	})
}

// takeBodies reads the body of a request before it takes a place among those that are
// served: who sends slowly keeps nobody else out. A body is plain, at most maxBodyBytes, and
// no deeper than maxDepth.
func takeBodies(next http.Handler) http.Handler {
	large, modules := make(chan struct{}, maxLargeBodies), make(chan struct{}, maxModuleBodies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
			writeProblem(w, http.StatusUnsupportedMediaType, "a body with a Content-Encoding is not taken: send it as it is")
			return
		}
		most, places := mostOf(r), large
		if uploads(r) {
			if !guard.Check("admin.module-by-rule", altersCluster.missing(subjectOf(r.Context()), "") == nil) {
				// The route refuses it, and says so to the audit log; of what was sent nothing is read.
				refused := r.Clone(r.Context())
				refused.Body, refused.ContentLength = io.NopCloser(strings.NewReader(" ")), 1
				w.Header().Set("Connection", "close")
				next.ServeHTTP(w, refused)
				return
			}
			places = modules
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(moduleTime)) // a connection has one
		}
		if !guard.Check("admin.login-body", !beginsSession(r)) {
			most = maxLoginBytes
		}
		if r.ContentLength > most {
			writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of %d bytes: at most %d are taken", r.ContentLength, most))
			return
		}
		bounded := http.MaxBytesReader(w, r.Body, most)
		body, err := io.ReadAll(io.LimitReader(bounded, smallBodyBytes))
		if err == nil && len(body) == smallBodyBytes {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			default:
				if !guard.Check("admin.large-bodies", false) {
					w.Header().Set("Retry-After", "1")
					writeProblem(w, http.StatusServiceUnavailable, "too many large bodies at once")
					return
				}
			}
			var rest []byte
			rest, err = io.ReadAll(bounded)
			body = append(body, rest...)
		}
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of more than %d bytes is not taken", most))
			return
		case err != nil:
			writeProblem(w, http.StatusBadRequest, "the body did not come as it should")
			return
		case !uploads(r) && tooDeep(body):
			writeProblem(w, http.StatusBadRequest, fmt.Sprintf("the body is nested deeper than %d levels", maxDepth))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		// All of the request has come. A deadline that passes while it is served, which may
		// take minutes, would end it: net/http listens for who hangs up.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a connection has one
		next.ServeHTTP(w, r)
	})
}

// tooDeep reports whether JSON has more than maxDepth lists and objects within each other.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// plainPaths refuses paths that would be others after they are cleaned, and ones that end
// early where C reads them. A group may have the name "..", which is written %2E%2E.
func plainPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for segment := range strings.SplitSeq(r.URL.EscapedPath(), "/") {
			if segment == "." || segment == ".." || strings.Contains(segment, "%00") {
				writeProblem(w, http.StatusBadRequest, "a path has no segments . and .., and no NUL: a name that is one is written with %2E")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// writeProblem answers as the API does (RFC 9457).
func writeProblem(w http.ResponseWriter, status int, detail string) {
	raw, err := json.Marshal(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
	if err != nil { // of strings
		raw = nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n')) // as all other answers end
}
