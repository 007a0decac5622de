package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// certificateBlock is the PEM type of a certificate.
const certificateBlock = "CERTIFICATE"

// replace writes a PEM file so that a reader, also one after a power cut, sees
// the old one or the new one.
func replace(name, kind string, der []byte, mode os.FileMode) (err error) {
	tmp := name + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ParseCertificates reads one or several in PEM, in their order; what else is among them is
// passed over.
func ParseCertificates(raw []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateBlock {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return all, nil
}

// readCertificate reads the first certificate of a file.
func readCertificate(name string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	all, err := ParseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return all[0], nil
}

// readKey reads an ECDSA key that nobody else may read.
func readKey(name string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !guard.Check("pki.key-private", info.Mode().Perm()&0o077 == 0) {
		return nil, fmt.Errorf("%s can be read or written by others (mode %04o): chmod 600 %s, or remove it if it was seen",
			filepath.Base(name), info.Mode().Perm(), name)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in it", filepath.Base(name))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		return ec, nil
	}
	return nil, fmt.Errorf("%s: want an ECDSA key", filepath.Base(name))
}

// PeriodError says that a certificate is not valid at a time.
type PeriodError struct {
	Subject             string
	NotBefore, NotAfter time.Time
	At                  time.Time
}

func (e *PeriodError) Error() string {
	if e.At.Before(e.NotBefore) {
		return fmt.Sprintf("the certificate of %s is not valid before %s, and the clock says %s", e.Subject, e.NotBefore.Format(time.RFC3339), e.At.Format(time.RFC3339))
	}
	return fmt.Sprintf("the certificate of %s has ended on %s", e.Subject, e.NotAfter.Format(time.RFC3339))
}

func within(cert *x509.Certificate, at time.Time) error {
	if !guard.Check("pki.period", !at.Before(cert.NotBefore) && !at.After(cert.NotAfter)) {
		return &PeriodError{cert.Subject.String(), cert.NotBefore, cert.NotAfter, at}
	}
	return nil
}

// Load reads an operator's certificate, with its chain, and its key. One that is
// not valid at that time is refused with a *PeriodError.
func Load(certFile, keyFile string, now time.Time) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load the certificate %s with the key %s: %w", certFile, keyFile, err)
	}
	if err := within(cert.Leaf, now); err != nil {
		return tls.Certificate{}, fmt.Errorf("load %s: %w", certFile, err)
	}
	return cert, nil
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
