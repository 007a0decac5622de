package sasl

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	kgosasl "github.com/twmb/franz-go/pkg/sasl"
	kgoscram "github.com/twmb/franz-go/pkg/sasl/scram"
)

var (
	salt  = []byte("0123456789abcdef")
	known sync.Map // credentials by mechanism and password: they are slow to make
)

func credentialOf(t testing.TB, mechanism, password string) Credential {
	t.Helper()
	key := mechanism + password
	if c, made := known.Load(key); made {
		return c.(Credential)
	}
	c, err := NewCredential(mechanism, password, salt, MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	known.Store(key, c)
	return c
}

// users returns mechanisms with users and their passwords.
func users(t testing.TB, passwords map[string]string) *Mechanisms {
	t.Helper()
	known := map[[2]string]Credential{}
	for user, password := range passwords {
		for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
			known[[2]string{mechanism, user}] = credentialOf(t, mechanism, password)
		}
	}
	return &Mechanisms{
		Enabled: Supported(),
		Lookup: func(mechanism, user string) (Credential, bool) {
			c, ok := known[[2]string{mechanism, user}]
			return c, ok
		},
		FakeSecret: func() []byte { return []byte("a secret of sixteen bytes") },
	}
}

func begin(t testing.TB, m *Mechanisms, mechanism string) Exchange {
	t.Helper()
	x, ok := m.Begin(mechanism, true)
	if !ok {
		t.Fatalf("%s is not offered", mechanism)
	}
	return x
}

// client begins the client's side of SCRAM as franz-go has it.
func client(t testing.TB, mechanism string, auth kgoscram.Auth) (session kgosasl.Session, first []byte) {
	t.Helper()
	m := auth.AsSha256Mechanism()
	if mechanism == ScramSHA512 {
		m = auth.AsSha512Mechanism()
	}
	session, first, err := m.Authenticate(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return session, first
}

// exchange runs both sides to the end.
func exchange(t testing.TB, x Exchange, mechanism string, auth kgoscram.Auth) (Outcome, error) {
	t.Helper()
	session, message := client(t, mechanism, auth)
	for {
		out, err := x.Step(time.Now(), message)
		if err != nil {
			return out, err
		}
		done, next, err := session.Challenge(out.Answer)
		if err != nil {
			t.Fatalf("the client does not take %q: %v", out.Answer, err)
		}
		if done != out.Done {
			t.Fatalf("the client is done: %v, the server: %v", done, out.Done)
		}
		if done {
			return out, nil
		}
		message = next
	}
}

func TestScramAgainstAnotherImplementation(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame", "a,b=c": "x=1,y=2!!"})
	for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
		for user, password := range map[string]string{"alice": "open sesame", "a,b=c": "x=1,y=2!!"} {
			out, err := exchange(t, begin(t, m, mechanism), mechanism, kgoscram.Auth{User: user, Pass: password})
			if err != nil || !out.Done || out.User != user || !out.Expires.IsZero() {
				t.Errorf("%s as %s: %+v, %v", mechanism, user, out, err)
			}
		}
	}
}

// A client may name itself twice, and may say that it would have bound the channel.
func TestScramHeaders(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	for _, header := range []string{"n,,", "y,,", "n,a=alice,", "y,a=alice,"} {
		x := begin(t, m, ScramSHA256)
		const bare = "n=alice,r=abc"
		first, err := x.Step(time.Now(), []byte(header+bare))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(first.Answer), ",")
		last := "c=" + base64.StdEncoding.EncodeToString([]byte(header)) + "," + nonce
		h := hashOf(ScramSHA256)
		salted, err := pbkdf2.Key(h, "open sesame", salt, MinIterations, 32)
		if err != nil {
			t.Fatal(err)
		}
		proof := mac(h, salted, []byte("Client Key"))
		signature := mac(h, digest(h, proof), []byte(bare+","+string(first.Answer)+","+last))
		subtle.XORBytes(proof, proof, signature)
		out, err := x.Step(time.Now(), []byte(last+",p="+base64.StdEncoding.EncodeToString(proof)))
		if err != nil || out.User != "alice" {
			t.Errorf("%s: %+v, %v", header, out, err)
		}
	}
}

// The example of RFC 7677 §3.
func TestScramExample(t *testing.T) {
	t.Parallel()
	theirs, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCredential(ScramSHA256, "pencil", theirs, 4096)
	if err != nil {
		t.Fatal(err)
	}
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	s := scram{
		mechanism: ScramSHA256, step: 1, user: "user", credential: c, known: true, header: "n,,", nonce: nonce,
		signed: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	}
	out, err := s.Step(time.Now(), []byte("c=biws,r="+nonce+",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || string(out.Answer) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%q, %v", out.Answer, err)
	}
}

// Somebody who is not there is asked, answered and refused as somebody who mistypes.
func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
		firstOf := func(user string) (string, string) {
			x := begin(t, m, mechanism)
			_, first := client(t, mechanism, kgoscram.Auth{User: user, Pass: "x", Nonce: []byte("n")})
			out, err := x.Step(time.Now(), first)
			if err != nil || out.Done {
				t.Fatalf("%s: %+v, %v", user, out, err)
			}
			fields := strings.Split(string(out.Answer), ",")
			return fields[0], fields[1]
		}
		var errs []string
		for _, user := range []string{"alice", "nobody"} {
			_, err := exchange(t, begin(t, m, mechanism), mechanism, kgoscram.Auth{User: user, Pass: "wrong"})
			if !errors.Is(err, ErrDenied) {
				t.Fatalf("%s: %v", user, err)
			}
			errs = append(errs, err.Error())
		}
		if errs[0] != errs[1] {
			t.Errorf("errors differ: %q", errs)
		}
		nonce1, salt1 := firstOf("nobody")
		nonce2, salt2 := firstOf("nobody")
		_, other := firstOf("nobody else")
		if nonce1 == nonce2 || salt1 != salt2 || salt1 == other {
			t.Errorf("nonces %q and %q, salts %q, %q and of another %q", nonce1, nonce2, salt1, salt2, other)
		}
	}
	if _, err := begin(t, m, Plain).Step(time.Now(), []byte("\x00nobody\x00open sesame")); !errors.Is(err, ErrDenied) || err.Error() != denied("", "unknown user or wrong password").Error() {
		t.Errorf("PLAIN as nobody: %v", err)
	}
}

// A fake credential is nobody's: not even a client that knows its salt can use it.
func TestNobodyHasAFakeCredential(t *testing.T) {
	t.Parallel()
	_, c := fakeCredential(ScramSHA256, []byte("a secret of sixteen bytes"), "nobody", nil)
	x := &scram{
		mechanism: ScramSHA256, step: 1, user: "nobody", credential: c, header: "n,,", nonce: "x", signed: "s",
	}
	// A proof that would hold, made of the stored key's own preimage, which nobody has.
	preimage := []byte("a client key of thirty-two bytes")
	x.credential.StoredKey = digest(hashOf(ScramSHA256), preimage)
	signature := mac(hashOf(ScramSHA256), x.credential.StoredKey, []byte("s,c=biws,r=x"))
	for i := range signature {
		signature[i] ^= preimage[i]
	}
	message := "c=biws,r=x,p=" + base64.StdEncoding.EncodeToString(signature)
	if _, err := x.Step(time.Now(), []byte(message)); !errors.Is(err, ErrDenied) {
		t.Errorf("nobody got in: %v", err)
	}
	x.step, x.known = 1, true
	if _, err := x.Step(time.Now(), []byte(message)); err != nil {
		t.Errorf("the proof of this test is none: %v", err)
	}
}

func TestScramRefuses(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	for name, first := range map[string]string{
		"nothing":             "",
		"no header":           "n",
		"a header, no end":    "n,",
		"channel binding":     "p=tls-unique,,n=alice,r=abc",
		"no flag":             ",,n=alice,r=abc",
		"another flag":        "z,,n=alice,r=abc",
		"mandatory extension": "n,,m=x,n=alice,r=abc",
		"no name":             "n,,r=abc",
		"an empty name":       "n,,n=,r=abc",
		"a bad escape":        "n,,n=al=2cice,r=abc",
		"an escape cut short": "n,,n=alice=,r=abc",
		"control characters":  "n,,n=al\x00ice,r=abc",
		"not UTF-8":           "n,,n=al\xffice,r=abc",
		"a name too long":     "n,,n=" + strings.Repeat("a", MaxName+1) + ",r=abc",
		"no nonce":            "n,,n=alice",
		"an empty nonce":      "n,,n=alice,r=",
		"a nonce of spaces":   "n,,n=alice,r=a b",
		"a nonce too long":    "n,,n=alice,r=" + strings.Repeat("a", maxClientNonce+1),
		"another identity":    "n,a=bob,n=alice,r=abc",
		"an odd identity":     "n,b=alice,n=alice,r=abc",
		"a delegation token":  "n,,n=alice,r=abc,tokenauth=true",
		"too long":            "n,,n=alice,r=abc,x=" + strings.Repeat("a", MaxMessage),
	} {
		x := begin(t, m, ScramSHA256)
		if out, err := x.Step(time.Now(), []byte(first)); !errors.Is(err, ErrDenied) || out.Answer != nil {
			t.Errorf("%s: %q, %v", name, out.Answer, err)
		}
		if _, err := x.Step(time.Now(), []byte("n,,n=alice,r=abc")); !errors.Is(err, ErrDenied) {
			t.Errorf("%s, and then another first message: %v", name, err)
		}
	}
}

// lastMessage goes up to the last message of a client that knows the password.
func lastMessage(t *testing.T, m *Mechanisms, flag string) (Exchange, []byte) {
	t.Helper()
	x := begin(t, m, ScramSHA256)
	session, first := client(t, ScramSHA256, kgoscram.Auth{User: "alice", Pass: "open sesame"})
	out, err := x.Step(time.Now(), bytes.Replace(first, []byte("n,,"), []byte(flag), 1))
	if err != nil {
		t.Fatal(err)
	}
	_, last, err := session.Challenge(out.Answer)
	if err != nil {
		t.Fatal(err)
	}
	return x, last
}

// What one exchange proves is worth nothing in another, nor a second time.
func TestScramReplay(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	m.Random = bytes.NewReader(bytes.Repeat([]byte{1, 2, 3, 4, 5}, 100))
	x, last := lastMessage(t, m, "n,,")
	if _, err := x.Step(time.Now(), last); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Step(time.Now(), last); !errors.Is(err, ErrDenied) {
		t.Errorf("the last message again: %v", err)
	}
	other, _ := lastMessage(t, m, "n,,")
	if _, err := other.Step(time.Now(), last); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("in another exchange: %v", err)
	}
}

// librdkafka before 2.6.1 sends the client's nonce once more (librdkafka#4895). RFC 5802
// has the server refuse that; the log says whose fault it is.
func TestScramNonceWithMoreIsRefused(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	x, last := lastMessage(t, m, "n,,")
	more := strings.Replace(string(last), ",r=", ",r=abc", 1)
	if _, err := x.Step(time.Now(), []byte(more)); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "librdkafka before 2.6.1") {
		t.Error(err)
	}
}

// The last message must repeat what the first said of channel binding: whoever changes
// the first on its way is found out.
func TestScramBindingIsRepeated(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	x, last := lastMessage(t, m, "y,,") // the client signed "n,,"
	if _, err := x.Step(time.Now(), last); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "channel binding") {
		t.Errorf("%v", err)
	}
	for name, change := range map[string]func(string) string{
		"no proof":         func(s string) string { return s[:strings.Index(s, ",p=")] },
		"a short proof":    func(s string) string { return s[:strings.Index(s, ",p=")] + ",p=AAAA" },
		"proof not base64": func(s string) string { return s + "!" },
		"no binding":       func(s string) string { return strings.Replace(s, "c=biws", "d=biws", 1) },
		"an odd binding":   func(s string) string { return strings.Replace(s, "c=biws", "c=b*ws", 1) },
		"no nonce":         func(s string) string { return strings.Replace(s, ",r=", ",q=", 1) },
		"part of a nonce":  func(s string) string { return strings.Replace(s, ",r=", ",r=,", 1) },
	} {
		x, last := lastMessage(t, m, "n,,")
		if _, err := x.Step(time.Now(), []byte(change(string(last)))); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentialBounds(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() error{
		"mechanism":     func() error { _, err := NewCredential(Plain, "x", salt, MinIterations); return err },
		"few":           func() error { _, err := NewCredential(ScramSHA256, "x", salt, MinIterations-1); return err },
		"many":          func() error { _, err := NewCredential(ScramSHA256, "x", salt, MaxIterations+1); return err },
		"short salt":    func() error { _, err := NewCredential(ScramSHA256, "x", salt[:MinSalt-1], MinIterations); return err },
		"salted length": func() error { _, err := SaltedCredential(ScramSHA512, make32(), salt, MinIterations); return err },
	} {
		if make() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func make32() []byte { return make([]byte, 32) }

func TestNamesAndPasswords(t *testing.T) {
	t.Parallel()
	for s, fine := range map[string]bool{
		"correct horse": true, "pässwörd": true, "пароль пароль": true, "שלום עולם": true, "日本語のパスワード": true,
		"a\tb345678": false, "a\u00a0b345678": false, "a\u00adb345678": false, "\ufb01nancial": false, "a\u0308bcdefgh": false,
		"x\u200b2345678": false, "\xff2345678": false, "אבגדabcd": false,
	} {
		if err := CheckPassword(s); (err == nil) != fine {
			t.Errorf("password %q: %v", s, err)
		}
		if err := CheckName(s); (err == nil) != fine {
			t.Errorf("name %q: %v", s, err)
		}
	}
	for s, fine := range map[string]bool{"*": false, "ANONYMOUS": false, "anonymous": true, "a*": true, "User:alice": true} {
		if err := CheckName(s); (err == nil) != fine {
			t.Errorf("name %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "1234567", strings.Repeat("x", MaxPassword+1)} {
		if CheckPassword(s) == nil {
			t.Errorf("a password of %d bytes is taken", len(s))
		}
	}
}

func TestMechanismsOffered(t *testing.T) {
	t.Parallel()
	m := users(t, nil)
	m.Enabled, m.Tokens = []string{Plain, OAuthBearer, ScramSHA256}, new(TokenRules)
	if got := m.Offered(false); len(got) != 1 || got[0] != ScramSHA256 {
		t.Errorf("in the clear: %v", got)
	}
	for _, c := range []struct {
		mechanism string
		encrypted bool
	}{{Plain, false}, {OAuthBearer, false}, {ScramSHA512, true}, {"", true}, {"GSSAPI", true}} {
		if _, ok := m.Begin(c.mechanism, c.encrypted); ok {
			t.Errorf("%q, encrypted %v: begun", c.mechanism, c.encrypted)
		}
	}
}
