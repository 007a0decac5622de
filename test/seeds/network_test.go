//go:build seeds

package seeds

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// network is hosts and the links between them. What a link that is cut was given is kept
// and arrives once it is whole again, as TCP's retransmissions do.
type network struct {
	mu     sync.Mutex // held for no call that takes time
	rng    *rand.Rand
	links  map[route]*link
	hosts  map[string]*host
	paused map[string]bool   // hosts that neither say nor hear anything
	ways   map[[2]string]way // from a host to another
	shut   map[route]bool    // for those connections alone
}

// route is a direction from a host to another of the connections to a port.
type route struct {
	from, to string
	port     int
}

// way is how it stands with all routes from a host to another.
type way struct {
	cut  bool
	slow time.Duration // on top of what it takes
}

func newNetwork(rng *rand.Rand) *network {
	return &network{rng: rng, links: map[route]*link{}, hosts: map[string]*host{}, paused: map[string]bool{}, ways: map[[2]string]way{}, shut: map[route]bool{}}
}

// link is what carries a route.
type link struct {
	n     *network
	inner bool // from a host to itself

	mu     sync.Mutex
	cut    bool
	paused bool          // a host at one of its ends is
	slow   time.Duration // on top of what it takes
	moved  chan struct{} // closed when cut or paused changes
}

// state says whether the link carries anything, and what is closed when that changes.
func (l *link) state() (open bool, moved <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cut && !l.paused, l.moved
}

// delay is how long a segment takes.
func (l *link) delay() time.Duration {
	if l.inner {
		return 0
	}
	l.n.mu.Lock()
	d := 100*time.Microsecond + time.Duration(l.n.rng.IntN(400))*time.Microsecond
	l.n.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return d + l.slow
}

func (l *link) set(cut bool, slow time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = slow
	l.change(&l.cut, cut)
}

func (l *link) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change(&l.paused, paused)
}

// change sets what keeps the link from carrying anything. mu is held.
func (l *link) change(what *bool, to bool) {
	if *what != to {
		*what = to
		close(l.moved)
		l.moved = make(chan struct{})
	}
}

// pause has a host neither say nor hear anything, but to itself, or ends that.
func (n *network) pause(host string, paused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused[host] = paused
	for r, l := range n.links {
		if !l.inner {
			l.pause(n.paused[r.from] || n.paused[r.to])
		}
	}
}

// set has all that goes from a host to another be lost or late.
func (n *network) set(from, to string, is way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[[2]string{from, to}] = is
	for r, l := range n.links {
		if r.from == from && r.to == to {
			l.set(is.cut || n.shut[r], is.slow)
		}
	}
}

// close has what goes between two hosts by the connections to a port of either be lost.
func (n *network) close(one, other string, port int, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range []route{{one, other, port}, {other, one, port}} {
		n.shut[r] = is
		if l := n.links[r]; l != nil {
			on := n.ways[[2]string{r.from, r.to}]
			l.set(on.cut || is, on.slow)
		}
	}
}

// link returns that of a route.
func (n *network) link(from, to string, port int) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := route{from, to, port}
	if n.links[r] == nil {
		inner, on := from == to, n.ways[[2]string{from, to}]
		n.links[r] = &link{n: n, inner: inner, cut: on.cut || n.shut[r], slow: on.slow, paused: !inner && (n.paused[from] || n.paused[to]), moved: make(chan struct{})}
	}
	return n.links[r]
}

// pass waits until a link carries something.
func (l *link) pass(ctx context.Context) error {
	for {
		open, moved := l.state()
		if open {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return os.ErrDeadlineExceeded
		}
	}
}

// host is one life of a machine, or of a process on it: what it listens on and is connected to
// ends with it.
type host struct {
	n    *network
	name string // an address of IP

	mu        sync.Mutex // after that of the network
	listeners map[int]*listener
	conns     map[*pair]bool
	dark      bool // without power: nobody says that nobody is there
	over      bool
	port      int
}

// boot begins a life of a host. Connections of an earlier one, of which nobody was told,
// now are.
func (n *network) boot(name string) *host {
	h := &host{n: n, name: name, listeners: map[int]*listener{}, conns: map[*pair]bool{}, port: 40000}
	n.mu.Lock()
	before := n.hosts[name]
	n.hosts[name] = h
	n.mu.Unlock()
	if before != nil {
		before.end(false)
	}
	return h
}

// end ends a life. Without power the others are not told.
func (h *host) end(dark bool) {
	h.mu.Lock()
	h.over, h.dark = true, dark
	listeners, conns := h.listeners, maps.Clone(h.conns)
	h.listeners = map[int]*listener{}
	h.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close() // nobody else has
	}
	for p := range conns {
		p.die(h, dark)
	}
}

// pair is a connection.
type pair struct {
	from, to *host
	out, in  *wire // as of from
}

// die ends the connection at a host that has ended, whose writes are lost from now on. The
// other end is told unless dark; a link that is cut tells nobody either, until a write of the
// other end is answered once it is whole.
func (p *pair) die(h *host, dark bool) {
	mine, theirs := p.out, p.in // as of h: what it sends, and what it is sent
	if h != p.from {
		mine, theirs = p.in, p.out
	}
	mine.update(func() { mine.dead = true })
	theirs.update(func() { theirs.deaf = true })
	if dark {
		return
	}
	reset := func() {
		mine.fail(unix.ECONNRESET)
		theirs.fail(unix.ECONNRESET)
	}
	if open, moved := mine.link.state(); !open {
		go func() { // ends once the link is whole, or the connection given up
			<-moved
			reset()
		}()
		return
	}
	reset()
}

type listener struct {
	h       *host
	addr    *net.TCPAddr
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// listen binds a port.
func (h *host) listen(address string) (net.Listener, error) {
	addr, err := parse(address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over:
		return nil, unix.EIO
	case h.listeners[addr.Port] != nil:
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: addr, Err: os.NewSyscallError("bind", unix.EADDRINUSE)}
	}
	l := &listener{h: h, addr: addr, backlog: make(chan net.Conn, 128), closed: make(chan struct{})}
	h.listeners[addr.Port] = l
	return l, nil
}

func parse(address string) (*net.TCPAddr, error) {
	name, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(name)
	port, err := strconv.Atoi(text)
	if ip == nil || err != nil {
		return nil, fmt.Errorf("%q is no address of IP", address)
	}
	return &net.TCPAddr{IP: ip, Port: port}, nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	case c := <-l.backlog:
		return c, nil
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.h.mu.Lock()
		if l.h.listeners[l.addr.Port] == l {
			delete(l.h.listeners, l.addr.Port)
		}
		l.h.mu.Unlock()
		for {
			select {
			case c := <-l.backlog:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// connectTime is how long a connection is tried, where the caller does not say.
const connectTime = 10 * time.Second

// dial connects this host to an address.
func (h *host) dial(ctx context.Context, address string) (net.Conn, error) {
	to, err := parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	failed := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: err}
	}
	out, in := h.n.link(h.name, to.IP.String(), to.Port), h.n.link(to.IP.String(), h.name, to.Port)
	for _, l := range []*link{out, in} { // a question, and its answer
		select {
		case <-time.After(l.delay()):
		case <-ctx.Done():
		}
		if err := l.pass(ctx); err != nil {
			return nil, failed(err)
		}
	}
	h.n.mu.Lock()
	there := h.n.hosts[to.IP.String()]
	h.n.mu.Unlock()
	if there == nil {
		return nil, failed(unix.ECONNREFUSED)
	}
	there.mu.Lock()
	l, dark := there.listeners[to.Port], there.dark
	there.mu.Unlock()
	if dark {
		<-ctx.Done()
		return nil, failed(os.ErrDeadlineExceeded)
	}
	if l == nil {
		return nil, failed(unix.ECONNREFUSED)
	}
	c, err := h.connect(there, l, out, in)
	if err != nil {
		return nil, failed(err)
	}
	return c, nil
}

func (h *host) connect(there *host, l *listener, out, in *link) (net.Conn, error) {
	p := &pair{from: h, to: there, out: newWire(out), in: newWire(in)}
	h.mu.Lock()
	h.port++
	local := &net.TCPAddr{IP: net.ParseIP(h.name), Port: h.port}
	h.mu.Unlock()
	for _, side := range []*host{h, there} {
		if !side.keep(p) {
			h.drop(p)
			return nil, unix.ECONNREFUSED
		}
	}
	near := &end{in: p.in, out: p.out, local: local, remote: l.addr, forget: func() { h.drop(p) }}
	far := &end{in: p.out, out: p.in, local: l.addr, remote: local, forget: func() { there.drop(p) }}
	select {
	case <-l.closed:
	case l.backlog <- far:
		select {
		case <-l.closed: // it may have been closed between the two
			_ = far.Close()
		default:
		}
		return near, nil
	default:
	}
	h.drop(p)
	there.drop(p)
	return nil, unix.ECONNREFUSED
}

// keep has the connection end with the life of the host.
func (h *host) keep(p *pair) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.conns[p] = true
	}
	return !h.over
}

func (h *host) drop(p *pair) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, p)
}
