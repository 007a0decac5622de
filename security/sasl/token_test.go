package sasl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var (
	tokenNow   = time.Unix(1_800_000_000, 0)
	tokenRules = &TokenRules{Issuer: "https://id.example", Audience: "rustmq", Claim: "sub", Algorithms: Algorithms(), Skew: 30 * time.Second}
	signers    = sync.OnceValue(makeSigners)
)

// makeSigners makes a key of each kind, by its id.
func makeSigners() map[string]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"rsa": must(rsa.GenerateKey(rand.Reader, 2048)),
		"ec":  must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ed":  must(edwards, err),
	}
}

func publicSet(t testing.TB, ids ...string) *KeySet {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, id := range ids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: signers()[id].Public(), KeyID: id, Use: "sig"})
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeySet(raw)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func claims(change map[string]any) map[string]any {
	all := map[string]any{
		"iss": "https://id.example", "aud": []string{"other", "rustmq"}, "sub": "alice",
		"exp": tokenNow.Add(time.Hour).Unix(), "nbf": tokenNow.Add(-time.Minute).Unix(), "iat": tokenNow.Add(-time.Minute).Unix(),
	}
	maps.Copy(all, change)
	for k, v := range all {
		if v == nil {
			delete(all, k)
		}
	}
	return all
}

func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, of map[string]any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokensTaken(t *testing.T) {
	t.Parallel()
	keys := publicSet(t, "rsa", "ec", "ed")
	for algorithm, id := range map[jose.SignatureAlgorithm]string{jose.RS256: "rsa", jose.PS256: "rsa", jose.ES256: "ec", jose.EdDSA: "ed"} {
		for _, named := range []string{id, ""} {
			token, err := tokenRules.Judge(tokenNow, keys, sign(t, algorithm, signers()[id], named, claims(nil)))
			if err != nil || token.User != "alice" || !token.Expires.Equal(tokenNow.Add(time.Hour+30*time.Second)) {
				t.Errorf("%s, key named %q: %+v, %v", algorithm, named, token, err)
			}
		}
	}
	one := sign(t, jose.ES256, signers()["ec"], "ec", claims(map[string]any{"aud": "rustmq", "exp": tokenNow.Add(-29 * time.Second).Unix(), "nbf": nil, "iat": tokenNow.Add(29 * time.Second).Unix()}))
	if _, err := tokenRules.Judge(tokenNow, keys, one); err != nil {
		t.Errorf("within the skew: %v", err)
	}
}

func TestTokensRefused(t *testing.T) {
	t.Parallel()
	keys := publicSet(t, "rsa", "ec")
	good := func(change map[string]any) string {
		return sign(t, jose.RS256, signers()["rsa"], "rsa", claims(change))
	}
	public, err := x509.MarshalPKIXPublicKey(signers()["rsa"].Public())
	if err != nil {
		t.Fatal(err)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	parts := strings.Split(good(nil), ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"rsa"}`)) + "." + parts[1] + "."
	cut := parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-8] + "AAAAAAAA"
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://id.example","aud":"rustmq","sub":"root","exp":9999999999}`)) + "." + parts[2]
	for name, token := range map[string]string{
		"nothing":                   "",
		"no token":                  "abc",
		"unsigned":                  unsigned,
		"HS256 with the public key": sign(t, jose.HS256, inPEM, "rsa", claims(nil)),
		"HS256 with its DER":        sign(t, jose.HS256, public, "rsa", claims(nil)),
		"RS512":                     sign(t, jose.RS512, signers()["rsa"], "rsa", claims(nil)),
		"the key of another":        sign(t, jose.ES256, signers()["ec"], "rsa", claims(nil)),
		"a key of nobody":           sign(t, jose.EdDSA, signers()["ed"], "ed", claims(nil)),
		"a key of nobody, unnamed":  sign(t, jose.EdDSA, signers()["ed"], "", claims(nil)),
		"a key that it brings":      embedded(t),
		"a changed signature":       cut,
		"changed claims":            forged,
		"expired":                   good(map[string]any{"exp": tokenNow.Add(-30 * time.Second).Unix()}),
		"without an end":            good(map[string]any{"exp": nil}),
		"not valid yet":             good(map[string]any{"nbf": tokenNow.Add(31 * time.Second).Unix()}),
		"issued in the future":      good(map[string]any{"iat": tokenNow.Add(31 * time.Second).Unix()}),
		"another issuer":            good(map[string]any{"iss": "https://id.example/"}),
		"no issuer":                 good(map[string]any{"iss": nil}),
		"another audience":          good(map[string]any{"aud": "rustmq2"}),
		"no audience":               good(map[string]any{"aud": nil}),
		"nobody":                    good(map[string]any{"sub": nil}),
		"an empty name":             good(map[string]any{"sub": ""}),
		"a number":                  good(map[string]any{"sub": 7}),
		"control characters":        good(map[string]any{"sub": "a\x00b"}),
	} {
		if got, err := tokenRules.Judge(tokenNow, keys, token); !errors.Is(err, ErrDenied) || got != (Token{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	pinned := *tokenRules
	pinned.Algorithms = []string{"ES256"}
	if _, err := pinned.Judge(tokenNow, keys, good(nil)); !errors.Is(err, ErrDenied) {
		t.Errorf("an algorithm that is not allowed: %v", err)
	}
	if _, err := tokenRules.Judge(tokenNow, nil, good(nil)); !errors.Is(err, ErrDenied) {
		t.Errorf("without keys: %v", err)
	}
}

// embedded is signed by a key that is in its own header.
func embedded(t *testing.T) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: mustEC(t)}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mustEC(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A key that says which algorithm it is for is not used with another.
func TestKeysForOneAlgorithm(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signers()["rsa"].Public(), KeyID: "rsa", Algorithm: "PS256"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeySet(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokenRules.Judge(tokenNow, keys, sign(t, jose.PS256, signers()["rsa"], "rsa", claims(nil))); err != nil {
		t.Error(err)
	}
	if _, err := tokenRules.Judge(tokenNow, keys, sign(t, jose.RS256, signers()["rsa"], "rsa", claims(nil))); !errors.Is(err, ErrDenied) {
		t.Errorf("RS256 with a key for PS256: %v", err)
	}
}

func TestKeySets(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(keys ...jose.JSONWebKey) string {
		raw, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, raw := range map[string]string{
		"nothing":                            "",
		"no set":                             `[]`,
		"an empty set":                       `{"keys":[]}`,
		"a private key":                      encode(jose.JSONWebKey{Key: signers()["ec"], KeyID: "ec"}),
		"a private key, beside a public one": encode(jose.JSONWebKey{Key: signers()["ed"].Public(), KeyID: "ed"}, jose.JSONWebKey{Key: signers()["ec"], KeyID: "ec"}),
		"a shared key":                       encode(jose.JSONWebKey{Key: []byte("a secret"), KeyID: "s"}),
		"a short key":                        encode(jose.JSONWebKey{Key: short.Public(), KeyID: "short"}),
		"for encryption":                     encode(jose.JSONWebKey{Key: signers()["ec"].Public(), KeyID: "ec", Use: "enc"}),
		"too many":                           `{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`,
		"too long":                           strings.Repeat(" ", MaxKeySet+1),
		"off the curve":                      `{"keys":[{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
		"of unknown kind":                    `{"keys":[{"kty":"future"}]}`,
	} {
		if keys, err := ParseKeySet([]byte(raw)); err == nil {
			t.Errorf("%s: %d keys", name, keys.Len())
		}
	}
	mixed := strings.Replace(encode(jose.JSONWebKey{Key: signers()["ec"].Public(), KeyID: "ec"}), `"keys":[`, `"keys":[{"kty":"future"},`, 1)
	if keys, err := ParseKeySet([]byte(mixed)); err != nil || keys.Len() != 1 || keys.Skipped() != 1 {
		t.Errorf("a key of an unknown kind beside another: %+v, %v", keys, err)
	}
}

func bearer(token string) []byte { return []byte("n,,\x01auth=Bearer " + token + "\x01\x01") }

func TestBearerExchange(t *testing.T) {
	t.Parallel()
	m := users(t, nil)
	m.Tokens, m.Keys = tokenRules, func() *KeySet { return publicSet(t, "ec") }
	good := sign(t, jose.ES256, signers()["ec"], "ec", claims(nil))
	for name, message := range map[string]string{
		"plain":      "n,,\x01auth=Bearer " + good + "\x01\x01",
		"extensions": "n,,\x01a=b\x01auth=Bearer " + good + "\x01z=y\x01\x01",
		"as herself": "n,a=alice,\x01auth=bearer " + good + "\x01\x01",
	} {
		out, err := begin(t, m, OAuthBearer).Step(tokenNow, []byte(message))
		if err != nil || !out.Done || out.User != "alice" || out.Expires.IsZero() || len(out.Answer) > 0 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	for name, message := range map[string]string{
		"nothing":         "",
		"no end":          "n,,\x01auth=Bearer " + good,
		"channel binding": "p=x,,\x01auth=Bearer " + good + "\x01\x01",
		"no header":       "\x01auth=Bearer " + good + "\x01\x01",
		"two tokens":      "n,,\x01auth=Bearer " + good + "\x01auth=Bearer " + good + "\x01\x01",
		"no token":        "n,,\x01a=b\x01\x01",
		"basic":           "n,,\x01auth=Basic abc\x01\x01",
		"no key":          "n,,\x01=b\x01auth=Bearer " + good + "\x01\x01",
		"too long":        "n,,\x01auth=Bearer " + strings.Repeat("a", MaxToken) + "\x01\x01",
	} {
		if out, err := begin(t, m, OAuthBearer).Step(tokenNow, []byte(message)); !errors.Is(err, ErrDenied) || out.Answer != nil {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	// A token that is refused is answered, and ends with the client's next message
	// (RFC 7628 §3.2.3).
	for name, message := range map[string][]byte{
		"a bad token": bearer("abc"),
		"as another":  []byte("n,a=bob,\x01auth=Bearer " + good + "\x01\x01"),
	} {
		x := begin(t, m, OAuthBearer)
		out, err := x.Step(tokenNow, message)
		if err != nil || out.Done || !json.Valid(out.Answer) || !errors.Is(Refused(x), ErrDenied) {
			t.Errorf("%s: %+v, %v, %v", name, out, err, Refused(x))
		}
		if out, err := x.Step(tokenNow, bearer(good)); !errors.Is(err, ErrDenied) || out.Done {
			t.Errorf("%s, and then a good one: %+v, %v", name, out, err)
		}
	}
	if _, ok := users(t, nil).Begin(OAuthBearer, true); ok {
		t.Error("begun without rules")
	}
}
