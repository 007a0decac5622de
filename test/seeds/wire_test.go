//go:build seeds

package seeds

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// window is how many bytes of one direction of a connection may be on their way, or wait
// for their reader.
const window = 256 << 10

// wire is one direction of a connection. Locks: that of the network before it.
type wire struct {
	link *link

	mu       sync.Mutex
	segments []segment
	bytes    int
	closed   bool  // the sender says no more: EOF behind the segments
	gone     bool  // the reader has closed it
	dead     bool  // the sender's process has ended, and sends no more
	deaf     bool  // the reader's has, and reads no more
	err      error // of both ends, at once
	changed  chan struct{}
	last     time.Time // when the last segment arrives: they keep their order

	read, write time.Time // deadlines
}

// segment is what one write sent.
type segment struct {
	arrives time.Time
	data    []byte
}

func newWire(l *link) *wire { return &wire{link: l, changed: make(chan struct{})} }

// change wakes who waits. mu is held.
func (w *wire) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// update does something to the wire, and wakes who waits.
func (w *wire) update(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.change()
}

func (w *wire) fail(err error) {
	w.update(func() {
		if w.err == nil {
			w.err = err
		}
	})
}

// send puts data on its way; it blocks while the window is full.
func (w *wire) send(p []byte) (n int, err error) {
	for len(p) > 0 {
		open, _ := w.link.state()
		w.mu.Lock()
		switch {
		case w.dead:
			err = unix.EIO
		case w.err != nil:
			err = w.err
		case w.closed:
			err = net.ErrClosed
		case w.gone && open:
			err = unix.EPIPE
		case w.gone: // nobody has said so yet
			w.mu.Unlock()
			return n + len(p), nil
		case !w.write.IsZero() && !time.Now().Before(w.write):
			err = os.ErrDeadlineExceeded
		}
		if err != nil {
			w.mu.Unlock()
			return n, err
		}
		if part := min(len(p), window-w.bytes); part > 0 {
			at := time.Now().Add(w.link.delay())
			if at.Before(w.last) {
				at = w.last
			}
			w.last = at
			w.segments = append(w.segments, segment{at, append([]byte(nil), p[:part]...)})
			w.bytes += part
			n, p = n+part, p[part:]
			w.change()
			w.mu.Unlock()
			continue
		}
		changed, deadline := w.changed, w.write
		w.mu.Unlock()
		await(changed, nil, deadline)
	}
	return n, nil
}

// receive waits for data that has arrived.
func (w *wire) receive(p []byte) (int, error) {
	for {
		open, moved := w.link.state()
		w.mu.Lock()
		now, deadline := time.Now(), w.read
		switch {
		case w.gone:
			w.mu.Unlock()
			return 0, net.ErrClosed
		case w.deaf:
			w.mu.Unlock()
			return 0, unix.EIO
		case w.err != nil:
			w.mu.Unlock()
			return 0, w.err
		case open && len(w.segments) > 0 && !w.segments[0].arrives.After(now):
			n := copy(p, w.segments[0].data)
			if w.segments[0].data = w.segments[0].data[n:]; len(w.segments[0].data) == 0 {
				w.segments = w.segments[1:]
			}
			w.bytes -= n
			w.change()
			w.mu.Unlock()
			return n, nil
		case open && len(w.segments) == 0 && w.closed:
			w.mu.Unlock()
			return 0, io.EOF
		case !w.read.IsZero() && !now.Before(w.read):
			w.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case open && len(w.segments) > 0 && (deadline.IsZero() || w.segments[0].arrives.Before(deadline)):
			deadline = w.segments[0].arrives
		}
		changed := w.changed
		w.mu.Unlock()
		await(changed, moved, deadline)
	}
}

// await waits until something changes, or a time; zero: none.
func await(changed, moved <-chan struct{}, until time.Time) {
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-changed:
	case <-moved:
	case <-late:
	}
}

// end is one end of a connection: a net.Conn.
type end struct {
	in, out       *wire
	local, remote net.Addr
	forget        func()
	once          sync.Once
}

func (e *end) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := e.in.receive(p)
	return n, e.failed("read", err)
}

func (e *end) Write(p []byte) (int, error) {
	n, err := e.out.send(p)
	return n, e.failed("write", err)
}

func (e *end) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: e.local, Addr: e.remote, Err: err}
}

// Close ends both directions: what was written still arrives.
func (e *end) Close() error {
	e.once.Do(func() {
		e.out.update(func() { e.out.closed = true })
		e.in.update(func() { e.in.gone, e.in.segments = true, nil })
		e.forget()
	})
	return nil
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.update(func() { e.in.read = t })
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.update(func() { e.out.write = t })
	return nil
}
