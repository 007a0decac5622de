package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

var (
	errNoMore = errors.New("no more requests") // the client sends none, or we want none
	errIdle   = errors.New("no request within the idle time")
)

// reader takes frames off a connection. It holds a buffer only while there is
// something in it, so that idle connections are cheap.
type reader struct {
	c        *Conn
	raw      *rawReader // nil: not a TCP connection
	buf      []byte     // small, or pooled
	r, w     int        // buf[r:w] is unread
	pooled   *[]byte
	small    [64]byte
	started  bool   // a request has come
	clientID string // of the last request: most send the same each time
	deadline time.Time
	kind     deadlineKind // of deadline
}

type deadlineKind uint8

const (
	noDeadline deadlineKind = iota
	firstDeadline
	idleDeadline
	frameDeadline
)

func newReader(c *Conn) *reader {
	in := &reader{c: c}
	in.raw = newRawReader(c.net)
	return in
}

// drop gives the buffer back; nothing is in it.
func (in *reader) drop() {
	if in.pooled != nil {
		putBuffer(in.pooled, readClass)
		in.pooled = nil
	}
	in.buf, in.r, in.w = nil, 0, 0
}

var readClass, readSize = classOf(readBuffer)

// take makes buf one from the pool.
func (in *reader) take() {
	in.pooled = getBuffer(readBuffer, readClass, readSize)
	in.buf = *in.pooled
}

// next reads one request into memory that was taken from the budget.
func (in *reader) next() (*Request, error) {
	limits := &in.c.server.limits
	n, err := in.length()
	if err != nil {
		return nil, err
	}
	largest := limits.MaxFrame
	if !guard.Check("kafka.pre-auth-frame", in.c.authenticated()) {
		largest = min(largest, limits.PreAuthFrame)
	}
	if !guard.Check("kafka.frame-length", n >= smallestFrame && n <= largest) {
		return nil, &FrameError{fmt.Sprintf("length %d, want %d to %d", n, smallestFrame, largest)}
	}
	// Who sends a length and nothing more gets no memory for it.
	if err := in.await(min(n, readBuffer)); err != nil {
		return nil, err
	}
	class, size := classOf(n)
	memory := in.c.frameMemory()
	if err := memory.take(in.c.ctx, size); err != nil {
		return nil, err
	}
	frame := getBuffer(n, class, size)
	r, err := in.request(*frame)
	if err != nil {
		putBuffer(frame, class)
		memory.give(size)
		return nil, err
	}
	r.taken = taken{frame: frame, class: class, size: size, of: memory}
	if in.kind == frameDeadline {
		in.kind = noDeadline // it was this frame's: what is there of the next may wait for us for long
	}
	return r, nil
}

// length waits for the next frame and reads its length.
func (in *reader) length() (int, error) {
	for in.w-in.r < 4 {
		begun := in.r < in.w
		var err error
		switch {
		case begun:
			err = in.waitFrame()
		case in.started:
			err = in.waitIdle()
		default:
			err = in.waitFirst()
		}
		if err == nil {
			err = in.fill()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && in.c.server.draining.Load():
			return 0, errNoMore
		case errors.Is(err, os.ErrDeadlineExceeded) && in.c.late(time.Now()):
			return 0, errLate
		case errors.Is(err, os.ErrDeadlineExceeded) && !begun && in.c.awaitsAnswer():
			in.kind = noDeadline // it waits for us
		case errors.Is(err, os.ErrDeadlineExceeded) && !begun:
			return 0, errIdle
		case errors.Is(err, io.EOF) && !begun:
			return 0, errNoMore
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		default:
			return 0, err
		}
	}
	n := int32(binary.BigEndian.Uint32(in.buf[in.r:]))
	in.r += 4
	return int(n), nil
}

// await waits until the first n bytes of a frame are there, at most readBuffer.
func (in *reader) await(n int) error {
	for in.w-in.r < n {
		if err := in.waitFrame(); err != nil {
			return err
		}
		if in.r < in.w && len(in.buf) < n {
			there := in.buf[in.r:in.w] // of small
			in.take()
			in.r, in.w = 0, copy(in.buf, there)
		}
		if err := in.fill(); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	return nil
}

// fill reads more; less than what is waited for is there.
func (in *reader) fill() (err error) {
	n := 0
	switch {
	case in.r < in.w:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
		n, err = in.c.net.Read(in.buf[in.w:])
	case in.raw != nil:
		in.drop()
		n, err = in.raw.read(in)
	default:
		in.drop()
		in.buf = in.small[:]
		n, err = in.c.net.Read(in.buf)
	}
	in.w += n
	if n > 0 {
		return nil // an error will come again
	}
	return err
}

// request reads the rest of a frame, and its header.
func (in *reader) request(frame []byte) (*Request, error) {
	got := copy(frame, in.buf[in.r:in.w])
	if in.r += got; in.r == in.w {
		in.drop()
	}
	if got < len(frame) {
		timeout := in.c.server.limits.FrameTimeout + time.Duration(len(frame)/slowestFrame)*time.Second
		if err := in.setDeadline(frameDeadline, time.Now().Add(timeout)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(in.c.net, frame[got:]); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
	if !in.started && in.c.authenticated() {
		in.c.known()
	}
	in.started = true
	h, body, err := parseHeader(frame)
	if err != nil {
		return nil, err
	}
	id := in.clientID
	if string(h.clientID) != id {
		if id = string(h.clientID); len(id) <= keptID {
			in.clientID = id
		}
	}
	in.c.server.metrics.Received(h.key, int64(len(frame)))
	r := requests.Get().(*Request)
	r.Key, r.Version, r.CorrelationID, r.ClientID = h.key, h.version, h.correlationID, id
	r.Body, r.Conn, r.Received, r.answered = body, in.c, time.Now(), false
	return r, nil
}

func (in *reader) waitFirst() error {
	if in.kind == firstDeadline {
		return nil
	}
	return in.setDeadline(firstDeadline, time.Now().Add(in.c.server.limits.FirstTimeout))
}

// waitIdle moves the deadline only when much of the time has passed: that costs
// more than reading a small frame.
func (in *reader) waitIdle() error {
	now := time.Now()
	timeout := time.Duration(in.c.server.idleTimeout.Load())
	if in.kind == idleDeadline && in.deadline.Sub(now) > timeout/8*7 {
		return nil
	}
	return in.setDeadline(idleDeadline, now.Add(timeout))
}

// waitFrame gives the length of a frame as long as a small frame.
func (in *reader) waitFrame() error {
	if in.kind == frameDeadline {
		return nil
	}
	return in.setDeadline(frameDeadline, time.Now().Add(in.c.server.limits.FrameTimeout))
}

func (in *reader) setDeadline(kind deadlineKind, at time.Time) error {
	if !in.c.authenticated() && at.After(in.c.authBy) {
		at = in.c.authBy
	}
	in.kind, in.deadline = kind, at
	if err := in.c.net.SetReadDeadline(at); err != nil {
		return err
	}
	if in.c.server.draining.Load() { // Shutdown may have set its own before
		return in.c.net.SetReadDeadline(aLongTimeAgo)
	}
	return nil
}

// aLongTimeAgo as a deadline ends reads that wait.
var aLongTimeAgo = time.Unix(1, 0)

// awaitsAnswer reports whether the client waits for us.
func (c *Conn) awaitsAnswer() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending > 0
}
