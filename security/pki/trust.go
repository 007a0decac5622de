package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// TrustOptions of a [Trust].
type TrustOptions struct {
	CAFile         string           // PEM: the authorities
	RevocationFile string           // their revocation lists; "": none are looked at
	Now            func() time.Time // time.Now
}

// Trust is whose certificates are taken: the authorities of a file, less what they have
// revoked. Both may be replaced under load; what connects after that, a session that is
// resumed too, is judged by what is there then. It is safe for concurrent use.
type Trust struct {
	o       TrustOptions
	current atomic.Pointer[authorities]

	loading sync.Mutex
	seen    fileMark // of the lists as they were last tried; guarded by loading, as is coming
	coming  fileMark // of what may still be written to
}

// authorities is what one loading has found.
type authorities struct {
	roots       *x509.CertPool
	known       map[[sha256.Size]byte]bool // their certificates
	revocations *Revocations               // nil: none are looked at
}

// fileMark tells whether a file was replaced or written to; zero: it is not there.
type fileMark struct{ info os.FileInfo }

func markOf(file string) (fileMark, error) {
	info, err := os.Stat(file)
	if err != nil {
		return fileMark{}, err
	}
	return fileMark{info}, nil
}

func (m fileMark) same(as fileMark) bool {
	if m.info == nil || as.info == nil {
		return m.info == as.info
	}
	return os.SameFile(m.info, as.info) && m.info.Size() == as.info.Size() && m.info.ModTime().Equal(as.info.ModTime())
}

// OpenTrust reads the files.
func OpenTrust(o TrustOptions) (*Trust, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Trust{o: o}
	return t, t.Reload()
}

// Reload reads the files again. On an error what was there before goes on.
func (t *Trust) Reload() error {
	t.loading.Lock()
	defer t.loading.Unlock()
	a, err := readAuthorities(t.o.CAFile)
	if err != nil {
		return err
	}
	if t.o.RevocationFile != "" {
		t.seen, _ = markOf(t.o.RevocationFile) // reading says what is wrong
		if a.revocations, err = ReadRevocations(t.o.RevocationFile); err != nil {
			return err
		}
	}
	t.current.Store(a)
	return nil
}

// look reads the revocation lists again if their file has changed, and reports whether
// it was. A file is read once two looks have found it the same: who writes to it may not be
// done. On an error the lists before go on.
func (t *Trust) look() (changed bool, err error) {
	if t.o.RevocationFile == "" {
		return false, nil
	}
	t.loading.Lock()
	defer t.loading.Unlock()
	mark, err := markOf(t.o.RevocationFile)
	switch gone := err != nil; {
	case mark.same(t.seen): // or gone, and that has been said
		return false, nil
	case !gone && !mark.same(t.coming):
		t.coming = mark
		return false, nil
	case gone:
		t.seen = mark
		return false, fmt.Errorf("read the revocation lists: %w", err)
	}
	t.seen = mark
	lists, err := ReadRevocations(t.o.RevocationFile)
	if err != nil {
		return false, err
	}
	a := *t.current.Load()
	a.revocations = lists
	t.current.Store(&a)
	return true, nil
}

// judgePause is how often connections are looked at whose certificates may have ended.
const judgePause = time.Minute

// Watch reads the revocation lists again when their file has changed, until ctx ends; it
// looks once in every. judge is called after that, with true, and once a minute; failed once for each
// content that could not be read. No two calls overlap.
func (t *Trust) Watch(ctx context.Context, every time.Duration, judge func(changed bool), failed func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	judged := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := t.look()
		if err != nil {
			failed(err)
		}
		if changed || time.Since(judged) >= judgePause {
			judged = time.Now()
			judge(changed)
		}
	}
}

func readAuthorities(file string) (*authorities, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authorities: %w", err)
	}
	a := &authorities{roots: x509.NewCertPool(), known: map[[sha256.Size]byte]bool{}}
	all, err := ParseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("read the authorities: %s: %w", file, err)
	}
	for _, cert := range all {
		a.roots.AddCert(cert)
		a.known[sha256.Sum256(cert.Raw)] = true
	}
	return a, nil
}

// errNoChain is of a peer whose certificate nobody has verified.
var errNoChain = errors.New("its certificate leads to no authority that is trusted")

// Verify returns the chains from a certificate, which is followed by those between it and the
// authority, to authorities that are trusted, for a use of it; or why there is none that stands.
func (t *Trust) Verify(certs []*x509.Certificate, usage x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{Roots: t.roots(), Intermediates: between, CurrentTime: t.o.Now(), KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil, err
	}
	return chains, t.Admit(chains)
}

// Admit refuses a peer, whose chains TLS has verified now or, where a session is resumed,
// before, unless one of them still begins at a trusted authority and stands: nothing in it
// has ended or is revoked.
func (t *Trust) Admit(chains [][]*x509.Certificate) error {
	a := t.current.Load()
	return anyChain(chains, func(chain []*x509.Certificate) error {
		if root := chain[len(chain)-1]; !guard.Check("pki.root-known", a.known[sha256.Sum256(root.Raw)]) {
			return errNoChain
		}
		return a.stands(chain, t.o.Now())
	})
}

// Stands says why a connection that was admitted with such chains is to end: all of them
// have ended, or are revoked. One whose authority is trusted no more, or has no revocation
// list any more, goes on.
func (t *Trust) Stands(chains [][]*x509.Certificate) error {
	a := t.current.Load()
	return anyChain(chains, func(chain []*x509.Certificate) error {
		err := a.stands(chain, t.o.Now())
		if _, unlisted := errors.AsType[*UnlistedError](err); unlisted {
			return nil
		}
		return err
	})
}

// anyChain returns nil if judge does for one of them, else what it says of the first.
func anyChain(chains [][]*x509.Certificate, judge func([]*x509.Certificate) error) (first error) {
	for _, chain := range chains {
		if len(chain) == 0 {
			continue
		}
		err := judge(chain)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return errNoChain
	}
	return first
}

func (a *authorities) stands(chain []*x509.Certificate, now time.Time) error {
	for _, cert := range chain {
		if err := within(cert, now); err != nil {
			return err
		}
	}
	if a.revocations == nil {
		return nil
	}
	return a.revocations.Check(chain)
}

// roots are the authorities.
func (t *Trust) roots() *x509.CertPool { return t.current.Load().roots }

// Overdue names the issuers whose revocation lists should have been replaced; "": none.
func (t *Trust) Overdue() string {
	if r := t.current.Load().revocations; r != nil {
		return r.Overdue(t.o.Now())
	}
	return ""
}
