//go:build suites

package kgo

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// startLimit is far above what a start takes, on a machine busy with other things.
const startLimit = 60 * time.Second

// server is bin/rustmq, until the test ends.
type server struct {
	Kafka string `json:"kafka"`
	QUIC  string `json:"quic"`
	CA    string `json:"ca"`
}

// starter starts a server that logs to a file.
type starter func(t *testing.T, logTo string, set ...string) *server

// start is the starter of a server on TCP.
func start(t *testing.T, logTo string, set ...string) *server {
	t.Helper()
	args := []string{"serve", "--data-dir", t.TempDir(), "--ports", "free"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	cmd := exec.Command(filepath.Join("..", "..", "..", "bin", "rustmq"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	file, err := os.Create(logTo)
	must(t, err)
	cmd.Stderr = file
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		file.Close()
		complaints(t, logTo)
	})
	var s server
	late := time.AfterFunc(startLimit, func() { cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	must(t, err)
	must(t, json.Unmarshal(line, &s))
	return &s
}

// complaints fails the test for what the server logged as an error: nothing that
// these tests do is one.
func complaints(t *testing.T, logTo string) {
	t.Helper()
	text, err := os.ReadFile(logTo)
	must(t, err)
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`"level":"ERROR"`)) {
			t.Errorf("the server says: %s", line)
		}
	}
}

// startRelayed is the starter of a server on QUIC, and a relay on the address that it
// advertises.
func startRelayed(t *testing.T, logTo string, set ...string) *server {
	t.Helper()
	// The relay must have the server's port, on the advertised host: that port may be
	// another process's there.
	const attempts = 5
	for attempt := 1; ; attempt++ {
		s := start(t, logTo, append(set, "network.bind=127.0.0.2", "network.advertised_host=127.0.0.1")...)
		_, port, err := net.SplitHostPort(s.Kafka)
		must(t, err)
		pem, err := os.ReadFile(s.CA)
		must(t, err)
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			t.Fatalf("%s holds no certificate", s.CA)
		}
		s.Kafka = net.JoinHostPort("127.0.0.1", port)
		r, err := newRelay(s.Kafka, s.QUIC, &tls.Config{RootCAs: pool})
		if errors.Is(err, syscall.EADDRINUSE) && attempt < attempts {
			continue
		}
		must(t, err)
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Errorf("the relay ended with: %v", err)
			}
			if r.streams.Load() == 0 {
				t.Error("nothing went over QUIC")
			}
		})
		return s
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
