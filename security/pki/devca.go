package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Names of the files in the directory.
const (
	CAFile     = "ca.pem"
	caKeyFile  = "ca.key"
	serverFile = "server.pem"
	serverKey  = "server.key"
)

// Ages of what is made here.
const (
	caYears    = 10
	serverDays = 397 // the longest that browsers accept
	renewDays  = 30  // before the end
	backdate   = time.Hour
)

// Development loads the development certificates of a directory, and makes
// those that are missing, too old, or do not name all hosts. hosts are names or
// addresses; localhost and the loopback addresses are always among them.
func Development(dir string, hosts []string, now time.Time) (tls.Certificate, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate directory: %w", err)
	}
	ca, caKey, err := loadPair(dir, CAFile, caKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		ca, caKey, err = makeCA(dir, now)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("development CA in %s: %w", dir, err)
	}
	hosts = append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	leaf, key, err := loadPair(dir, serverFile, serverKey)
	if err != nil || !usable(leaf, ca, hosts, now) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return tls.Certificate{}, fmt.Errorf("server certificate in %s: %w", dir, err)
		}
		if leaf, key, err = makeServer(dir, ca, caKey, hosts, now); err != nil {
			return tls.Certificate{}, fmt.Errorf("server certificate in %s: %w", dir, err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// usable reports whether the server certificate is the CA's, current, and names
// all hosts.
func usable(leaf, ca *x509.Certificate, hosts []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(ca) != nil || now.AddDate(0, 0, renewDays).After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func makeCA(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	return issue(dir, CAFile, caKeyFile, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "rustmq development CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, nil)
}

func makeServer(dir string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, hosts []string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "rustmq server"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(0, 0, serverDays),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	slices.Sort(hosts)
	for _, h := range slices.Compact(hosts) {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return issue(dir, serverFile, serverKey, template, ca, caKey)
}

// issue makes a key and a certificate, and writes both. A nil parent signs
// itself.
func issue(dir, certName, keyName string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	// The key first: a certificate without its key is worse than none.
	if err := replace(filepath.Join(dir, keyName), "PRIVATE KEY", keyDER, 0o600); err != nil {
		return nil, nil, err
	}
	return cert, key, replace(filepath.Join(dir, certName), "CERTIFICATE", der, 0o644)
}

// replace writes a PEM file so that a reader sees the old one or the new one.
func replace(name, kind string, der []byte, mode os.FileMode) error {
	tmp := name + ".tmp"
	raw := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(tmp, raw, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// loadPair reads a certificate and its key; fs.ErrNotExist when either is
// missing.
func loadPair(dir, certName, keyName string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certName))
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyName))
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s and %s: %w", certName, keyName, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s: want an ECDSA key", keyName)
	}
	return pair.Leaf, key, nil
}

// ClientConfig trusts the CA of a file, for TLS and QUIC clients.
func ClientConfig(caFile string) (*tls.Config, error) {
	raw, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read the CA to trust: no certificate in %s", caFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
