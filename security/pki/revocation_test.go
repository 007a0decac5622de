package pki_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

// trusting is who takes clients of an authority, less what its list has.
func trusting(t *testing.T, a *pkitest.Authority, required bool) (*pki.Clients, *pki.Trust) {
	t.Helper()
	trust, err := pki.OpenTrust(pki.TrustOptions{CAFile: a.CAFile(), RevocationFile: a.ListFile()})
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := pki.ParseMapping("RULE:CN=([^,]*)/$1/")
	if err != nil {
		t.Fatal(err)
	}
	return pki.NewClients(pki.ClientsOptions{Trust: trust, Required: required, Mapping: mapping}), trust
}

func client(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// TestWaysInByCertificate is what a client may show, and what becomes of it.
// It is a table, and as long as that.
func TestWaysInByCertificate(t *testing.T) {
	ours, theirs := pkitest.New(t, "ours"), pkitest.New(t, "theirs")
	ours.Sign("server", pkitest.Server(node(1), "127.0.0.1"))
	now := time.Now()
	for name, template := range map[string]*x509.Certificate{
		"alice": client("alice"), "revoked": client("revoked"), "unmapped": {Subject: pkix.Name{CommonName: "x", Organization: []string{"o"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"expired":     {NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"not yet":     {NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"server only": {ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"anonymous":   client("ANONYMOUS"),
	} {
		ours.Sign(name, template)
	}
	theirs.Sign("foreign", client("alice"))
	ours.Revoke("revoked")
	keeper, err := pki.Keep(func() (tls.Certificate, error) {
		return pki.Load(ours.CertFile("server"), ours.KeyFile("server"), now)
	})
	if err != nil {
		t.Fatal(err)
	}
	required, _ := trusting(t, ours, true)
	requested, _ := trusting(t, ours, false)
	trust := ours.Client("alice").RootCAs
	shows := func(a *pkitest.Authority, name string) *tls.Config {
		c := a.Client(name)
		c.RootCAs = trust
		cert := c.Certificates[0] // shown whatever authorities are asked for
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return c
	}
	old := shows(ours, "alice")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for what, c := range map[string]struct {
		shows *tls.Config
		asked string // principal where a certificate is required; "": refused
		free  string // where it is requested
	}{
		"its own":          {shows(ours, "alice"), "User:alice", "User:alice"},
		"none":             {&tls.Config{RootCAs: trust}, "", "nobody"},
		"of another CA":    {shows(theirs, "foreign"), "", ""},
		"expired":          {shows(ours, "expired"), "", ""},
		"not valid yet":    {shows(ours, "not yet"), "", ""},
		"revoked":          {shows(ours, "revoked"), "", ""},
		"for servers only": {shows(ours, "server only"), "", ""},
		"of no principal":  {shows(ours, "unmapped"), "", ""},
		"nobody's name":    {shows(ours, "anonymous"), "", ""},
		"an older version": {old, "", ""},
		"without its key":  {&tls.Config{RootCAs: trust, Certificates: []tls.Certificate{{Certificate: shows(ours, "alice").Certificates[0].Certificate, PrivateKey: shows(ours, "revoked").Certificates[0].PrivateKey}}}, "", ""},
	} {
		for clients, want := range map[*pki.Clients]string{required: c.asked, requested: c.free} {
			config := clients.ServerConfig(keeper.ServerConfig(tls.VersionTLS13))
			var is string
			verify := config.GetConfigForClient
			config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				inner, err := verify(h)
				inner = inner.Clone()
				judge := inner.VerifyConnection
				inner.VerifyConnection = func(s tls.ConnectionState) error {
					if err := judge(s); err != nil {
						return err
					}
					c, err := clients.Identify(s)
					if is = c.Principal; is == "" {
						is = "nobody"
					}
					return err
				}
				return inner, err
			}
			atServer, atClient := handshake(t, config, c.shows)
			if in := atServer == nil && atClient == nil; in != (want != "") || in && is != want {
				t.Errorf("%s: it is %q, %v, %v; want %q", what, is, atServer, atClient, want)
			}
		}
	}
}

// TestListsAreReadAgainWhileTheyChange in simulated time: a list is taken once its file is
// at rest, one that is damaged is said once and not taken, and the clients on it are cut off.
// It is one story, and as long as that.
func TestListsAreReadAgainWhileTheyChange(t *testing.T) {
	ours := pkitest.New(t, "ours")
	ours.Sign("alice", client("alice"))
	ours.Sign("bob", client("bob"))
	good, err := os.ReadFile(ours.ListFile())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		clients, trust := trusting(t, ours, true)
		state := func(name string) tls.ConnectionState {
			return tls.ConnectionState{PeerCertificates: ours.Chain(name), VerifiedChains: [][]*x509.Certificate{ours.Chain(name)}}
		}
		var cut atomic.Pointer[error]
		for _, name := range []string{"alice", "bob"} {
			c, err := clients.Identify(state(name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Hold(func(err error) {
				if name == "bob" {
					t.Error("bob is cut off")
				}
				cut.Store(&err)
			})()
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		var judged, failed atomic.Int32
		go func() {
			defer close(done)
			trust.Watch(ctx, time.Second, func(bool) { clients.Judge(); judged.Add(1) }, func(error) { failed.Add(1) })
		}()
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		ours.Revoke("alice")
		revoked, err := os.ReadFile(ours.ListFile())
		if err != nil {
			t.Fatal(err)
		}
		pass(1500 * time.Millisecond)
		if cut.Load() != nil {
			t.Error("the list is taken while it may be written to")
		}
		pass(time.Second)
		var gone *pki.RevokedError
		if err := cut.Load(); err == nil || !errors.As(*err, &gone) {
			t.Fatalf("alice goes on: %v", err)
		}
		if _, err := clients.Identify(state("alice")); !errors.As(err, &gone) {
			t.Errorf("alice comes again: %v", err)
		}
		if _, err := clients.Identify(state("bob")); err != nil {
			t.Errorf("bob: %v", err)
		}
		write := func(content []byte) {
			if err := os.WriteFile(ours.ListFile(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
		}
		write(revoked[:len(revoked)-40])
		write(nil)
		if err := os.Remove(ours.ListFile()); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if n := failed.Load(); n != 3 {
			t.Errorf("three files that are none: said %d times", n)
		}
		if _, err := clients.Identify(state("alice")); !errors.As(err, &gone) {
			t.Errorf("a list that cannot be read lets alice in: %v", err)
		}
		write(good)
		if _, err := clients.Identify(state("alice")); err != nil || judged.Load() < 2 {
			t.Errorf("alice is on the list no more: %v, judged %d times", err, judged.Load())
		}
		stop()
		<-done
	})
}

// TestConnectionsEndWithTheirCertificates, and not with the authority: that one may be
// followed by another.
func TestConnectionsEndWithTheirCertificates(t *testing.T) {
	ours, next := pkitest.New(t, "ours"), pkitest.New(t, "next")
	now := time.Now()
	short := client("short")
	short.NotBefore, short.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	ours.Sign("short", short)
	trust, err := pki.OpenTrust(pki.TrustOptions{CAFile: ours.CAFile(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	chains := [][]*x509.Certificate{ours.Chain("short")}
	connections, ended := pki.NewConnections(trust), 0
	leave := connections.Hold(chains, func(error) { ended++ })
	other, err := os.ReadFile(next.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ours.CAFile(), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trust.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := connections.Judge(); n != 0 || ended != 0 {
		t.Error("who was admitted is cut off, for its authority is followed by another")
	}
	if err := trust.Admit(chains); err == nil {
		t.Error("a resumed session is admitted whose authority is trusted no more")
	}
	now = now.Add(2 * time.Hour)
	if connections.Judge(); ended != 1 {
		t.Error("a connection goes on with a certificate that has ended")
	}
	if connections.Judge(); ended != 1 {
		t.Error("it is ended twice")
	}
	leave()
	if n := connections.Judge(); n != 0 {
		t.Errorf("%d are held that are gone", n)
	}
	late := 0
	defer connections.Hold(chains, func(error) { late++ })()
	if late != 1 {
		t.Error("what has ended before it is held goes on")
	}
}

// TestListsThatSayTooLittle are refused: nobody could tell who is revoked.
func TestListsThatSayTooLittle(t *testing.T) {
	ours := pkitest.New(t, "ours")
	good, err := os.ReadFile(ours.ListFile())
	if err != nil {
		t.Fatal(err)
	}
	extension := func(critical bool, oid ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: asn1.NullBytes})
		}
	}
	entry := func(critical bool, oid ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: l.Number, RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{{Id: oid, Critical: critical, Value: asn1.NullBytes}},
			})
		}
	}
	for what, raw := range map[string][]byte{
		"nothing": nil, "text": []byte("none"), "cut": good[:len(good)-40], "twice, the second cut": append(bytes.Clone(good), good[:50]...),
		"a certificate":             must1(os.ReadFile(ours.CAFile())),
		"a delta":                   ours.List(extension(true, 2, 5, 29, 27)),
		"a part":                    ours.List(extension(false, 2, 5, 29, 28)),
		"what is not known":         ours.List(extension(true, 1, 2, 3)),
		"of several issuers":        ours.List(entry(true, 2, 5, 29, 29)),
		"garbage in the block":      pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{0x30, 0x80}}),
		"a list in the wrong block": pem.EncodeToMemory(&pem.Block{Type: "CRL", Bytes: []byte{0x30, 0x80}}),
	} {
		if _, err := pki.ParseRevocations(raw); err == nil {
			t.Errorf("%s is taken for a list", what)
		}
	}
	block, _ := pem.Decode(good)
	for what, raw := range map[string][]byte{
		"one in DER": block.Bytes, "two": append(bytes.Clone(good), good...), "what may be left out": ours.List(extension(false, 1, 2, 3), entry(false, 1, 2, 3)),
	} {
		if _, err := pki.ParseRevocations(raw); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestListsOfOthersSayNothing: a list is its issuer's by its key, and not by a name.
func TestListsOfOthersSayNothing(t *testing.T) {
	ours, forged := pkitest.New(t, "ours"), pkitest.New(t, "ours")
	ours.Sign("alice", client("alice"))
	forged.Sign("alice", client("alice")) // of the same serial number
	forged.Revoke("alice")
	lists := must1(pki.ParseRevocations(append(must1(os.ReadFile(ours.ListFile())), must1(os.ReadFile(forged.ListFile()))...)))
	if err := lists.Check(ours.Chain("alice")); err != nil {
		t.Errorf("revoked by who has the issuer's name: %v", err)
	}
	var unlisted *pki.UnlistedError
	if err := must1(pki.ParseRevocations(must1(os.ReadFile(forged.ListFile())))).Check(ours.Chain("alice")); !errors.As(err, &unlisted) {
		t.Errorf("without a list of the issuer: %v", err)
	}
	if _, err := pki.ReadRevocations(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file")
	}
}

// FuzzRevocations reads files of lists, and asks them about a certificate.
func FuzzRevocations(f *testing.F) {
	ours := pkitest.New(f, "ours")
	ours.Sign("alice", client("alice"))
	ours.Revoke("alice")
	good := must1(os.ReadFile(ours.ListFile()))
	block, _ := pem.Decode(good)
	f.Add(good)
	f.Add(block.Bytes)
	f.Add(append(bytes.Clone(good), good[:30]...))
	chain := ours.Chain("alice")
	f.Fuzz(func(t *testing.T, raw []byte) {
		lists, err := pki.ParseRevocations(raw)
		if err != nil {
			return
		}
		if lists.Check(chain) == nil {
			t.Errorf("alice is let in by %q", raw)
		}
		lists.Overdue(time.Now())
	})
}
