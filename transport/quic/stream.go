package quic

import (
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// streamConn is a stream as a net.Conn.
type streamConn struct {
	stream *quic.Stream
	conn   *quic.Conn

	writing sync.Mutex // held by Write; quic forbids Close meanwhile
	closing sync.Once
}

func (c *streamConn) Read(b []byte) (int, error) { return c.stream.Read(b) }

func (c *streamConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.stream.Write(b)
}

func (c *streamConn) LocalAddr() net.Addr                { return c.conn.LocalAddr() }
func (c *streamConn) RemoteAddr() net.Addr               { return c.conn.RemoteAddr() }
func (c *streamConn) SetDeadline(t time.Time) error      { return c.stream.SetDeadline(t) }
func (c *streamConn) SetReadDeadline(t time.Time) error  { return c.stream.SetReadDeadline(t) }
func (c *streamConn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// Close ends both directions: what was written still arrives, unless a Write is
// cut off by Close.
func (c *streamConn) Close() (err error) {
	c.closing.Do(func() {
		c.stream.CancelRead(0)
		if !c.writing.TryLock() {
			c.stream.CancelWrite(0)
			return
		}
		defer c.writing.Unlock()
		err = c.stream.Close()
	})
	return err
}
