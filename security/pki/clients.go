package pki

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
)

// ClientsOptions of [Clients].
type ClientsOptions struct {
	Trust    *Trust
	Required bool // whether a client without a certificate is refused
	Mapping  *Mapping
}

// Clients is how a server knows its clients by their certificates. It is safe for
// concurrent use.
type Clients struct {
	o           ClientsOptions
	connections *Connections
}

// NewClients returns who knows clients.
func NewClients(o ClientsOptions) *Clients { return &Clients{o, NewConnections(o.Trust)} }

// Client is who a client has proved to be; the zero value has shown no certificate.
type Client struct {
	Principal string
	// Hold is [Connections.Hold] of the connection; nil: nothing ends it.
	Hold func(end func(error)) (leave func())
}

// Identify says who has completed a handshake with the configuration of [Clients.ServerConfig]. A
// session that is resumed is judged as a new one.
func (c *Clients) Identify(state tls.ConnectionState) (Client, error) {
	if len(state.PeerCertificates) == 0 {
		if c.o.Required {
			return Client{}, errors.New("it shows no certificate")
		}
		return Client{}, nil
	}
	if err := c.o.Trust.Admit(state.VerifiedChains); err != nil {
		return Client{}, err
	}
	principal, err := c.o.Mapping.Principal(state.PeerCertificates[0])
	if err != nil {
		return Client{}, err
	}
	chains := state.VerifiedChains
	return Client{principal, func(end func(error)) func() { return c.connections.Hold(chains, end) }}, nil
}

// Judge ends the connections of clients whose certificates do not stand any more, and
// returns how many there were.
func (c *Clients) Judge() int { return c.connections.Judge() }

// ServerConfig is base, with clients asked for certificates. Handshakes see the
// authorities of their time.
func (c *Clients) ServerConfig(base *tls.Config) *tls.Config {
	asks := tls.VerifyClientCertIfGiven
	if c.o.Required {
		asks = tls.RequireAndVerifyClientCert
	}
	return c.o.Trust.server(base, asks, func(state tls.ConnectionState) error {
		_, err := c.Identify(state)
		return err
	})
}

// server is base with peers asked for certificates of the authorities that are trusted at
// the time of a handshake, and admitted by verify, also where a session is resumed.
func (t *Trust) server(base *tls.Config, asks tls.ClientAuthType, verify func(tls.ConnectionState) error) *tls.Config {
	type made struct {
		of     *authorities
		config *tls.Config
	}
	var last atomic.Pointer[made]
	current := func() *tls.Config {
		of := t.current.Load()
		if m := last.Load(); m != nil && m.of == of {
			return m.config
		}
		config := base.Clone()
		config.ClientAuth, config.ClientCAs, config.VerifyConnection, config.Time = asks, of.roots, verify, t.o.Now
		last.Store(&made{of, config})
		return config
	}
	config := current().Clone() // what knows no hook is as strict
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current(), nil }
	return config
}
