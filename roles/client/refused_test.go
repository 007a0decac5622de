package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/security/pki"
)

// clientCertificate makes one that signs itself, and returns its files.
func clientCertificate(t *testing.T, subject pkix.Name) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "c.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		writeFile(t, "c.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

// TestRefusedSaysWhatToShow has a broker that asks for certificates, and one that asks for a
// password, both over TLS.
func TestRefusedSaysWhatToShow(t *testing.T) {
	dir := t.TempDir()
	own, err := pki.Development(dir, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca := " --tls --cafile " + filepath.Join(dir, pki.CAFile)
	_, mutual := broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}))
	_, asks := broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{own}}), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "alice", "secret"))
	cert, key := clientCertificate(t, pkix.Name{CommonName: "alice"})
	for _, c := range []struct{ flags, want string }{
		{"-b " + mutual + ca, "; it wants to see a certificate of the client: give --cert and --cert-key"},
		{"-b " + mutual + ca + " --cert " + cert + " --cert-key " + key, "; it does not take the certificate " + cert + ", which may be revoked"},
		{"-b " + asks + ca, "; it may ask who its clients are: give --user or --token-file"},
	} {
		err := fails(t, "x\n", append([]string{"produce", "t"}, strings.Fields(c.flags)...)...)
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "leave --tls out") {
			t.Errorf("%s: %v, want …%s", c.flags, err, c.want)
		}
	}
}

// lingers has connections that are closed read on until the client has closed its side too: what
// it has written meanwhile would have the kernel reset the connection, and an alert on its way be lost.
func lingers(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return lingering{l}, err
}

type lingering struct{ net.Listener }

func (l lingering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return lingeringConn{conn.(*net.TCPConn)}, nil
}

type lingeringConn struct{ *net.TCPConn }

func (c lingeringConn) Close() error {
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if c.CloseWrite() != nil { // the client is gone
		return c.TCPConn.Close()
	}
	go func() {
		_, _ = io.Copy(io.Discard, c.TCPConn) // whatever it is, nobody wants it
		_ = c.TCPConn.Close()
	}()
	return nil
}

// TestRefusedInTheMiddle has a broker that knows its client when the command begins, and takes
// no further connection of it: over TLS 1.3 the client learns so by what it reads.
func TestRefusedInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	own, err := pki.Development(dir, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var handshakes atomic.Int32
	_, addr := broker(t, kfake.ListenFn(lingers), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(tls.ConnectionState) error {
			if handshakes.Add(1) > 1 {
				return errors.New("revoked meanwhile")
			}
			return nil
		},
	}))
	cert, key := clientCertificate(t, pkix.Name{CommonName: "alice"})
	w := newWorld("x\n")
	err = w.run(t.Context(), "produce", "t", "-b", addr, "--tls", "--cafile", filepath.Join(dir, pki.CAFile), "--cert", cert, "--cert-key", key, "--timeout", "4s")
	hint := "refuses this client: remote error: tls: bad certificate; it does not take the certificate " + cert
	if !errors.Is(err, kgo.ErrRecordTimeout) || !strings.Contains(err.Error(), hint) {
		t.Errorf("%v, want a time-out of records, and …%s", err, hint)
	}
	if n := strings.Count(w.stderr.String(), hint); n != 1 {
		t.Errorf("it was said %d times on the way, want 1: %s", n, w.stderr)
	}
}

// TestDeniedNamesTheRule has each way in which a command says who it is.
func TestDeniedNamesTheRule(t *testing.T) {
	cert, key := clientCertificate(t, pkix.Name{CommonName: "alice", Organization: []string{"Ann's shop"}})
	for _, c := range []struct {
		login Login
		err   error
		want  string
	}{
		{Login{}, kerr.TopicAuthorizationFailed, "--principal ANONYMOUS --resource topic.t --permissions write"},
		{Login{User: "bob"}, kerr.ClusterAuthorizationFailed, "--principal bob --resource topic.t --permissions write"},
		{Login{User: "bob", CertFile: cert, KeyFile: key}, kerr.GroupAuthorizationFailed, "--principal bob --resource group.g --permissions read"},
		{Login{CertFile: cert, KeyFile: key}, kerr.TopicAuthorizationFailed, `--principal 'CN=alice,O=Ann'\''s shop' --resource topic.t`},
		{Login{TokenFile: "t"}, kerr.TopicAuthorizationFailed, "--principal NAME --resource"},
	} {
		connection := connection{login: c.login}
		err := connection.denied(c.err, "t", "g", "write")
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), "rustmq admin acl create "+c.want) {
			t.Errorf("%+v: %v, want …%s", c.login, err, c.want)
		}
		if other := connection.denied(kerr.NotLeaderForPartition, "t", "g", "write"); other != error(kerr.NotLeaderForPartition) {
			t.Error(other)
		}
	}
}
