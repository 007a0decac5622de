package admin

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// limited closes the connections that are beyond a number of open ones.
type limited struct {
	net.Listener
	places chan struct{} // holds a token per open connection
}

func newLimited(l net.Listener, most int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, most)}
}

// Accept returns the next connection that there is a place for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &placed{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			_ = c.Close() // nobody was promised anything
		}
	}
}

// placed is a connection that has a place.
type placed struct {
	net.Conn
	leave func()
}

// Close ends the connection and gives its place back.
func (c *placed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// limitRequests refuses what is beyond a number of requests that are not answered to
// the end.
func limitRequests(next http.Handler, most int) http.Handler {
	places := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		}
	})
}

// boundWrites ends a connection that does not take an answer: each writeChunk of it has
// writeTimeout. Making an answer may take longer.
func boundWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := paced{w, http.NewResponseController(w)}
		p.renew()
		next.ServeHTTP(p, r)
		p.renew() // for what is buffered
	})
}

// paced is a ResponseWriter of which each part has its own deadline.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p paced) renew() {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection has one
}

// Write writes b in parts.
func (p paced) Write(b []byte) (n int, err error) {
	for {
		part := b[n:min(n+writeChunk, len(b))]
		p.renew()
		m, err := p.ResponseWriter.Write(part)
		if n += m; err != nil || n == len(b) {
			return n, err
		}
	}
}

// Unwrap lets a ResponseController reach what is below.
func (p paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }
