package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// ALPN is the protocol that client and broker agree on.
const ALPN = "kafka"

// Limits of a client connection.
const (
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 2 * time.Minute
	keepAlive        = 15 * time.Second
	streamWindow     = 16 << 20 // bytes a broker may send ahead on one stream
	connWindow       = 64 << 20 // and on all of them
	tickets          = 64       // brokers whose session is remembered
	socketBuffer     = 4 << 20  // bytes asked of the kernel; 1 MiB is enough
)

// ErrClosed is what a closed Dialer returns.
var ErrClosed = errors.New("quic dialer is closed")

// Dialer dials brokers. The zero value works where the system trusts the
// broker's certificate.
type Dialer struct {
	// TLS is cloned; ServerName defaults to the host that is dialled, and
	// ClientSessionCache to one of the Dialer's own.
	TLS *tls.Config

	mu        sync.Mutex
	transport *quic.Transport
	sessions  tls.ClientSessionCache
	tokens    quic.TokenStore
	conns     map[string]*shared
	closed    bool
}

// shared is the QUIC connection to one broker. ready is closed when conn and
// err are set.
type shared struct {
	ready chan struct{}
	conn  *quic.Conn
	err   error
}

// DialContext opens a stream to the broker at addr, host:port, over the
// connection that exists or a new one. network is ignored; it is there for
// kgo.Dialer.
func (d *Dialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	// A connection may have died since it was last used: once more, anew.
	for attempt := 0; ; attempt++ {
		s, fresh, err := d.connection(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("dial %s over QUIC: %w", addr, err)
		}
		stream, err := s.conn.OpenStreamSync(ctx)
		if err == nil {
			return &streamConn{Stream: stream, conn: s.conn}, nil
		}
		d.forget(addr, s)
		if fresh || attempt > 0 || ctx.Err() != nil {
			return nil, fmt.Errorf("open a stream to %s over QUIC: %w", addr, err)
		}
	}
}

// connection returns the connection to addr, and whether it was made now.
func (d *Dialer) connection(ctx context.Context, addr string) (*shared, bool, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, false, ErrClosed
	}
	s := d.conns[addr]
	if s != nil {
		d.mu.Unlock()
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if s.err == nil && s.conn.Context().Err() == nil {
			return s, false, nil
		}
		d.forget(addr, s)
		if s.err != nil {
			return nil, false, s.err
		}
		return d.connection(ctx, addr)
	}
	s = &shared{ready: make(chan struct{})}
	if d.conns == nil {
		d.conns = map[string]*shared{}
	}
	d.conns[addr] = s
	d.mu.Unlock()
	s.conn, s.err = d.dial(ctx, addr)
	close(s.ready)
	if s.err != nil {
		d.forget(addr, s)
	}
	return s, true, s.err
}

func (d *Dialer) forget(addr string, s *shared) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[addr] == s {
		delete(d.conns, addr)
	}
}

func (d *Dialer) dial(ctx context.Context, addr string) (*quic.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	to, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	transport, conf, err := d.prepare(host)
	if err != nil {
		return nil, err
	}
	return transport.DialEarly(ctx, to, conf, &quic.Config{
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		KeepAlivePeriod:                keepAlive,
		MaxStreamReceiveWindow:         streamWindow,
		MaxConnectionReceiveWindow:     connWindow,
		InitialStreamReceiveWindow:     2 << 20,
		InitialConnectionReceiveWindow: 4 << 20,
		TokenStore:                     d.tokens,
	})
}

func resolve(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	ip := ips[0]
	for _, candidate := range ips {
		if candidate.Unmap().Is4() { // as TCP dials most often on this side of happy eyeballs
			ip = candidate
			break
		}
	}
	return &net.UDPAddr{IP: net.IP(ip.Unmap().AsSlice()), Port: number, Zone: ip.Zone()}, nil
}

// prepare returns the socket, made once, and the TLS configuration for a host.
func (d *Dialer) prepare(host string) (*quic.Transport, *tls.Config, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, ErrClosed
	}
	if d.transport == nil {
		socket, err := net.ListenUDP("udp", nil)
		if err != nil {
			return nil, nil, err
		}
		// The kernel gives what it allows; less costs throughput, not more.
		_ = socket.SetReadBuffer(socketBuffer)
		_ = socket.SetWriteBuffer(socketBuffer)
		d.transport = &quic.Transport{Conn: socket}
		d.tokens = quic.NewLRUTokenStore(tickets, 4)
		d.sessions = tls.NewLRUClientSessionCache(tickets)
	}
	conf := &tls.Config{}
	if d.TLS != nil {
		conf = d.TLS.Clone()
	}
	conf.NextProtos = []string{ALPN}
	conf.MinVersion = tls.VersionTLS13
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	if conf.ClientSessionCache == nil {
		conf.ClientSessionCache = d.sessions
	}
	return d.transport, conf, nil
}

// Close ends all connections and their streams.
func (d *Dialer) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.closed = true
	transport := d.transport
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for _, s := range conns {
		<-s.ready
		if s.conn != nil {
			_ = s.conn.CloseWithError(0, "") // the peer may be gone already
		}
	}
	if transport == nil {
		return nil
	}
	return errors.Join(transport.Close(), transport.Conn.Close())
}

// streamConn is a stream as a net.Conn.
type streamConn struct {
	*quic.Stream
	conn *quic.Conn
}

func (c *streamConn) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c *streamConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Close ends both directions; the connection stays for other streams.
func (c *streamConn) Close() error {
	c.CancelRead(0)
	return c.Stream.Close()
}
