package pkitest

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
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

// from and to hold the clock of a synctest bubble too, which begins in 2000.
var from, to = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// Authority signs certificates, which it writes into a directory of the test.
type Authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64 // serial number

	issued  map[string]*x509.Certificate
	revoked []x509.RevocationListEntry
	lists   int64 // number of the last revocation list
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), issued: map[string]*x509.Certificate{}}
	a.cert, a.key = a.sign("ca", &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	a.writeList()
	return a
}

// Both is the usages of a server's certificate.
func Both() []x509.ExtKeyUsage {
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
}

// CAFile is the certificate of the authority.
func (a *Authority) CAFile() string { return filepath.Join(a.dir, "ca.pem") }

// CertFile and KeyFile are those of what was issued by a name.
func (a *Authority) CertFile(name string) string { return filepath.Join(a.dir, name+".pem") }

// KeyFile is as of CertFile.
func (a *Authority) KeyFile(name string) string { return filepath.Join(a.dir, name+".key") }

// Sign writes a certificate as the template says, valid unless that says when.
func (a *Authority) Sign(name string, template *x509.Certificate) {
	a.t.Helper()
	a.sign(name, template)
}

func (a *Authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	a.next++
	template.SerialNumber = big.NewInt(a.next)
	if template.Subject.CommonName == "" {
		template.Subject.CommonName = name
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = from, to
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	a.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	for file, block := range map[string]*pem.Block{a.CertFile(name): {Type: "CERTIFICATE", Bytes: der}, a.KeyFile(name): {Type: "PRIVATE KEY", Bytes: private}} {
		a.must(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	a.issued[name] = cert
	return cert, key
}

// Chain is what was issued by a name, and the authority.
func (a *Authority) Chain(name string) []*x509.Certificate {
	return []*x509.Certificate{a.issued[name], a.cert}
}

// ListFile is the authority's revocation list.
func (a *Authority) ListFile() string { return filepath.Join(a.dir, "crl.pem") }

// Revoke puts what was issued by a name on the list.
func (a *Authority) Revoke(name string) {
	a.t.Helper()
	a.revoked = append(a.revoked, x509.RevocationListEntry{SerialNumber: a.issued[name].SerialNumber, RevocationTime: from})
	a.writeList()
}

// writeList replaces the list as a whole, as servers that read it want it.
func (a *Authority) writeList() {
	a.t.Helper()
	a.must(os.WriteFile(a.ListFile()+".new", a.List(), 0o600))
	a.must(os.Rename(a.ListFile()+".new", a.ListFile()))
}

// List is the authority's revocation list in PEM, with changes.
func (a *Authority) List(changes ...func(*x509.RevocationList)) []byte {
	a.t.Helper()
	a.lists++
	list := &x509.RevocationList{Number: big.NewInt(a.lists), ThisUpdate: from, NextUpdate: to, RevokedCertificateEntries: slices.Clone(a.revoked)}
	for _, change := range changes {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	a.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// Server is the template of a server's certificate.
func Server(id pki.Identity, hosts ...string) *x509.Certificate {
	template := &x509.Certificate{ExtKeyUsage: Both(), KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URI()}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return template
}

// Mutual issues a certificate to a server, and loads it as that does.
func (a *Authority) Mutual(name string, id pki.Identity, hosts ...string) *pki.Mutual {
	a.t.Helper()
	a.Sign(name, Server(id, hosts...))
	m, err := a.Load(name, id)
	a.must(err)
	return m
}

// Load loads what was issued by a name as the server with an identity does.
func (a *Authority) Load(name string, id pki.Identity) (*pki.Mutual, error) {
	return pki.LoadMutual(pki.MutualOptions{
		CAFile: a.CAFile(), CertFile: a.CertFile(name), KeyFile: a.KeyFile(name), RevocationFile: a.ListFile(), Node: id.Node, Roles: id.Roles, Now: time.Now,
	})
}

// Client is how whoever holds what was issued by a name connects, be it a server's or not.
func (a *Authority) Client(name string) *tls.Config {
	a.t.Helper()
	cert, err := tls.LoadX509KeyPair(a.CertFile(name), a.KeyFile(name))
	a.must(err)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{cert}}
}
