package pki

import (
	"crypto/x509"
	"sync"
)

// Connections are those whose peers a [Trust] has admitted: [Connections.Judge] ends those
// that do not stand any more. The zero value is not usable. It is safe for concurrent use.
type Connections struct {
	trust *Trust

	mu   sync.Mutex
	held map[*connection]struct{} // guarded by mu
}

type connection struct {
	chains [][]*x509.Certificate
	end    func(error)
	once   sync.Once
}

// NewConnections returns the connections that are judged by a trust.
func NewConnections(trust *Trust) *Connections {
	return &Connections{trust: trust, held: map[*connection]struct{}{}}
}

// Hold has end called, once, when the connection is to end, be it before Hold returns. end
// may be called by any goroutine and must not block. leave is for when the connection has ended.
func (s *Connections) Hold(chains [][]*x509.Certificate, end func(error)) (leave func()) {
	c := &connection{chains: chains, end: end}
	s.mu.Lock()
	s.held[c] = struct{}{}
	s.mu.Unlock()
	s.judge(c) // it may have been revoked since it was admitted
	return func() {
		s.mu.Lock()
		delete(s.held, c)
		s.mu.Unlock()
	}
}

func (s *Connections) judge(c *connection) bool {
	err := s.trust.Stands(c.chains)
	if err != nil {
		c.once.Do(func() { c.end(err) })
	}
	return err == nil
}

// Judge ends the connections that do not stand any more, and returns how many there were.
func (s *Connections) Judge() (ended int) {
	s.mu.Lock()
	all := make([]*connection, 0, len(s.held))
	for c := range s.held {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		if !s.judge(c) {
			ended++
		}
	}
	return ended
}
