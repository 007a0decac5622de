package kafka_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/kafka"
)

// principals answers heartbeats, and says who has sent each.
type principals chan string

func (p principals) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 12, Max: 4}} }
func (p principals) ConnClosed(*kafka.Conn)       {}
func (p principals) Serve(r *kafka.Request) {
	p <- r.Conn.Principal()
	req, err := r.Decode()
	if err != nil {
		r.Close(err)
		return
	}
	r.Respond(req.ResponseKind())
}

// watched is told whom the server lets in, and whom not.
type watched chan string

func (w watched) HandshakeRefused(_ net.Addr, transport string, _ error) {
	w <- "refused over " + transport
}
func (w watched) Identified(c *kafka.Conn) { w <- "identified " + c.Principal() }
func (w watched) Unauthenticated(_ *kafka.Conn, clientID string, _ error) {
	w <- "unauthenticated " + clientID
}
func (w watched) CertificateEnded(c *kafka.Conn, _ error) { w <- "ended " + c.Principal() }

func (w watched) says(t *testing.T, want ...string) {
	t.Helper()
	for _, line := range want {
		select {
		case got := <-w:
			if got != line {
				t.Errorf("%q, want %q", got, line)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing is said, want %q", line)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// beat sends a heartbeat, and reports whether it is answered.
func beat(conn net.Conn) bool {
	if _, err := conn.Write(frame(12, 0, 1, []byte{0, 0, 0, 0, 0, 0, 0, 0})); err != nil {
		return false
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, make([]byte, binary.BigEndian.Uint32(head[:])))
	return err == nil
}

// TestRevokedClientsAreGone over TLS of either version: the one that is connected, the one
// that comes anew, and the one that resumes a session of before.
func TestRevokedClientsAreGone(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { revokedClientsAreGone(t, version) })
	}
}

func revokedClientsAreGone(t *testing.T, version uint16) {
	ca := pkitest.New(t, "ours")
	ca.Sign("server", pkitest.Server(pki.Identity{Cluster: "prod", Node: 1, Roles: []string{pki.RoleBroker}}, "127.0.0.1"))
	ca.Sign("alice", &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	keeper, err := pki.Keep(func() (tls.Certificate, error) {
		return pki.Load(ca.CertFile("server"), ca.KeyFile("server"), time.Now())
	})
	must(t, err)
	trust, err := pki.OpenTrust(pki.TrustOptions{CAFile: ca.CAFile(), RevocationFile: ca.ListFile()})
	must(t, err)
	mapping, err := pki.ParseMapping("")
	must(t, err)
	clients := pki.NewClients(pki.ClientsOptions{Trust: trust, Required: true, Mapping: mapping})
	served, seen := make(principals, 10), make(watched, 100)
	server := kafka.New(kafka.Options{Handler: served, Watcher: seen, Identify: func(s tls.ConnectionState) (kafka.Client, error) {
		client, err := clients.Identify(s)
		return kafka.Client(client), err
	}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeListener(tls.NewListener(listener, clients.ServerConfig(keeper.ServerConfig(tls.VersionTLS12))), "kafka")
	}()
	t.Cleanup(func() {
		must(t, server.Close())
		<-ended
	})
	config := ca.Client("alice")
	config.MinVersion, config.MaxVersion = version, version
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	dial := func() (*tls.Conn, bool) {
		conn, err := tls.Dial("tcp", listener.Addr().String(), config)
		if err != nil {
			return nil, false
		}
		t.Cleanup(func() { _ = conn.Close() }) // the server may have ended it
		return conn, beat(conn)
	}
	live, ok := dial()
	if !ok {
		t.Fatal("a client with a good certificate is refused")
	}
	again, ok := dial()
	if !ok || !again.ConnectionState().DidResume {
		t.Fatalf("no session is resumed (%v): the test shows nothing", ok)
	}
	for range 2 {
		if who := <-served; who != "User:CN=alice" {
			t.Errorf("it is %s", who)
		}
	}
	seen.says(t, "identified User:CN=alice", "identified User:CN=alice")
	ca.Revoke("alice")
	must(t, trust.Reload())
	if n := clients.Judge(); n != 2 {
		t.Errorf("%d connections are cut off", n)
	}
	seen.says(t, "ended User:CN=alice", "ended User:CN=alice")
	if _, err := live.Read(make([]byte, 1)); err == nil {
		t.Error("who is cut off is answered")
	}
	if _, ok := dial(); ok {
		t.Error("a revoked client resumes its session")
	}
	seen.says(t, "refused over tls")
	config.ClientSessionCache = nil
	if _, ok := dial(); ok {
		t.Error("a revoked client is let in")
	}
	seen.says(t, "refused over tls")
	if len(served) > 0 {
		t.Errorf("a request of %s is served", <-served)
	}
}
