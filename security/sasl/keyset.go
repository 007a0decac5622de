package sasl

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of a set of keys.
const (
	// MaxKeySet bytes of its JSON.
	MaxKeySet = 256 << 10
	maxKeys   = 64
	// minRSABits is what NIST SP 800-131A asks for.
	minRSABits = 2048
)

// KeySet is the keys that sign tokens (RFC 7517). It does not change. A nil one is empty.
type KeySet struct {
	keys    []jose.JSONWebKey
	skipped int
}

// Len is how many keys there are.
func (s *KeySet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// Skipped is how many keys of the JSON are of a kind that is not used here, or too weak.
func (s *KeySet) Skipped() int { return s.skipped }

// ParseKeySet reads the JSON of a set. Keys of other uses and kinds are passed over; a
// private key, or one that is shared, is an error: whoever publishes it has lost it.
func ParseKeySet(raw []byte) (*KeySet, error) {
	if len(raw) > MaxKeySet {
		return nil, fmt.Errorf("read a set of keys: %d bytes, more than %d", len(raw), MaxKeySet)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read a set of keys: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("read a set of keys: %d of them, more than %d", len(set.Keys), maxKeys)
	}
	s := new(KeySet)
	for i, one := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(one, &key) != nil {
			s.skipped++
			continue
		}
		if !guard.Check("sasl.key-public", key.IsPublic()) {
			return nil, fmt.Errorf("read a set of keys: key %d is private, or shared: it is known to whoever can read the set", i)
		}
		if key.Use != "" && key.Use != "sig" || !usable(key.Key) {
			s.skipped++
			continue
		}
		s.keys = append(s.keys, key)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("read a set of keys: none in it can be used")
	}
	return s, nil
}

func usable(key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return guard.Check("sasl.key-size", key.N.BitLen() >= minRSABits)
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return true
	}
	return false
}

// fits reports whether signatures of an algorithm are made with keys of that kind, and
// whether the key is for it.
func fits(key *jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm {
		return false
	}
	switch key.Key.(type) {
	case *rsa.PublicKey:
		return algorithm == string(jose.RS256) || algorithm == string(jose.PS256)
	case *ecdsa.PublicKey:
		return algorithm == string(jose.ES256)
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

// find returns the key that a token names; one without a name is taken for signed by the
// only key that fits.
func (s *KeySet) find(id, algorithm string) (key any, err error) {
	if s == nil {
		return nil, &Denial{Reason: "there are no keys of the issuer yet", UnknownKey: true}
	}
	found := 0
	for i := range s.keys {
		k := &s.keys[i]
		if id != "" && k.KeyID != id || !guard.Check("sasl.key-algorithm", fits(k, algorithm)) {
			continue
		}
		key = k.Key
		found++
	}
	switch {
	case found == 1:
		return key, nil
	case found > 1:
		return nil, denied("", "the token does not say which of %d keys signed it", found)
	}
	return nil, &Denial{Reason: "no key of the issuer has the id and kind that the token names", UnknownKey: true}
}
