package roles_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/roles/admin"
	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

// Passwords of the users of a fortress.
const (
	alicesPassword = "open sesame"
	bobsPassword   = "swordfish!"
)

// fortress is a node with all of security on: certificates of clients are asked for and
// judged, clients say who they are, rules say what they may, and servers prove who they are.
// alice may do everything, and has a record in the topic "alices"; bob may use the topic, the
// group and the transactional id "bobs".
type fortress struct {
	*testing.T
	n            *embed.Node
	host         string
	ours, theirs *pkitest.Authority
	tokens       *issuer
	log          lockedBuffer
	http         http.Client
	alices       [16]byte // the topic's id
	lines        map[string]*line
}

func newFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{T: t, host: newNet() + ".1", ours: pkitest.New(t, "ours"), theirs: pkitest.New(t, "theirs"), tokens: newIssuer(t), lines: map[string]*line{}}
	f.http.Transport = &http.Transport{DisableCompression: true}
	t.Cleanup(f.http.CloseIdleConnections)
	f.ours.Sign("node", pkitest.Server(pki.Identity{Cluster: "prod", Node: 1, Roles: []string{pki.RoleBroker, pki.RoleController, pki.RoleAdmin}}, f.host))
	for _, name := range []string{"bob", "revoked"} {
		f.ours.Sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	f.ours.Revoke("revoked")
	cert, key := f.ours.CertFile("node"), f.ours.KeyFile("node")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Log: slog.New(slog.NewTextHandler(&f.log, nil)), Set: map[string]string{
		"network.bind": f.host, "network.broker_port": "9093", "controller.peers": "1@" + f.host, "object_storage.url": "file://" + t.TempDir(),
		"network.tls": "on", "security.tls.cert_file": cert, "security.tls.key_file": key,
		"security.tls.client_auth": "request", "security.tls.client_ca_file": f.ours.CAFile(), "security.tls.crl_file": f.ours.ListFile(),
		"security.cluster.ca_file": f.ours.CAFile(), "security.cluster.cert_file": cert, "security.cluster.key_file": key, "security.cluster.crl_file": f.ours.ListFile(),
		"security.sasl.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,OAUTHBEARER,PLAIN",
		"security.sasl.oauth.jwks": f.tokens.file, "security.sasl.oauth.issuer": "https://id.example", "security.sasl.oauth.audience": "rustmq",
		"security.authorization.super_users": "alice",
	}})
	must(t, err)
	f.n = n
	t.Cleanup(func() { must(t, n.Close()) })
	for user, password := range map[string]string{"alice": alicesPassword, "bob": bobsPassword} {
		f.admin(password, "users", "create", user)
	}
	for _, name := range []string{"alices", "bobs"} {
		f.admin("", "topics", "create", name)
	}
	for _, rule := range []string{"topic.bobs --permissions read,write", "group.bobs --permissions read", "transactional-id.bobs --permissions write"} {
		f.admin("", append([]string{"acl", "create", "--principal", "bob", "--resource"}, strings.Fields(rule)...)...)
	}
	cl := f.alice()
	must(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "alices", Value: []byte("a secret")}).FirstErr())
	topics, err := kadm.NewClient(cl).ListTopics(ctx, "alices")
	must(t, err)
	f.alices = topics["alices"].ID
	f.await("there is a coordinator of groups", func() bool {
		found := kadm.NewClient(cl).FindGroupCoordinators(ctx, "alices")
		return found.Error() == nil
	})
	return f
}

func (f *fortress) admin(stdin string, args ...string) {
	f.Helper()
	if code, stdout, stderr := rustmq(f.T, stdin+"\n", append([]string{"admin", "--url", "http://" + f.n.HTTP()}, args...)...); code != 0 {
		f.Fatalf("%v: exit %d, %s%s", args, code, stdout, stderr)
	}
}

// alice is a client of hers.
func (f *fortress) alice() *kgo.Client {
	f.Helper()
	return kafkaClient(f.T, f.n, scram.Auth{User: "alice", Pass: alicesPassword}.AsSha512Mechanism(), kgo.DialTLSConfig(f.shows(nil)))
}

// untouched holds that what is alice's is as it was.
func (f *fortress) untouched() {
	f.Helper()
	adm := kadm.NewClient(f.alice())
	topics, err := adm.ListTopics(f.Context())
	must(f.T, err)
	if names := topics.Names(); fmt.Sprint(names) != "[alices bobs]" {
		f.Errorf("there are the topics %q", names)
	}
	if topics["alices"].ID != f.alices {
		f.Error("the topic alices is another")
	}
	ends, err := adm.ListEndOffsets(f.Context(), "alices", "bobs")
	must(f.T, err)
	if end := ends["alices"][0].Offset; end != 1 {
		f.Errorf("the topic alices ends at %d", end)
	}
	groups, err := adm.ListGroups(f.Context())
	must(f.T, err)
	if len(groups) != 0 {
		f.Errorf("there are the groups %v", groups.Groups())
	}
}

// denied holds that the audit log has lines with words, of what was denied: "ACTION RESOURCE:
// REASON".
func (f *fortress) denied(words []string) {
	f.Helper()
	said, missing := "", words
	f.await("all that was denied is in the audit log", func() bool {
		code, stdout, stderr := rustmq(f.T, "", "admin", "--url", "http://"+f.n.HTTP(), "audit", "list", "--outcome", "denied", "--since", "1h", "--limit", "1000", "-o", "json")
		if code != 0 {
			f.Fatalf("audit list: exit %d, %s", code, stderr)
		}
		var list admin.AuditEvents
		must(f.T, json.Unmarshal([]byte(stdout), &list))
		var lines strings.Builder
		for _, e := range list.Events {
			fmt.Fprintf(&lines, "%s %s: %s\n", e.Action, e.Resource, e.Reason)
		}
		said = lines.String()
		missing = slices.DeleteFunc(slices.Clone(missing), func(w string) bool { return strings.Contains(said, w) })
		return len(missing) == 0
	})
	if len(missing) > 0 {
		f.Errorf("the audit log lacks %q; it has\n%s", missing, said)
	}
}

// counter is the sum of the samples of /metrics that begin with words.
func (f *fortress) counter(words string) (sum float64) {
	f.Helper()
	if words == "" {
		return 0
	}
	resp, err := f.http.Get("http://" + f.n.HTTP() + "/metrics")
	must(f.T, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(f.T, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, words); ok {
			fields := strings.Fields(rest)
			value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			must(f.T, err)
			sum += value
		}
	}
	return sum
}

// await waits until something is so.
func (f *fortress) await(what string, is func() bool) {
	f.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(20 * time.Second); !is(); <-ticker.C {
		if time.Now().After(deadline) {
			f.Errorf("it never came that %s; the log is\n%s", what, f.log.String())
			return
		}
	}
}

// shows is config with our authority trusted, and its certificate shown whatever is asked
// for; nil: none is shown.
func (f *fortress) shows(config *tls.Config) *tls.Config {
	f.Helper()
	roots := f.ours.Client("bob").RootCAs
	if config == nil {
		return &tls.Config{RootCAs: roots}
	}
	config = config.Clone()
	config.RootCAs = roots
	if len(config.Certificates) > 0 {
		cert := config.Certificates[0]
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return config
}

func (f *fortress) dialTLS(config *tls.Config) (net.Conn, error) {
	return (&tls.Dialer{Config: config}).DialContext(f.Context(), "tcp", f.n.Kafka())
}

func (f *fortress) dialClear() (net.Conn, error) {
	return new(net.Dialer).DialContext(f.Context(), "tcp", f.n.Kafka())
}

func (f *fortress) dialQUIC(config *tls.Config) (net.Conn, error) {
	d := &sdkquic.Dialer{TLS: config}
	f.Cleanup(func() { _ = d.Close() }) // the server may be gone before
	return d.DialContext(f.Context(), "udp", f.n.Kafka())
}

// hello asks for the API versions on what was dialled.
func (f *fortress) hello(conn net.Conn, err error) error {
	if err != nil {
		return err
	}
	l := &line{conn, f}
	f.Cleanup(func() { _ = conn.Close() }) // the server may have ended it
	_, err = l.ask(kmsg.NewPtrApiVersionsRequest())
	return err
}

// Errors of [fortress.call].
var (
	errNotAllowed  = errors.New("the certificate does not allow it")
	errNoHandshake = errors.New("the handshake fails")
)

// call calls a method of the servers' own doors.
func (f *fortress) call(method string, config *tls.Config) error {
	f.Helper()
	port := map[string]string{"Replication": "9093", "Raft": "9094", "Controller": "9095"}[strings.Split(strings.TrimPrefix(method, "/rustmq.rpc."), "/")[0]]
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(f.host, port), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	must(f.T, err)
	defer conn.Close()
	err = conn.Invoke(f.Context(), method, new(emptypb.Empty), new(emptypb.Empty))
	switch status.Code(err) {
	case codes.PermissionDenied:
		return errNotAllowed
	case codes.Unavailable:
		return errNoHandshake
	}
	return err
}

// line is a connection that says what it is told to.
type line struct {
	net.Conn
	f *fortress
}

// line dials the node over TLS.
func (f *fortress) line() *line {
	f.Helper()
	conn, err := f.dialTLS(f.shows(nil))
	must(f.T, err)
	f.Cleanup(func() { _ = conn.Close() }) // the server may have ended it
	return &line{conn, f}
}

// as is a line of a user, always the same.
func (f *fortress) as(user, password string) *line {
	f.Helper()
	l := f.lines[user]
	if l == nil {
		l = f.line()
		must(f.T, l.login(user, password))
		f.lines[user] = l
	}
	return l
}

// ask sends a request, and returns its answer, with the errors that stand in it.
func (l *line) ask(q kmsg.Request) (kmsg.Response, error) {
	if _, err := l.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("t")).AppendRequest(nil, q, 7)); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(l, length[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(l, answer); err != nil {
		return nil, err
	}
	p := q.ResponseKind()
	p.SetVersion(q.GetVersion())
	header := 4
	if p.IsFlexible() && q.Key() != kmsg.ApiVersions.Int16() {
		header = 5 // no tags
	}
	must(l.f.T, p.ReadFrom(answer[header:]))
	return p, errors.Join(errorsIn(reflect.ValueOf(p))...)
}

// errorsIn are the errors of an answer, wherever they stand.
func errorsIn(v reflect.Value) (errs []error) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return errorsIn(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			errs = append(errs, errorsIn(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.Name == "ErrorCode" {
				if err := kerr.ErrorForCode(int16(v.Field(i).Int())); err != nil {
					errs = append(errs, err)
				}
			} else if field.IsExported() {
				errs = append(errs, errorsIn(v.Field(i))...)
			}
		}
	}
	return errs
}

// ended is what a client is told, err, and that the server has ended the connection; nil: it
// goes on.
func (l *line) ended(err error) error {
	if _, gone := l.ask(kmsg.NewPtrApiVersionsRequest()); gone != nil {
		return errors.Join(err, gone)
	}
	return nil
}

func (l *line) handshake(mechanism string) error {
	q := kmsg.NewPtrSASLHandshakeRequest()
	q.Version, q.Mechanism = 1, mechanism
	_, err := l.ask(q)
	return err
}

func (l *line) authenticate(message []byte) ([]byte, error) {
	q := kmsg.NewPtrSASLAuthenticateRequest()
	q.Version, q.SASLAuthBytes = 1, message
	p, err := l.ask(q)
	if err != nil {
		return nil, err
	}
	return p.(*kmsg.SASLAuthenticateResponse).SASLAuthBytes, nil
}

// begin sends the first message of a mechanism.
func (l *line) begin(mechanism string, first []byte) ([]byte, error) {
	if err := l.handshake(mechanism); err != nil {
		return nil, err
	}
	return l.authenticate(first)
}

// exchange is what a client says by SCRAM-SHA-512.
type exchange struct{ first, last string }

// scram begins to log in, and returns all but the last message as said.
func (f *fortress) scram(l *line, user, password string) (x exchange) {
	f.Helper()
	session, first, err := scram.Auth{User: user, Pass: password}.AsSha512Mechanism().Authenticate(f.Context(), "")
	must(f.T, err)
	challenge, err := l.begin("SCRAM-SHA-512", first)
	must(f.T, err)
	_, last, err := session.Challenge(challenge)
	must(f.T, err)
	return exchange{string(first), string(last)}
}

func (l *line) login(user, password string) error {
	x := l.f.scram(l, user, password)
	_, err := l.authenticate([]byte(x.last))
	return err
}

// bearer logs in by a token, and ends the exchange as clients do that are told it is no good
// (RFC 7628 §3.2.3).
func (l *line) bearer(token string) error {
	answer, err := l.begin("OAUTHBEARER", []byte("n,,\x01auth=Bearer "+token+"\x01\x01"))
	if err == nil && len(answer) > 0 {
		_, err = l.authenticate([]byte{1})
	}
	return err
}

// challenge is what SCRAM tells of a user before a proof: iterations, and bytes of salt.
func (l *line) challenge(user string) string {
	l.f.Helper()
	answer, err := l.begin("SCRAM-SHA-512", []byte("n,,n="+user+",r=abc"))
	must(l.f.T, err)
	parts := strings.Split(string(answer), ",")
	salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(parts[1], "s="))
	must(l.f.T, err)
	return fmt.Sprintf("%s, salt of %d", parts[2], len(salt))
}

// issuer signs tokens.
type issuer struct {
	key  *ecdsa.PrivateKey
	file string // of its key set
}

// sign signs claims, of which those that are nil are left out.
func (i *issuer) sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	must(t, err)
	signed, err := signer.Sign(encoded(t, claims))
	must(t, err)
	token, err := signed.CompactSerialize()
	must(t, err)
	return token
}

func encoded(t *testing.T, claims map[string]any) []byte {
	t.Helper()
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	raw, err := json.Marshal(claims)
	must(t, err)
	return raw
}

// unsigned is a token of the algorithm "none".
func unsigned(t *testing.T, claims map[string]any) string {
	t.Helper()
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none","kid":"k1"}`)) + "." + part(encoded(t, claims)) + "."
}

// publicPEM is what everybody has of a key.
func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// keySetFile writes the public half of keys.
func keySetFile(t *testing.T, id string, key *ecdsa.PrivateKey) string {
	t.Helper()
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id}}})
	must(t, err)
	file := filepath.Join(t.TempDir(), "keys.json")
	must(t, os.WriteFile(file, raw, 0o600))
	return file
}
