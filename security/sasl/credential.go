package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"

	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of what is kept of a password.
const (
	// MinIterations is that of RFC 7677 §4; clients refuse fewer.
	MinIterations = 4096
	// MaxIterations is Kafka's (KIP-554): each costs every client as much at every
	// connection, and the server at every PLAIN.
	MaxIterations = 16384
	// DefaultIterations of passwords that are set here, and of users who are not there.
	DefaultIterations = MaxIterations
	// MinSalt and MaxSalt bytes of a salt.
	MinSalt, MaxSalt = 8, 128
	// SaltSize is the length of the salts made here.
	SaltSize = 24
)

// Credential is what is kept of a password for one SCRAM mechanism.
type Credential struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte
}

// hashOf returns the hash of a SCRAM mechanism, nil for another name.
func hashOf(mechanism string) func() hash.Hash {
	switch mechanism {
	case ScramSHA256:
		return sha256.New
	case ScramSHA512:
		return sha512.New
	}
	return nil
}

// KeySize is how many bytes the keys of a SCRAM mechanism have; 0 for another name.
func KeySize(mechanism string) int {
	if h := hashOf(mechanism); h != nil {
		return h().Size()
	}
	return 0
}

// NewCredential makes what is kept of a password. It costs as much processor time as
// there are iterations.
func NewCredential(mechanism, password string, salt []byte, iterations int) (Credential, error) {
	c, err := SaltedCredential(mechanism, nil, salt, iterations)
	if err == nil {
		var salted []byte
		salted, err = pbkdf2.Key(hashOf(mechanism), password, salt, iterations, KeySize(mechanism))
		c.fill(mechanism, salted)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("make a credential for %s: %w", mechanism, err)
	}
	return c, nil
}

// SaltedCredential makes a credential of a password that was salted and iterated
// elsewhere, as Kafka's clients do (KIP-554). A nil password leaves the keys away.
func SaltedCredential(mechanism string, salted, salt []byte, iterations int) (Credential, error) {
	size := KeySize(mechanism)
	switch {
	case size == 0:
		return Credential{}, fmt.Errorf("%q is no SCRAM mechanism", mechanism)
	case iterations < MinIterations || iterations > MaxIterations:
		return Credential{}, fmt.Errorf("%d iterations: there are %d to %d", iterations, MinIterations, MaxIterations)
	case len(salt) < MinSalt || len(salt) > MaxSalt:
		return Credential{}, fmt.Errorf("a salt of %d bytes: it has %d to %d", len(salt), MinSalt, MaxSalt)
	case salted != nil && len(salted) != size:
		return Credential{}, fmt.Errorf("a salted password of %d bytes: that of %s has %d", len(salted), mechanism, size)
	}
	c := Credential{Salt: append([]byte(nil), salt...), Iterations: iterations}
	if salted != nil {
		c.fill(mechanism, salted)
	}
	return c, nil
}

// fill makes the keys of a salted password (RFC 5802 §3).
func (c *Credential) fill(mechanism string, salted []byte) {
	h := hashOf(mechanism)
	c.StoredKey = digest(h, mac(h, salted, []byte("Client Key")))
	c.ServerKey = mac(h, salted, []byte("Server Key"))
}

// verify reports whether a password is the one that c was made of. It costs what making
// c did.
func (c *Credential) verify(mechanism, password string) (bool, error) {
	h := hashOf(mechanism)
	salted, err := pbkdf2.Key(h, password, c.Salt, c.Iterations, KeySize(mechanism))
	if err != nil {
		return false, fmt.Errorf("salt a password: %w", err)
	}
	stored := digest(h, mac(h, salted, []byte("Client Key")))
	return subtle.ConstantTimeCompare(stored, c.StoredKey) == 1, nil
}

func mac(h func() hash.Hash, key, of []byte) []byte {
	m := hmac.New(h, key)
	m.Write(of)
	return m.Sum(nil)
}

func digest(h func() hash.Hash, of []byte) []byte {
	d := h()
	d.Write(of)
	return d.Sum(nil)
}

// MinPassword is how many bytes a password has at least, where it is set here.
const MinPassword = 8

// MaxPassword is how many it has at most.
const MaxPassword = 1 << 10

// CheckPassword says why a password cannot be set. Letters and signs are taken that every
// client sends as the same bytes, whether it prepares them (RFC 4013) or not.
func CheckPassword(password string) error {
	switch {
	case len(password) < MinPassword:
		return fmt.Errorf("a password of %d bytes: it has at least %d", len(password), MinPassword)
	case len(password) > MaxPassword:
		return fmt.Errorf("a password of %d bytes: it has at most %d", len(password), MaxPassword)
	case !prepared(password):
		return errors.New("the password has characters that clients do not send alike: control characters, unusual spaces, or letters that Unicode writes in two ways")
	}
	return nil
}

// Names that are nobody's: a rule for one of them is for others.
const (
	everyone  = "*"
	anonymous = "ANONYMOUS"
)

// CheckName says why nobody can have a name.
func CheckName(user string) error {
	switch {
	case user == "":
		return errors.New("a user without a name")
	case len(user) > MaxName:
		return fmt.Errorf("a name of %d bytes: it has at most %d", len(user), MaxName)
	case !prepared(user):
		return errors.New("the name has characters that clients do not send alike: control characters, unusual spaces, or letters that Unicode writes in two ways")
	case !guard.Check("sasl.reserved-name", user != everyone && user != anonymous):
		return fmt.Errorf("the name %s: in rules it stands for everybody, or for clients who have not said who they are", user)
	}
	return nil
}
