package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// write puts a file in place of one of the directory.
func write(t *testing.T, dir, name string, content []byte, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func makeTwo(t *testing.T) (first, second string) {
	t.Helper()
	first, second = t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if _, err := pki.Development(dir, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return first, second
}

// TestServerCertificateIsMadeAnewFromWhatIsLeft damages one file at a time, as
// power cuts and people do.
func TestServerCertificateIsMadeAnewFromWhatIsLeft(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir, other string){
		"key of another": func(t *testing.T, dir, other string) {
			write(t, dir, "server.key", read(t, other, "server.key"), 0o600)
		},
		"empty key":          func(t *testing.T, dir, _ string) { write(t, dir, "server.key", nil, 0o600) },
		"no key":             func(t *testing.T, dir, _ string) { must(t, os.Remove(filepath.Join(dir, "server.key"))) },
		"no certificate":     func(t *testing.T, dir, _ string) { must(t, os.Remove(filepath.Join(dir, "server.pem"))) },
		"key that was shown": func(t *testing.T, dir, _ string) { must(t, os.Chmod(filepath.Join(dir, "server.key"), 0o644)) },
		"left-over": func(t *testing.T, dir, _ string) {
			must(t, os.Remove(filepath.Join(dir, "server.pem")))
			must(t, os.WriteFile(filepath.Join(dir, "server.pem.tmp"), []byte("half"), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, other := makeTwo(t)
			ca, before := read(t, dir, "ca.pem"), read(t, dir, "server.key")
			damage(t, dir, other)
			cert, err := pki.Development(dir, nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: trust.RootCAs}); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(ca, read(t, dir, "ca.pem")) || bytes.Equal(before, read(t, dir, "server.key")) {
				t.Error("want the old CA and a new key")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatCannotBeMadeAnewIsAnError keeps every file as it is.
func TestWhatCannotBeMadeAnewIsAnError(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir, other string){
		"CA key of another":    func(t *testing.T, dir, other string) { write(t, dir, "ca.key", read(t, other, "ca.key"), 0o600) },
		"CA key that is shown": func(t *testing.T, dir, _ string) { must(t, os.Chmod(filepath.Join(dir, "ca.key"), 0o640)) },
		"empty CA":             func(t *testing.T, dir, _ string) { write(t, dir, "ca.pem", nil, 0o644) },
		"certificate of another CA": func(t *testing.T, dir, other string) {
			write(t, dir, "server.pem", read(t, other, "server.pem"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, other := makeTwo(t)
			damage(t, dir, other)
			var before [][]byte
			files := []string{"ca.pem", "ca.key", "server.pem", "server.key"}
			for _, f := range files {
				before = append(before, read(t, dir, f))
			}
			if _, err := pki.Development(dir, nil, time.Now()); err == nil {
				t.Error("want an error")
			}
			for i, f := range files {
				if !bytes.Equal(before[i], read(t, dir, f)) {
					t.Errorf("%s was changed", f)
				}
			}
		})
	}
}

func TestCAWithoutItsKeySignsNothingMore(t *testing.T) {
	dir, _ := makeTwo(t)
	must(t, os.Remove(filepath.Join(dir, "ca.key")))
	if _, err := pki.Development(dir, nil, time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := pki.Development(dir, []string{"new.example"}, time.Now()); err == nil {
		t.Error("a certificate was issued without the CA's key")
	}
}

func TestCertificateOutlivesItsCANeverAndAnOldCAIsSaid(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	if _, err := pki.Development(dir, nil, now); err != nil {
		t.Fatal(err)
	}
	late := now.AddDate(10, 0, -100)
	cert, err := pki.Development(dir, nil, late)
	if err != nil {
		t.Fatal(err)
	}
	if end := now.AddDate(10, 0, 0); cert.Leaf.NotAfter.After(end) {
		t.Errorf("valid until %v, the CA until %v", cert.Leaf.NotAfter, end)
	}
	var period *pki.PeriodError
	if _, err := pki.Development(dir, nil, now.AddDate(10, 0, 1)); !errors.As(err, &period) {
		t.Errorf("want a *PeriodError, got %v", err)
	}
}

func TestLoadRefusesWhatIsNotValidNow(t *testing.T) {
	dir, _ := makeTwo(t)
	load := func(now time.Time) error {
		_, err := pki.Load(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), now)
		return err
	}
	if err := load(time.Now()); err != nil {
		t.Error(err)
	}
	var period *pki.PeriodError
	for _, at := range []time.Time{time.Now().AddDate(2, 0, 0), time.Now().AddDate(-1, 0, 0)} {
		if err := load(at); !errors.As(err, &period) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

// TestReloadServesTheNewCertificateAndDropsNobody replaces a certificate while a
// client is connected, and then by a broken one.
func TestReloadServesTheNewCertificateAndDropsNobody(t *testing.T) {
	dir := t.TempDir()
	hosts := []string{}
	keeper, err := pki.Keep(func() (tls.Certificate, error) { return pki.Development(dir, hosts, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	trust.ServerName = "localhost"
	connect := func() (client, server *tls.Conn) {
		t.Helper()
		a, b := net.Pipe()
		client, server = tls.Client(a, trust), tls.Server(b, keeper.ServerConfig(tls.VersionTLS12))
		t.Cleanup(func() { a.Close(); b.Close() })
		shaken := make(chan error, 1)
		go func() { shaken <- server.HandshakeContext(t.Context()) }()
		must(t, client.HandshakeContext(t.Context()))
		must(t, <-shaken)
		return client, server
	}
	old, oldServer := connect()
	hosts = []string{"new.example"}
	must(t, keeper.Reload())
	renewed, _ := connect()
	if bytes.Equal(old.ConnectionState().PeerCertificates[0].Raw, renewed.ConnectionState().PeerCertificates[0].Raw) {
		t.Error("the old certificate is still served")
	}
	current := keeper.Current()
	must(t, os.Chmod(filepath.Join(dir, "ca.key"), 0o644))
	if err := keeper.Reload(); err == nil {
		t.Error("a key that others read was taken")
	}
	if keeper.Current() != current {
		t.Error("a failed reload has changed the certificate")
	}
	sent := make(chan error, 1)
	go func() { _, err := old.Write([]byte("x")); sent <- err }()
	if _, err := oldServer.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	must(t, <-sent)
}

// A clock that is behind, as that of a machine whose battery is empty, costs nothing
// that is there, and what is made then is good by the right clock.
func TestClockBehindTheCA(t *testing.T) {
	right := time.Now()
	for name, behind := range map[string]time.Time{"long": time.Unix(0, 0), "a little": right.Add(-2 * time.Hour)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			load := func(now time.Time, hosts ...string) *x509.Certificate {
				t.Helper()
				cert, err := pki.Development(dir, hosts, now)
				if err != nil {
					t.Fatal(err)
				}
				return cert.Leaf
			}
			load(right)
			leaf := load(right.AddDate(1, 1, 0)) // of later than the CA
			if !load(behind).Equal(leaf) {
				t.Error("the certificate was replaced")
			}
			anew := load(behind, "new.example")
			if anew.Equal(leaf) || anew.VerifyHostname("new.example") != nil {
				t.Error("the name that is missing still is")
			}
			if anew.NotAfter.Before(leaf.NotAfter) {
				t.Errorf("it ends at %v, the one before at %v", anew.NotAfter, leaf.NotAfter)
			}
			must(t, os.Remove(filepath.Join(dir, "server.pem")))
			if first := load(behind); first.NotBefore.After(right) || first.NotAfter.Before(right.AddDate(1, 0, 0)) {
				t.Errorf("made anew: %v to %v", first.NotBefore, first.NotAfter)
			}
		})
	}
}

// Who runs for longer than a certificate serves the next one.
func TestDevelopmentCertificateIsRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, made := t.TempDir(), time.Now()
		var fails atomic.Bool
		keeper, err := pki.Keep(func() (tls.Certificate, error) {
			if fails.Load() {
				return tls.Certificate{}, errors.New("input/output error")
			}
			return pki.Development(dir, nil, time.Now())
		})
		must(t, err)
		var failed []error
		go keeper.Renew(t.Context(), 24*time.Hour, func(err error) { failed = append(failed, err) })
		first := keeper.Current()
		time.Sleep(made.AddDate(0, 0, 360).Sub(made))
		synctest.Wait()
		if keeper.Current().Leaf.NotAfter != first.Leaf.NotAfter {
			t.Error("it was replaced long before its end")
		}
		fails.Store(true)
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		if fails.Store(false); len(failed) != 10 || keeper.Current().Leaf.NotAfter != first.Leaf.NotAfter {
			t.Errorf("where it cannot be loaded: %v", failed)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if end := keeper.Current().Leaf.NotAfter; !end.After(first.Leaf.NotAfter) {
			t.Errorf("27 days before its end, %v, it is not renewed", end)
		}
	})
}
