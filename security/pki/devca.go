package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
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

// Names of the files in the directory. ServerFile is what the server shows.
const (
	CAFile     = "ca.pem"
	caKeyFile  = "ca.key"
	ServerFile = "server.pem"
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
// addresses; localhost and the loopback addresses are always among them. A CA
// is made once and never replaced: its clients would have to trust another. Where now
// is before it was made, what is there is served, and what is made is as of then.
func Development(dir string, hosts []string, now time.Time) (tls.Certificate, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate directory: %w", err)
	}
	ca, err := openCA(dir, now)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("development CA in %s: %w", dir, err)
	}
	hosts = append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	leaf, key, err := ca.server(dir, hosts, now)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server certificate in %s: %w", dir, err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// authority is the development CA. Its key is nil where it is not at hand: then
// it signs nothing, and what it has signed goes on.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func openCA(dir string, now time.Time) (authority, error) {
	cert, err := readCertificate(filepath.Join(dir, CAFile))
	if errors.Is(err, fs.ErrNotExist) {
		// Whether there is a key or not: nobody trusts it yet.
		return makeCA(dir, now)
	}
	if err != nil {
		return authority{}, err
	}
	if err := within(cert, notBefore(cert, now)); err != nil {
		return authority{}, fmt.Errorf("%s: %w; is the clock right? If it is, remove that file and %s to have another made, which every client must then trust", CAFile, err, caKeyFile)
	}
	key, err := readKey(filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return authority{cert, nil}, nil
	}
	if err != nil {
		return authority{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return authority{}, fmt.Errorf("%s is not the key of %s", caKeyFile, CAFile)
	}
	return authority{cert, key}, nil
}

// notBefore is the time to judge a certificate by that was made on this machine: where
// the clock is before that, it is behind, or was ahead then. Neither is a reason to be
// without it: whoever is to trust it has a clock of his own.
func notBefore(cert *x509.Certificate, now time.Time) time.Time {
	if now.Before(cert.NotBefore) {
		return cert.NotBefore.Add(backdate)
	}
	return now
}

// server returns the server certificate, made anew where the one that is there
// is not good enough.
func (ca authority) server(dir string, hosts []string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	behind := now.Before(ca.cert.NotBefore)
	now = notBefore(ca.cert, now)
	leaf, err := readCertificate(filepath.Join(dir, ServerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ca.issueServer(dir, hosts, now)
	case err != nil:
		return nil, nil, err
	case leaf.CheckSignatureFrom(ca.cert) != nil:
		return nil, nil, fmt.Errorf("%s was not issued by %s: name certificates of your own in security.tls, or remove it", ServerFile, CAFile)
	}
	if behind { // one made now would end too soon
		now = notBefore(leaf, now)
	}
	key, err := readKey(filepath.Join(dir, serverKey))
	if err != nil || !key.PublicKey.Equal(leaf.PublicKey) || !covers(leaf, hosts, now) {
		// Also what a power cut between the two files has left.
		return ca.issueServer(dir, hosts, now)
	}
	return leaf, key, nil
}

// covers reports whether the certificate is current, not near its end, and
// names all hosts.
func covers(leaf *x509.Certificate, hosts []string, now time.Time) bool {
	if within(leaf, now) != nil || within(leaf, now.AddDate(0, 0, renewDays)) != nil {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func makeCA(dir string, now time.Time) (authority, error) {
	cert, key, err := issue(dir, CAFile, caKeyFile, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "rustmq development CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, authority{})
	return authority{cert, key}, err
}

func (ca authority) issueServer(dir string, hosts []string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	if ca.key == nil {
		return nil, nil, fmt.Errorf("a new one is needed, for %v, and %s is not there to sign it", hosts, caKeyFile)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "rustmq server"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(0, 0, serverDays),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	slices.Sort(hosts)
	for _, h := range slices.Compact(hosts) {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return issue(dir, ServerFile, serverKey, template, ca)
}

// issue makes a key and a certificate, and writes both. A parent without a key
// is the certificate itself.
func issue(dir, certName, keyName string, template *x509.Certificate, parent authority) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	if parent.key == nil {
		parent = authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
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
	if err := replace(filepath.Join(dir, certName), certificateBlock, der, 0o644); err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}
