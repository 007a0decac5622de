package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// Info says what a connection is, beside its addresses.
type Info struct {
	Listener  string // name of the listener it came through
	Transport string // "tcp", "tls" or "quic"
	// Early reports whether the handshake is not complete, so that what was
	// read may be a replay (0-RTT). Nil: it is complete.
	Early func() bool
	// Confirmed is closed when the handshake is complete; nil with Early.
	Confirmed <-chan struct{}
}

// Conn is one ordered stream of requests.
type Conn struct {
	id     uint64
	server *Server
	net    net.Conn
	info   Info
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	pending []*Request // in order of arrival; the head is what is sent next
	unsent  int64      // bytes of answers that are not written
	held    int64      // bytes of frames that are not answered
	changed chan struct{}
	wake    chan struct{} // to the writer
	closed  bool
}

// Reasons for which connections are counted when they end.
const (
	reasonFrame   = "malformed"
	reasonRequest = "bad_request"
	reasonTimeout = "timeout"
	reasonIO      = "io"
)

// ID tells connections of a server apart; it is never given twice.
func (c *Conn) ID() uint64 { return c.id }

// RemoteAddr is the client's address, LocalAddr the one it dialled.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// LocalAddr is the address that the client dialled.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// Listener is the name of the listener the connection came through.
func (c *Conn) Listener() string { return c.info.Listener }

// Transport is "tcp", "tls" or "quic".
func (c *Conn) Transport() string { return c.info.Transport }

// EarlyData reports whether what was read may be a replay (QUIC 0-RTT).
func (c *Conn) EarlyData() bool { return c.info.Early != nil && c.info.Early() }

// Principal is who the client is.
func (c *Conn) Principal() string { return "User:ANONYMOUS" }

// serve reads requests until the connection ends.
func (c *Conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	c.end(err)
	writer.Wait()
	c.drain()
}

// read starts one request after the other. It returns why it cannot go on.
func (c *Conn) read() error {
	in := bufio.NewReaderSize(c.net, 16<<10)
	limits := &c.server.limits
	for {
		if err := c.room(); err != nil {
			return err
		}
		r, err := c.readFrame(in, limits)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.pending = append(c.pending, r)
		c.held += r.size
		c.mu.Unlock()
		c.start(r)
	}
}

// readFrame reads one frame into memory that was taken from the budget.
func (c *Conn) readFrame(in *bufio.Reader, limits *Limits) (*Request, error) {
	if err := c.net.SetReadDeadline(time.Now().Add(limits.IdleTimeout)); err != nil {
		return nil, err
	}
	var prefix [4]byte
	if _, err := io.ReadFull(in, prefix[:]); err != nil {
		return nil, err
	}
	n := int64(int32(binary.BigEndian.Uint32(prefix[:])))
	if !guard.Check("kafka.frame-length", n >= smallestFrame && n <= int64(limits.MaxFrame)) {
		return nil, &FrameError{fmt.Sprintf("length %d, want %d to %d", n, smallestFrame, limits.MaxFrame)}
	}
	if err := c.server.memory.take(c.ctx, n); err != nil {
		return nil, err
	}
	if err := c.net.SetReadDeadline(time.Now().Add(limits.FrameTimeout)); err != nil {
		c.server.memory.give(n)
		return nil, err
	}
	frame, class := frameBuffer(int(n))
	giveBack := func() {
		returnBuffer(frame, class)
		c.server.memory.give(n)
	}
	if _, err := io.ReadFull(in, *frame); err != nil {
		giveBack()
		return nil, err
	}
	h, body, err := parseHeader(*frame)
	if err != nil {
		giveBack()
		return nil, err
	}
	c.server.metrics.Received(h.key, n)
	return &Request{
		Key: h.key, Version: h.version, CorrelationID: h.correlationID, ClientID: h.clientID,
		Body: body, Conn: c, Received: time.Now(), frame: frame, class: class, size: n,
	}, nil
}

// start answers what the transport answers itself, and gives the rest to the
// handler.
func (c *Conn) start(r *Request) {
	if r.Key == apiVersionsKey {
		c.server.versions.answer(r)
		return
	}
	if c.EarlyData() && !c.server.earlyOK(r) {
		select { // held, not refused: RFC 9001 §9.2 leaves replays to us
		case <-c.info.Confirmed:
		case <-c.ctx.Done():
			r.Drop()
			return
		}
	}
	if !c.server.versions.serves(r.Key, r.Version) {
		c.unsupported(r)
		return
	}
	c.server.handler.Serve(r)
}

// unsupported answers a version that is not announced with error 35 where the
// response of that version has a place for it, and closes the connection else.
func (c *Conn) unsupported(r *Request) {
	r.Close(&FrameError{fmt.Sprintf("%s v%d is not announced", kmsg.NameForKey(r.Key), r.Version)})
}

// room waits until the connection may read another frame.
func (c *Conn) room() error {
	l := &c.server.limits
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.closed || c.ctx.Err() != nil {
			return net.ErrClosed
		}
		full := len(c.pending) > 0 && (len(c.pending) >= l.MaxPipelined || c.held+c.unsent >= l.ConnMemory)
		if guard.Check("kafka.conn-budget", !full) {
			return nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
			c.mu.Lock()
		case <-c.ctx.Done():
			c.mu.Lock()
			return net.ErrClosed
		}
	}
}

// answered takes the answer of a request, from any goroutine.
func (c *Conn) answered(r *Request) {
	r.Body = nil
	returnBuffer(r.frame, r.class)
	r.frame = nil
	c.server.memory.give(r.size)
	c.mu.Lock()
	r.ready = true
	c.held -= r.size
	c.unsent += r.bytes
	if c.closed {
		c.mu.Unlock()
		if r.release != nil {
			r.release()
		}
		return
	}
	first := c.pending[0] == r
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// write sends answers in the order of their requests until the connection ends.
func (c *Conn) write() {
	var batch []*Request
	var bufs net.Buffers
	for {
		batch = c.takeReady(batch[:0])
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-c.ctx.Done():
				return
			}
		}
		bufs = bufs[:0]
		var bytes int64
		for _, r := range batch {
			if !r.silent {
				bufs = append(bufs, r.bufs...)
				bytes += r.bytes
			}
		}
		err := c.send(bufs)
		c.mu.Lock()
		c.unsent -= bytes
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		for i, r := range batch {
			if r.release != nil {
				r.release()
			}
			batch[i] = nil
		}
		clear(bufs)
		if err != nil {
			c.end(err)
			return
		}
		c.server.metrics.Sent(bytes)
	}
}

// takeReady moves the answers that are next out of pending.
func (c *Conn) takeReady(batch []*Request) []*Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return batch
	}
	n := 0
	for n < len(c.pending) && c.pending[n].ready {
		n++
	}
	batch = append(batch, c.pending[:n]...)
	rest := copy(c.pending, c.pending[n:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	return batch
}

func (c *Conn) send(bufs net.Buffers) error {
	for len(bufs) > 0 {
		// The deadline is for progress, not for the whole of a large answer.
		n, size := 0, 0
		for n < len(bufs) && (n == 0 || size+len(bufs[n]) <= writeStep) {
			size += len(bufs[n])
			n++
		}
		if err := c.net.SetWriteDeadline(time.Now().Add(c.server.limits.WriteTimeout)); err != nil {
			return err
		}
		if err := c.sendStep(bufs[:n:n]); err != nil {
			return err
		}
		bufs = bufs[n:]
	}
	return nil
}

// writeStep is what must pass within one write deadline, unless one batch is
// larger.
const writeStep = 1 << 20

func (c *Conn) sendStep(bufs net.Buffers) error {
	if len(bufs) > 1 && c.info.Transport != "tcp" {
		return c.sendJoined(bufs)
	}
	out := append(net.Buffers(nil), bufs...) // WriteTo consumes its receiver
	_, err := out.WriteTo(c.net)
	return err
}

// sendJoined writes small buffers together where there is no gather write: each
// Write of TLS is a record, and of QUIC a frame.
func (c *Conn) sendJoined(bufs net.Buffers) error {
	const joined = 16 << 10
	scratch, class := frameBuffer(joined)
	defer returnBuffer(scratch, class)
	buf := (*scratch)[:0]
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := c.net.Write(buf)
		buf = buf[:0]
		return err
	}
	for _, b := range bufs {
		if len(buf)+len(b) > joined {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(b) >= joined {
			if _, err := c.net.Write(b); err != nil {
				return err
			}
			continue
		}
		buf = append(buf, b...)
	}
	return flush()
}

// fail ends the connection for something that the client did.
func (c *Conn) fail(reason string, err error) {
	c.server.closing(c, reason, err)
	c.shut(err)
}

// end ends the connection after a read or a write.
func (c *Conn) end(err error) {
	var malformed *FrameError
	switch {
	case errors.As(err, &malformed):
		c.fail(reasonFrame, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.fail(reasonTimeout, err)
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		c.shut(err)
	default:
		c.fail(reasonIO, err)
	}
}

// shut closes the socket once; the goroutines find out by themselves.
func (c *Conn) shut(err error) {
	c.cancel(err)
	_ = c.net.Close() // whoever reads or writes gets the error
}

// drain releases what can no longer be sent.
func (c *Conn) drain() {
	c.mu.Lock()
	c.closed = true
	left := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, r := range left {
		c.mu.Lock()
		release := r.release
		ready := r.ready
		c.mu.Unlock()
		if ready && release != nil {
			release()
		}
	}
}
