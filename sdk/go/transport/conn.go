package transport

import (
	"net"
	"sync"
)

// conn is a connection to a broker that can be retired: it ends once it owes no answer, so that
// no request is lost by it.
type conn struct {
	net.Conn
	via    Mode
	broker *broker
	of     *generation
	tcp    *net.TCPConn // below TLS; nil over QUIC

	mu       sync.Mutex
	asked    frames // guarded by mu, as is all below
	answered frames
	retiring bool
	ended    bool
}

// Write writes requests. One that is not begun on a connection that has been retired is
// net.ErrClosed, and was not sent.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return 0, c.closedError("write")
	}
	c.asked.pass(b) // before they are sent: nobody must end it in between
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// Read reads answers.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.answered.pass(b[:n])
	end := c.quiet()
	c.mu.Unlock()
	if end {
		_ = c.Close() // what is in b is all that comes
	}
	return n, err
}

// retire has the connection end as soon as no answer is owed.
func (c *conn) retire() {
	c.mu.Lock()
	c.retiring = true
	end := c.quiet()
	c.mu.Unlock()
	if end {
		_ = c.Close() // nobody asks anything of it
	}
}

// quiet reports whether the connection, which is being retired, is to end now, and
// lets no request begin after that. c.mu is held.
func (c *conn) quiet() bool {
	if !c.retiring || c.ended || c.asked.whole != c.answered.whole || !c.asked.between() || !c.answered.between() {
		return false
	}
	c.ended = true
	return true
}

// Close ends the connection.
func (c *conn) Close() error {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	err := c.Conn.Close()
	c.broker.dialer.left(c)
	return err
}

func (c *conn) closedError(op string) error {
	return &net.OpError{Op: op, Net: c.via.String(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: net.ErrClosed}
}
