package quic_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// principals answers heartbeats, and says who has sent each and whether it was early.
type principals struct{ served chan served }

type served struct {
	principal string
	early     bool
}

func (p principals) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 12, Max: 4}} }
func (p principals) ConnClosed(*kafka.Conn)       {}
func (p principals) Serve(r *kafka.Request) {
	p.served <- served{r.Conn.Principal(), r.Conn.EarlyData()}
	req, err := r.Decode()
	if err != nil {
		r.Close(err)
		return
	}
	r.Respond(req.ResponseKind())
}

// certified is a listener whose clients show certificates.
type certified struct {
	principals
	ca      *pkitest.Authority
	trust   *pki.Trust
	clients *pki.Clients
	addr    string
	log     *lockedLog
	refused chan error
}

// lockedLog is a log that a test reads while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

// await waits until the log has words.
func (l *lockedLog) await(t *testing.T, words string) {
	t.Helper()
	for {
		l.mu.Lock()
		has := strings.Contains(l.text.String(), words)
		l.mu.Unlock()
		if has {
			return
		}
		select {
		case <-l.more:
		case <-time.After(time.Minute):
			t.Fatalf("the log does not say %q:\n%s", words, l.text.String())
		}
	}
}

func newCertified(t *testing.T, required bool) certified {
	t.Helper()
	c := certified{principals: principals{make(chan served, 10)}, ca: pkitest.New(t, "ours"), log: &lockedLog{more: make(chan struct{}, 1)}, refused: make(chan error, 100)}
	c.ca.Sign("server", pkitest.Server(pki.Identity{Cluster: "prod", Node: 1, Roles: []string{pki.RoleBroker}}, "127.0.0.1"))
	c.ca.Sign("alice", &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	keeper, err := pki.Keep(func() (tls.Certificate, error) {
		return pki.Load(c.ca.CertFile("server"), c.ca.KeyFile("server"), time.Now())
	})
	must(t, err)
	c.trust, err = pki.OpenTrust(pki.TrustOptions{CAFile: c.ca.CAFile(), RevocationFile: c.ca.ListFile()})
	must(t, err)
	mapping, err := pki.ParseMapping("")
	must(t, err)
	c.clients = pki.NewClients(pki.ClientsOptions{Trust: c.trust, Required: required, Mapping: mapping})
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	server := kafka.New(kafka.Options{Handler: c, EarlyOK: func(*kafka.Request) bool { return true }})
	l, err := quic.Listen(quic.Options{
		Conn: conn, TLS: c.clients.ServerConfig(keeper.ServerConfig(tls.VersionTLS13)), Server: server, Name: "quic", ZeroRTT: true, Log: slog.New(slog.NewTextHandler(c.log, nil)),
		Refused: func(_ net.Addr, err error) { c.refused <- err },
		Identify: func(s tls.ConnectionState) (kafka.Client, error) {
			client, err := c.clients.Identify(s)
			return kafka.Client(client), err
		},
	})
	must(t, err)
	t.Cleanup(func() {
		must(t, server.Close())
		must(t, l.Close())
	})
	c.addr = l.Addr().String()
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// beat sends a heartbeat, and reports whether it is answered.
func beat(conn net.Conn) bool {
	if _, err := conn.Write(heartbeatFrame(1)); err != nil {
		return false
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, make([]byte, binary.BigEndian.Uint32(head[:])))
	return err == nil
}

// TestRevokedClientsAreGone over QUIC: the one that is connected, the one that comes anew, and
// the one whose ticket is of before, whose requests in 0-RTT nobody may serve.
func TestRevokedClientsAreGone(t *testing.T) {
	c := newCertified(t, true)
	config := c.ca.Client("alice")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	fresh := c.ca.Client("alice")
	early := false
	for range 100 { // a ticket may come late
		d := &sdkquic.Dialer{TLS: config}
		conn, err := d.DialContext(t.Context(), "tcp", c.addr)
		must(t, err)
		if !beat(conn) {
			t.Fatal("a client with a good certificate is refused")
		}
		got := <-c.served
		if got.principal != "User:CN=alice" {
			t.Fatalf("it is %+v", got)
		}
		early = got.early
		must(t, conn.Close())
		must(t, d.Close())
		if early {
			break
		}
	}
	if !early {
		t.Fatal("no request came in 0-RTT: the test shows nothing")
	}
	live, err := dialer(t, fresh).DialContext(t.Context(), "tcp", c.addr)
	must(t, err)
	if !beat(live) {
		t.Fatal("a client with a good certificate is refused")
	}
	<-c.served
	c.ca.Revoke("alice")
	must(t, c.trust.Reload())
	if n := c.clients.Judge(); n != 1 {
		t.Errorf("%d connections are cut off", n)
	}
	if _, err := live.Read(make([]byte, 1)); err == nil {
		t.Error("who is cut off is answered")
	}
	for what, config := range map[string]*tls.Config{"anew": fresh, "with a ticket of before": config} {
		conn, err := dialer(t, config).DialContext(t.Context(), "tcp", c.addr)
		if err == nil && beat(conn) {
			t.Errorf("a revoked client is served that comes %s", what)
		}
	}
	select {
	case got := <-c.served:
		t.Errorf("a request of a revoked client is served: %+v", got)
	default:
	}
}

// TestClientsWithoutACertificate are nobody where it is requested, and refused where it is
// required; one of another authority is refused in both.
func TestClientsWithoutACertificate(t *testing.T) {
	other := pkitest.New(t, "theirs")
	other.Sign("alice", &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	for _, required := range []bool{true, false} {
		c := newCertified(t, required)
		roots := c.ca.Client("alice").RootCAs
		conn, err := dialer(t, &tls.Config{RootCAs: roots}).DialContext(t.Context(), "tcp", c.addr)
		if in := err == nil && beat(conn); in == required {
			t.Errorf("required %v: without one, let in %v: %v", required, in, err)
		} else if !in {
			c.log.await(t, "client didn't provide a certificate")
			c.toldRefusal(t)
		} else {
			if got := <-c.served; got.principal != "User:ANONYMOUS" {
				t.Errorf("without one it is %+v", got)
			}
		}
		foreign := other.Client("alice").Certificates[0]
		conn, err = dialer(t, &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }}).DialContext(t.Context(), "tcp", c.addr)
		if err == nil && beat(conn) {
			t.Errorf("required %v: one of another authority is let in", required)
		}
		c.toldRefusal(t)
	}
}

// toldRefusal waits until somebody is told of a client that is refused.
func (c *certified) toldRefusal(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.refused:
		if err == nil {
			t.Error("nobody is told why it is refused")
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody is told that it is refused")
	}
}
