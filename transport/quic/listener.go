package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/transport/kafka"
)

// Limits that are not for an operator to set.
const (
	handshakeTimeout = 10 * time.Second
	streamWindow     = 16 << 20 // bytes a client may send ahead on one stream
	connWindow       = 64 << 20 // and on all of them
	// WantedBuffer is the socket buffer that QUIC needs for its full rate.
	WantedBuffer = 1 << 20
)

// Options of a Listener.
type Options struct {
	Conn        *net.UDPConn
	TLS         *tls.Config // certificate; ALPN and version are set here
	Server      *kafka.Server
	Name        string // of the listener
	IdleTimeout time.Duration
	MaxStreams  int64 // of one connection
	ZeroRTT     bool
	Log         *slog.Logger
}

// Listener accepts QUIC connections.
type Listener struct {
	o         Options
	transport *quic.Transport
	listener  *quic.EarlyListener
	ctx       context.Context
	cancel    context.CancelFunc
	wait      sync.WaitGroup
}

// Listen starts to accept.
func Listen(o Options) (*Listener, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	warnBuffers(o.Conn, o.Log)
	conf := o.TLS.Clone()
	conf.NextProtos = []string{sdkquic.ALPN}
	conf.MinVersion = tls.VersionTLS13
	transport := &quic.Transport{Conn: o.Conn}
	listener, err := transport.ListenEarly(conf, &quic.Config{
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 o.IdleTimeout,
		MaxIncomingStreams:             o.MaxStreams,
		MaxIncomingUniStreams:          -1,
		MaxStreamReceiveWindow:         streamWindow,
		MaxConnectionReceiveWindow:     connWindow,
		InitialStreamReceiveWindow:     1 << 20,
		InitialConnectionReceiveWindow: 2 << 20,
		Allow0RTT:                      o.ZeroRTT,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for QUIC on %s: %w", o.Conn.LocalAddr(), err), transport.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{o: o, transport: transport, listener: listener, ctx: ctx, cancel: cancel}
	l.wait.Go(l.accept)
	return l, nil
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.o.Conn.LocalAddr() }

func (l *Listener) accept() {
	for {
		conn, err := l.listener.Accept(l.ctx)
		if err != nil {
			if l.ctx.Err() == nil {
				l.o.Log.Error("QUIC listener ended", "addr", l.Addr(), "error", err)
			}
			return
		}
		l.wait.Go(func() { l.serve(conn) })
	}
}

// serve gives each stream of a connection to the Kafka side.
func (l *Listener) serve(conn *quic.Conn) {
	info := kafka.Info{
		Listener: l.o.Name, Transport: "quic",
		Early: func() bool {
			select {
			case <-conn.HandshakeComplete():
				return false
			default:
				return true
			}
		},
		Confirmed: conn.HandshakeComplete(),
	}
	for {
		stream, err := conn.AcceptStream(l.ctx)
		if err != nil {
			_ = conn.CloseWithError(0, "") // the peer has ended it, or we do
			return
		}
		l.wait.Go(func() { l.o.Server.ServeConn(&streamConn{stream, conn}, info) })
	}
}

// Close ends all connections and waits for their streams. Close the Kafka
// server first, so that their handlers have ended.
func (l *Listener) Close() error {
	l.cancel()
	err := l.listener.Close()
	l.wait.Wait()
	return errors.Join(err, l.transport.Close(), l.o.Conn.Close())
}

// streamConn is a stream as a net.Conn.
type streamConn struct {
	*quic.Stream
	conn *quic.Conn
}

func (c *streamConn) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c *streamConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Close ends both directions.
func (c *streamConn) Close() error {
	c.CancelRead(0)
	c.CancelWrite(0)
	return nil
}

// warnBuffers asks the kernel for the buffers that QUIC wants, and says what to
// do when it gives less.
func warnBuffers(conn *net.UDPConn, log *slog.Logger) {
	_ = conn.SetReadBuffer(4 * WantedBuffer)
	_ = conn.SetWriteBuffer(4 * WantedBuffer)
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var receive, send int
	if err := raw.Control(func(fd uintptr) {
		receive, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
		send, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}); err != nil {
		return
	}
	if min(receive, send) < WantedBuffer {
		log.Warn("small UDP buffers make QUIC slow: set net.core.rmem_max and net.core.wmem_max to 4194304 or more",
			"receive_bytes", receive, "send_bytes", send)
	}
}
