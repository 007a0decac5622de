package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
)

// MinRefresh is the time between two reads that unknown keys ask for: tokens that name
// none are cheap to make.
const MinRefresh = 10 * time.Second

// readTimeout bounds one read of a URL.
const readTimeout = 10 * time.Second

// Options of a Source.
type Options struct {
	// Place is the path of a file, or an https URL; see [CheckPlace].
	Place string
	// CAFile holds the PEM certificates that sign the URL's; empty: the system's.
	CAFile string
	// Interval between two reads.
	Interval time.Duration
	Log      *slog.Logger
}

// Source is a set of keys that is read again and again.
type Source struct {
	o      Options
	client *http.Client // nil: a file
	keys   atomic.Pointer[sasl.KeySet]
	asked  chan question
	cancel context.CancelFunc
	done   chan struct{}
}

// question asks for a read; it is answered by what the read came to.
type question struct {
	rarely bool // not if one was just done
	answer chan error
}

// errJustRead says that the keys were read too short a time ago to be read again.
var errJustRead = errors.New("the keys were just read")

// CheckPlace says why keys cannot be read from a place.
func CheckPlace(place string) error {
	if !strings.Contains(place, "://") {
		if place == "" {
			return errors.New("neither a file nor a URL")
		}
		return nil
	}
	u, err := url.Parse(place)
	switch {
	case err != nil:
		return fmt.Errorf("not a URL: %w", err)
	case u.Host == "":
		return errors.New("a URL without a host")
	case u.User != nil:
		return errors.New("a URL with a password")
	case u.Scheme == "http" && guard.Check("jwks.secure", loopback(u.Hostname())), u.Scheme == "https":
		return nil
	}
	return fmt.Errorf("a URL of scheme %s: keys that decide who is who come by https", u.Scheme)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Open begins to read. It returns before the first read is done: what cannot be read at a
// start is read later.
func Open(o Options) (*Source, error) {
	if err := CheckPlace(o.Place); err != nil {
		return nil, fmt.Errorf("keys of tokens from %s: %w", o.Place, err)
	}
	s := &Source{o: o, done: make(chan struct{}), asked: make(chan question)}
	if strings.Contains(o.Place, "://") {
		var err error
		if s.client, err = client(o.CAFile); err != nil {
			return nil, fmt.Errorf("keys of tokens from %s: %w", o.Place, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(ctx)
	return s, nil
}

func client(caFile string) (*http.Client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: readTimeout, ResponseHeaderTimeout: readTimeout, DisableKeepAlives: true,
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", caFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{
		Transport: transport, Timeout: readTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it redirects elsewhere; name that place")
		},
	}, nil
}

// Close ends reading.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// Keys are those that were read last; nil: none were yet.
func (s *Source) Keys() *sasl.KeySet { return s.keys.Load() }

// Refresh has the keys read anew, unless that was done just now, and waits for it. It
// reports whether they were.
func (s *Source) Refresh(ctx context.Context) bool { return s.ask(ctx, true) == nil }

// Reload has the keys read anew, and waits for it. An error says why they are as they were.
func (s *Source) Reload(ctx context.Context) error { return s.ask(ctx, false) }

func (s *Source) ask(ctx context.Context, rarely bool) error {
	q := question{rarely, make(chan error, 1)}
	select {
	case s.asked <- q:
	case <-s.done:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-q.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run reads until ctx ends. It blocks on the place.
func (s *Source) run(ctx context.Context) {
	defer close(s.done)
	ticker := time.NewTicker(s.o.Interval)
	defer ticker.Stop()
	failed := s.read(ctx, nil)
	last := time.Now()
	for {
		answer := make(chan error, 1)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case q := <-s.asked:
			if q.rarely && !guard.Check("jwks.refresh-rate", time.Since(last) >= MinRefresh) {
				q.answer <- errJustRead
				continue
			}
			answer = q.answer
		}
		failed = s.read(ctx, failed)
		last = time.Now()
		answer <- failed
	}
}

// read reads once. What went wrong is logged when it is not what went wrong before.
func (s *Source) read(ctx context.Context, before error) error {
	raw, err := s.load(ctx)
	var keys *sasl.KeySet
	if err == nil {
		keys, err = sasl.ParseKeySet(raw)
	}
	switch {
	case err == nil:
		s.keys.Store(keys)
		if before != nil {
			s.o.Log.Info("the keys of tokens are read again", "place", s.o.Place, "keys", keys.Len())
		}
	case ctx.Err() == nil && (before == nil || before.Error() != err.Error()):
		s.o.Log.Warn("the keys of tokens cannot be read; those that were read before stay", "place", s.o.Place, "keys", s.Keys().Len(), "error", err)
	}
	return err
}

func (s *Source) load(ctx context.Context) ([]byte, error) {
	if s.client == nil {
		f, err := os.Open(s.o.Place)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, sasl.MaxKeySet+1))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.o.Place, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, sasl.MaxKeySet+1))
}
