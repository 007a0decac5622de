package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"
)

// Mutual is how the servers of a cluster know each other: each has a certificate that
// one of the same authorities has signed, and shows it on both sides of a connection.
type Mutual struct {
	keeper *Keeper
	roots  *x509.CertPool
}

// LoadMutual reads PEM files: the authorities, and the chain and key of this server. The
// chain is one that its own peers would take at that time, or an error.
func LoadMutual(caFile, certFile, keyFile string, now func() time.Time) (*Mutual, error) {
	raw, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	m := &Mutual{roots: x509.NewCertPool()}
	if !m.roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	m.keeper, err = Keep(func() (tls.Certificate, error) {
		cert, err := Load(certFile, keyFile, now())
		if err != nil {
			return cert, err
		}
		intermediates := x509.NewCertPool()
		for _, der := range cert.Certificate[1:] {
			if c, err := x509.ParseCertificate(der); err == nil {
				intermediates.AddCert(c)
			}
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: intermediates, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{usage}})
			if err != nil {
				return cert, fmt.Errorf("%s would be refused by the other servers, as one side of a connection or the other (authorities: %s): %w", certFile, caFile, err)
			}
		}
		return cert, nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Reload reads the chain and key again; connections that are open stay as they are.
// On an error the ones before go on.
func (m *Mutual) Reload() error { return m.keeper.Reload() }

// ServerConfig takes connections of servers that prove who they are.
func (m *Mutual) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.keeper.Current(), nil },
	}
}

// ClientConfig makes connections to such servers, whose certificates name the host that
// is dialled.
func (m *Mutual) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: m.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.keeper.Current(), nil },
	}
}
