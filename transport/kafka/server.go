package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
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

// Watcher is told whom the server lets in without the handler, and whom not. Its methods
// must not block.
type Watcher interface {
	// HandshakeRefused: TLS failed with an address, or its certificate is refused.
	HandshakeRefused(remote net.Addr, transport string, err error)
	// Identified: the certificate of c's client says who it is.
	Identified(c *Conn)
	// Unauthenticated: c ends, since its client asked before it had said who it is, or
	// after what it had said ended, or did not say so in time.
	Unauthenticated(c *Conn, clientID string, err error)
	// CertificateEnded: c ends, since its client's certificate does not stand any more.
	CertificateEnded(c *Conn, err error)
}

type noWatcher struct{}

func (noWatcher) HandshakeRefused(net.Addr, string, error) {}
func (noWatcher) Identified(*Conn)                         {}
func (noWatcher) Unauthenticated(*Conn, string, error)     {}
func (noWatcher) CertificateEnded(*Conn, error)            {}

// AnswerTimer may be implemented by Metrics as well: for each answer, how long
// the request took from its arrival to Respond, and how long the answer then
// waited for those before it and for the socket. It must not block.
type AnswerTimer interface {
	Answered(key int16, served, queued time.Duration)
}

// Options of a Server.
type Options struct {
	Handler Handler
	Limits  Limits
	// EarlyOK reports whether a request may be served although it may be a
	// replay (0-RTT); nil, and with RequireAuth: none but ApiVersions. Others wait for
	// the handshake.
	EarlyOK func(*Request) bool
	// RequireAuth serves ApiVersions and what SASL needs alone, within Limits.PreAuthFrame,
	// PreAuthMemory and AuthTimeout, until the handler calls [Conn.Authenticate].
	RequireAuth bool
	// Identify says who a client is whose TLS handshake is complete; an error
	// refuses it. Nil: certificates say nothing.
	Identify func(tls.ConnectionState) (Client, error)
	// Identity is the cluster and node that this is, for clients that ask
	// whether they reached who they mean (KIP-1242). Nil: they cannot ask.
	Identity func() (clusterID string, nodeID int32)
	Features []Feature // that clients are told of
	Metrics  Metrics
	Watcher  Watcher // nil: nobody watches
	// Arrivals says how many connections listeners take; nil: any. Those that others
	// give to ServeConn are not counted.
	Arrivals Arrivals
	Log      *slog.Logger
}

// Server serves Kafka connections.
type Server struct {
	handler     Handler
	limits      Limits // of MaxConns and PerIP guarded by mu; IdleTimeout is idleTimeout
	idleTimeout atomic.Int64
	earlyOK     func(*Request) bool
	requireAuth bool
	identify    func(tls.ConnectionState) (Client, error)
	metrics     Metrics
	watcher     Watcher
	arrivals    Arrivals
	timer       AnswerTimer
	timed       bool // timer is there
	log         *slog.Logger
	versions    *versionTable
	memory      *memory      // of frames
	preAuth     *memory      // the same, of clients that have to authenticate
	expanded    *memory      // of what is decoded of them
	parked      *memory      // of what requests keep that wait
	answers     budget       // of answers that may be large, from before they are made
	unsent      atomic.Int64 // bytes of answers
	nextID      atomic.Uint64
	failures    limiter
	draining    atomic.Bool // Shutdown: no request is read any more

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*Conn]bool
	open      int                      // connections, from before their handshake
	slots     map[string]int           // the same by address
	strangers strangers                // of them, those of which nothing is known
	early     map[net.Conn]*time.Timer // connections that are held, and what ends them
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
	if o.Watcher == nil {
		o.Watcher = noWatcher{}
	}
	if o.Arrivals == nil {
		o.Arrivals = anyArrivals{}
	}
	if o.EarlyOK == nil || !guard.Check("kafka.early-strangers", !o.RequireAuth) {
		o.EarlyOK = func(*Request) bool { return false }
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		handler: o.Handler, limits: o.Limits, earlyOK: o.EarlyOK, requireAuth: o.RequireAuth, identify: o.Identify, metrics: o.Metrics, watcher: o.Watcher, arrivals: o.Arrivals, log: o.Log,
		versions: newVersionTable(o.Handler.Versions(), o.Features, o.Identity), memory: newMemory(o.Limits.TotalMemory),
		preAuth:  newPreAuthMemory(o.Limits.PreAuthMemory),
		expanded: newMemory(o.Limits.TotalMemory), parked: newMemory(o.Limits.TotalMemory), answers: budget{limit: o.Limits.TotalUnsent},
		ctx: ctx, cancel: cancel,
		listeners: map[net.Listener]bool{}, conns: map[*Conn]bool{}, slots: map[string]int{}, strangers: newStrangers(), early: map[net.Conn]*time.Timer{},
	}
	s.idleTimeout.Store(int64(o.Limits.IdleTimeout))
	s.timer, s.timed = o.Metrics.(AnswerTimer)
	return s
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
			if s.ctx.Err() != nil || s.draining.Load() {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			// EMFILE and its like pass; a listener that gave up would not.
			s.failures.log(s.log, slog.LevelWarn, "cannot accept", "addr", l.Addr().String(), "error", err)
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
				continue
			case <-s.ctx.Done():
				return ErrServerClosed
			}
		}
		pause = time.Millisecond
		if !s.arrive(conn) {
			continue
		}
		if ip, ok := s.enter(conn, true); ok {
			go s.accepted(conn, ip, name)
		}
	}
}

// accepted completes the handshake of a connection and serves it.
func (s *Server) accepted(conn net.Conn, ip, name string) {
	defer s.leave(conn, ip)
	info := Info{Listener: name, Transport: "tcp"}
	if secure, ok := conn.(*tls.Conn); ok {
		info.Transport = "tls"
		ctx, cancel := context.WithTimeout(s.ctx, s.limits.HandshakeTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
			_ = conn.Close() // it gave way, which is counted, or the server closes
			return
		}
		if err != nil {
			s.metrics.Refused("handshake")
			level := slog.LevelWarn
			if errors.Is(err, io.EOF) {
				level = slog.LevelDebug // who looks whether somebody listens, and goes
			} else {
				s.watcher.HandshakeRefused(conn.RemoteAddr(), info.Transport, err)
			}
			s.failures.log(s.log, level, "TLS handshake failed", "remote", conn.RemoteAddr().String(), "error", err)
			_ = conn.Close() // the handshake's error is the one that matters
			return
		}
		if s.identify != nil {
			client, err := s.identify(secure.ConnectionState())
			if err != nil {
				s.metrics.Refused("certificate")
				s.watcher.HandshakeRefused(conn.RemoteAddr(), info.Transport, err)
				s.failures.log(s.log, slog.LevelWarn, "a client's certificate is refused", "remote", conn.RemoteAddr().String(), "error", err)
				_ = conn.Close() // nothing was said on it
				return
			}
			info.Principal, info.Hold = client.Principal, client.Hold
		}
	}
	s.serve(conn, info)
}

// ServeConn serves one connection until it ends, and closes it.
func (s *Server) ServeConn(conn net.Conn, info Info) {
	if ip, ok := s.enter(conn, !info.Internal); ok {
		defer s.leave(conn, ip)
		s.serve(conn, info)
	}
}

func (s *Server) serve(conn net.Conn, info Info) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	c := &Conn{
		id: s.nextID.Add(1), server: s, net: conn, info: info, ctx: ctx, cancel: cancel,
		room: make(chan struct{}, 1), authBy: time.Now().Add(s.limits.AuthTimeout),
	}
	c.writeLoop = c.write
	if info.Principal != "" {
		c.Authenticate(info.Principal)
		if !info.Internal { // it has shown no certificate here
			s.watcher.Identified(c)
		}
	}
	s.mu.Lock()
	s.conns[c] = true
	s.mu.Unlock()
	s.metrics.Opened(info.Transport)
	closed := make(chan struct{})
	if info.Hold != nil {
		defer info.Hold(func(err error) {
			s.watcher.CertificateEnded(c, err)
			c.end(reasonCertificate, err)
		})()
	}
	context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close() // whoever reads or writes gets an error that says more
	})
	c.serve()
	<-closed
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.metrics.Closed(info.Transport)
	s.handler.ConnClosed(c)
}

// SetLimits changes how many connections there may be, in all and from one address, and how
// long one may be idle; 0 leaves what it was. Those that there are stay.
func (s *Server) SetLimits(maxConns, perIP int, idle time.Duration) {
	if idle > 0 {
		s.idleTimeout.Store(int64(idle))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if maxConns > 0 {
		s.limits.MaxConns = maxConns
	}
	if perIP > 0 {
		s.limits.PerIP = perIP
	}
}

// enter counts a connection, or closes it when it is one too many of those that are
// bounded. It counts before any handshake: those cost more than what follows. One address
// that may have all places is bounded by those, so that a stranger gives way to one of its own.
func (s *Server) enter(conn net.Conn, bounded bool) (ip string, ok bool) {
	ip = AddressOf(conn.RemoteAddr())
	refused, gone := "", net.Conn(nil)
	s.mu.Lock()
	switch {
	case s.closed || s.draining.Load():
		refused = "closing"
	case bounded && !guard.Check("kafka.max-connections-per-ip", s.slots[ip] < s.limits.PerIP || s.limits.PerIP >= s.limits.MaxConns):
		refused = "max_connections_per_ip"
	case bounded:
		if gone, ok = s.place(); !ok {
			refused = "max_connections"
		}
	}
	if refused == "" {
		s.open++
		s.slots[ip]++
		s.wait.Add(1)
	}
	if refused == "" && bounded {
		s.strangers.add(conn)
	}
	s.mu.Unlock()
	if gone != nil {
		s.giveWay(gone)
	}
	if refused == "" {
		return ip, true
	}
	s.metrics.Refused(refused)
	s.failures.log(s.log, slog.LevelWarn, "connection refused", "remote", conn.RemoteAddr().String(), "reason", refused)
	_ = conn.Close() // nothing was said on it
	return ip, false
}

func (s *Server) leave(conn net.Conn, ip string) {
	s.mu.Lock()
	s.strangers.remove(conn)
	s.open--
	if s.slots[ip]--; s.slots[ip] == 0 {
		delete(s.slots, ip)
	}
	s.mu.Unlock()
	s.wait.Done()
}

// AddressOf is what connections of one client have in common: its address without the
// port, or the network of 64 bits that an IPv6 address is of.
func AddressOf(a net.Addr) string {
	var ip net.IP
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	default:
		return a.String()
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return a.String()
	}
	if addr = addr.Unmap(); addr.Is6() { // who has one has its /64
		if net64, err := addr.Prefix(64); err == nil {
			return net64.String()
		}
	}
	return addr.String()
}

// Shutdown stops listening and reading, sends the answers of what was read, and
// closes. The end of ctx cuts that short; its error is then returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	err := s.closeListeners()
	s.closeEarly()
	for c := range s.conns {
		_ = c.net.SetReadDeadline(aLongTimeAgo) // an error is the end that is wanted
		c.signal()                              // to one that is muted
	}
	s.mu.Unlock()
	drained := make(chan struct{})
	go func() { s.wait.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("answer what was read: %w", ctx.Err()))
	}
	if e := s.Close(); !errors.Is(e, ErrServerClosed) {
		err = errors.Join(err, e)
	}
	<-drained
	return err
}

// Close stops listening, ends all connections, and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.closed = true
	s.cancel() // first: who accepts then knows why it ends
	err := s.closeListeners()
	s.closeEarly()
	s.mu.Unlock()
	s.wait.Wait()
	return err
}

// InUse returns the bytes of requests that are held, buffers as they are taken,
// with what was made of them, and of answers that are not sent.
func (s *Server) InUse() (requests, answers int64) {
	return s.memory.all.inUse() + s.preAuth.all.inUse() + s.expanded.all.inUse() + s.parked.all.inUse(), s.unsent.Load()
}

// answersShort reports whether half of the memory for answers is used, of either kind.
func (s *Server) answersShort() bool {
	half := s.limits.TotalUnsent / 2
	return s.unsent.Load() >= half || s.answers.inUse() >= half
}

// closeListeners closes those that are open. s.mu is held.
func (s *Server) closeListeners() (err error) {
	for l := range s.listeners {
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
		delete(s.listeners, l)
	}
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

func (l *limiter) log(to *slog.Logger, level slog.Level, msg string, args ...any) {
	if !to.Enabled(context.Background(), level) {
		return
	}
	now := time.Now().Unix()
	unsaid := 0
	l.mu.Lock()
	if l.second != now {
		unsaid = max(0, l.lines-linesPerSecond)
		l.second, l.lines = now, 0
	}
	l.lines++
	over := l.lines > linesPerSecond
	l.mu.Unlock()
	if over {
		return
	}
	if unsaid > 0 {
		args = append(args, "lines_left_out_before", unsaid)
	}
	to.Log(context.Background(), level, msg, args...)
}

type noMetrics struct{}

func (noMetrics) Opened(string)         {}
func (noMetrics) Closed(string)         {}
func (noMetrics) Refused(string)        {}
func (noMetrics) Received(int16, int64) {}
func (noMetrics) Sent(int64)            {}
func (noMetrics) Failed(string)         {}
