package roles_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	kgosasl "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rustmq.dev/rustmq/embed"
	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &issuer{key, keySetFile(t, "k1", key)}
}

func (i *issuer) token(t *testing.T, algorithm jose.SignatureAlgorithm, key any, user string, life time.Duration) string {
	t.Helper()
	return i.sign(t, algorithm, key, "k1", map[string]any{"iss": "https://id.example", "aud": "rustmq", "sub": user, "exp": time.Now().Add(life).Unix()})
}

// securedNode is a node that asks its clients who they are, over TLS and QUIC, and knows
// alice. maxSession is in words; empty: none.
func securedNode(t *testing.T, maxSession string) (*embed.Node, *issuer) {
	t.Helper()
	i := newIssuer(t)
	set := map[string]string{
		"network.tls":              "on",
		"security.sasl.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,OAUTHBEARER,PLAIN",
		"security.sasl.oauth.jwks": i.file, "security.sasl.oauth.issuer": "https://id.example", "security.sasl.oauth.audience": "rustmq",
		"security.sasl.oauth.skew": "0s", "security.authorization.mode": "off", // who they are is what is asked here
	}
	if maxSession != "" {
		set["security.sasl.max_session"] = maxSession
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Set: set})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	if code, _, stderr := rustmq(t, "open sesame\n", "admin", "users", "create", "alice", "--url", "http://"+n.HTTP()); code != 0 {
		t.Fatalf("users create: exit %d, %s", code, stderr)
	}
	return n, i
}

// dials returns how a node is reached over both transports.
func dials(t *testing.T, n *embed.Node) map[string]kgo.Opt {
	t.Helper()
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	d := &sdkquic.Dialer{TLS: trust}
	t.Cleanup(func() { _ = d.Close() }) // the server may be gone before
	return map[string]kgo.Opt{"TLS": kgo.DialTLSConfig(trust), "QUIC": kgo.Dialer(d.DialContext)}
}

func kafkaClient(t *testing.T, n *embed.Node, mechanism kgosasl.Mechanism, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append(opts, kgo.SeedBrokers(n.Kafka()), kgo.RetryTimeout(10*time.Second), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation())
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	cl, err := kgo.NewClient(opts...)
	must(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func TestClientsSayWhoTheyAre(t *testing.T) {
	t.Parallel()
	n, i := securedNode(t, "")
	alice := scram.Auth{User: "alice", Pass: "open sesame"}
	token := func(algorithm jose.SignatureAlgorithm, key any, life time.Duration) kgosasl.Mechanism {
		return oauth.Auth{Token: i.token(t, algorithm, key, "carol", life)}.AsMechanism()
	}
	shared := []byte("0123456789abcdef0123456789abcdef")
	for transport, dial := range dials(t, n) {
		for name, mechanism := range map[string]kgosasl.Mechanism{
			"SCRAM-SHA-256": alice.AsSha256Mechanism(), "SCRAM-SHA-512": alice.AsSha512Mechanism(),
			"PLAIN": plain.Auth{User: "alice", Pass: "open sesame"}.AsMechanism(), "OAUTHBEARER": token(jose.ES256, i.key, time.Hour),
		} {
			cl := kafkaClient(t, n, mechanism, dial)
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord(name)).FirstErr(); err != nil {
				t.Errorf("%s over %s: %v", name, transport, err)
			}
		}
		for name, mechanism := range map[string]kgosasl.Mechanism{
			"a wrong password":       scram.Auth{User: "alice", Pass: "open sesamE"}.AsSha512Mechanism(),
			"an unknown user":        scram.Auth{User: "bob", Pass: "open sesame"}.AsSha256Mechanism(),
			"a wrong password, bare": plain.Auth{User: "alice", Pass: "x"}.AsMechanism(),
			"an expired token":       token(jose.ES256, i.key, -time.Minute),
			"a token of HS256":       token(jose.HS256, shared, time.Hour),
		} {
			if err := kafkaClient(t, n, mechanism, dial).Ping(t.Context()); err == nil {
				t.Errorf("%s over %s gets in", name, transport)
			} else if !strings.Contains(name, "token") && !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("%s over %s: %v", name, transport, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if err := kafkaClient(t, n, nil, dial).Ping(ctx); err == nil {
			t.Errorf("who does not say gets in over %s", transport)
		}
		cancel()
	}
}

// The commands of clients say who they are, by flags and files.
func TestCommandsSayWhoTheyAre(t *testing.T) {
	t.Parallel()
	n, i := securedNode(t, "")
	password, token := filepath.Join(t.TempDir(), "password"), filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(password, []byte("open sesame\n"), 0o600))
	must(t, os.WriteFile(token, []byte(i.token(t, jose.ES256, i.key, "carol", time.Hour)+"\n"), 0o600))
	for _, c := range []struct {
		flags, want string
		code        int
	}{
		{"--tls --user alice --password-file " + password, "1 record acked", 0},
		{"--transport quic --user alice --mechanism plain --password-file " + password, "1 record acked", 0},
		{"--tls --token-file " + token, "1 record acked", 0},
		{"--tls --user bob --password-file " + password, "the user is not known there", 1},
		{"--tls --user alice", "--password-file", 2},
		{"--tls", "give --user", 1},
		{"--user alice --mechanism PLAIN --password-file " + password, "whoever listens", 2},
	} {
		args := append([]string{"produce", "t", "-b", n.Kafka(), "--cafile", n.CAFile()}, strings.Fields(c.flags)...)
		if code, _, stderr := rustmq(t, "hello\n", args...); code != c.code || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "sesame") {
			t.Errorf("%s: exit %d, %s", c.flags, code, stderr)
		}
	}
}

// Kafka's own API of users (KIP-554) knows those of the admin API, and the other way round.
func TestUsersByKafkasAPI(t *testing.T) {
	n, _ := securedNode(t, "")
	dial := dials(t, n)["TLS"]
	cl := kafkaClient(t, n, scram.Auth{User: "alice", Pass: "open sesame"}.AsSha512Mechanism(), dial)
	adm := kadm.NewClient(cl)
	upsert := func(user string, mechanism kadm.ScramMechanism, iterations int32) kadm.UpsertSCRAM {
		return kadm.UpsertSCRAM{User: user, Mechanism: mechanism, Iterations: iterations, Password: "swordfish"}
	}
	altered, err := adm.AlterUserSCRAMs(t.Context(), []kadm.DeleteSCRAM{{User: "nobody", Mechanism: kadm.ScramSha256}, {User: "twice", Mechanism: kadm.ScramSha256}}, []kadm.UpsertSCRAM{
		upsert("bob", kadm.ScramSha256, 4096), upsert("twice", kadm.ScramSha256, 4096),
	})
	must(t, err)
	for user, want := range map[string]error{
		"nobody": kerr.ResourceNotFound, "bob": nil, "twice": kerr.DuplicateResource,
	} {
		if got := altered[user].Err; !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", user, got, want)
		}
	}
	raw := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	for user, iterations := range map[string]int32{"few": 4095, "many": 16385} {
		raw.Upsertions = append(raw.Upsertions, kmsg.AlterUserSCRAMCredentialsRequestUpsertion{
			Name: user, Mechanism: 1, Iterations: iterations, Salt: make([]byte, 16), SaltedPassword: make([]byte, 32),
		})
	}
	refused, err := raw.RequestWith(t.Context(), cl)
	must(t, err)
	for _, r := range refused.Results {
		if r.ErrorCode != kerr.UnacceptableCredential.Code {
			t.Errorf("%s: %v", r.User, kerr.ErrorForCode(r.ErrorCode))
		}
	}
	bob := scram.Auth{User: "bob", Pass: "swordfish"}
	must(t, kafkaClient(t, n, bob.AsSha256Mechanism(), dial).Ping(t.Context()))
	described, err := adm.DescribeUserSCRAMs(t.Context())
	must(t, err)
	if b, a := described["bob"], described["alice"]; len(described) != 2 || len(b.CredInfos) != 1 || b.CredInfos[0].Iterations != 4096 || len(a.CredInfos) != 2 {
		t.Errorf("%+v", described)
	}
	admin := func(stdin string, args ...string) (int, string) {
		code, stdout, stderr := rustmq(t, stdin, append(append([]string{"admin", "users"}, args...), "--url", "http://"+n.HTTP())...)
		return code, stdout + stderr
	}
	if code, out := admin("", "list"); code != 0 || !strings.Contains(out, "bob") || strings.Contains(out, "swordfish") {
		t.Errorf("list: %d, %s", code, out)
	}
	for _, c := range []struct {
		stdin, want string
		args        []string
		code        int
	}{
		{"swordfish\n", "there is a user", []string{"create", "bob"}, 1},
		{"short\n", "at least 8", []string{"create", "dave"}, 1},
		{"\n", "nothing in its first line", []string{"create", "dave"}, 1},
		{"swordfish\n", "no user", []string{"set-password", "dave"}, 1},
		{"better fish\n", "another password", []string{"set-password", "bob"}, 0},
		{"", "no user", []string{"delete", "dave"}, 1},
		{"", "deleted", []string{"delete", "alice"}, 0},
	} {
		if code, out := admin(c.stdin, c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit %d, %s", c.args, code, out)
		}
	}
	if err := kafkaClient(t, n, bob.AsSha256Mechanism(), dial).Ping(t.Context()); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("bob's old password: %v", err)
	}
	bob.Pass = "better fish"
	must(t, kafkaClient(t, n, bob.AsSha512Mechanism(), dial).Ping(t.Context()))
}

// Clients that authenticate again and again (KIP-368) lose nothing by it.
func TestReauthenticationUnderLoad(t *testing.T) {
	t.Parallel()
	n, _ := securedNode(t, "1500ms")
	var authentications atomic.Int64
	mechanism := scram.Sha256(func(context.Context) (scram.Auth, error) {
		authentications.Add(1)
		return scram.Auth{User: "alice", Pass: "open sesame"}, nil
	})
	var failed atomic.Int64
	hook := failedRequests{&failed}
	cl := kafkaClient(t, n, mechanism, dials(t, n)["TLS"], kgo.WithHooks(hook), kgo.ProducerLinger(time.Millisecond))
	sent := 0
	// A slow machine needs longer to come to as many.
	for began := time.Now(); time.Since(began) < 3*time.Second || authentications.Load() < 5 && time.Since(began) < time.Minute; sent++ {
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatalf("record %d: %v", sent, err)
		}
	}
	if authentications.Load() < 5 || failed.Load() != 0 {
		t.Errorf("%d records, %d authentications, %d requests failed", sent, authentications.Load(), failed.Load())
	}
}

// failedRequests counts requests that ended without an answer.
type failedRequests struct{ n *atomic.Int64 }

func (d failedRequests) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) {
	if e.Err() != nil {
		d.n.Add(1)
	}
}

// A session that has ended is closed by the server, whatever the client thinks.
func TestSessionsAreEnded(t *testing.T) {
	t.Parallel()
	n, i := securedNode(t, "")
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	conn, err := tls.Dial("tcp", n.Kafka(), trust)
	must(t, err)
	defer conn.Close()
	l := &line{conn, &fortress{T: t, n: n}}
	must(t, l.handshake("OAUTHBEARER"))
	authenticate := kmsg.NewPtrSASLAuthenticateRequest()
	authenticate.Version = 1
	authenticate.SASLAuthBytes = []byte("n,,\x01auth=Bearer " + i.token(t, jose.ES256, i.key, "carol", 2*time.Second) + "\x01\x01")
	answer, err := l.ask(authenticate)
	must(t, err)
	if p := answer.(*kmsg.SASLAuthenticateResponse); p.SessionLifetimeMillis <= 0 || p.SessionLifetimeMillis > 2000 {
		t.Fatalf("%+v", p)
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	for began := time.Now(); served(l, beat); {
		if time.Since(began) > 10*time.Second {
			t.Fatal("served after the end of the token")
		}
	}
}

// Who has another password, or is deleted, goes on for as long as a session lasts, and not
// longer; others are not concerned.
func TestSessionsOutliveNoPassword(t *testing.T) {
	t.Parallel()
	n, _ := securedNode(t, "1500ms")
	dial := dials(t, n)["TLS"]
	admin := func(stdin string, args ...string) {
		t.Helper()
		if code, _, stderr := rustmq(t, stdin, append(append([]string{"admin", "users"}, args...), "--url", "http://"+n.HTTP())...); code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
	}
	ends := func(what, user string, change func()) {
		t.Helper()
		cl := kafkaClient(t, n, scram.Auth{User: user, Pass: "open sesame"}.AsSha512Mechanism(), dial)
		must(t, cl.Ping(t.Context()))
		change()
		err := cl.Ping(t.Context())
		for deadline := time.Now().Add(time.Minute); !errors.Is(err, kerr.SaslAuthenticationFailed); err = cl.Ping(t.Context()) {
			if time.Now().After(deadline) { // a request that meets the session's end is cut off, and comes again
				t.Fatalf("%s goes on: %v", what, err)
			}
		}
	}
	admin("open sesame\n", "create", "bob")
	admin("open sesame\n", "create", "carol")
	alice := kafkaClient(t, n, scram.Auth{User: "alice", Pass: "open sesame"}.AsSha512Mechanism(), dial)
	must(t, alice.Ping(t.Context()))
	ends("bob with the password of before", "bob", func() { admin("better fish\n", "set-password", "bob") })
	ends("carol, who is no user any more,", "carol", func() { admin("", "delete", "carol") })
	must(t, alice.Ping(t.Context()))
}

// served reports whether a request is answered, be it by an error.
func served(l *line, q kmsg.Request) bool {
	answer, _ := l.ask(q)
	return answer != nil
}
