package metadata

import (
	"crypto/subtle"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of API tokens.
const (
	// maxAPITokens bounds the image; programs that operate a cluster are few.
	maxAPITokens = 5000
	// maxAPITokensOf bounds those of one principal, so that nobody takes the room of all.
	maxAPITokensOf = 100
	// MaxAPITokenName bytes of the name of a token.
	MaxAPITokenName = 100
	// APITokenHashSize is that of SHA-256.
	APITokenHashSize = 32
)

// APIToken is what is kept of a token of the admin API. It is never changed.
type APIToken struct {
	Name      string
	Principal string // who its bearer is taken for: "User:alice"
	// Hash is SHA-256 of the token, which nobody finds the token by: it is random. It is
	// nobody's to see all the same. Empty: see Lost.
	Hash     string
	Created  time.Time // to the millisecond, as is
	Expires  time.Time // zero: never
	ReadOnly bool
}

// Lost reports whether the token is good for nothing: the cluster was brought back from its
// bucket, where hashes are not kept.
func (t *APIToken) Lost() bool { return t.Hash == "" }

// tokens are the API tokens, by name and, those that are not lost, by hash.
type tokens struct {
	names  tree[string, *APIToken]
	hashes tree[string, *APIToken]
}

func newTokens() tokens {
	return tokens{newTree[string, *APIToken](strings.Compare), newTree[string, *APIToken](strings.Compare)}
}

func (s tokens) with(t *APIToken) tokens {
	s = s.without(t.Name)
	s.names = s.names.put(t.Name, t)
	if !t.Lost() {
		s.hashes = s.hashes.put(t.Hash, t)
	}
	return s
}

// of returns how many tokens a principal has, expired and lost ones too.
func (s tokens) of(principal string) (n int) {
	for _, t := range s.names.all() {
		if t.Principal == principal {
			n++
		}
	}
	return n
}

func (s tokens) without(name string) tokens {
	if t, known := s.names.get(name); known {
		s.names = s.names.without(name)
		if of, _ := s.hashes.get(t.Hash); of == t { // a delta may bring it as another's before
			s.hashes = s.hashes.without(t.Hash)
		}
	}
	return s
}

func (s tokens) withoutThoseOf(principal string) tokens {
	left := s
	for name, t := range s.names.all() {
		if !guard.Check("metadata.tokens-go-with-user", t.Principal != principal) {
			left = left.without(name)
		}
	}
	return left
}

func (s tokens) withoutHashes() tokens {
	bare := newTokens()
	for _, t := range s.names.all() {
		lost := *t
		lost.Hash = ""
		bare = bare.with(&lost)
	}
	return bare
}

// APITokens walks all API tokens, in order of their names.
func (m *Image) APITokens() iter.Seq[*APIToken] {
	return func(yield func(*APIToken) bool) {
		for _, t := range m.tokens.names.all() {
			if !yield(t) {
				return
			}
		}
	}
}

// NumAPITokens returns how many API tokens there are.
func (m *Image) NumAPITokens() int { return m.tokens.names.len() }

// APIToken returns the token of that name.
func (m *Image) APIToken(name string) (*APIToken, bool) { return m.tokens.names.get(name) }

// APITokenOf returns the token whose hash, of [APITokenHashSize] bytes, is that. How long
// it takes tells of the hashes that are kept, and of no token.
func (m *Image) APITokenOf(hash string) (*APIToken, bool) {
	t, known := m.tokens.hashes.get(hash)
	if !known || subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 {
		return nil, false
	}
	return t, true
}

// NewCreateAPIToken returns the command that adds a token.
func NewCreateAPIToken(t *APIToken) *pb.CreateApiToken { return &pb.CreateApiToken{Token: t.encode()} }

// NewDeleteAPIToken returns the command that takes a token away.
func NewDeleteAPIToken(name string) *pb.DeleteApiToken { return &pb.DeleteApiToken{Name: name} }

func (m *Image) createAPIToken(c *pb.CreateApiToken) *Error {
	t, refused := decodeAPIToken(c.Token)
	if refused != nil {
		return refused
	}
	if was, known := m.tokens.names.get(t.Name); known && *was == *t {
		return nil
	} else if known {
		return Errorf(DuplicateResource, "there is an API token %s", quoted(t.Name))
	}
	if _, known := m.tokens.hashes.get(t.Hash); known && !t.Lost() {
		return Errorf(DuplicateResource, "that API token has another name already")
	}
	if !guard.Check("metadata.api-tokens", m.tokens.names.len() < maxAPITokens) {
		return Errorf(PolicyViolation, "there are %d API tokens; there is no room for another", m.tokens.names.len())
	}
	if !guard.Check("metadata.api-tokens-of", m.featureLevel < LimitsFeatureLevel || m.tokens.of(t.Principal) < maxAPITokensOf) {
		return Errorf(PolicyViolation, "%s has %d API tokens, and nobody may have more: revoke one that is not needed (rustmq admin tokens list, tokens revoke NAME)", t.Principal, maxAPITokensOf)
	}
	m.tokens = m.tokens.with(t)
	return nil
}

func (m *Image) deleteAPIToken(c *pb.DeleteApiToken) *Error {
	if _, known := m.tokens.names.get(c.Name); !known {
		return Errorf(ResourceNotFound, "there is no API token %s", quoted(c.Name))
	}
	m.tokens = m.tokens.without(c.Name)
	return nil
}

func (t *APIToken) encode() *pb.ApiToken {
	e := &pb.ApiToken{Name: t.Name, Principal: t.Principal, Hash: []byte(t.Hash), Created: t.Created.UnixMilli(), ReadOnly: t.ReadOnly}
	if !t.Expires.IsZero() {
		e.Expires = t.Expires.UnixMilli()
	}
	return e
}

// decodeAPIToken reads one with its hash, or without.
func decodeAPIToken(e *pb.ApiToken) (*APIToken, *Error) {
	principal, err := acl.ParsePrincipal(e.GetPrincipal())
	switch {
	case e.GetName() == "" || len(e.Name) > MaxAPITokenName || !utf8.ValidString(e.Name):
		return nil, Errorf(InvalidRequest, "the name of an API token has 1 to %d bytes", MaxAPITokenName)
	case err != nil || principal != e.Principal || principal == acl.Everyone:
		return nil, Errorf(InvalidRequest, "an API token is of one principal, User:NAME, and not of %s", quoted(e.Principal))
	case !guard.Check("metadata.api-token-hash", len(e.Hash) == 0 || len(e.Hash) == APITokenHashSize):
		return nil, Errorf(InvalidRequest, "a hash of %d bytes: it has %d", len(e.Hash), APITokenHashSize)
	case e.Created < 0 || e.Expires < 0:
		return nil, Errorf(InvalidRequest, "an API token of before 1970")
	}
	t := &APIToken{Name: e.Name, Principal: principal, Hash: string(e.Hash), Created: time.UnixMilli(e.Created).UTC(), ReadOnly: e.ReadOnly}
	if e.Expires > 0 {
		t.Expires = time.UnixMilli(e.Expires).UTC()
	}
	return t, nil
}

// apiToken reads one token of a snapshot.
func (d *decoder) apiToken(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	t, refused := decodeAPIToken(r.GetApiToken())
	if refused != nil {
		return d.corrupt("no API token where one is due: %v", refused)
	}
	_, twice := m.tokens.names.get(t.Name)
	_, same := m.tokens.hashes.get(t.Hash)
	if twice || same {
		return d.corrupt("API token %s twice", quoted(t.Name))
	}
	m.tokens = m.tokens.with(t)
	return nil
}

// apiTokens appends the tokens that came and went.
func (d *Difference) apiTokens(before *Image) {
	for was, is := range diff(before.tokens.names, d.after.tokens.names) {
		switch {
		case is == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneApiToken{GoneApiToken: was.Name}})
		case was == nil || *was != *is:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_ApiToken{ApiToken: is.encode()}})
		}
	}
}

// apiToken puts a token of a delta into the image.
func (e *viewEdit) apiToken(is *pb.ApiToken) error {
	t, refused := decodeAPIToken(is)
	if refused != nil {
		return e.d.corrupt("API token: %v", refused)
	}
	e.m.tokens = e.m.tokens.with(t)
	return nil
}
