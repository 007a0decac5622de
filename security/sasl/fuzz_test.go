package sasl

import (
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	kgoscram "github.com/twmb/franz-go/pkg/sasl/scram"
)

// FuzzScram: no message, first or last, panics or lets in who does not know the password.
func FuzzScram(f *testing.F) {
	m := users(f, map[string]string{"alice": "open sesame"})
	_, first := client(f, ScramSHA256, kgoscram.Auth{User: "alice", Pass: "open sesame"})
	f.Add(first, []byte("c=biws,r=abc,p=AAAA"))
	f.Add([]byte("y,a=alice,n=al=2Cice,r=abc,x=y"), []byte("c=eSwsYT1hbGljZQ==,r=abc,x=y,p="))
	f.Fuzz(func(t *testing.T, first, last []byte) {
		x, _ := m.Begin(ScramSHA256, false)
		out, err := x.Step(time.Now(), first)
		if user, _ := x.Judges(last); err == nil && CheckName(user) != nil {
			t.Fatalf("%q", user)
		}
		if err == nil && (len(out.Answer) > 2*MaxMessage || out.Done) {
			t.Fatalf("%+v", out)
		}
		if out, err := x.Step(time.Now(), last); !errors.Is(err, ErrDenied) || out.Done {
			t.Fatalf("%q, %q: %+v, %v", first, last, out, err)
		}
	})
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00alice\x00open sesame"))
	f.Add([]byte("alice\x00alice\x00open\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		user, password, err := parsePlain(message)
		if err == nil && (CheckName(user) != nil || password == "") {
			t.Fatalf("%q: %q, %q", message, user, password)
		}
	})
}

// FuzzToken: nothing but what the issuer signed is taken.
func FuzzToken(f *testing.F) {
	m := users(f, nil)
	keys := publicSet(f, "ec", "rsa")
	m.Tokens, m.Keys = tokenRules, func() *KeySet { return keys }
	f.Add(bearer(sign(f, jose.EdDSA, signers()["ed"], "ec", claims(nil)))) // of a key that is not in the set
	f.Add(bearer(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30."))
	f.Add([]byte("n,a=alice,\x01auth=Bearer a.b.c\x01x=y\x01\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		x, _ := m.Begin(OAuthBearer, true)
		if out, _ := x.Step(tokenNow, message); out.Done {
			t.Fatalf("%q: %+v", message, out)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := ParseKeySet(raw)
		if err == nil && keys.Len() == 0 {
			t.Fatal("an empty set")
		}
	})
}
