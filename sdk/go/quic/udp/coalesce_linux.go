package udp

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	readsPerCall = 4
	maxJoined    = 64 << 10 // what the kernel joins at most
	controlSpace = 128      // of a message: traffic class, packet info, segment size
)

// Conn is a socket whose datagrams arrive joined. It serves quic-go, which reads
// by ReadBatch; ReadFrom and ReadMsgUDP would return them joined.
type Conn struct {
	*net.UDPConn
	batch    *ipv4.PacketConn
	messages []ipv4.Message // what one call read
	next     int            // of messages
	at       int            // in the data of messages[next]
}

// Coalesce has the kernel join datagrams, and returns a connection that divides
// them again; conn itself where the kernel does not. The socket stays the
// caller's to close.
func Coalesce(conn *net.UDPConn) net.PacketConn {
	raw, err := conn.SyscallConn()
	if err != nil {
		return conn
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}); err != nil || refused != nil {
		return conn
	}
	return &Conn{UDPConn: conn, batch: ipv4.NewPacketConn(conn)}
}

// ReadBatch fills messages, of which each has one buffer, with a datagram each,
// and waits for the first. As by the kernel, a datagram longer than its buffer is
// cut to it. flags must be 0.
func (c *Conn) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	if c.next == len(c.messages) {
		if err := c.read(flags); err != nil {
			return 0, err
		}
	}
	n := 0
	for n < len(messages) && c.next < len(c.messages) {
		joined := &c.messages[c.next]
		data := joined.Buffers[0][c.at:joined.N]
		if size := segmentSize(joined.OOB[:joined.NN]); size > 0 && size < len(data) {
			data = data[:size]
		}
		m := &messages[n]
		m.N = copy(m.Buffers[0], data)
		m.NN = copy(m.OOB, joined.OOB[:joined.NN])
		m.Flags, m.Addr = joined.Flags, joined.Addr
		n++
		if c.at += len(data); c.at >= joined.N {
			c.next, c.at = c.next+1, 0
		}
	}
	return n, nil
}

// read takes what waits in the socket.
func (c *Conn) read(flags int) error {
	if c.messages == nil {
		c.messages = make([]ipv4.Message, readsPerCall)
		for i := range c.messages {
			c.messages[i].Buffers = [][]byte{make([]byte, maxJoined)}
			c.messages[i].OOB = make([]byte, controlSpace)
		}
	}
	c.messages = c.messages[:cap(c.messages)]
	n, err := c.batch.ReadBatch(c.messages, flags)
	c.messages, c.next, c.at = c.messages[:max(n, 0)], 0, 0
	return err
}

// segmentSize is how long the joined datagrams are, but for the last; 0: it is
// one datagram.
func segmentSize(control []byte) int {
	for len(control) > 0 {
		header, body, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO && len(body) >= 2 {
			return int(binary.NativeEndian.Uint16(body))
		}
		control = rest
	}
	return 0
}
