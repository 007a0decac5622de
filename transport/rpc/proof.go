package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
)

// heldConn is a connection that ends with the certificate of the other side.
type heldConn struct {
	net.Conn
	leave func()
}

func (c *heldConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// held returns conn, which is closed once the other side's certificate does not stand any
// more.
func held(mutual *pki.Mutual, conn net.Conn, info credentials.AuthInfo) net.Conn {
	secure, is := info.(credentials.TLSInfo)
	if !is {
		return conn
	}
	// In a goroutine, for TLS may first say farewell to a peer that does not read.
	leave := mutual.Hold(secure.State, func(error) { go func() { _ = conn.Close() }() })
	return &heldConn{conn, leave}
}

// serverProof is the credentials of a server whose callers prove who they are.
type serverProof struct {
	credentials.TransportCredentials
	mutual *pki.Mutual
}

func newServerProof(mutual *pki.Mutual) *serverProof {
	return &serverProof{credentials.NewTLS(mutual.ServerConfig()), mutual}
}

// ServerHandshake implements [credentials.TransportCredentials].
func (p *serverProof) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := p.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return nil, nil, err
	}
	return held(p.mutual, c, info), info, nil
}

// Clone implements [credentials.TransportCredentials].
func (p *serverProof) Clone() credentials.TransportCredentials {
	return &serverProof{p.TransportCredentials.Clone(), p.mutual}
}

// dialProof is the credentials of a connection to a server that has to prove who it is.
type dialProof struct {
	credentials.TransportCredentials // of no handshake: each trusts the authorities of its time
	mutual                           *pki.Mutual
	verify                           func(tls.ConnectionState) error
	failed                           *atomic.Pointer[error] // why the last handshake failed; nil: it did not
}

// proofOf returns credentials for connections to the server at an address: one with that
// role, and that id. Nil without mutual.
func proofOf(mutual *pki.Mutual, address, role string, node int64) *dialProof {
	if mutual == nil {
		return nil
	}
	verify := func(state tls.ConnectionState) error {
		is, err := mutual.Peer(state)
		if err != nil {
			return fmt.Errorf("who answers at %s is no server of this cluster: %w", address, err)
		}
		meant := slices.Contains(is.Roles, role) && (node == AnyNode || int64(is.Node) == node)
		if !guard.Check("rpc.server-is", meant) {
			return fmt.Errorf("who answers at %s is %s by its certificate; expected is %s", address, is, expectation(node, []string{role}))
		}
		return nil
	}
	return &dialProof{credentials.NewTLS(mutual.ClientConfig()), mutual, verify, new(atomic.Pointer[error])}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (p *dialProof) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := p.mutual.ClientConfig()
	admit := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if err := admit(state); err != nil {
			return err
		}
		return p.verify(state)
	}
	c, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
	if err != nil {
		p.failed.Store(&err)
		return nil, nil, err
	}
	p.failed.Store(nil)
	return held(p.mutual, c, info), info, nil
}

// Clone implements [credentials.TransportCredentials]; what fails is noted in one place.
func (p *dialProof) Clone() credentials.TransportCredentials {
	return &dialProof{p.TransportCredentials.Clone(), p.mutual, p.verify, p.failed}
}

// failure says why the last handshake failed, or nil.
func (p *dialProof) failure() error {
	if p == nil {
		return nil
	}
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}
