package quic

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/sdk/go/quic/udp"
	"rustmq.dev/rustmq/transport/kafka"
)

// Options of a Listener.
type Options struct {
	Conn   *net.UDPConn // closed by Close
	TLS    *tls.Config  // certificate; ALPN and version are set here, also of what GetConfigForClient returns
	Server *kafka.Server
	Name   string // of the listener
	// Beside is a listener with which this one shares limits: of connections, and what their
	// windows may come to. Those of Options count for nothing then. Nil: it has its own.
	Beside *Listener
	// IdleTimeout without a packet, after which a connection is given up; two
	// minutes. Clients keep theirs alive while they have streams.
	IdleTimeout time.Duration
	MaxStreams  int64 // of one connection, 256
	MaxConns    int   // QUIC connections in all, 2,000
	PerIP       int   // QUIC connections from one address; MaxConns
	// WindowMemory is what the windows of all connections may come to: bytes
	// that clients may have sent and nobody has read, 1 GiB. A new connection
	// needs its first window, growth leaves a quarter for those.
	WindowMemory int64
	ZeroRTT      bool // whether clients that resume may send in their first packet
	// Identify says who a client is, whose certificate TLS has verified now or, where
	// a session is resumed, before; an error refuses it. Nil: certificates say nothing.
	Identify func(tls.ConnectionState) (kafka.Client, error)
	// Arrivals says how many connections may come; nil: any. Streams are not counted:
	// they come in a connection that was. One that would have to wait is refused, which
	// costs its client a packet, and this side no more.
	Arrivals kafka.Arrivals
	// Count counts connections that are turned away, by the reasons of [kafka.Metrics]; nil:
	// nobody does. Called from any goroutine.
	Count func(reason string)
	// Refused is told whose handshake failed, or whose certificate is refused, or does not
	// stand any more. It must not block. Nil: nobody is.
	Refused func(remote net.Addr, err error)
	Log     *slog.Logger
}

func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Count == nil {
		o.Count = func(string) {}
	}
	if o.Refused == nil {
		o.Refused = func(net.Addr, error) {}
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.WindowMemory == 0 {
		o.WindowMemory = DefaultWindowMemory
	}
	if o.PerIP == 0 {
		o.PerIP = o.MaxConns
	}
}

// Listener accepts QUIC connections.
type Listener struct {
	o         Options
	transport *quic.Transport
	listener  *quic.EarlyListener
	gate      *gate
	ctx       context.Context
	cancel    context.CancelFunc
	wait      sync.WaitGroup
}

// Listen starts to accept.
func Listen(o Options) (*Listener, error) {
	o.fill()
	growBuffers(o.Conn, o.Log)
	conf := serverConfig(o.TLS, o.Identify != nil)
	l := &Listener{o: o}
	if o.Beside != nil {
		l.gate = o.Beside.gate
	} else {
		l.gate = newGate(o.MaxConns, o.PerIP, o.WindowMemory, o.Count, o.Log)
		l.gate.refused, l.gate.arrivals = o.Refused, o.Arrivals
	}
	l.transport = &quic.Transport{
		Conn:                udp.Coalesce(o.Conn),
		StatelessResetKey:   resetKey(conf),
		ConnContext:         l.gate.enter,
		VerifySourceAddress: l.gate.suspects,
	}
	var err error
	l.listener, err = l.transport.ListenEarly(conf, &quic.Config{
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 o.IdleTimeout,
		MaxIncomingStreams:             o.MaxStreams,
		MaxIncomingUniStreams:          -1,
		RequireStreamCreditRelease:     true,
		InitialStreamReceiveWindow:     firstStreamWindow,
		InitialConnectionReceiveWindow: firstConnWindow,
		MaxStreamReceiveWindow:         streamWindow,
		MaxConnectionReceiveWindow:     connWindow,
		AllowConnectionWindowIncrease:  l.gate.grow,
		Allow0RTT:                      o.ZeroRTT,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for QUIC on %s: %w", o.Conn.LocalAddr(), err), l.transport.Close())
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wait.Go(l.accept)
	return l, nil
}

// resetKey is the same after a restart with the same certificate, so that
// clients of the process before learn at once that it is gone (RFC 9000 §10.3),
// and need not wait for a time-out. Nil: there is no key to derive it from.
func resetKey(conf *tls.Config) *quic.StatelessResetKey {
	var cert *tls.Certificate
	var err error
	switch {
	case len(conf.Certificates) > 0:
		cert = &conf.Certificates[0]
	case conf.GetCertificate != nil:
		cert, err = conf.GetCertificate(&tls.ClientHelloInfo{})
	}
	if err != nil || cert == nil {
		return nil
	}
	secret, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil // a key that does not leave its device
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "rustmq quic stateless reset", len(quic.StatelessResetKey{}))
	if err != nil {
		return nil
	}
	return (*quic.StatelessResetKey)(derived)
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.o.Conn.LocalAddr() }

func (l *Listener) accept() {
	for {
		conn, err := l.listener.Accept(l.ctx)
		if err != nil {
			if l.ctx.Err() == nil {
				l.o.Log.Error("QUIC listener ended", "addr", l.Addr().String(), "error", err)
			}
			return
		}
		l.wait.Go(func() { l.serve(conn) })
	}
}

// serve gives each stream of a connection to the Kafka side.
func (l *Listener) serve(conn *quic.Conn) {
	l.gate.accepted(conn)
	defer l.gate.ended(conn)
	if l.gate.watches() {
		l.wait.Go(func() { l.gate.watch(l.ctx) })
	}
	info := kafka.Info{
		Listener: l.o.Name, Transport: "quic",
		Early:   func() bool { return !handshaken(conn) },
		Confirm: func(ctx context.Context) error { return confirm(ctx, conn) },
		Known:   func() { l.gate.known(conn) },
	}
	known := l.o.Identify == nil
	for {
		stream, err := conn.AcceptStream(l.ctx)
		if err != nil {
			_ = conn.CloseWithError(0, "") // the peer has ended it, or we do
			return
		}
		if !known {
			principal, leave, err := l.identify(conn)
			if err != nil {
				_ = conn.CloseWithError(refusedCertificate, "certificate") // whoever it is, is not let in
				return
			}
			defer leave()
			info.Principal, known = principal, true
		}
		l.wait.Go(func() {
			info := info
			info.Gone = stream.Context().Done()
			l.o.Server.ServeConn(&streamConn{stream: stream, conn: conn}, info)
			stream.ReleaseStreamCredit()
		})
	}
}

// refusedCertificate is the error of a connection whose client's certificate is refused, or
// does not stand any more.
const refusedCertificate = 1

// identify says who the client of a connection is, of which a stream has come. leave is for
// when the connection has ended; streams end with it.
func (l *Listener) identify(conn *quic.Conn) (principal string, leave func(), err error) {
	state := visitOf(conn).state.Load()
	if state == nil {
		return "", nil, errors.New("nobody has verified its handshake")
	}
	client, err := l.o.Identify(*state)
	if err != nil {
		l.o.Count("certificate")
		l.o.Log.Warn("a client's certificate is refused", "remote", conn.RemoteAddr().String(), "error", err)
		l.o.Refused(conn.RemoteAddr(), err)
		return "", nil, err
	}
	if client.Hold == nil {
		return client.Principal, func() {}, nil
	}
	leave = client.Hold(func(err error) {
		l.o.Refused(conn.RemoteAddr(), err)
		go func() { _ = conn.CloseWithError(refusedCertificate, "certificate") }()
	})
	return client.Principal, leave, nil
}

// serverConfig is what a configuration is for QUIC. With note, the visit of each connection
// has its state from when TLS has verified it: 0-RTT comes before the handshake is
// complete, and crypto/tls says nothing until then.
func serverConfig(conf *tls.Config, note bool) *tls.Config {
	conf = conf.Clone()
	conf.NextProtos = []string{sdkquic.ALPN}
	conf.MinVersion = tls.VersionTLS13
	inner := conf.GetConfigForClient
	if inner == nil && !note {
		return conf
	}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		mine := conf
		if inner != nil {
			theirs, err := inner(hello)
			if err != nil {
				return nil, err
			}
			if theirs != nil {
				mine = theirs
			}
		}
		mine = mine.Clone()
		mine.NextProtos, mine.MinVersion, mine.GetConfigForClient = conf.NextProtos, conf.MinVersion, nil
		v, visits := hello.Context().Value(visitKey{}).(*visit)
		if !note || !visits {
			return mine, nil
		}
		verify := mine.VerifyConnection
		mine.VerifyConnection = func(state tls.ConnectionState) error {
			if verify != nil {
				if err := verify(state); err != nil {
					return err
				}
			}
			v.state.Store(&state)
			return nil
		}
		return mine, nil
	}
	return conf
}

func handshaken(conn *quic.Conn) bool {
	select {
	case <-conn.HandshakeComplete():
		return true
	default:
		return false
	}
}

// confirm waits for the handshake. That the client has completed it proves that
// what it sent before is no replay.
func confirm(ctx context.Context, conn *quic.Conn) error {
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return context.Cause(conn.Context())
}

// Close ends all connections and waits for their streams. Close the Kafka
// server first, so that their handlers have ended.
func (l *Listener) Close() error {
	l.cancel()
	err := l.listener.Close()
	l.wait.Wait()
	return errors.Join(err, l.transport.Close(), l.o.Conn.Close())
}

// SetLimits changes how many connections there may be, in all and from one address; those
// that there are stay.
func (l *Listener) SetLimits(maxConns, perIP int) { l.gate.set(maxConns, perIP) }
