package pki_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

func TestCertificateVerifiesForItsHosts(t *testing.T) {
	dir := t.TempDir()
	cert, err := pki.Development(dir, []string{"broker.example", "10.1.2.3"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "broker.example", "10.1.2.3"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: trust.RootCAs}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "other.example", Roots: trust.RootCAs}); err == nil {
		t.Error("the certificate is good for a host that was not asked for")
	}
	for _, key := range []string{"ca.key", "server.key"} {
		st, err := os.Stat(filepath.Join(dir, key))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: %v", key, st.Mode())
		}
	}
}

func TestCertificateIsKeptAndRenewed(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	load := func(now time.Time, hosts ...string) []byte {
		t.Helper()
		cert, err := pki.Development(dir, hosts, now)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Certificate[0]
	}
	first := load(now)
	ca, err := os.ReadFile(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, load(now.AddDate(0, 6, 0))) {
		t.Error("a good certificate was replaced")
	}
	if bytes.Equal(first, load(now.AddDate(1, 0, 15))) {
		t.Error("a certificate near its end was kept")
	}
	second := load(now)
	if bytes.Equal(second, load(now, "new.example")) {
		t.Error("a certificate that lacks a host was kept")
	}
	after, err := os.ReadFile(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ca, after) {
		t.Error("the CA was replaced: every client would have to trust another one")
	}
}

func TestDamagedKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if _, err := pki.Development(dir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Development(dir, nil, time.Now()); err == nil {
		t.Fatal("a damaged CA key was read as absent")
	}
}
