package broker

import (
	"sync"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// connections keeps, for each connection that fetches, what must end with it:
// fetches that wait and fetch sessions.
type connections struct {
	mu     sync.RWMutex
	all    map[uint64]*connection // by id of the connection; guarded by mu
	ending bool                   // guarded by mu
}

type connection struct {
	mu       sync.Mutex
	waiting  map[*fetchRequest]struct{} // guarded by mu
	sessions []*session                 // the most recently used last; guarded by mu
	ended    bool                       // guarded by mu
	share    fetchShare
	conn     *kafka.Conn
}

func newConnections() *connections { return &connections{all: map[uint64]*connection{}} }

func (c *connections) of(conn *kafka.Conn) *connection {
	id := conn.ID()
	c.mu.RLock()
	found := c.all[id]
	c.mu.RUnlock()
	if found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found = c.all[id]; found == nil {
		found = &connection{conn: conn, waiting: map[*fetchRequest]struct{}{}, ended: c.ending}
		c.all[id] = found
	}
	return found
}

// closed ends what belongs to a connection, and returns it; nil if nothing does.
func (c *connections) closed(conn *kafka.Conn) *connection {
	id := conn.ID()
	c.mu.Lock()
	found := c.all[id]
	delete(c.all, id)
	c.mu.Unlock()
	if found != nil {
		found.end()
	}
	return found
}

// close ends every fetch that waits, and lets none wait from now on.
func (c *connections) close() {
	c.mu.Lock()
	c.ending = true
	all := make([]*connection, 0, len(c.all))
	for _, found := range c.all {
		all = append(all, found)
	}
	c.mu.Unlock()
	for _, found := range all {
		found.end()
	}
}

func (c *connection) end() {
	c.mu.Lock()
	c.ended = true
	waiting, sessions := c.waiting, c.sessions
	c.waiting, c.sessions = map[*fetchRequest]struct{}{}, nil
	c.mu.Unlock()
	for f := range waiting {
		f.ended.Store(true)
		f.Wake()
	}
	for _, s := range sessions {
		s.close()
	}
}

// park notes that f waits; false: the connection has ended, f must not.
func (c *connection) park(f *fetchRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.waiting[f] = struct{}{}
	return true
}

func (c *connection) unpark(f *fetchRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, f)
}

// session finds one of the connection's sessions and makes it the most recent.
func (c *connection) session(id int32) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.sessions {
		switch {
		case s.id != id:
		case i == len(c.sessions)-1:
			return s
		default:
			c.sessions = append(append(c.sessions[:i:i], c.sessions[i+1:]...), s)
			return s
		}
	}
	return nil
}

// addSession keeps s, and returns the session that had to go for it.
func (c *connection) addSession(s *session) (evicted *session, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, false
	}
	if !guard.Check("broker.connection-sessions", len(c.sessions) < maxSessionsConnection) {
		evicted, c.sessions = c.sessions[0], c.sessions[1:]
	}
	c.sessions = append(c.sessions, s)
	return evicted, true
}

func (c *connection) removeSession(id int32) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.sessions {
		if s.id == id {
			c.sessions = append(c.sessions[:i:i], c.sessions[i+1:]...)
			return s
		}
	}
	return nil
}
