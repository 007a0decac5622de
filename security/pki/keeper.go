package pki

import (
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
)

// Keeper holds a server's certificate, which may be replaced under load: who is
// connected stays so, who connects sees the new one.
type Keeper struct {
	load    func() (tls.Certificate, error)
	loading sync.Mutex
	current atomic.Pointer[tls.Certificate]
}

// Keep loads a certificate, by [Load] or [Development], and keeps it.
func Keep(load func() (tls.Certificate, error)) (*Keeper, error) {
	k := &Keeper{load: load}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload loads the certificate again. On an error the old one stays.
func (k *Keeper) Reload() error {
	k.loading.Lock()
	defer k.loading.Unlock()
	cert, err := k.load()
	if err != nil {
		return fmt.Errorf("load the server certificate: %w", err)
	}
	k.current.Store(&cert)
	return nil
}

// Current is the certificate that new connections see.
func (k *Keeper) Current() *tls.Certificate { return k.current.Load() }

// ServerConfig serves the current certificate, over TLS and QUIC.
func (k *Keeper) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.Current(), nil },
	}
}
