package quic

import (
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// Stats is what the connection to a broker has measured.
type Stats struct {
	Remote     net.Addr // of the broker
	Handshaken bool     // it has answered
	Early      bool     // it took what was sent in the first packet (0-RTT)

	RTT    time.Duration // the latest round trip; 0: none yet
	MinRTT time.Duration // the shortest so far; 0: none yet

	Sent, Received, Lost uint64 // packets; Lost goes back where one was only late
	Streams              int    // that are open or being opened
}

// Stats returns what is measured of the connection to addr, as it was dialled, and
// false where there is none.
func (d *Dialer) Stats(addr string) (Stats, bool) {
	d.mu.Lock()
	s := d.conns[addr]
	streams := 0
	if s != nil {
		streams = s.streams
	}
	d.mu.Unlock()
	if s == nil || !s.established() {
		return Stats{}, false
	}
	measured, handshaken := s.conn.ConnectionStats(), complete(s.conn)
	return Stats{
		Remote: s.remote, Handshaken: handshaken, Early: handshaken && s.settle(),
		RTT: measured.LatestRTT, MinRTT: measured.MinRTT,
		Sent: measured.PacketsSent, Received: measured.PacketsReceived, Lost: measured.PacketsLost,
		Streams: streams,
	}, true
}

// established reports whether there is a connection that lives.
func (s *shared) established() bool {
	select {
	case <-s.ready:
		return s.err == nil && s.conn.Context().Err() == nil
	default:
		return false
	}
}

// Drop ends the connection to addr, as it was dialled: its streams return
// net.ErrClosed, and the next dial makes another. No connection: nothing happens.
func (d *Dialer) Drop(addr string) {
	d.mu.Lock()
	s := d.conns[addr]
	if s == nil || !s.established() {
		d.mu.Unlock()
		return
	}
	delete(d.conns, addr)
	d.mu.Unlock()
	_ = s.conn.CloseWithError(0, "") // the peer may be gone already
}

// CloseIdle ends connections that have no streams, which would be kept a while.
// What they have learned is kept: the next dial resumes their sessions.
func (d *Dialer) CloseIdle() {
	d.mu.Lock()
	var idle []*quic.Conn
	for addr, s := range d.conns {
		if s.streams > 0 || !s.established() {
			continue
		}
		if s.last != nil {
			s.last.Stop()
		}
		delete(d.conns, addr)
		idle = append(idle, s.conn)
	}
	d.mu.Unlock()
	for _, conn := range idle {
		_ = conn.CloseWithError(0, "") // the peer may be gone already
	}
}
