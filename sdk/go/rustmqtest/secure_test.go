package rustmqtest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
	"rustmq.dev/rustmq/sdk/go/transport"
)

func TestEveryTransportReachesTheBroker(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	for name, c := range map[string]struct {
		mode transport.Mode
		tls  *rustmq.TLS
		via  transport.Mode
	}{
		"tcp in the clear":  {transport.TCP, nil, transport.TCP},
		"auto in the clear": {transport.Auto, nil, transport.TCP},
		"quic":              {transport.QUIC, &rustmq.TLS{CAFile: server.CAFile(), QUICOnly: true}, transport.QUIC},
	} {
		opts := []rustmq.Option{rustmq.WithTransport(c.mode)}
		if c.tls != nil {
			opts = append(opts, rustmq.WithTLS(*c.tls))
		}
		client := server.Client(t, opts...)
		ctx := within(t, moments)
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}).Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h := client.Health(ctx)
		if len(h.Links) == 0 || h.Links[0].Using != c.via {
			t.Errorf("%s: %+v", name, h.Links)
		}
	}
	if _, err := rustmq.New(rustmq.WithTransport(transport.QUIC)); err == nil {
		t.Error("QUIC in the clear")
	}
}

func TestTLSTrustsTheAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"network.tls": "on"}})
	ctx := within(t, moments)
	for _, mode := range []transport.Mode{transport.TCP, transport.QUIC, transport.Auto} {
		client := server.Client(t, rustmq.WithTransport(mode), rustmq.WithTLS(rustmq.TLS{CAFile: server.CAFile()}))
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}).Err(); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
	}
	stranger := server.Client(t, rustmq.WithTransport(transport.TCP), rustmq.WithTLS(rustmq.TLS{}))
	if err := stranger.Ping(ctx); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
	if _, err := rustmq.New(rustmq.WithTLS(rustmq.TLS{CAFile: "not-there.pem"})); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestSecretsDoNotGoInTheClear(t *testing.T) {
	if _, err := rustmq.New(rustmq.WithPlain("u", "p")); err == nil {
		t.Error("a password goes in the clear")
	}
	if _, err := rustmq.New(rustmq.WithPlain("u", "p"), rustmq.WithTLS(rustmq.TLS{QUICOnly: true})); err == nil {
		t.Error("a password goes in the clear over TCP")
	}
}

// issuer signs tokens, by a key that is published in a file (RFC 7517).
type issuer struct {
	key  *ecdsa.PrivateKey
	file string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	base64url := base64.RawURLEncoding.EncodeToString
	i := &issuer{key, filepath.Join(t.TempDir(), "jwks.json")}
	published, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": base64url(public[1:33]), "y": base64url(public[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, i.file, published)
	return i
}

// token is one of a user, for so long from now on (RFC 7515, RFC 7519).
func (i *issuer) token(user string, life time.Duration) (string, error) {
	header, err := json.Marshal(map[string]any{"alg": "ES256", "kid": "k1", "typ": "JWT"})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iss": "https://id.example", "aud": "rustmq", "sub": user, "exp": time.Now().Add(life).Unix()})
	if err != nil {
		return "", err
	}
	base64url := base64.RawURLEncoding.EncodeToString
	signed := base64url(header) + "." + base64url(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64url(signature), nil
}

// TestTokensSayWhoAClientIs also has one end while its client is at work, who is asked for the next, and shows it
// on the connection that it has.
func TestTokensSayWhoAClientIs(t *testing.T) {
	t.Parallel()
	by := newIssuer(t)
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{
		"network.tls": "on", "security.sasl.mechanisms": "OAUTHBEARER", "security.authorization.super_users": "User:alice",
		"security.sasl.oauth.jwks": by.file, "security.sasl.oauth.issuer": "https://id.example", "security.sasl.oauth.audience": "rustmq",
		"security.sasl.oauth.skew": "0s",
	}})
	trust, ctx := rustmq.WithTLS(rustmq.TLS{CAFile: server.CAFile()}), within(t, moments)
	record := func() *rustmq.Record { return &rustmq.Record{Topic: "t", Value: []byte("1")} }
	for _, mode := range []transport.Mode{transport.TCP, transport.QUIC} {
		var asked, connected atomic.Int64
		client := server.Client(t, trust, rustmq.WithTransport(mode), rustmq.WithToken(func(context.Context) (string, error) {
			asked.Add(1)
			return by.token("alice", 4*time.Second)
		}), rustmq.WithHooks(rustmq.Hooks{Connected: func(string, time.Duration, error) { connected.Add(1) }}))
		if err := client.ProduceSync(ctx, record()).Err(); err != nil {
			t.Fatalf("%v: %v", mode, err)
		}
		if asked.Load() == 0 {
			t.Fatalf("%v: nobody was asked for a token", mode)
		}
		eventually(t, "another token is asked for than one for each connection", func() bool {
			if err := client.ProduceSync(ctx, record()).Err(); err != nil {
				t.Fatalf("%v: %v", mode, err)
			}
			return asked.Load() > connected.Load()
		})
		old := server.Client(t, trust, rustmq.WithTransport(mode), rustmq.WithToken(func(context.Context) (string, error) { return by.token("alice", -time.Minute) }))
		if err := old.Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) || rustmq.IsRetriable(err) {
			t.Errorf("%v: a token that has expired: %v", mode, err)
		}
	}
	refused := errors.New("no token today")
	if err := server.Client(t, trust, rustmq.WithToken(func(context.Context) (string, error) { return "", refused })).Ping(ctx); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
}
