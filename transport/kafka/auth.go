package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// ErrDenied is in the error of a connection that ends since its client has not proved who
// it is.
var ErrDenied = errors.New("not authenticated")

// errLate is that of a client that took too long.
var errLate = fmt.Errorf("%w: the client has not said who it is in time", ErrDenied)

// session is what a client has proved.
type session struct {
	principal string
	ends      time.Time // zero: with the connection
}

// Authenticate notes who the client has proved to be; larger frames are read from now
// on, and all is served.
func (c *Conn) Authenticate(principal string) {
	c.session.Store(&session{principal: principal})
	c.known()
}

// AuthenticateUntil is Authenticate until a time, behind which nothing is served but
// another authentication (KIP-368).
func (c *Conn) AuthenticateUntil(principal string, ends time.Time) {
	c.session.Store(&session{principal, ends})
	c.known()
}

// authenticated reports whether the client may send frames of full size.
func (c *Conn) authenticated() bool { return !c.server.requireAuth || c.session.Load() != nil }

// introduces reports whether a request is one by which clients say who they are.
func introduces(key int16) bool {
	return key == apiVersionsKey || key == saslHandshakeKey || key == kmsg.SASLAuthenticate.Int16()
}

// admits says why a request is not served: the client has not said who it is, or what it
// has shown does not hold any more.
func (c *Conn) admits(r *Request) error {
	if introduces(r.Key) {
		return nil
	}
	if !guard.Check("kafka.authenticated-first", c.authenticated()) {
		return fmt.Errorf("%s comes before the client has said who it is", kmsg.NameForKey(r.Key))
	}
	s := c.session.Load()
	if s != nil && !s.ends.IsZero() && !guard.Check("kafka.session-ended", r.Received.Before(s.ends)) {
		return fmt.Errorf("%s comes %v after the session of %s has ended", kmsg.NameForKey(r.Key), r.Received.Sub(s.ends).Round(time.Millisecond), s.principal)
	}
	return nil
}

// maxPipelined is how many requests of the client may wait for their answers to be taken.
func (c *Conn) maxPipelined() int {
	if !guard.Check("kafka.pre-auth-pipelined", c.authenticated()) {
		return min(c.server.limits.MaxPipelined, preAuthPipelined)
	}
	return c.server.limits.MaxPipelined
}

// late reports whether the client should have said who it is by now.
func (c *Conn) late(now time.Time) bool {
	return !guard.Check("kafka.authentication-time", c.authenticated() || now.Before(c.authBy))
}

// frameMemory is what the client's next frame is of: strangers have little, and none of
// what others need.
func (c *Conn) frameMemory() *memory {
	if !guard.Check("kafka.pre-auth-memory", c.authenticated()) {
		return c.server.preAuth
	}
	return c.server.memory
}
