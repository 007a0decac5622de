package kafka

import (
	"log/slog"
	"net"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Arrivals says how many connections may come (KIP-612). Its methods must not block, and
// may be called from any goroutine.
type Arrivals interface {
	// Arrive counts a connection of an address that comes now. If it is ok, it is begun
	// after wait, which is how a listener that must not take more slows down; without
	// mayWait it is not ok then. One that is not ok comes too early and is not counted:
	// it gets nothing, and its end after wait if it can be held for so long.
	Arrive(remote net.Addr, mayWait bool) (wait time.Duration, ok bool)
	// Suspects reports whether half of what may come of an address at once has come:
	// who only says that it is there, as a first packet of UDP does, should prove it,
	// or it could use up what is another's.
	Suspects(remote net.Addr) bool
}

type anyArrivals struct{}

func (anyArrivals) Arrive(net.Addr, bool) (time.Duration, bool) { return 0, true }
func (anyArrivals) Suspects(net.Addr) bool                      { return false }

// maxEarly bounds the connections that are held because they come too early: each takes a
// descriptor, and no memory here. What comes beyond is closed at once.
const maxEarly = 1000

// arrive reports whether a connection that a listener has accepted may go on, once the
// listener may take one. It blocks for that, and until the server closes at most.
func (s *Server) arrive(conn net.Conn) bool {
	wait, ok := s.arrivals.Arrive(conn.RemoteAddr(), true)
	if !guard.Check("kafka.connection-rate", ok) {
		s.metrics.Refused("connection_creation_rate")
		s.failures.log(s.log, slog.LevelWarn, "connection refused", "remote", conn.RemoteAddr().String(), "reason", "connection_creation_rate")
		s.hold(conn, wait)
		return false
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
	}
	return true
}

// hold keeps a connection unread, so that its client does not come back at once, and then
// closes it.
func (s *Server) hold(conn net.Conn, wait time.Duration) {
	s.mu.Lock()
	held := guard.Check("kafka.early-connections", !s.closed && !s.draining.Load() && len(s.early) < maxEarly)
	if held {
		s.early[conn] = time.AfterFunc(wait, func() {
			s.mu.Lock()
			delete(s.early, conn)
			s.mu.Unlock()
			_ = conn.Close() // nothing was said on it
		})
	}
	s.mu.Unlock()
	if !held {
		_ = conn.Close() // the same
	}
}

// closeEarly closes what is held. s.mu is held.
func (s *Server) closeEarly() {
	for conn, end := range s.early {
		end.Stop()
		_ = conn.Close() // nothing was said on it
		delete(s.early, conn)
	}
}
