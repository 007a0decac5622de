package roles_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

// put replaces a file as an operator should: whole.
func put(t *testing.T, name string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(name+".new", content, 0o600))
	must(t, os.Rename(name+".new", name))
}

// asked proves that a connection is served: it asks for the API versions.
func asked(t *testing.T, conn net.Conn) {
	t.Helper()
	request := []byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255}
	_, err := conn.Write(request)
	must(t, err)
	var length [4]byte
	_, err = io.ReadFull(conn, length[:])
	must(t, err)
	_, err = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:])))
	must(t, err)
}

// renewable is a node whose certificate is of files that trust replaces. It returns how a client
// trusts the new one, and no other: each is of a CA of its own.
func renewable(t *testing.T) (cert string, trust func() *tls.Config, flags []string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	trust = func() *tls.Config {
		t.Helper()
		made := t.TempDir()
		_, err := pki.Development(made, nil, time.Now())
		must(t, err)
		for from, to := range map[string]string{"server.pem": cert, "server.key": key} {
			content, err := os.ReadFile(filepath.Join(made, from))
			must(t, err)
			put(t, to, content)
		}
		trust, err := pki.ClientConfig(filepath.Join(made, pki.CAFile))
		must(t, err)
		return trust
	}
	return cert, trust, []string{"--ephemeral", "--set", "network.tls=on", "--set", "security.tls.cert_file=" + cert, "--set", "security.tls.key_file=" + key}
}

// TestCertificatesAreTakenOnceTheyChange renews a certificate under a running process, and
// tells it nothing: it takes the new one by itself, says of one that is none that it does not,
// and drops nobody.
func TestCertificatesAreTakenOnceTheyChange(t *testing.T) {
	cert, trust, flags := renewable(t)
	first := trust()
	p := serve(t, flags...)
	dial := func(trust *tls.Config) (*tls.Conn, error) { return tls.Dial("tcp", p.says.Kafka, trust) }
	old, err := dial(first)
	must(t, err)
	defer old.Close()
	asked(t, old)
	second := trust()
	p.awaitLog(t, "certificates loaded anew")
	conn, err := dial(second)
	must(t, err)
	defer conn.Close()
	asked(t, conn)
	if conn, err := dial(first); err == nil {
		_ = conn.Close()
		t.Error("the old certificate is still served")
	}
	put(t, cert, []byte("garbage"))
	if line := p.awaitLog(t, "were not taken"); !strings.Contains(line, "cert.pem") {
		t.Errorf("which file is bad is not said: %s", line)
	}
	again, err := dial(second)
	must(t, err)
	defer again.Close()
	asked(t, again)
	asked(t, old)
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}

// TestHangupReloadsCertificates renews an operator's certificate under a running
// process, and then replaces it by garbage.
func TestHangupReloadsCertificates(t *testing.T) {
	cert, trust, flags := renewable(t)
	first := trust()
	p := serve(t, flags...)
	dialTLS := func(trust *tls.Config) (net.Conn, error) { return tls.Dial("tcp", p.says.Kafka, trust) }
	dialQUIC := func(trust *tls.Config) (net.Conn, error) {
		d := &sdkquic.Dialer{TLS: trust}
		t.Cleanup(func() { _ = d.Close() }) // the server may be gone before
		return d.DialContext(t.Context(), "udp", p.says.Kafka)
	}
	for name, dial := range map[string]func(*tls.Config) (net.Conn, error){"TLS": dialTLS, "QUIC": dialQUIC} {
		served := func(trust *tls.Config) net.Conn {
			t.Helper()
			conn, err := dial(trust)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			asked(t, conn)
			return conn
		}
		old := served(first)
		second := trust()
		p.signal(t, syscall.SIGHUP)
		p.awaitLog(t, "certificates reloaded")
		served(second)
		if conn, err := dial(first); err == nil {
			_ = conn.Close()
			t.Errorf("%s: the old certificate is still served", name)
		}
		asked(t, old)

		put(t, cert, []byte("garbage"))
		p.signal(t, syscall.SIGHUP)
		if line := p.awaitLog(t, "not reloaded"); !strings.Contains(line, "cert.pem") {
			t.Errorf("which file is bad is not said: %s", line)
		}
		served(second)
		asked(t, old)
		first = second
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}
