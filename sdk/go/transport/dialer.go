package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrClosed is what a closed Dialer returns.
var ErrClosed = errors.New("transport dialer is closed")

// Options of a Dialer. The zero value dials in the clear, over TCP.
type Options struct {
	Mode Mode
	// TLS is cloned; ServerName defaults to the host that is dialled. nil, and no
	// Reload: in the clear, which is TCP alone. A ClientSessionCache of its own outlives the
	// Dialer, else sessions are remembered while that is open.
	TLS *tls.Config
	// Reload takes the place of TLS. It is called before a dial, once a second at most, and
	// each ten seconds in between, never twice at once. One that shows or trusts other
	// certificates than that before, or has another ServerName, holds for connections from
	// then on; those that are open end once they owe no answer. After an error the one before stays in force. [Files.Config] is one.
	Reload func() (*tls.Config, error)
	// PlainTCP has TCP be in the clear although there is TLS, which is for QUIC then: a
	// broker may have TLS off (network.tls), but QUIC always has it.
	PlainTCP bool
	Log      *slog.Logger // is told when a choice changes; nil: nobody is

	// route is the address that packets to a broker leave by; nil: as the kernel says.
	route func(to net.Addr) (netip.Addr, error)
	// now and tick are the clock of what is decided; nil and 0: the machine's.
	now  func() time.Time
	tick time.Duration
}

// Dialer dials brokers; see the package. Make one with [New], and close it.
type Dialer struct {
	o      Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup

	reloading sync.Mutex // held while Options.Reload runs; taken before mu

	mu       sync.Mutex
	closed   bool                     // guarded by mu, as is all below
	watching bool                     // the goroutine that measures has begun
	brokers  map[string]*broker       // by address
	current  *generation              // nil: none yet
	alive    map[*generation]struct{} // that are to be closed
	loaded   *tls.Config              // what Options.Reload returned
	reloaded time.Time
}

// broker is what is known of one, by the address that is dialled.
type broker struct {
	dialer *Dialer
	addr   string

	// Guarded by Dialer.mu.
	choice  choice
	conns   map[*conn]struct{}
	moves   int // changes of this machine's address under its connections
	changes int // of the transport, by measurement
	last    measures
	trying  bool // QUIC is being tried in the background
}

// New makes a Dialer. What Options lack for a mode is an error of Dial.
func New(o Options) *Dialer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.route == nil {
		o.route = outbound
	}
	if o.now == nil {
		o.now, o.tick = time.Now, tick
	}
	d := &Dialer{o: o, brokers: map[string]*broker{}, alive: map[*generation]struct{}{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Dial connects to the broker at addr, host:port; network is ignored. It is what kgo.Dialer
// takes. Over QUIC it may return before the broker has answered. An error has the
// *net.OpError of each transport that was tried.
func (d *Dialer) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	g, err := d.generation(reloadPause)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	b, plan := d.planned(addr, g)
	switch {
	case d.o.Mode == QUIC && g.quic == nil:
		err = &net.OpError{Op: "dial", Net: "quic", Addr: unresolved(addr), Err: errors.New("QUIC is never in the clear: give Options.TLS or Options.Reload")}
	case d.o.Mode == QUIC:
		var over *conn
		if over, err = d.overQUIC(ctx, g, b); err == nil {
			return over, nil // the generation is the connection's now
		}
	case d.o.Mode == TCP || g.quic == nil:
		var over *conn
		if over, err = d.viaTCP(ctx, g, b); err == nil {
			return over, nil
		}
	default:
		return d.race(ctx, g, b, plan)
	}
	d.let(g)
	return nil, err
}

// planned returns the broker at addr and how to dial it now.
func (d *Dialer) planned(addr string, g *generation) (*broker, plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.brokers[addr]
	if b == nil {
		b = &broker{dialer: d, addr: addr, conns: map[*conn]struct{}{}}
		d.brokers[addr] = b
	}
	if !d.watching && !d.closed && (d.o.Mode == Auto && g.quic != nil || d.o.Reload != nil || g.quic != nil && d.o.Mode == QUIC) {
		d.watching = true
		d.wait.Go(d.watch)
	}
	return b, b.choice.plan(d.o.now())
}

// unresolved is an address as it was dialled.
type unresolved string

func (unresolved) Network() string  { return "quic" }
func (u unresolved) String() string { return string(u) }

// viaTCP is [Dialer.overTCP] as a connection that is known.
func (d *Dialer) viaTCP(ctx context.Context, g *generation, b *broker) (*conn, error) {
	over, below, err := d.overTCP(ctx, g, b.addr)
	if err != nil {
		return nil, err
	}
	return d.enter(&conn{Conn: over, via: TCP, broker: b, of: g, tcp: below})
}

// overQUIC opens a stream, over the connection that exists or a new one.
func (d *Dialer) overQUIC(ctx context.Context, g *generation, b *broker) (*conn, error) {
	stream, err := g.quic.DialContext(ctx, "udp", b.addr)
	if err != nil {
		return nil, err
	}
	return d.enter(&conn{Conn: stream, via: QUIC, broker: b, of: g})
}

// enter notes a connection that is open; it has its generation until it ends.
func (d *Dialer) enter(c *conn) (*conn, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errors.Join(ErrClosed, c.Conn.Close())
	}
	c.broker.conns[c] = struct{}{}
	d.mu.Unlock()
	return c, nil
}

// left notes the end of a connection.
func (d *Dialer) left(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, open := c.broker.conns[c]; !open {
		return
	}
	delete(c.broker.conns, c)
	c.of.users--
	d.outlived(c.of)
}

// open returns the connections that a function picks. d.mu is held.
func (d *Dialer) open(picked func(*conn) bool) []*conn {
	var all []*conn
	for _, b := range d.brokers {
		for c := range b.conns {
			if picked(c) {
				all = append(all, c)
			}
		}
	}
	return all
}

// CloseIdle ends QUIC connections that have no streams, which are kept a while. What was
// learned of brokers stays.
func (d *Dialer) CloseIdle() {
	d.mu.Lock()
	g := d.current
	d.mu.Unlock()
	if g != nil && g.quic != nil {
		g.quic.CloseIdle()
	}
}

// Close ends all connections, and waits for what runs in the background.
func (d *Dialer) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.closed = true
	conns := d.open(func(*conn) bool { return true })
	d.mu.Unlock()
	d.cancel()
	for _, c := range conns {
		_ = c.Close() // the peer may be gone already
	}
	for g := range d.alive { // nobody changes it any more
		d.end(g)
	}
	d.wait.Wait()
	return nil
}
