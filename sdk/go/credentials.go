package rustmq

import (
	"crypto/tls"
	"fmt"
	"sync"

	"rustmq.dev/rustmq/sdk/go/transport"
)

// credentials makes the TLS configuration of connections of what the files have then.
type credentials struct {
	t     TLS
	files *transport.Files // nil: there are none

	mu   sync.Mutex
	read *tls.Config // what files gave last
	made *tls.Config // of it
}

// newCredentials reads the files a first time.
func newCredentials(t TLS) (*credentials, error) {
	c := &credentials{t: t}
	if t.CAFile != "" || t.CertFile != "" {
		c.files = transport.NewFiles(t.CAFile, t.CertFile, t.KeyFile)
	}
	if _, err := c.config(); err != nil {
		return nil, fmt.Errorf("rustmq: %w", err)
	}
	return c, nil
}

// config is the configuration from now on: the same while no file has changed.
func (c *credentials) config() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var read *tls.Config
	if c.files != nil {
		var err error
		if read, err = c.files.Config(); err != nil {
			return nil, err
		}
	}
	if c.made != nil && read == c.read {
		return c.made, nil
	}
	made := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.t.Config != nil {
		made = c.t.Config.Clone()
	}
	if c.t.ServerName != "" {
		made.ServerName = c.t.ServerName
	}
	if read != nil && read.RootCAs != nil {
		made.RootCAs = read.RootCAs
	}
	if read != nil && len(read.Certificates) > 0 {
		made.Certificates = read.Certificates
	}
	c.read, c.made = read, made
	return made, nil
}
