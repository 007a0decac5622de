package roles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/security/pki"
)

func TestCertificateIsWarnedOf(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: made, NotAfter: made.AddDate(1, 0, 0)}
	for _, c := range []struct {
		now  time.Time
		want string
	}{
		{made.Add(-time.Second), "not valid before 2026-01-02T03:04:05Z, and the clock says 2026-01-02T03:04:04Z"},
		{made, ""},
		{cert.NotAfter.Add(-certificateWarned), ""},
		{cert.NotAfter.Add(-certificateWarned + 1), "ends on 2027-01-02T03:04:05Z"},
		{cert.NotAfter.Add(1), "has ended on 2027-01-02T03:04:05Z"},
	} {
		if got := certificateWarning(cert, c.now); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%v: %q", c.now, got)
		}
	}
}

// TestNodeStartsWhileItsClockIsBehind: with certificates of tomorrow a node serves all
// the same, and says what is wrong.
func TestNodeStartsWhileItsClockIsBehind(t *testing.T) {
	dir := t.TempDir()
	if _, err := pki.Development(filepath.Join(dir, certsDir), nil, time.Now().AddDate(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	config := configs.Default()
	config.Broker.DataDir, config.Network.KafkaPort, config.Network.HTTPPort = dir, 0, 0
	config.WAL.Capacity, config.WAL.SegmentSize = 64<<20, 4<<20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := Start(ctx, NodeOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	}()
	read := func(path string) string {
		t.Helper()
		resp, err := http.Get("http://" + n.HTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v, %s", path, resp.Status, err, text)
		}
		return string(text)
	}
	if text := read("/readyz"); !strings.HasPrefix(text, "ok\n") || !strings.Contains(text, "warning: the certificate of TLS and QUIC is not valid before") {
		t.Error(text)
	}
	if text := read("/metrics"); !strings.Contains(text, `rustmq_certificate_not_after_seconds{file="`) {
		t.Error("no metric says when the certificate ends")
	}
}

// A certificate that is not valid yet is warned of whoever made it; of the end of an
// operator's own certificateEnds warns, once.
func TestAnOperatorsCertificateIsWarnedOf(t *testing.T) {
	for what, c := range map[string]struct {
		from, to time.Duration
		want     string
	}{
		"valid":         {-time.Hour, 1000 * time.Hour, ""},
		"not valid yet": {time.Hour, 1000 * time.Hour, "is not valid before"},
		"about to end":  {-time.Hour, 100 * time.Hour, "of this node ends on"},
	} {
		keeper, err := pki.Keep(func() (tls.Certificate, error) {
			return tls.Certificate{Leaf: &x509.Certificate{NotBefore: time.Now().Add(c.from), NotAfter: time.Now().Add(c.to)}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{config: configs.Default(), certificates: keeper}
		n.config.Security.TLS.CertFile = "own.pem"
		got := n.warnings()
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q", what, got)
		}
	}
}
