package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

func node(id int32) pki.Identity {
	return pki.Identity{Cluster: "prod", Node: id, Roles: []string{pki.RoleBroker, pki.RoleController}}
}

// handshake connects from client to server, and returns what each side says.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(time.Minute)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	said := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		a.Close()
		said <- err
	}()
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	c := tls.Client(b, client)
	_, atClient = c.Read(make([]byte, 1)) // a refused certificate is told with the first bytes
	b.Close()
	return <-said, atClient
}

// TestServersKnowEachOther holds that each side proves who it is, and that nobody without
// a certificate of the same authority is let in, or taken for a server.
func TestServersKnowEachOther(t *testing.T) {
	ours, theirs := pkitest.New(t, "ours"), pkitest.New(t, "theirs")
	one, two := ours.Mutual("one", node(1), "127.0.0.1"), ours.Mutual("two", node(2), "127.0.0.1")
	stranger := theirs.Mutual("stranger", node(2), "127.0.0.1")
	if s, c := handshake(t, one.ServerConfig(), two.ClientConfig()); s != nil || c != nil {
		t.Errorf("of one cluster: %v, %v", s, c)
	}
	if s, _ := handshake(t, one.ServerConfig(), stranger.ClientConfig()); s == nil {
		t.Error("a stranger's server is called and goes on")
	}
	ours.Sign("expired", &x509.Certificate{
		ExtKeyUsage: pkitest.Both(), URIs: []*url.URL{node(2).URI()}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	})
	for what, client := range map[string]*tls.Config{
		"nobody": {RootCAs: two.ClientConfig().RootCAs, MinVersion: tls.VersionTLS13},
		"an older version": func() *tls.Config {
			c := two.ClientConfig()
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		}(),
		"a stranger": func() *tls.Config {
			c := stranger.ClientConfig()
			c.RootCAs = two.ClientConfig().RootCAs
			return c
		}(),
		"an expired one": ours.Client("expired"),
	} {
		if s, c := handshake(t, one.ServerConfig(), client); s == nil || c == nil {
			t.Errorf("%s is let in: %v, %v", what, s, c)
		}
	}
	if err := one.Reload(); err != nil {
		t.Error(err)
	}
}

// TestCertificateThatPeersWouldRefuse is told at the start, and not by others.
func TestCertificateThatPeersWouldRefuse(t *testing.T) {
	ours, theirs := pkitest.New(t, "ours"), pkitest.New(t, "theirs")
	theirs.Sign("foreign", pkitest.Server(node(1)))
	foreign := pki.MutualOptions{CAFile: ours.CAFile(), CertFile: theirs.CertFile("foreign"), KeyFile: theirs.KeyFile("foreign"), Node: 1, Now: time.Now}
	if _, err := pki.LoadMutual(foreign); err == nil || !strings.Contains(err.Error(), "would be refused by the other servers") {
		t.Errorf("of another authority: %v", err)
	}
	if _, err := pki.LoadMutual(pki.MutualOptions{CAFile: ours.KeyFile("ca")}); err == nil || !strings.Contains(err.Error(), "no certificate in PEM") {
		t.Errorf("no authority: %v", err)
	}
	admin := node(1)
	admin.Roles = []string{pki.RoleAdmin}
	half := pkitest.Server(node(1))
	half.ExtKeyUsage = half.ExtKeyUsage[:1]
	twice := pkitest.Server(node(1))
	twice.URIs = append(twice.URIs, node(2).URI())
	for what, c := range map[string]struct {
		template *x509.Certificate
		wants    string
	}{
		"for one side only": {half, "would be refused by the other servers"},
		"another node's":    {pkitest.Server(node(2)), "that of node 2 (broker, controller) of cluster prod, and this is node 1"},
		"without the roles": {pkitest.Server(admin), "with the roles broker, controller; issue it with rustmq://<cluster>/node/1?roles=broker,controller"},
		"nobody's":          {&x509.Certificate{ExtKeyUsage: pkitest.Both()}, "names no server"},
		"of two":            {twice, "names 2 servers"},
	} {
		ours.Sign("this", c.template)
		if _, err := ours.Load("this", node(1)); err == nil || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s: %v", what, err)
		}
	}
	all := node(1)
	all.Roles = append(all.Roles, pki.RoleAdmin)
	ours.Sign("this", pkitest.Server(node(1)))
	m, err := ours.Load("this", all)
	if err != nil {
		t.Fatalf("a controller may do what an admin may: %v", err)
	}
	other := node(1)
	other.Cluster = "test"
	ours.Sign("this", pkitest.Server(other))
	if err := m.Reload(); err == nil || m.Self().Cluster != "prod" {
		t.Errorf("of another cluster, loaded again: %v", err)
	}
}

// TestWhoAPeerIs holds that a certificate of the same authority is a server's only where
// it names one of the same cluster, and is for both sides of a connection.
func TestWhoAPeerIs(t *testing.T) {
	ours := pkitest.New(t, "ours")
	m := ours.Mutual("self", node(1), "127.0.0.1")
	with := func(uris ...string) *x509.Certificate {
		c := &x509.Certificate{ExtKeyUsage: pkitest.Both(), Subject: pkix.Name{CommonName: "peer"}}
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, parsed)
		}
		return c
	}
	clients := with("rustmq://prod/node/2?roles=broker")
	clients.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for want, cert := range map[string]*x509.Certificate{
		"names no server":                  with("https://prod/node/2?roles=broker", "rustmq://prod/client/me"),
		"names 2 servers":                  with("rustmq://prod/node/2?roles=broker", "rustmq://prod/node/3?roles=controller"),
		"of cluster test, and this server": with("rustmq://test/node/2?roles=broker"),
		"the cluster is a name":            with("rustmq://PROD/node/2?roles=broker"),
		"a whole number":                   with("rustmq://prod/node/02?roles=broker"),
		"names with commas between":        with("rustmq://prod/node/2?roles=broker,"),
		"for one side":                     clients,
	} {
		id, err := m.Peer(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CN=peer") {
			t.Errorf("%v: %v, %v; want %q", cert.URIs, id, err, want)
		}
	}
	if _, err := m.Peer(tls.ConnectionState{}); err == nil {
		t.Error("nobody is taken for a server")
	}
	ok := with("https://elsewhere/", "rustmq://prod/node/2147483647?roles=broker,etl")
	id, err := m.Peer(tls.ConnectionState{PeerCertificates: []*x509.Certificate{ok}})
	if err != nil || id.Node != 2147483647 || !id.Has(pki.RoleBroker) || id.Has(pki.RoleController) {
		t.Errorf("a server: %v, %v", id, err)
	}
	if again, err := pki.IdentityOf(with(id.URI().String())); err != nil || again.String() != id.String() {
		t.Errorf("%v is read back as %v: %v", id, again, err)
	}
}
