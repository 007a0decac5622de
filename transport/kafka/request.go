package kafka

import (
	"context"
	"encoding/binary"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request is one request of a connection. It is answered exactly once, by
// Respond, RespondRaw, Drop or Close, from any goroutine.
type Request struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      string
	// Body is what follows the header. It is valid until the request is
	// answered.
	Body     []byte
	Conn     *Conn
	Received time.Time

	frame *[]byte
	class int
	size  int64

	// Guarded by Conn.mu.
	ready   bool
	silent  bool // nothing is sent
	bufs    net.Buffers
	bytes   int64
	release func()
	head    [9]byte // length, correlation id, no tags
}

// Context ends with the connection.
func (r *Request) Context() context.Context { return r.Conn.ctx }

// Decode parses the body. The result shares the body's memory.
func (r *Request) Decode() (kmsg.Request, error) { return decode(r.Key, r.Version, r.Body) }

// Respond sends a response. It never blocks.
func (r *Request) Respond(resp kmsg.Response) {
	resp.SetVersion(r.Version)
	r.RespondRaw(net.Buffers{resp.AppendTo(nil)}, nil)
}

// RespondRaw sends what follows the response header. The buffers must not
// change until release is called, which happens once, when they were written or
// the connection has ended; release may be nil. It never blocks.
func (r *Request) RespondRaw(bufs net.Buffers, release func()) {
	n := 8
	binary.BigEndian.PutUint32(r.head[4:], uint32(r.CorrelationID))
	if r.Key != apiVersionsKey && flexible(r.Key, r.Version) {
		r.head[8] = 0
		n = 9
	}
	var body int64
	for _, b := range bufs {
		body += int64(len(b))
	}
	binary.BigEndian.PutUint32(r.head[:], uint32(int64(n-4)+body))
	r.bufs, r.bytes, r.release = append(net.Buffers{r.head[:n]}, bufs...), int64(n)+body, release
	r.Conn.answered(r)
}

// Drop ends a request that has no response (Produce with acks=0).
func (r *Request) Drop() {
	r.silent = true
	r.Conn.answered(r)
}

// Close ends the request and its connection. The error is logged and counted.
func (r *Request) Close(err error) {
	r.silent = true
	r.Conn.fail(reasonRequest, err)
	r.Conn.answered(r)
}
