package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// Client is who a client is known to be by its certificate (mTLS).
type Client struct {
	Principal string // empty: not known
	// Hold has end called once the certificate does not stand any more, be it
	// before Hold returns; leave is for when the connection has ended. Nil: it
	// stands as long as the connection.
	Hold func(end func(error)) (leave func())
}

// Info says what a connection is, beside its addresses.
type Info struct {
	Listener  string // name of the listener it came through
	Transport string // "tcp", "tls", "quic" or, of Internal, "internal"
	// Internal says that a server of the cluster is at the other end, which the caller of
	// ServeConn has proved: it is authenticated as Principal, and not held to what
	// clients are. No listener sets it.
	Internal bool
	// Principal is who the client is known to be by the connection itself
	// (mTLS); empty: not known.
	Principal string
	Hold      func(end func(error)) (leave func()) // of a [Client]
	// Early reports whether the handshake is not complete, so that what was
	// read may be a replay (0-RTT). Nil: it is complete.
	Early func() bool
	// Confirm waits until the handshake is complete, or says why it never will
	// be. It is there with Early.
	Confirm func(context.Context) error
	// Gone is closed when the peer takes no more answers; nil: only a write
	// tells.
	Gone <-chan struct{}
	// Known is called once something is known of the client: who it is, or where nobody is
	// asked, that it has a request. It may be called again, and must not block. Nil: nobody asks.
	Known func()
}

// Conn is one ordered stream of requests.
type Conn struct {
	id        uint64
	server    *Server
	net       net.Conn
	info      Info
	ctx       context.Context
	cancel    context.CancelCauseFunc
	session   atomic.Pointer[session]  // nil: not authenticated
	software  atomic.Pointer[software] // nil: the client has not said
	failed    atomic.Bool              // why it ended is logged
	room      chan struct{}            // tells the reader that something was answered or sent
	attached  any                      // the handler's; of the goroutine that reads
	denied    error                    // see Request.Deny; only the reader's goroutine uses it
	authBy    time.Time                // until when a client that must has to have authenticated
	writeLoop func()                   // c.write, made once
	out       writer                   // of the goroutine that runs writeLoop

	mu         sync.Mutex
	head, tail *Request  // in order of arrival; head is what is sent next
	pending    int       // requests whose answers are not sent
	held       int64     // bytes of requests that are not answered, and reserved for their answers
	unsent     int64     // bytes of answers that are not sent
	writing    bool      // writeLoop runs
	waits      bool      // the reader waits for room
	muted      time.Time // no request is started before; zero: at once
	ended      bool      // nothing is sent any more
	writers    sync.WaitGroup
}

// Reasons for which connections are counted when they end.
const (
	reasonFrame   = "malformed"
	reasonRequest = "bad_request"
	reasonIdle    = "idle"
	reasonStalled = "stalled"
	reasonIO      = "io"
	// reasonCertificate is that the client's certificate was revoked, or has ended.
	reasonCertificate = "certificate"
	reasonDenied      = "unauthenticated"
)

// anonymous is who a client is that has not said.
const anonymous = "User:ANONYMOUS"

// ID tells connections of a server apart; it is never given twice.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the client's address; over QUIC it may change.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// ClientAddress is [AddressOf] the client.
func (c *Conn) ClientAddress() string { return AddressOf(c.net.RemoteAddr()) }

// LocalAddr is the address that the client dialled.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// Listener is the name of the listener the connection came through.
func (c *Conn) Listener() string { return c.info.Listener }

// Internal reports whether a server of the cluster is at the other end ([Info]).
func (c *Conn) Internal() bool { return c.info.Internal }

// Transport is "tcp", "tls", "quic" or "internal".
func (c *Conn) Transport() string { return c.info.Transport }

// EarlyData reports whether what was read may be a replay (QUIC 0-RTT).
func (c *Conn) EarlyData() bool { return c.info.Early != nil && c.info.Early() }

// Principal is who the client is.
func (c *Conn) Principal() string {
	if s := c.session.Load(); s != nil {
		return s.principal
	}
	return anonymous
}

// software is the implementation of a client.
type software struct{ name, version string }

// maxSoftware is how much is kept of the name and of the version of a client's software.
const maxSoftware = 128

// Software is what the client has said in ApiVersions of its implementation (KIP-511),
// at most 128 bytes of each; empty: it has not.
func (c *Conn) Software() (name, version string) {
	if s := c.software.Load(); s != nil {
		return s.name, s.version
	}
	return "", ""
}

// Attach keeps what the handler remembers of the connection. It and Attached are for the
// goroutine that calls the handler's Serve, while it does.
func (c *Conn) Attach(v any) { c.attached = v }

// Attached returns what was attached last, or nil.
func (c *Conn) Attached() any { return c.attached }

// Cut ends the connection of a client that takes its answers too slowly. Requests that
// are not answered yet stay to be answered.
func (c *Conn) Cut(err error) { c.end(reasonStalled, err) }

// serve reads requests until the connection ends, and returns when nothing of
// it runs.
func (c *Conn) serve() {
	err := c.read()
	// The end of a TCP client's bytes is the end of the client, as for Kafka:
	// only over QUIC does it tell whether it still takes answers.
	if errors.Is(err, errNoMore) && (c.info.Gone != nil || c.server.draining.Load()) || errors.Is(err, ErrDenied) {
		c.drain()
	}
	c.end(reasonOf(err), err)
	c.mu.Lock()
	c.ended = true
	left := c.head
	c.head, c.tail = nil, nil
	c.mu.Unlock()
	c.writers.Wait()
	for left != nil {
		r := left
		left = r.next
		r.next = nil
		c.mu.Lock()
		answered := r.answered
		r.orphan = !answered
		c.mu.Unlock()
		if answered { // what is not will be discarded when it is
			c.discard(r)
		}
	}
}

// read starts one request after the other. It returns why it cannot go on.
func (c *Conn) read() error {
	in := newReader(c)
	defer in.drop()
	for {
		if err := c.waitForRoom(); err != nil {
			return err
		}
		r, err := in.next()
		if err != nil {
			if errors.Is(err, ErrDenied) { // it did not say who it is in time
				c.server.watcher.Unauthenticated(c, "", err)
			}
			return err
		}
		// It may have been under way when the answer before it muted the client.
		muted := c.waitUnmuted()
		c.mu.Lock()
		if c.tail == nil {
			c.head = r
		} else {
			c.tail.next = r
		}
		c.tail = r
		c.pending++
		r.held = r.size
		c.held += r.held
		c.mu.Unlock()
		if muted != nil {
			r.Drop()
			return muted
		}
		c.start(r)
		if c.denied != nil {
			return c.denied
		}
	}
}

// start answers what the transport answers itself, and gives the rest to the
// handler.
func (c *Conn) start(r *Request) {
	if err := c.admits(r); err != nil {
		c.server.watcher.Unauthenticated(c, r.ClientID, err)
		r.Deny(nil, err)
		return
	}
	if !guard.Check("kafka.early-held", !c.EarlyData() || r.Key == apiVersionsKey || c.server.earlyOK(r)) {
		// Held, not refused: a replay never gets as far as a handshake
		// (RFC 8470 §3).
		if err := c.info.Confirm(c.ctx); err != nil {
			r.Close(fmt.Errorf("wait for the handshake: %w", err))
			return
		}
	}
	switch {
	case r.Key == apiVersionsKey:
		c.server.versions.answer(r)
	case !c.server.versions.serves(r.Key, r.Version):
		// As Kafka does: a client that ignores what is announced has no use
		// for an answer.
		r.Close(&FrameError{fmt.Sprintf("%s v%d is not announced", kmsg.NameForKey(r.Key), r.Version)})
	default:
		c.server.handler.Serve(r)
	}
}

// waitForRoom waits until the connection may read another frame.
func (c *Conn) waitForRoom() error {
	l := &c.server.limits
	for {
		c.mu.Lock()
		full := c.pending >= c.maxPipelined() || c.held+c.unsent >= l.ConnMemory ||
			c.unsent > 0 && c.server.unsent.Load() >= l.TotalUnsent
		c.waits = full
		c.mu.Unlock()
		if guard.Check("kafka.conn-budget", !full) {
			return c.waitUnmuted()
		}
		select {
		case <-c.room:
		case <-c.ctx.Done():
			return net.ErrClosed
		}
	}
}

// behindParked reports whether a request before r waits for others. If so, whoever waits
// for room is told when one is answered.
func (c *Conn) behindParked(r *Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	behind := false
	for q := c.head; q != nil && q != r; q = q.next {
		behind = behind || q.waits && !q.answered
	}
	c.waits = behind
	return !guard.Check("kafka.answer-behind-parked", !behind)
}

// awaitParked waits while a request before r waits for others. What r would be answered
// with could not be sent before that, and would keep memory from clients that take theirs.
func (c *Conn) awaitParked(r *Request) error {
	for c.behindParked(r) {
		select {
		case <-c.room:
		case <-c.ctx.Done():
			return net.ErrClosed
		}
	}
	return nil
}

// Mute starts no further request of the connection until then; those that are
// started are answered. The latest of several counts. It is how a client is held
// back that does not wait as long as it was told (KIP-219): called before the
// answer that tells it, it comes before any request the client sends after that.
func (c *Conn) Mute(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.After(c.muted) {
		c.muted = until
	}
}

// waitUnmuted waits until a request may be started. A server that drains waits
// for nobody.
func (c *Conn) waitUnmuted() error {
	for {
		c.mu.Lock()
		until := c.muted
		left := time.Duration(0)
		if !until.IsZero() {
			if left = time.Until(until); left <= 0 {
				c.muted = time.Time{}
			}
		}
		c.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if c.server.draining.Load() {
			return errNoMore
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-c.room: // the end of the server, or an answer
		case <-c.ctx.Done():
			timer.Stop()
			return net.ErrClosed
		}
		timer.Stop()
	}
}

// drain sends the answers to a client that sends no more requests.
func (c *Conn) drain() {
	timeout := time.NewTimer(c.server.limits.DrainTimeout)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		c.waits = c.pending > 0
		done := !c.waits
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.room:
		case <-c.info.Gone:
			return
		case <-timeout.C:
			return
		case <-c.ctx.Done():
			return
		}
	}
}

// signal wakes the reader.
func (c *Conn) signal() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// answered takes the answer of a request. It reports whether the caller must
// start the writer, wake the reader, or discard the request because the
// connection has ended.
func (c *Conn) answered(r *Request) (start, wake, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.answered {
		panic("kafka: a request was answered twice: " + r.String())
	}
	r.answered = true
	c.held -= r.held
	c.unsent += r.bytes
	c.server.unsent.Add(r.bytes)
	if c.ended {
		return false, false, r.orphan
	}
	if start = r == c.head && !c.writing; start {
		c.writing = true
		c.writers.Add(1)
	}
	return start, c.waits, false
}

// hold counts n bytes more for a request that is not answered.
func (c *Conn) hold(r *Request, n int64) {
	c.mu.Lock()
	r.held += n
	c.held += n
	c.mu.Unlock()
}

// discard lets go of an answer that cannot be sent. Nobody else holds r.
func (c *Conn) discard(r *Request) {
	c.server.unsent.Add(-r.bytes)
	if r.reserved != 0 {
		c.server.answers.give(r.reserved)
	}
	if r.release != nil {
		r.release()
	}
	r.recycle()
}

// reasonOf classes why a connection ended; empty: as it should.
func reasonOf(err error) string {
	var malformed *FrameError
	switch {
	case errors.As(err, &malformed):
		return reasonFrame
	case errors.Is(err, ErrDenied):
		return reasonDenied
	case errors.Is(err, errIdle):
		return reasonIdle
	case errors.Is(err, os.ErrDeadlineExceeded):
		return reasonStalled
	case err == nil, errors.Is(err, errNoMore), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return ""
	}
	return reasonIO
}

// end ends the connection; the first one to give a reason is heard. It does not
// wait for the socket to close: TLS may first say farewell to a peer that does
// not read.
func (c *Conn) end(reason string, err error) {
	if reason != "" && c.ctx.Err() == nil && c.failed.CompareAndSwap(false, true) {
		c.server.metrics.Failed(reason)
		level := slog.LevelWarn
		if reason == reasonIO || reason == reasonIdle {
			level = slog.LevelDebug // what networks and clients do
		}
		c.server.failures.log(c.server.log, level, "connection closed",
			"remote", c.RemoteAddr().String(), "transport", c.info.Transport, "reason", reason, "error", err)
	}
	c.cancel(err)
}
