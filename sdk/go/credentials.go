package rustmq

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// credentials makes the TLS configuration of a connection of what the files have then.
// While they are being replaced, what was read before goes on.
type credentials struct {
	t   TLS
	log *slog.Logger

	mu     sync.Mutex
	config *tls.Config // the last good one
	read   [3]fileState
}

// fileState tells whether a file has changed.
type fileState struct {
	size int64
	time time.Time
}

// newCredentials reads the files a first time.
func newCredentials(t TLS, log *slog.Logger) (*credentials, error) {
	c := &credentials{t: t, log: log}
	config, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("rustmq: %w", err)
	}
	c.config, c.read = config, c.state()
	return c, nil
}

// current is the configuration for a connection from now on; it is not to be changed.
func (c *credentials) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.state(); now != c.read {
		config, err := c.load()
		if err != nil {
			c.log.Warn("certificates have changed and cannot be read; the ones before go on", "error", err)
			return c.config
		}
		c.config, c.read = config, now
	}
	return c.config
}

func (c *credentials) state() (s [3]fileState) {
	for i, name := range []string{c.t.CAFile, c.t.CertFile, c.t.KeyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileState{info.Size(), info.ModTime()}
		}
	}
	return s
}

func (c *credentials) load() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.t.Config != nil {
		config = c.t.Config.Clone()
	}
	if c.t.ServerName != "" {
		config.ServerName = c.t.ServerName
	}
	if c.t.CAFile != "" {
		raw, err := os.ReadFile(c.t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities to trust: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("read the authorities to trust: no certificate in %s: want PEM", c.t.CAFile)
		}
	}
	if c.t.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.t.CertFile, c.t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}
