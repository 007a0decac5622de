package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// Request is one request of a connection. It is answered exactly once, by
// Respond, RespondRaw, Drop or Close, from any goroutine, and must not be
// touched after that: it is used again.
type Request struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      string
	// Body is what follows the header. It is valid until the request is
	// answered, parked or has room reserved.
	Body     []byte
	Conn     *Conn
	Received time.Time

	taken
	reserved int64 // bytes of the answer, from before it is made until it is sent

	next     *Request // of the connection, in order of arrival; guarded by Conn.mu
	answered bool     // guarded by Conn.mu
	orphan   bool     // the connection ended before the answer; guarded by Conn.mu
	held     int64    // what it is counted for in Conn.held; guarded by Conn.mu
	waits    bool     // for others, since Park; guarded by Conn.mu

	// Written by who answers, read by the writer once answered is set.
	silent  bool        // nothing is sent
	bufs    net.Buffers // header and body
	bytes   int64       // of bufs
	release func()      // of the body
	done    time.Time   // when it was answered
	head    [9]byte     // length, correlation id, no tags
	encoded []byte      // the body, of Respond
}

// taken is what a request has of the server's memory until it is answered.
type taken struct {
	frame    *[]byte // what Body is part of; nil: given back
	class    int     // of frame
	size     int64   // of frame
	of       *memory // that frame is of
	expanded int64
	parked   int64
}

func (t *taken) give(s *Server) {
	t.giveFrame()
	s.expanded.give(t.expanded)
	s.parked.give(t.parked)
	t.expanded, t.parked = 0, 0
}

func (t *taken) giveFrame() {
	if t.frame != nil {
		putBuffer(t.frame, t.class)
		t.of.give(t.size)
	}
	t.frame, t.size, t.of = nil, 0, nil
}

var requests = sync.Pool{New: func() any { return new(Request) }}

// recycle makes r ready for another frame. Nobody holds r.
func (r *Request) recycle() {
	clear(r.bufs)
	bufs, encoded := r.bufs[:0], r.encoded[:0]
	if cap(encoded) > keptEncoding {
		encoded = nil
	}
	// answered stays true until r is used again, to catch a second answer.
	*r = Request{bufs: bufs, encoded: encoded, answered: true}
	requests.Put(r)
}

// Context ends with the connection.
func (r *Request) Context() context.Context { return r.Conn.ctx }

// Decode parses the body. The result shares the body's memory.
func (r *Request) Decode() (kmsg.Request, error) { return decode(r.Key, r.Version, r.Body) }

// Expand takes n bytes for what is about to be made of the body, until the request
// is answered. It waits for them on the goroutine of Serve, or for the end of the
// connection, which is the error.
func (r *Request) Expand(n int64) error {
	if n == 0 {
		return nil
	}
	c := r.Conn
	if err := c.server.expanded.take(c.ctx, n); err != nil {
		return err
	}
	r.expanded += n
	c.hold(r, n)
	return nil
}

// Park says that the request begins to wait for others, with so many bytes that are
// the handler's: the frame, and what it was expanded by, are given back. Body is gone,
// and with it what shares its memory. False: there is no room for requests that wait,
// and nothing has changed. It never blocks.
func (r *Request) Park(keeps int64) bool {
	c := r.Conn
	if !guard.Check("kafka.parked", c.server.parked.try(keeps)) {
		return false
	}
	c.mu.Lock()
	r.waits = true
	c.mu.Unlock()
	c.hold(r, keeps-r.size-r.expanded-r.parked)
	r.Body = nil
	r.give(c.server)
	r.parked = keeps
	return true
}

// Reserve takes n bytes for an answer that is about to be made, until it is sent;
// they are corrected once it is there. More than half of all is taken as half, so that
// one does not wait until no other is left, and none is taken behind a request that is
// parked: its answer could not be sent. It waits for them on the goroutine of Serve. An
// error is the end of the connection, or that it has to end: there is no room for
// another that waits. The frame does not wait: Body is gone after Reserve, and with it
// what shares its memory; what the request was expanded by counts as kept by one that
// is parked.
func (r *Request) Reserve(n int64) error {
	if n <= smallAnswer {
		return nil
	}
	c := r.Conn
	n = min(n, c.server.limits.TotalUnsent/2)
	c.hold(r, n-r.size)
	r.Body = nil
	r.giveFrame()
	behind := c.behindParked(r)
	if !behind && c.server.answers.try(n) {
		r.reserved = n
		return nil
	}
	if !guard.Check("kafka.expansion-kept", r.keepExpansion()) && behind {
		return errNoRoomBehind
	}
	if err := c.awaitParked(r); err != nil {
		return err
	}
	if err := c.server.answers.take(c.ctx, n); err != nil {
		return err
	}
	r.reserved = n
	return nil
}

// errNoRoomBehind closes a connection: what was decoded cannot be kept where it stands,
// for those may wait for it that the request waits for.
var errNoRoomBehind = errors.New("a request behind one that waits has a large answer, and there is no room for it to wait")

// keepExpansion counts what was decoded of the request as kept by one that waits, and no
// longer as room to decode others. False: there is no room for that.
func (r *Request) keepExpansion() bool {
	s := r.Conn.server
	if r.expanded == 0 {
		return true
	}
	if r.parked != 0 || !s.parked.try(r.expanded) {
		return false
	}
	s.expanded.give(r.expanded)
	r.parked, r.expanded = r.expanded, 0
	return true
}

// Respond sends a response. It never blocks.
func (r *Request) Respond(resp kmsg.Response) {
	resp.SetVersion(r.Version)
	r.encoded = resp.AppendTo(r.encoded[:0])
	r.begin()
	r.bufs = append(r.bufs, r.encoded)
	r.send(int64(len(r.encoded)), nil)
}

// RespondRaw sends what follows the response header. What the buffers hold must
// not change until release is called, which happens once, when it was written or
// the connection has ended; the slice itself is the caller's again at once.
// release may be nil. RespondRaw never blocks.
func (r *Request) RespondRaw(bufs net.Buffers, release func()) {
	r.begin()
	r.bufs = append(r.bufs, bufs...)
	var body int64
	for _, b := range bufs {
		body += int64(len(b))
	}
	r.send(body, release)
}

// Drop ends a request that has no response (Produce with acks=0).
func (r *Request) Drop() {
	r.silent = true
	r.finish()
}

// Deny ends the request, and its connection as that of a client that is not who it says,
// or has not said: once resp, and what is due before it, is sent. A nil resp: nothing is.
// The error is logged and counted. It is called on the goroutine of Serve, which then
// starts no further request.
func (r *Request) Deny(resp kmsg.Response, err error) {
	r.Conn.denied = fmt.Errorf("%w: %w", ErrDenied, err)
	if resp == nil {
		r.Drop()
		return
	}
	r.Respond(resp)
}

// Close ends the request and its connection. The error is logged and counted.
func (r *Request) Close(err error) {
	r.silent = true
	r.Conn.end(reasonRequest, err)
	r.finish()
}

// begin writes the header of a response, but for its length.
func (r *Request) begin() {
	n := 8
	if r.Key != apiVersionsKey && flexible(r.Key, r.Version) {
		n = 9 // no tagged fields; never for ApiVersions (KIP-511)
	}
	r.head[8] = 0
	r.bufs = append(r.bufs[:0], r.head[:n])
}

func (r *Request) send(body int64, release func()) {
	n := len(r.bufs[0])
	binary.BigEndian.PutUint32(r.head[:], uint32(int64(n-4)+body))
	binary.BigEndian.PutUint32(r.head[4:], uint32(r.CorrelationID))
	r.bytes, r.release = int64(n)+body, release
	r.finish()
}

// finish lets go of the frame and hands the request to the writer.
func (r *Request) finish() {
	c := r.Conn
	if c == nil {
		panic("kafka: a request was answered twice")
	}
	if c.server.timed {
		r.done = time.Now()
	}
	if r.reserved != 0 {
		c.server.answers.give(r.reserved - r.bytes)
		r.reserved = r.bytes
	}
	had := r.taken
	r.taken, r.Body = taken{}, nil
	start, wake, gone := c.answered(r)
	had.give(c.server)
	switch {
	case gone:
		c.discard(r)
	case start:
		go c.writeLoop()
	}
	if wake {
		c.signal()
	}
}

// String names the request for logs and panics.
func (r *Request) String() string {
	return fmt.Sprintf("%s v%d, correlation id %d", kmsg.NameForKey(r.Key), r.Version, r.CorrelationID)
}
