package bundle

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// Mask stands where a secret was.
const Mask = "(removed)"

// leastSecret is the shortest text that is taken for a secret wherever it stands: of shorter
// ones a bundle would be full of holes.
const leastSecret = 6

// form is how a kind of secret looks. What is kept of it are the groups before and after.
type form struct {
	pattern *regexp.Regexp
	with    string
}

// Redactor takes secrets out of texts. It is safe for concurrent use.
type Redactor struct {
	forms []form
	known [][]byte
}

// secretNames are parts of names whose values are secret, wherever they stand: in JSON, YAML,
// TOML, the environment, a URL's query or a line of a log.
const secretNames = `password|passwd|passphrase|secret|token|credential|(?:private|access|account|api|stored|server)[_-]?key|salt|jaas|authorization|signature|\bsig\b`

// publicNames end names like those whose values are none: files, and times.
const publicNames = `file|path|dir|url|id|type|name|mechanisms?|expires?|lifetime|ttl|seconds|created|count|principal|total|bytes`

// NewRedactor returns one that knows these texts too.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{forms: []form{
		{regexp.MustCompile(`(?i)(authorization\\?"?\s*[:=]\s*\\?"?\[?)(?:basic|bearer)\s+[a-z0-9._~+/=-]+`), "${1}" + Mask},
		{regexp.MustCompile(`(?i)\b(basic|bearer)\s+[a-z0-9._~+/=-]{16,}`), "${1} " + Mask},
		// Values in quotes, after : or =, as in JSON, YAML and TOML; a log in JSON has them
		// escaped.
		{regexp.MustCompile(`(?i)((?:^|[^a-z0-9_.-])\\?"?[a-z0-9_.-]*(?:` + secretNames + `)[a-z0-9_-]*\\?"?\s*[:=]\s*\\?")((?:\\.|[^"\\])*)(\\?")`), "${1}" + Mask + "${3}"},
		// A key and its value apart, as lists of settings have them.
		{regexp.MustCompile(`(?i)("(?:key|name)"\s*:\s*"[^"]*(?:` + secretNames + `)[^"]*"\s*,\s*"value"\s*:\s*")((?:\\.|[^"\\])*)(")`), "${1}" + Mask + "${3}"},
		// Bare values: up to the next space or separator.
		{regexp.MustCompile(`(?i)((?:^|[^a-z0-9_.-])[a-z0-9_.-]*(?:` + secretNames + `)[a-z0-9_-]*\s*[:=]\s*)([^\s"'\\,;&)}\]{\[]+)`), "${1}" + Mask},
		{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"'@:]*:[^/\s"'@]*@`), "${1}" + Mask + "@"},
		{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"'@:()?#]+@`), "${1}" + Mask + "@"}, // a token alone, as git has them
		{regexp.MustCompile(`\brmq_[A-Za-z0-9_-]{20,}`), Mask},                                    // API tokens of rustmq
		{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`), Mask},   // RFC 7519
		{regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b`), Mask},                                 // AWS access key ids
	}}
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) < leastSecret {
			continue
		}
		for _, written := range writings(s) {
			if !slices.ContainsFunc(r.known, func(k []byte) bool { return string(k) == written }) {
				r.known = append(r.known, []byte(written))
			}
		}
	}
	// The longest first, or a part of one would be taken out of it and the rest stay.
	slices.SortFunc(r.known, func(a, b []byte) int { return len(b) - len(a) })
	return r
}

// writings is a text as it is, and as JSON, Go and URLs write it: with what they escape.
func writings(text string) []string {
	quoted := strconv.Quote(text)
	all := []string{text, url.QueryEscape(text), url.PathEscape(text), quoted[1 : len(quoted)-1]}
	for _, html := range []bool{true, false} {
		var raw bytes.Buffer
		as := json.NewEncoder(&raw)
		as.SetEscapeHTML(html)
		if as.Encode(text) == nil { // a string always can be
			all = append(all, raw.String()[1:raw.Len()-2]) // within its quotes, and the end of the line
		}
	}
	return all
}

// privateKey is a key in PEM, or what is left of one whose end was cut off.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`)

// publicEnd tells that a name like that of a secret is that of something else.
var publicEnd = regexp.MustCompile(`(?i)(?:[_.-](?:` + publicNames + `)|tokens|passwords|secrets|credentials|File|Path|URL)\\?"?\s*[:=]\s*\\?"?$`)

// hints are parts of what the forms look for, of which one is in every line that one of them
// finds something in: most lines have none, and are not searched.
var hints = [][]byte{
	[]byte("pass"), []byte("secret"), []byte("token"), []byte("cred"), []byte("key"), []byte("salt"), []byte("jaas"), []byte("auth"), []byte("sig"),
	[]byte("basic"), []byte("bearer"), []byte("://"), []byte("rmq_"), []byte("eyj"), []byte("akia"), []byte("asia"),
}

// Redact returns a text without secrets, and how many were in it. The text is not changed.
func (r *Redactor) Redact(text []byte) (clean []byte, removed int) {
	clean = text
	for _, secret := range r.known {
		if n := bytes.Count(clean, secret); !guard.Check("bundle.known-secrets", n == 0) {
			clean, removed = bytes.ReplaceAll(clean, secret, []byte(Mask)), removed+n
		}
	}
	if !guard.Check("bundle.private-keys", !bytes.Contains(clean, []byte("PRIVATE KEY-----"))) {
		clean = privateKey.ReplaceAllFunc(clean, func([]byte) []byte {
			removed++
			return []byte(Mask)
		})
	}
	lines := make([]byte, 0, len(clean))
	for line := range bytes.Lines(clean) {
		kept, n := r.line(line)
		lines, removed = append(lines, kept...), removed+n
	}
	return lines, removed
}

// line is Redact of one.
func (r *Redactor) line(line []byte) (clean []byte, removed int) {
	small := bytes.ToLower(line)
	if !slices.ContainsFunc(hints, func(hint []byte) bool { return bytes.Contains(small, hint) }) {
		return line, 0
	}
	clean = line
	for _, f := range r.forms {
		if guard.Check("bundle.forms-of-secrets", !f.pattern.Match(clean)) {
			continue
		}
		clean = f.pattern.ReplaceAllFunc(clean, func(found []byte) []byte {
			groups := f.pattern.FindSubmatch(found)
			if len(groups) > 2 && (publicEnd.Match(groups[1]) || harmless(groups[2])) {
				return found
			}
			removed++
			return f.pattern.ReplaceAll(found, []byte(f.with))
		})
	}
	return clean, removed
}

// harmless tells whether a value says nothing: none, a switch, a number of few digits, or
// what was taken out before.
func harmless(value []byte) bool {
	text := strings.ToLower(string(value))
	if text == "" || strings.Contains(text, strings.Trim(Mask, "()")) || strings.Trim(text, "*") == "" {
		return true
	}
	if slices.Contains([]string{"true", "false", "null", "none", "on", "off", "auto", "yes", "no", "default"}, text) {
		return true
	}
	return len(text) < leastSecret && strings.Trim(text, "0123456789.") == ""
}
