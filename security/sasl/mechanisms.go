package sasl

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Names of mechanisms, as IANA has them.
const (
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	Plain       = "PLAIN"
	OAuthBearer = "OAUTHBEARER"
)

// Supported lists the mechanisms, the strongest first.
func Supported() []string { return []string{ScramSHA512, ScramSHA256, OAuthBearer, Plain} }

// Bounds of what a client sends.
const (
	// MaxMessage bytes of a message of SCRAM or PLAIN: a name, a password, nonces.
	MaxMessage = 4 << 10
	// MaxToken bytes of a message of OAUTHBEARER.
	MaxToken = 32 << 10
	// MaxName bytes of the name of a user.
	MaxName = 256
)

// ErrDenied is in every error of an exchange that a client causes. What exactly was wrong
// is for the log: a client is told no more than ErrDenied, see [Denial].
var ErrDenied = errors.New("authentication failed")

// Denial is why an exchange ended without a user.
type Denial struct {
	Reason string // for the log: no secret, and of bounded length
	User   string // who the client said it was; empty: it had not said, or nothing that can be a name
	// Token: a token was refused because no key of the set has its key id; another set
	// may have it.
	UnknownKey bool
}

func (d *Denial) Error() string { return ErrDenied.Error() + ": " + d.Reason }

// Unwrap makes a Denial an ErrDenied.
func (d *Denial) Unwrap() error { return ErrDenied }

func denied(user, format string, args ...any) error {
	return &Denial{Reason: fmt.Sprintf(format, args...), User: user}
}

// Outcome is what a step comes to.
type Outcome struct {
	Answer []byte // for the client; it may be empty
	Done   bool   // the client is User
	User   string
	// Expires is when what the client has shown ends to be valid; zero: it does not.
	Expires time.Time
}

// Exchange is one authentication.
type Exchange interface {
	// Step takes the next message of the client, which it keeps nothing of. An error is
	// a *Denial, and the end of the exchange.
	Step(now time.Time, message []byte) (Outcome, error)
	// Judges reports whether Step of a message will find out whether the client is who it
	// says, and as whom: empty where that is not known before.
	Judges(message []byte) (user string, judges bool)
}

// Mechanisms begins exchanges.
type Mechanisms struct {
	// Enabled are the names of the mechanisms, in the order in which they are offered.
	Enabled []string
	// Lookup returns what is known of the password of a user, for one of the SCRAM
	// mechanisms; ok is false when there is none.
	Lookup func(mechanism, user string) (c Credential, ok bool)
	// Shapes returns those of all that Lookup finds for a SCRAM mechanism; for [Plain],
	// those of each user's credential of SHA-512, or of SHA-256 if there is no other. Nil: as
	// if there were none.
	Shapes func(mechanism string) *Shapes
	// FakeSecret makes the salts of users who are not there. It must be random, secret,
	// and the same on all servers that a client can compare. At least 16 bytes.
	FakeSecret func() []byte
	// Tokens judges those of OAUTHBEARER; nil: none is taken.
	Tokens *TokenRules
	// Keys are those that sign tokens.
	Keys func() *KeySet
	// Random is where nonces come from; nil: crypto/rand.
	Random io.Reader
}

// Offered are the mechanisms that a connection can use: those that [Shows] a secret only
// where it is encrypted.
func (m *Mechanisms) Offered(encrypted bool) []string {
	return slices.DeleteFunc(slices.Clone(m.Enabled), func(name string) bool {
		return !guard.Check("sasl.shown-encrypted", encrypted || !Shows(name))
	})
}

// Shows reports whether a client shows by a mechanism what is enough to be taken for it:
// its password or its token (RFC 4616 §6, RFC 7628 §5).
func Shows(mechanism string) bool { return mechanism == Plain || mechanism == OAuthBearer }

// Begin begins an exchange; ok is false where the mechanism is not offered.
func (m *Mechanisms) Begin(mechanism string, encrypted bool) (x Exchange, ok bool) {
	if !slices.Contains(m.Offered(encrypted), mechanism) {
		return nil, false
	}
	switch mechanism {
	case ScramSHA256, ScramSHA512:
		random := m.Random
		if random == nil {
			random = rand.Reader
		}
		return &scram{mechanism: mechanism, m: m, random: random}, true
	case Plain:
		return &plain{m: m}, true
	case OAuthBearer:
		return &oauth{m: m}, m.Tokens != nil
	}
	return nil, false
}

// credential returns that of a user for one of some SCRAM mechanisms, the first that there
// is, or one that nobody can have, of the shape that the users of shapesOf have. It takes as
// long for either, but for the look-up.
func (m *Mechanisms) credential(shapesOf, user string, of ...string) (mechanism string, c Credential, known bool) {
	var shapes *Shapes
	if m.Shapes != nil {
		shapes = m.Shapes(shapesOf)
	}
	shape, fake := fakeCredential(shapesOf, m.FakeSecret(), user, shapes)
	for _, mechanism := range of {
		if c, known := m.Lookup(mechanism, user); known {
			return mechanism, c, true
		}
	}
	return shape.Mechanism, fake, false
}
