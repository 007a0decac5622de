package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files are certificates on disk, which are read again once they change. Its Config is for
// [Options.Reload]. Safe for concurrent use.
type Files struct {
	ca, certificate, key string

	mu     sync.Mutex
	seen   [3]version // guarded by mu, as is config
	config *tls.Config
}

// version tells one content of a file from another.
type version struct {
	modified time.Time
	size     int64
}

// NewFiles names PEM files: ca of the authorities to trust, empty for the system's;
// certificate, with its chain, and key of the client, empty for none. None is read yet.
func NewFiles(ca, certificate, key string) *Files {
	return &Files{ca: ca, certificate: certificate, key: key}
}

// Config returns the configuration that the files come to: the same while none of them
// changes. A pair of certificate and key of which one is new and the other is not
// yet is an error.
func (f *Files) Config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var seen [3]version
	for i, name := range []string{f.ca, f.certificate, f.key} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("look at certificates: %w", err)
		}
		seen[i] = version{info.ModTime(), info.Size()}
	}
	if f.config != nil && seen == f.seen {
		return f.config, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		raw, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("read the authorities to trust: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("read the authorities to trust: no certificate in %s: want PEM", f.ca)
		}
	}
	if f.certificate != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate %s and its key %s: %w", f.certificate, f.key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	f.seen, f.config = seen, config
	return config, nil
}
