package pki

import (
	"crypto/x509"
	"sync"
)

// Live is the connections whose peers a [Trust] has admitted: [Live.Judge] ends those
// that do not stand any more. The zero value is not usable. It is safe for concurrent use.
type Live struct {
	trust *Trust

	mu   sync.Mutex
	held map[*liveConn]struct{} // guarded by mu
}

type liveConn struct {
	chains [][]*x509.Certificate
	end    func(error)
	once   sync.Once
}

// NewLive returns the connections that are judged by a trust.
func NewLive(trust *Trust) *Live { return &Live{trust: trust, held: map[*liveConn]struct{}{}} }

// Hold has end called, once, when the connection is to end, be it before Hold returns. end
// may be called by any goroutine and must not block. leave is for when the connection has ended.
func (l *Live) Hold(chains [][]*x509.Certificate, end func(error)) (leave func()) {
	c := &liveConn{chains: chains, end: end}
	l.mu.Lock()
	l.held[c] = struct{}{}
	l.mu.Unlock()
	l.judge(c) // it may have been revoked since it was admitted
	return func() {
		l.mu.Lock()
		delete(l.held, c)
		l.mu.Unlock()
	}
}

func (l *Live) judge(c *liveConn) bool {
	err := l.trust.Stands(c.chains)
	if err != nil {
		c.once.Do(func() { c.end(err) })
	}
	return err == nil
}

// Judge ends the connections that do not stand any more, and returns how many there were.
func (l *Live) Judge() (ended int) {
	l.mu.Lock()
	all := make([]*liveConn, 0, len(l.held))
	for c := range l.held {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		if !l.judge(c) {
			ended++
		}
	}
	return ended
}
