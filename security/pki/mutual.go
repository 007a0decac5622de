package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Mutual is how the servers of a cluster know each other: each has a certificate that
// one of the same authorities has signed, which names its node and roles ([Identity]), and
// shows it on both sides of a connection.
type Mutual struct {
	keeper      *Keeper
	trust       *Trust
	connections *Connections
	opt         MutualOptions
	ends        atomic.Pointer[Ends]
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
	RevocationFile            string // revocation lists of the authorities; "": none are looked at
	Node                      int32  // this server's, which its certificate has to name
	Roles                     []string
	Now                       func() time.Time
}

// LoadMutual reads the files. The chain is one that the other servers would take at that
// time from this node in these roles, or an error.
func LoadMutual(o MutualOptions) (*Mutual, error) {
	trust, err := OpenTrust(TrustOptions{CAFile: o.CAFile, RevocationFile: o.RevocationFile, Now: o.Now})
	if err != nil {
		return nil, err
	}
	m := &Mutual{trust: trust, connections: NewConnections(trust), opt: o}
	if m.keeper, err = Keep(m.load); err != nil {
		return nil, err
	}
	return m, nil
}

// load reads the chain and key, and judges them as the other servers will.
func (m *Mutual) load() (tls.Certificate, error) {
	o := m.opt
	cert, err := Load(o.CertFile, o.KeyFile, o.Now())
	if err != nil {
		return cert, err
	}
	chain := chainOf(&cert)
	var ends Ends
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		chains, err := m.trust.Verify(chain, usage)
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

// chainOf is the certificate and those that are shown with it.
func chainOf(cert *tls.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
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

// Reload reads the authorities, their revocation lists, and the chain and key again;
// connections that are open stay as they are. On an error what was not read goes on as before.
func (m *Mutual) Reload() error {
	if err := m.trust.Reload(); err != nil {
		return err
	}
	return m.keeper.Reload()
}

// Stands says why the other servers would not take this one's certificate any more, or nil.
func (m *Mutual) Stands() error {
	_, err := m.trust.Verify(chainOf(m.keeper.Current()), x509.ExtKeyUsageClientAuth)
	return err
}

// Trust is whose certificates the servers take.
func (m *Mutual) Trust() *Trust { return m.trust }

// Hold is [Connections.Hold], of a connection to another server.
func (m *Mutual) Hold(state tls.ConnectionState, end func(error)) (leave func()) {
	return m.connections.Hold(state.VerifiedChains, end)
}

// Judge ends the connections to servers whose certificates do not stand any more, and
// returns how many there were.
func (m *Mutual) Judge() int { return m.connections.Judge() }

// ServerConfig takes connections of who has a certificate of the same authorities. Who
// that is, and may, is for [Mutual.Peer] to say.
func (m *Mutual) ServerConfig() *tls.Config {
	return m.trust.server(m.keeper.ServerConfig(tls.VersionTLS13), tls.RequireAndVerifyClientCert, func(state tls.ConnectionState) error {
		return m.trust.Admit(state.VerifiedChains)
	})
}

// ClientConfig makes one connection to a server whose certificate names the host that is
// dialled, with the same reservation; the next may trust other authorities, and needs another.
func (m *Mutual) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: m.trust.roots(), Time: m.opt.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.keeper.Current(), nil },
		VerifyConnection:     func(state tls.ConnectionState) error { return m.trust.Admit(state.VerifiedChains) },
	}
}
