package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Mutual is how the servers of a cluster know each other: each has a certificate that
// one of the same authorities has signed, which names its node and roles ([Identity]), and
// shows it on both sides of a connection.
type Mutual struct {
	keeper *Keeper
	roots  *x509.CertPool
	opt    MutualOptions
	ends   atomic.Pointer[Ends]
}

// Ends is until when the other servers take what a [Mutual] shows, by the chain of its
// certificates that lasts longest.
type Ends struct {
	Own       time.Time // the certificate of this server, or one between it and the authority
	Authority time.Time
}

// MutualOptions of a [Mutual].
type MutualOptions struct {
	CAFile, CertFile, KeyFile string // PEM: the authorities, and the chain and key of this server
	Node                      int32  // this server's, which its certificate has to name
	Roles                     []string
	Now                       func() time.Time
}

// LoadMutual reads the files. The chain is one that the other servers would take at that
// time from this node in these roles, or an error.
func LoadMutual(o MutualOptions) (*Mutual, error) {
	raw, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, err
	}
	m := &Mutual{roots: x509.NewCertPool(), opt: o}
	if !m.roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", o.CAFile)
	}
	if m.keeper, err = Keep(m.load); err != nil {
		return nil, err
	}
	return m, nil
}

// load reads the chain and key, and judges them as the other servers will.
func (m *Mutual) load() (tls.Certificate, error) {
	o, now := m.opt, m.opt.Now()
	cert, err := Load(o.CertFile, o.KeyFile, now)
	if err != nil {
		return cert, err
	}
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	var ends Ends
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		chains, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			return cert, fmt.Errorf("%s would be refused by the other servers, as one side of a connection or the other (authorities: %s): %w", o.CertFile, o.CAFile, err)
		}
		ends = endsOf(chains)
	}
	if err := m.own(cert.Leaf); err != nil {
		return cert, fmt.Errorf("%s would be refused by the other servers: %w; issue it with rustmq://<cluster>/node/%d?roles=%s as its only such name (docs/cluster.md has a recipe)",
			o.CertFile, err, o.Node, strings.Join(o.Roles, ","))
	}
	m.ends.Store(&ends)
	return cert, nil
}

// endsOf returns when the chain ends that lasts longest; the last of each is the authority.
func endsOf(chains [][]*x509.Certificate) (longest Ends) {
	for _, chain := range chains {
		own, authority := chain[0].NotAfter, chain[len(chain)-1].NotAfter
		for _, c := range chain[:len(chain)-1] {
			if c.NotAfter.Before(own) {
				own = c.NotAfter
			}
		}
		if e := (Ends{own, authority}); e.first().After(longest.first()) {
			longest = e
		}
	}
	return longest
}

func (e Ends) first() time.Time {
	if e.Authority.Before(e.Own) {
		return e.Authority
	}
	return e.Own
}

// Ends returns when what was loaded last ends.
func (m *Mutual) Ends() Ends { return *m.ends.Load() }

// own refuses a certificate that is not this node's in its roles. A controller may do what
// an admin may.
func (m *Mutual) own(leaf *x509.Certificate) error {
	id, err := IdentityOf(leaf)
	if err != nil {
		return err
	}
	needed := m.opt.Roles
	if slices.Contains(needed, RoleController) {
		needed = slices.DeleteFunc(slices.Clone(needed), func(r string) bool { return r == RoleAdmin })
	}
	missing := slices.ContainsFunc(needed, func(r string) bool { return !id.Has(r) })
	if id.Node != m.opt.Node || missing {
		return fmt.Errorf("it is that of %s, and this is node %d with the roles %s", id, m.opt.Node, strings.Join(needed, ", "))
	}
	if m.keeper != nil && id.Cluster != m.Self().Cluster { // loaded again
		return fmt.Errorf("it is that of %s, and the one before was of cluster %s: stop the node to change that", id, m.Self().Cluster)
	}
	return nil
}

// Self is who this server is by its certificate.
func (m *Mutual) Self() Identity {
	id, err := IdentityOf(m.keeper.Current().Leaf)
	if err != nil {
		panic(fmt.Sprintf("pki: a certificate was loaded that has no identity: %v", err))
	}
	return id
}

// Reload reads the chain and key again; connections that are open stay as they are.
// On an error the ones before go on.
func (m *Mutual) Reload() error { return m.keeper.Reload() }

// ServerConfig takes connections of who has a certificate of the same authorities. Who
// that is, and may, is for [Mutual.Peer] to say.
func (m *Mutual) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.keeper.Current(), nil },
	}
}

// ClientConfig makes connections to servers whose certificates name the host that is
// dialled, with the same reservation.
func (m *Mutual) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: m.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.keeper.Current(), nil },
	}
}
