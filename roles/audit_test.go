package roles_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	kgosasl "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
)

// overheard is a mechanism whose messages a test keeps: proofs and tokens are in them.
type overheard struct {
	kgosasl.Mechanism
	keep func([]byte)
}

func (o overheard) Authenticate(ctx context.Context, host string) (kgosasl.Session, []byte, error) {
	s, first, err := o.Mechanism.Authenticate(ctx, host)
	o.keep(first)
	return overheardSession{s, o.keep}, first, err
}

type overheardSession struct {
	kgosasl.Session
	keep func([]byte)
}

func (o overheardSession) Challenge(message []byte) (bool, []byte, error) {
	done, answer, err := o.Session.Challenge(message)
	o.keep(answer)
	return done, answer, err
}

// TestNoSecretIsRecorded sends secrets through every door, and looks for them in the topic:
// it is also the story of who did what, of a restart, and of somebody who reads it.
func TestNoSecretIsRecorded(t *testing.T) {
	i := newIssuer(t)
	set := map[string]string{
		"network.tls":              "on",
		"security.sasl.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,OAUTHBEARER,PLAIN",
		"security.sasl.oauth.jwks": i.file, "security.sasl.oauth.issuer": "https://id.example", "security.sasl.oauth.audience": "rustmq",
		"security.authorization.super_users": "alice", "security.audit.record": "denied,login,admin,data",
	}
	dir := t.TempDir()
	start := func() *embed.Node {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n, err := embed.Start(ctx, embed.Options{DataDir: dir, Set: set})
		must(t, err)
		return n
	}
	n := start()
	t.Cleanup(func() { must(t, n.Close()) })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	cli := func(stdin string, want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, stdin, append([]string{"admin", "--url", "http://" + n.HTTP()}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	var mu sync.Mutex
	secrets := []string{"open sesame", "swordfish-1", "wrong-password-1", "value-of-a-config-1"}
	keep := func(message []byte) {
		mu.Lock()
		defer mu.Unlock()
		for part := range bytes.FieldsFuncSeq(message, func(r rune) bool { return r == ',' || r == 1 || r == 0 }) {
			if proof, is := bytes.CutPrefix(part, []byte("p=")); is && len(proof) > 8 {
				secrets = append(secrets, string(proof))
			}
			if token, is := bytes.CutPrefix(part, []byte("auth=Bearer ")); is {
				secrets = append(secrets, string(token), strings.Split(string(token), ".")[2])
			}
		}
	}
	cli("open sesame\n", 0, "users", "create", "alice")
	own, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	must(t, err)
	for i, text := range []string{cli("", 0, "tokens", "create", "exporter", "--principal", "alice"), string(own)} {
		if token := strings.Fields(text)[0]; len(token) < 16 {
			t.Errorf("token %d is %q", i, token)
		} else {
			secrets = append(secrets, token)
		}
	}
	dial := dials(t, n)["TLS"]
	alice := scram.Auth{User: "alice", Pass: "open sesame"}
	cl := kafkaClient(t, n, overheard{alice.AsSha512Mechanism(), keep}, dial)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(cl)
	_, err = adm.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("123456789")}, "orders")
	must(t, err)
	_, err = adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "bob", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "swordfish-1"}})
	must(t, err)
	raw := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	salted := []byte("0123456789abcdef0123456789abcdef")
	secrets = append(secrets, string(salted), base64.StdEncoding.EncodeToString(salted), fmt.Sprintf("%x", salted))
	raw.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "few", Mechanism: 1, Iterations: 1, Salt: make([]byte, 16), SaltedPassword: salted}}
	_, err = raw.RequestWith(ctx, cl)
	must(t, err)
	bad := "value-of-a-config-1"
	_, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &bad}}, "orders")
	must(t, err)
	must(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("x")}).FirstErr())
	fails := func(m kgosasl.Mechanism) {
		t.Helper()
		if err := kafkaClient(t, n, overheard{m, keep}, dial).Ping(ctx); err == nil {
			t.Error("it gets in")
		}
	}
	fails(scram.Auth{User: "alice", Pass: "wrong-password-1"}.AsSha256Mechanism())
	fails(plain.Auth{User: "alice", Pass: "wrong-password-1"}.AsMechanism())
	fails(oauth.Auth{Token: i.token(t, jose.ES256, i.key, "carol", -time.Hour)}.AsMechanism())
	fails(oauth.Auth{Token: i.token(t, jose.HS256, []byte("0123456789abcdef0123456789abcdef"), "carol", time.Hour)}.AsMechanism())
	token := i.token(t, jose.ES256, i.key, "carol", time.Hour)
	carol := kafkaClient(t, n, overheard{oauth.Auth{Token: token}.AsMechanism(), keep}, dial)
	if err := carol.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("x")}).FirstErr(); err == nil {
		t.Error("carol writes")
	}
	cl.Close()
	carol.Close()
	http.DefaultClient.CloseIdleConnections()
	must(t, n.Close())
	n = start()
	dial = dials(t, n)["TLS"]

	reader := kafkaClient(t, n, overheard{alice.AsSha256Mechanism(), keep}, dial, kgo.ConsumeTopics("__audit"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var values []string
	has := func(want string) bool {
		for _, v := range values {
			if strings.Contains(v, want) {
				return true
			}
		}
		return false
	}
	begins := func() (n int) {
		for _, v := range values {
			if strings.Contains(v, `"kind":"begin"`) {
				n++
			}
		}
		return n
	}
	for begins() < 2 && ctx.Err() == nil {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	for _, want := range []string{
		`"principal":"User:alice","source":"127.0.0.1:`, `"action":"topic.create","resource_type":"topic","resource":"orders","outcome":"allowed"`,
		`"action":"user.set-password","resource_type":"user","resource":"bob","outcome":"allowed"`, `"resource":"few","outcome":"failed"`,
		`"action":"topic.alter-configs"`, `"action":"login","resource_type":"user","resource":"alice","outcome":"denied"`,
		`"action":"login","resource_type":"user","resource":"carol","outcome":"allowed"`, `"action":"topic.describe","resource_type":"topic","resource":"orders","outcome":"denied"`,
		`"action":"data.write"`, `"after":{"node":1`, `"outcome":"denied","reason":"the token`,
		`"door":"rest","action":"user.create","resource_type":"user"`,
	} {
		if !has(want) {
			t.Errorf("nothing has %s in\n%s", want, strings.Join(values, "\n"))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(secrets) < 12 {
		t.Errorf("%d secrets were overheard", len(secrets))
	}
	for _, secret := range secrets {
		if has(secret) {
			t.Errorf("%q is recorded", secret)
		}
	}

	var events admin.AuditEvents
	must(t, json.Unmarshal([]byte(cli("", 0, "audit", "list", "--outcome", "denied", "--action", "topic.*", "--principal", "carol", "--since", "1h", "-o", "json")), &events))
	if len(events.Events) == 0 || events.Events[0].Principal != "User:carol" {
		t.Errorf("%+v", events)
	}
	if out := cli("", 0, "audit", "list", "--limit", "5"); !strings.Contains(out, "OUTCOME") || !strings.Contains(out, "(there are older ones") {
		t.Error(out)
	}
	out := cli("", 0, "audit", "verify")
	if !strings.Contains(out, "the audit log is whole") || !strings.Contains(out, "2 chains") {
		t.Error(out)
	}
	if out := cli("", 1, "audit", "verify", "--head", strings.Repeat("0a", 32)); !strings.Contains(out, "BROKEN") || !strings.Contains(out, "no record has the hash") {
		t.Error(out)
	}
	cli("", 2, "audit", "list", "--outcome", "perhaps")
	cli("", 2, "audit", "list", "--since", "yesterday")
}
