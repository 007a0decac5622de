package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

// signer is an authority of a test.
type signer struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(t *testing.T, name string) *signer {
	t.Helper()
	s := &signer{t: t, dir: t.TempDir()}
	s.cert, s.key = s.issue("ca", &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return s
}

// issue writes NAME.pem and NAME.key.
func (s *signer) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := s.cert, s.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(s.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert, key
}

func (s *signer) server(name string, usages ...x509.ExtKeyUsage) (*pki.Mutual, error) {
	s.t.Helper()
	s.issue(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: usages, KeyUsage: x509.KeyUsageDigitalSignature})
	return pki.LoadMutual(filepath.Join(s.dir, "ca.pem"), filepath.Join(s.dir, name+".pem"), filepath.Join(s.dir, name+".key"), time.Now)
}

// handshake connects from client to server, and returns what each side says.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(10 * time.Second)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	said := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		a.Close()
		said <- err
	}()
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	c := tls.Client(b, client)
	_, atClient = c.Read(make([]byte, 1)) // a refused certificate is told with the first bytes
	b.Close()
	return <-said, atClient
}

// TestServersKnowEachOther holds that each side proves who it is, and that nobody without
// a certificate of the same authority is let in, or taken for a server.
func TestServersKnowEachOther(t *testing.T) {
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	ours, theirs := newSigner(t, "ours"), newSigner(t, "theirs")
	one, err := ours.server("one", both...)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ours.server("two", both...)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := theirs.server("stranger", both...)
	if err != nil {
		t.Fatal(err)
	}
	if s, c := handshake(t, one.ServerConfig(), two.ClientConfig()); s != nil || c != nil {
		t.Errorf("of one cluster: %v, %v", s, c)
	}
	if s, _ := handshake(t, one.ServerConfig(), stranger.ClientConfig()); s == nil {
		t.Error("a stranger's server is called and goes on")
	}
	for what, client := range map[string]*tls.Config{
		"nobody": {RootCAs: two.ClientConfig().RootCAs, MinVersion: tls.VersionTLS13},
		"an older version": func() *tls.Config {
			c := two.ClientConfig()
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		}(),
		"a stranger": func() *tls.Config {
			c := stranger.ClientConfig()
			c.RootCAs = two.ClientConfig().RootCAs
			return c
		}(),
	} {
		if s, c := handshake(t, one.ServerConfig(), client); s == nil || c == nil {
			t.Errorf("%s is let in: %v, %v", what, s, c)
		}
	}
	if err := one.Reload(); err != nil {
		t.Error(err)
	}
}

// TestCertificateThatPeersWouldRefuse is told at the start, and not by others.
func TestCertificateThatPeersWouldRefuse(t *testing.T) {
	ours, theirs := newSigner(t, "ours"), newSigner(t, "theirs")
	if _, err := ours.server("half", x509.ExtKeyUsageServerAuth); err == nil || !strings.Contains(err.Error(), "would be refused by the other servers") {
		t.Errorf("for one side only: %v", err)
	}
	if _, err := theirs.server("one", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth); err != nil {
		t.Fatal(err)
	}
	_, err := pki.LoadMutual(filepath.Join(ours.dir, "ca.pem"), filepath.Join(theirs.dir, "one.pem"), filepath.Join(theirs.dir, "one.key"), time.Now)
	if err == nil || !strings.Contains(err.Error(), "would be refused by the other servers") {
		t.Errorf("of another authority: %v", err)
	}
	if _, err := pki.LoadMutual(filepath.Join(ours.dir, "ca.key"), "", "", time.Now); err == nil || !strings.Contains(err.Error(), "no certificate in PEM") {
		t.Errorf("no authority: %v", err)
	}
}
