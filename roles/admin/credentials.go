package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/sasl"
)

// credentialKind is how a request says who it comes from.
type credentialKind uint8

const (
	noCredential     credentialKind = iota
	passwordGiven                   // Authorization: Basic (RFC 7617)
	apiTokenGiven                   // Authorization: Bearer rmq_… (RFC 6750)
	signedTokenGiven                // Authorization: Bearer of an identity provider
)

// credential is what stands in the header Authorization.
type credential struct {
	kind           credentialKind
	user, password string // of passwordGiven
	token          string // of the others
}

// apiTokenStart begins every API token, so that one that has got out is found by who looks
// for secrets in what is published.
const apiTokenStart = "rmq_"

// apiTokenSecret is how many random bytes follow, in base64 for URLs.
const apiTokenSecret = 32

// maxAuthorization bytes of the header: the longest token, and the name of its scheme.
const maxAuthorization = sasl.MaxToken + 16

var errAuthorization = errors.New("the header Authorization is neither Basic with a name and a password (RFC 7617) nor Bearer with a token (RFC 6750), once")

// parseAuthorization reads the headers Authorization of a request. Its errors have nothing of
// them.
func parseAuthorization(headers []string) (credential, error) {
	if len(headers) == 0 {
		return credential{}, nil
	}
	if len(headers) > 1 || len(headers[0]) > maxAuthorization {
		return credential{}, errAuthorization
	}
	scheme, value, _ := strings.Cut(headers[0], " ")
	value = strings.Trim(value, " ")
	switch {
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(value)
	case !strings.EqualFold(scheme, "Bearer") || !isToken68(value):
		return credential{}, errAuthorization
	case strings.HasPrefix(value, apiTokenStart):
		return credential{kind: apiTokenGiven, token: value}, nil
	}
	return credential{kind: signedTokenGiven, token: value}, nil
}

func parseBasic(value string) (credential, error) {
	if len(value) > base64.StdEncoding.EncodedLen(sasl.MaxName+1+sasl.MaxPassword) {
		return credential{}, errAuthorization
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	user, password, both := strings.Cut(string(raw), ":")
	odd := func(r rune) bool { return r < 0x20 || r == 0x7f }
	if err != nil || !both || user == "" || password == "" || strings.ContainsFunc(string(raw), odd) {
		return credential{}, errAuthorization
	}
	return credential{kind: passwordGiven, user: user, password: password}, nil
}

// isToken68 reports whether text is of the letters that tokens have (RFC 9110 §11.2).
func isToken68(text string) bool {
	bare := strings.TrimRight(text, "=")
	return bare != "" && !strings.ContainsFunc(bare, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}

// newSecret is a token's text of random bytes.
func newSecret(start string, random []byte) string {
	return start + base64.RawURLEncoding.EncodeToString(random)
}

// secretHash is what is kept of a token that begins so; ok is false for what can be none.
func secretHash(start, text string) (hash [metadata.APITokenHashSize]byte, ok bool) {
	secret, has := strings.CutPrefix(text, start)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if !has || err != nil || len(raw) != apiTokenSecret {
		return hash, false
	}
	return sha256.Sum256([]byte(text)), true
}

// Names of the cookie of a session. With the prefix a browser keeps it to this host and
// this scheme (RFC 6265bis §4.1.3.2), which takes TLS.
const (
	sessionCookie       = "rustmq-session"
	secureSessionCookie = "__Host-" + sessionCookie
)

// sessionOf is the text of the session in the cookies of a request; "": none. One that is
// there twice is none: another page of the host may have set one of them.
func sessionOf(r *http.Request, secure bool) (text string) {
	name := sessionCookie
	if secure {
		name = secureSessionCookie
	}
	all := r.CookiesNamed(name)
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}
