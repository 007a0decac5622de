package admin

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// limited closes the connections that are beyond a number of open ones, in all or from one
// address. Of loopback the second is not asked: whoever is on the machine can take all
// anyway, and what comes from elsewhere may come through it. Where there is no place, the
// connection that has asked for nothing for the longest gives its own to the new one: who
// opens as many as there are, and is silent, keeps nobody out.
type limited struct {
	net.Listener
	places chan struct{} // holds a token per open connection
	each   *atomic.Int64

	mu      sync.Mutex
	from    map[netip.Prefix]int // open connections; guarded by mu
	waiting *list.List           // of *placed that no request is served of, the one that waits longest in front; guarded by mu
}

func newLimited(l net.Listener, most int, each *atomic.Int64) *limited {
	return &limited{Listener: l, places: make(chan struct{}, most), each: each, from: map[netip.Prefix]int{}, waiting: list.New()}
}

// Accept returns the next connection that there is a place for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := remoteOf(c)
		if l.enter(from) {
			if l.take() {
				p := &placed{Conn: c, of: l}
				p.leave = sync.OnceFunc(func() { p.ends(); l.left(from); <-l.places })
				return p, nil
			}
			l.left(from)
		}
		_ = c.Close() // nobody was promised anything
	}
}

// take takes a place, if need be that of who waits.
func (l *limited) take() bool {
	select {
	case l.places <- struct{}{}:
		return true
	default:
	}
	l.mu.Lock()
	var longest *placed
	if e := l.waiting.Front(); e != nil {
		longest = e.Value.(*placed)
	}
	l.mu.Unlock()
	if longest == nil {
		return false
	}
	_ = longest.Close() // and its place is free, unless another has taken it
	select {
	case l.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func remoteOf(c net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

func (l *limited) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := prefixOf(from)
	if !from.IsLoopback() && !guard.Check("admin.connections-per-ip", l.from[at] < int(l.each.Load())) {
		return false
	}
	l.from[at]++
	return true
}

func (l *limited) left(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := prefixOf(from)
	if l.from[at]--; l.from[at] <= 0 {
		delete(l.from, at)
	}
}

// placed is a connection that has a place.
type placed struct {
	net.Conn
	of    *limited
	leave func()
	waits *list.Element // in of.waiting; nil: it does not wait; guarded by of.mu
	gone  bool          // it has ended; guarded by of.mu
}

// idles says that no request of the connection is being served.
func (c *placed) idles() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.waits == nil && !c.gone {
		c.waits = c.of.waiting.PushBack(c)
	}
}

// serves says that one is, until idles.
func (c *placed) serves() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.stands()
}

// ends says that it never waits again.
func (c *placed) ends() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.gone = true
	c.stands()
}

// stands takes it out of those that wait. c.of.mu is held.
func (c *placed) stands() {
	if c.waits != nil {
		c.of.waiting.Remove(c.waits)
		c.waits = nil
	}
}

type placeKey struct{}

// withPlace has requests of a connection know its place. It is http.Server.ConnContext.
func withPlace(ctx context.Context, c net.Conn) context.Context {
	if over, is := c.(*tls.Conn); is {
		c = over.NetConn()
	}
	p, is := c.(*placed)
	if !is {
		return ctx
	}
	p.idles()
	return context.WithValue(ctx, placeKey{}, p)
}

// keepsPlaces has connections keep their places while a request of theirs is served.
func keepsPlaces(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, is := r.Context().Value(placeKey{}).(*placed); is {
			p.serves()
			defer p.idles()
		}
		next.ServeHTTP(w, r)
	})
}

// Close ends the connection and gives its place back.
func (c *placed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// limitRates refuses calls that come faster than they may, before anything else is looked at,
// and says of each how many more may come.
func limitRates(next http.Handler, limits *rateLimits, now func() time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := limits.call(now(), hostOf(r), classOf(r))
		v.write(w.Header())
		if !v.allowed {
			writeProblem(w, http.StatusTooManyRequests, "too many calls: the headers RateLimit-Reset and Retry-After say when more are taken")
			return
		}
		next.ServeHTTP(w, r)
	})
}

type releaseKey struct{}

// release gives back the place of a call among those that are served, of one that goes on for
// long and has a place elsewhere.
func release(ctx context.Context) {
	if give, is := ctx.Value(releaseKey{}).(func()); is {
		give()
	}
}

// limitRequests refuses what is beyond a number of requests that are not answered to
// the end.
func limitRequests(next http.Handler, most int) http.Handler {
	places := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			give := sync.OnceFunc(func() { <-places })
			defer give()
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), releaseKey{}, give)))
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
