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

	"rustmq.dev/rustmq/sdk/go/quic/udp"
)

// ALPN is the protocol that client and broker agree on.
const ALPN = "kafka"

// Limits of a client connection.
const (
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 15 * time.Second // without a packet: the broker is gone
	keepAlive        = 5 * time.Second
	linger           = 10 * time.Second // of a connection without streams
	streamWindow     = 16 << 20         // bytes a broker may send ahead on one stream
	connWindow       = 64 << 20         // and on all of them
	tickets          = 64               // brokers whose session is remembered
	socketBuffer     = 7 << 20          // bytes asked of the kernel; 1 MiB is enough
)

// ErrClosed is what a closed Dialer returns.
var ErrClosed = errors.New("quic dialer is closed")

// Dialer dials brokers. The zero value works where the system trusts the
// broker's certificate.
type Dialer struct {
	// TLS is cloned; ServerName defaults to the host that is dialled, and
	// ClientSessionCache to one of the Dialer's own.
	TLS *tls.Config

	mu       sync.Mutex
	socket   *quic.Transport   // of new connections; made by the first dial
	left     []*quic.Transport // sockets that connections have migrated from
	moving   sync.Mutex        // held by Migrate
	sessions tls.ClientSessionCache
	tokens   quic.TokenStore
	conns    map[string]*shared // by address
	ctx      context.Context    // of dials; ends with Close
	cancel   context.CancelFunc
	closed   bool
	dials    sync.WaitGroup
}

// shared is the QUIC connection to one broker.
type shared struct {
	addr  string
	ready chan struct{} // closed when conn and err are set
	conn  *quic.Conn
	err   error
	// As they were at first: those of conn must not be read while it migrates.
	local, remote net.Addr
	settled       sync.Once
	early         bool // set by settle: the broker took 0-RTT

	streams int         // that are open or being opened; guarded by Dialer.mu
	last    *time.Timer // ends the connection; guarded by Dialer.mu
}

// DialContext opens a stream to the broker at addr, host:port, over the
// connection that exists or a new one. network is ignored; it is there for
// kgo.Dialer. It may return before the handshake is complete.
func (d *Dialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	// A connection may have died since it was last used: once more, anew.
	for attempt := 0; ; attempt++ {
		s, fresh, err := d.connection(ctx, addr)
		if err != nil {
			return nil, dialError(addr, err)
		}
		if !fresh {
			// The first stream gains from 0-RTT. Others would race with the
			// handshake inside quic-go (quic-go/quic-go#4303).
			err = handshaken(ctx, s.conn)
		}
		var stream *quic.Stream
		if err == nil {
			stream, err = openStream(ctx, s.conn)
		}
		if err == nil {
			return newStreamConn(d, s, stream), nil
		}
		gone := errors.Is(err, net.ErrClosed)
		if gone {
			d.forget(s) // its context ends a moment later
		}
		d.release(s)
		if fresh || attempt > 0 || !gone || ctx.Err() != nil {
			return nil, dialError(addr, fmt.Errorf("open a stream: %w", err))
		}
	}
}

func dialError(addr string, err error) error {
	return &net.OpError{Op: "dial", Net: "quic", Addr: target(addr), Err: err}
}

// target is an address that was not resolved.
type target string

func (target) Network() string  { return "quic" }
func (t target) String() string { return string(t) }

// handshaken waits for the end of the handshake.
func handshaken(ctx context.Context, conn *quic.Conn) error {
	select {
	case <-conn.HandshakeComplete():
		return nil
	case <-conn.Context().Done():
		return context.Cause(conn.Context())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openStream opens a stream, also where 0-RTT was refused meanwhile.
func openStream(ctx context.Context, conn *quic.Conn) (*quic.Stream, error) {
	early := !complete(conn)
	stream, err := conn.OpenStreamSync(ctx)
	if early {
		// Takes a lock that the handshake takes before it replaces what the stream
		// was made from (quic-go/quic-go#4303).
		_ = conn.ConnectionState()
	}
	if !errors.Is(err, quic.Err0RTTRejected) {
		return stream, err
	}
	if conn, err = conn.NextConnection(ctx); err != nil {
		return nil, err
	}
	return conn.OpenStreamSync(ctx)
}

// connection returns the connection to addr with a stream reserved, and whether
// it was made now. Who asks while it is dialled waits for the same dial, which
// goes on when a caller gives up.
func (d *Dialer) connection(ctx context.Context, addr string) (s *shared, fresh bool, err error) {
	d.mu.Lock()
	if err := d.begin(); err != nil {
		d.mu.Unlock()
		return nil, false, err
	}
	s = d.conns[addr]
	if s == nil || s.dead() {
		s, fresh = &shared{addr: addr, ready: make(chan struct{})}, true
		d.conns[addr] = s
		made := s // the result is set to nil when the caller gives up
		d.dials.Go(func() { d.dial(made) })
	}
	s.streams++
	if s.last != nil {
		s.last.Stop()
		s.last = nil
	}
	d.mu.Unlock()
	select {
	case <-s.ready:
		err = s.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		d.release(s)
		return nil, fresh, err
	}
	return s, fresh, nil
}

// settle notes what the handshake, which is complete, has come to, before the connection
// can migrate: its state must not be read meanwhile.
func (s *shared) settle() bool {
	s.settled.Do(func() { s.early = s.conn.ConnectionState().Used0RTT })
	return s.early
}

// dead reports whether nothing can be opened on the connection any more.
func (s *shared) dead() bool {
	select {
	case <-s.ready:
		return s.err != nil || s.conn.Context().Err() != nil
	default:
		return false
	}
}

// begin makes what the first dial needs. d.mu is held.
func (d *Dialer) begin() error {
	switch {
	case d.closed:
		return ErrClosed
	case d.ctx != nil:
		return nil
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.conns = map[string]*shared{}
	d.sessions = tls.NewLRUClientSessionCache(tickets)
	d.tokens = quic.NewLRUTokenStore(tickets, 4)
	return nil
}

// dial makes the connection of s.
func (d *Dialer) dial(s *shared) {
	defer close(s.ready)
	ctx, cancel := context.WithTimeout(d.ctx, handshakeTimeout)
	defer cancel()
	if s.conn, s.err = d.handshake(ctx, s.addr); s.err != nil {
		d.forget(s)
		return
	}
	s.local, s.remote = s.conn.LocalAddr(), s.conn.RemoteAddr()
}

// forget lets the next dial make another connection.
func (d *Dialer) forget(s *shared) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[s.addr] == s {
		delete(d.conns, s.addr)
	}
}

func (d *Dialer) handshake(ctx context.Context, addr string) (*quic.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	candidates, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	socket, err := d.transport()
	if err != nil {
		return nil, err
	}
	conf := d.tlsConfig(host, addr)
	return race(ctx, candidates, func(ctx context.Context, to *net.UDPAddr) (*quic.Conn, error) {
		return socket.DialEarly(ctx, to, conf, &quic.Config{
			HandshakeIdleTimeout:           handshakeTimeout,
			MaxIdleTimeout:                 idleTimeout,
			KeepAlivePeriod:                keepAlive,
			MaxIncomingStreams:             -1,
			MaxIncomingUniStreams:          -1,
			MaxStreamReceiveWindow:         streamWindow,
			MaxConnectionReceiveWindow:     connWindow,
			InitialStreamReceiveWindow:     2 << 20,
			InitialConnectionReceiveWindow: 4 << 20,
			TokenStore:                     d.tokens,
		})
	})
}

// transport returns the socket that all connections share.
func (d *Dialer) transport() (*quic.Transport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if d.socket == nil {
		socket, err := newSocket()
		if err != nil {
			return nil, err
		}
		d.socket = socket
	}
	return d.socket, nil
}

// newSocket opens a socket on a free port of every address.
func newSocket() (*quic.Transport, error) {
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	// The kernel gives what it allows; less costs throughput, not more.
	_ = socket.SetReadBuffer(socketBuffer)
	_ = socket.SetWriteBuffer(socketBuffer)
	return &quic.Transport{Conn: udp.Coalesce(socket)}, nil
}

func (d *Dialer) tlsConfig(host, addr string) *tls.Config {
	conf := &tls.Config{}
	if d.TLS != nil {
		conf = d.TLS.Clone()
	}
	conf.NextProtos = []string{ALPN}
	conf.MinVersion = tls.VersionTLS13
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	sessions := conf.ClientSessionCache
	if sessions == nil {
		sessions = d.sessions
	}
	conf.ClientSessionCache = brokerSessions{addr, sessions}
	return conf
}

// brokerSessions keeps apart the sessions of brokers that share a host name:
// one cannot read the other's tickets.
type brokerSessions struct {
	addr string
	all  tls.ClientSessionCache
}

func (s brokerSessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.all.Get("quic/" + s.addr + "/" + key)
}

func (s brokerSessions) Put(key string, state *tls.ClientSessionState) {
	s.all.Put("quic/"+s.addr+"/"+key, state)
}

// release gives back a stream; the last one leaves the connection to its timer.
func (d *Dialer) release(s *shared) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.streams--
	if s.streams == 0 && !d.closed && s.last == nil {
		s.last = time.AfterFunc(linger, func() { d.expire(s) })
	}
}

// expire ends a connection that nobody has used for a while.
func (d *Dialer) expire(s *shared) {
	d.mu.Lock()
	if s.streams > 0 {
		d.mu.Unlock()
		return
	}
	if d.conns[s.addr] == s {
		delete(d.conns, s.addr)
	}
	d.mu.Unlock()
	<-s.ready
	if s.err == nil {
		_ = s.conn.CloseWithError(0, "") // the peer may be gone already
	}
}

// Close ends all connections and their streams.
func (d *Dialer) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.closed = true
	if d.ctx == nil {
		d.mu.Unlock()
		return nil
	}
	d.cancel()
	sockets, conns := d.left, d.conns
	if d.socket != nil {
		sockets = append(sockets, d.socket)
	}
	d.conns = nil
	for _, s := range conns {
		if s.last != nil {
			s.last.Stop()
		}
	}
	d.mu.Unlock()
	d.dials.Wait()
	for _, s := range conns {
		if s.err == nil {
			_ = s.conn.CloseWithError(0, "") // the peer may be gone already
		}
	}
	var errs []error
	for _, socket := range sockets {
		errs = append(errs, socket.Close(), socket.Conn.Close())
	}
	return errors.Join(errs...)
}
