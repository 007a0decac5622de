package pki

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
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
		return fmt.Errorf("load the certificate: %w", err)
	}
	k.current.Store(&cert)
	return nil
}

// Renew loads the certificate again at intervals until ctx ends: one that is made here
// is made anew as its end comes near. failed is told of each time that it was not
// loaded.
func (k *Keeper) Renew(ctx context.Context, every time.Duration, failed func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := k.Reload(); err != nil {
			failed(err)
		}
	}
}

// Current is the certificate that new connections see.
func (k *Keeper) Current() *tls.Certificate { return k.current.Load() }

// ServerConfig serves the current certificate, over TLS of a version at least, and QUIC.
func (k *Keeper) ServerConfig(least uint16) *tls.Config {
	return &tls.Config{ // #nosec G402 -- 1.2 or 1.3, as of security.tls.min_version
		MinVersion:     least,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.Current(), nil },
	}
}
