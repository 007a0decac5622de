package quic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// maxEarly bytes are kept of what was written before the handshake was complete,
// to write them again should the broker refuse 0-RTT.
const maxEarly = 64 << 10

// streamConn is a stream as a net.Conn.
type streamConn struct {
	dialer *Dialer
	shared *shared

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	closing sync.Once
	writing sync.Mutex // held by Write; quic forbids Close meanwhile

	mu            sync.Mutex
	stream        *quic.Stream
	early         []byte // what may have to be written again; guarded by mu
	sentEarly     bool   // the stream is older than the handshake; guarded by mu
	failed        error  // the stream could not be made again; guarded by mu
	readDeadline  time.Time
	writeDeadline time.Time
}

func newStreamConn(d *Dialer, s *shared, stream *quic.Stream) *streamConn {
	c := &streamConn{dialer: d, shared: s, stream: stream, sentEarly: !complete(s.conn)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func complete(conn *quic.Conn) bool {
	select {
	case <-conn.HandshakeComplete():
		return true
	default:
		return false
	}
}

func (c *streamConn) current() (*quic.Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream, c.failed
}

// Read reads answers.
func (c *streamConn) Read(b []byte) (int, error) {
	for {
		stream, err := c.current()
		if err != nil {
			return 0, c.opError("read", err)
		}
		n, err := stream.Read(b)
		if errors.Is(err, quic.Err0RTTRejected) && c.replay(stream) {
			continue
		}
		return n, c.opError("read", err)
	}
}

// Write writes requests. What is written before the handshake is complete is
// kept until it is.
func (c *streamConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	stream, kept, err := c.keep(b)
	if err != nil {
		return 0, c.opError("write", err)
	}
	n, err := stream.Write(b)
	if errors.Is(err, quic.Err0RTTRejected) && c.replay(stream) {
		if kept { // and so b was written with the rest
			return len(b), nil
		}
		if stream, err = c.current(); err == nil {
			n, err = stream.Write(b)
		}
	}
	return n, c.opError("write", err)
}

// keep notes what is written to a stream that the broker may still refuse, and
// waits for the handshake rather than keep too much. It reports whether b was
// kept.
func (c *streamConn) keep(b []byte) (stream *quic.Stream, kept bool, err error) {
	c.mu.Lock()
	if c.sentEarly && len(c.early)+len(b) > maxEarly && !complete(c.shared.conn) {
		c.mu.Unlock()
		select {
		case <-c.shared.conn.HandshakeComplete():
		case <-c.shared.conn.Context().Done():
		case <-c.ctx.Done():
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.sentEarly && complete(c.shared.conn) && c.shared.settle() {
		c.sentEarly, c.early = false, nil
	}
	if c.sentEarly && !complete(c.shared.conn) {
		c.early = append(c.early, b...)
		kept = true
	}
	return c.stream, kept, c.failed
}

// replay opens a stream in place of one that the broker has refused with its
// 0-RTT, and writes again what was written early. It reports whether to go on.
func (c *streamConn) replay(refused *quic.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != refused {
		return true // the other direction has seen to it
	}
	if c.failed != nil {
		return false
	}
	conn, err := c.shared.conn.NextConnection(c.ctx)
	if err == nil {
		c.stream, err = conn.OpenStreamSync(c.ctx)
	}
	if err != nil {
		c.stream, c.failed = refused, fmt.Errorf("open a stream after 0-RTT was refused: %w", err)
		return true
	}
	early := c.early
	c.sentEarly, c.early = false, nil
	if c.failed = errors.Join(c.stream.SetReadDeadline(c.readDeadline), c.stream.SetWriteDeadline(c.writeDeadline)); c.failed == nil && len(early) > 0 {
		_, c.failed = c.stream.Write(early)
	}
	return true
}

// HandshakeContext waits until the handshake of the connection is complete: until
// then nobody is known to have answered. Its errors are those of the handshake, or
// the context's.
func (c *streamConn) HandshakeContext(ctx context.Context) error {
	return handshaken(ctx, c.shared.conn)
}

func (c *streamConn) LocalAddr() net.Addr  { return c.shared.local }
func (c *streamConn) RemoteAddr() net.Addr { return c.shared.remote }

func (c *streamConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = t
	return c.stream.SetReadDeadline(t)
}

func (c *streamConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = t
	return c.stream.SetWriteDeadline(t)
}

// Close ends both directions; the connection stays for other streams.
func (c *streamConn) Close() (err error) {
	c.closing.Do(func() {
		c.cancel()
		stream, _ := c.current()
		stream.CancelRead(0)
		if c.writing.TryLock() {
			err = stream.Close()
			c.writing.Unlock()
		} else {
			stream.CancelWrite(0)
		}
		c.dialer.release(c.shared)
	})
	return err
}

// opError dresses an error as net.Conn's errors are; io.EOF stays bare.
func (c *streamConn) opError(op string, err error) error {
	var reset *quic.StreamError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case errors.As(err, &reset), c.ctx.Err() != nil, errors.Is(err, quic.ErrStreamClosed):
		err = errors.Join(net.ErrClosed, err)
	}
	return &net.OpError{Op: op, Net: "quic", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
