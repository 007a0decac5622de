package kafka

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"

	"rustmq.dev/rustmq/storage/guard"
)

// strangers are the connections of which nothing is known yet: where clients have to say who
// they are, those that have not; elsewhere those that have asked for nothing. Where there is no
// room for another connection, the one of them that came first gives its place to the new one:
// who opens as many as there may be, and is silent, keeps nobody out. Server.mu guards it.
type strangers struct {
	order *list.List // of net.Conn, the one that came first in front
	of    map[net.Conn]*list.Element
}

func newStrangers() strangers { return strangers{list.New(), map[net.Conn]*list.Element{}} }

func (s *strangers) add(conn net.Conn) { s.of[conn] = s.order.PushBack(conn) }

func (s *strangers) remove(conn net.Conn) {
	if e := s.of[conn]; e != nil {
		s.order.Remove(e)
		delete(s.of, conn)
	}
}

// first takes out the one that came first, and returns it; nil: there is none.
func (s *strangers) first() net.Conn {
	e := s.order.Front()
	if e == nil {
		return nil
	}
	conn := e.Value.(net.Conn)
	s.remove(conn)
	return conn
}

// place returns the stranger who gives its place to a connection that comes, nil if none has
// to, and whether there is a place. s.mu is held.
func (s *Server) place() (gone net.Conn, ok bool) {
	if s.open < s.limits.MaxConns {
		return nil, true
	}
	if guard.Check("kafka.strangers-give-way", s.strangers.order.Len() == 0) {
		return nil, guard.Check("kafka.max-connections", false)
	}
	return s.strangers.first(), true
}

// giveWay ends the connection of a stranger. Of TLS no farewell is said, which might wait.
func (s *Server) giveWay(conn net.Conn) {
	s.metrics.Refused("max_connections")
	s.failures.log(s.log, slog.LevelWarn, "connection of a stranger gives way to another", "remote", conn.RemoteAddr().String(), "reason", "max_connections")
	if secure, is := conn.(*tls.Conn); is {
		conn = secure.NetConn()
	}
	_ = conn.Close() // nobody was promised anything
}

// known says that the client is no stranger any more.
func (c *Conn) known() {
	c.server.mu.Lock()
	c.server.strangers.remove(c.net)
	c.server.mu.Unlock()
	if c.info.Known != nil {
		c.info.Known()
	}
}
