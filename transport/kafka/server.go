package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Handler serves requests.
type Handler interface {
	// Serve starts a request. It is called in order of arrival by the reader of
	// the connection and does not wait for commits, other nodes or other
	// requests; waiting for room in a budget is meant to slow the client down.
	Serve(*Request)
	// Versions is what is served, asked for once.
	Versions() []ApiVersion
	// ConnClosed is called once after the last Serve of a connection.
	ConnClosed(*Conn)
}

// Metrics is told what passes. Its methods must not block.
type Metrics interface {
	Opened(transport string)
	Closed(transport string)
	Refused(reason string)
	Received(key int16, bytes int64)
	Sent(bytes int64)
	// Failed counts connections that ended for a reason.
	Failed(reason string)
}

// Options of a Server.
type Options struct {
	Handler Handler
	Limits  Limits
	// EarlyOK reports whether a request may be served although it may be a
	// replay (0-RTT); nil: none. Others wait for the handshake.
	EarlyOK func(*Request) bool
	Metrics Metrics
	Log     *slog.Logger
}

// Server serves Kafka connections.
type Server struct {
	handler  Handler
	limits   Limits
	earlyOK  func(*Request) bool
	metrics  Metrics
	log      *slog.Logger
	versions *versionTable
	memory   budget
	nextID   atomic.Uint64
	failures limiter

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*Conn]bool
	perIP     map[string]int
	closed    bool
}

// New returns a server that has no listener yet.
func New(o Options) *Server {
	o.Limits.fill()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	if o.EarlyOK == nil {
		o.EarlyOK = func(*Request) bool { return false }
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		handler: o.Handler, limits: o.Limits, earlyOK: o.EarlyOK, metrics: o.Metrics, log: o.Log,
		versions: newVersionTable(o.Handler.Versions()), memory: budget{limit: o.Limits.TotalMemory},
		ctx: ctx, cancel: cancel,
		listeners: map[net.Listener]bool{}, conns: map[*Conn]bool{}, perIP: map[string]int{},
	}
}

// ErrServerClosed is what ServeListener returns after Close.
var ErrServerClosed = errors.New("kafka server is closed")

// ServeListener accepts connections until Close. A *tls.Conn does its handshake
// within the limits.
func (s *Server) ServeListener(l net.Listener, name string) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	pause := time.Millisecond
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			// EMFILE and its like pass; a listener that gave up would not.
			s.log.Warn("cannot accept", "addr", l.Addr(), "error", err)
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
				continue
			case <-s.ctx.Done():
				return ErrServerClosed
			}
		}
		pause = time.Millisecond
		s.wait.Go(func() { s.accept(conn, name) })
	}
}

// accept completes the handshake of a connection and serves it.
func (s *Server) accept(conn net.Conn, name string) {
	info := Info{Listener: name, Transport: "tcp"}
	if secure, ok := conn.(*tls.Conn); ok {
		info.Transport = "tls"
		ctx, cancel := context.WithTimeout(s.ctx, s.limits.HandshakeTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			s.metrics.Refused("handshake")
			s.failures.log(s.log, "TLS handshake failed", "remote", conn.RemoteAddr(), "error", err)
			_ = conn.Close()
			return
		}
	}
	s.ServeConn(conn, info)
}

// ServeConn serves one connection until it ends, and closes it.
func (s *Server) ServeConn(conn net.Conn, info Info) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	c := &Conn{
		id: s.nextID.Add(1), server: s, net: conn, info: info, ctx: ctx, cancel: cancel,
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	ip := address(conn.RemoteAddr())
	if reason := s.add(c, ip); reason != "" {
		s.metrics.Refused(reason)
		s.failures.log(s.log, "connection refused", "remote", conn.RemoteAddr(), "reason", reason)
		_ = conn.Close()
		return
	}
	s.metrics.Opened(info.Transport)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c.serve()
	stop()
	s.mu.Lock()
	delete(s.conns, c)
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
	s.mu.Unlock()
	s.metrics.Closed(info.Transport)
	s.handler.ConnClosed(c)
}

// add counts a connection, or says why it is one too many.
func (s *Server) add(c *Conn, ip string) (refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "closing"
	case len(s.conns) >= s.limits.MaxConns:
		return "max_connections"
	case s.perIP[ip] >= s.limits.PerIP:
		return "max_connections_per_ip"
	}
	s.conns[c] = true
	s.perIP[ip]++
	return ""
}

func address(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// closing says once why a connection ended.
func (s *Server) closing(c *Conn, reason string, err error) {
	if c.ctx.Err() != nil {
		return
	}
	s.metrics.Failed(reason)
	s.failures.log(s.log, "connection closed", "remote", c.RemoteAddr(), "transport", c.info.Transport, "reason", reason, "error", err)
}

// Close stops listening, ends all connections, and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.closed = true
	s.cancel() // before the listeners, which tell an end from a failure by it
	var err error
	for l := range s.listeners {
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	s.mu.Unlock()
	s.wait.Wait()
	return err
}

// limiter lets ten lines a second through, so that hostile clients cannot fill
// the log.
type limiter struct {
	mu     sync.Mutex
	second int64
	lines  int
}

const linesPerSecond = 10

func (l *limiter) log(to *slog.Logger, msg string, args ...any) {
	now := time.Now().Unix()
	l.mu.Lock()
	if l.second != now {
		l.second, l.lines = now, 0
	}
	l.lines++
	over := l.lines > linesPerSecond
	l.mu.Unlock()
	if !over {
		to.Warn(msg, args...)
	}
}

type noMetrics struct{}

func (noMetrics) Opened(string)         {}
func (noMetrics) Closed(string)         {}
func (noMetrics) Refused(string)        {}
func (noMetrics) Received(int16, int64) {}
func (noMetrics) Sent(int64)            {}
func (noMetrics) Failed(string)         {}
