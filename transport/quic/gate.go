package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// gate counts connections from their first packet to their end, and what their
// windows come to. It keeps both within limits.
type gate struct {
	windowMemory int64

	mu              sync.Mutex
	maxConns, perIP int                   // guarded by mu
	entered         map[string]int        // connections by address; guarded by mu
	total           int                   // guarded by mu
	opening         int                   // handshakes under way; guarded by mu
	windows         map[*quic.Conn]uint64 // bytes that grow has granted; guarded by mu
	granted         int64                 // the windows' sum, first ones too; guarded by mu
	strangers       strangers             // guarded by mu

	count   func(reason string)   // of connections that are turned away
	refused func(net.Addr, error) // is told of handshakes that failed; nil: nobody is

	arrivals kafka.Arrivals // nil: any may come

	log    *slog.Logger
	told   time.Time // when a failed handshake was logged; guarded by mu, as is untold
	untold int       // failed ones since
}

func newGate(maxConns, perIP int, windowMemory int64, count func(string), log *slog.Logger) *gate {
	return &gate{
		count: count, log: log,
		maxConns: maxConns, perIP: perIP, windowMemory: windowMemory,
		entered: map[string]int{}, windows: map[*quic.Conn]uint64{}, strangers: newStrangers(),
	}
}

// set changes how many connections there may be, in all and from one address. Those that
// there are stay.
func (g *gate) set(maxConns, perIP int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.maxConns, g.perIP = maxConns, perIP
}

var (
	errCrowded = errors.New("too many connections")
	errEarly   = errors.New("connections come too fast")
)

// visit is one connection's entry, found by its context.
type visit struct {
	ip     string
	opened sync.Once                 // its handshake has ended, or never will
	conn   atomic.Pointer[quic.Conn] // nil: it was not accepted
	// state is that of TLS once the client is verified, be it by a ticket.
	state atomic.Pointer[tls.ConnectionState]
}

type visitKey struct{}

func visitOf(conn *quic.Conn) *visit {
	v, ok := conn.Context().Value(visitKey{}).(*visit)
	if !ok {
		panic("quic: a connection was accepted that did not enter")
	}
	return v
}

// enter lets a connection in, or refuses it. The context it gets ends with the
// connection, also when the handshake fails.
func (g *gate) enter(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	if g.arrivals != nil {
		if _, ok := g.arrivals.Arrive(client.RemoteAddr, false); !guard.Check("quic.connection-rate", ok) {
			g.count("connection_creation_rate")
			return nil, errEarly
		}
	}
	v := &visit{ip: kafka.AddressOf(client.RemoteAddr)}
	if !g.admit(v.ip) {
		g.count("max_connections")
		return nil, errCrowded
	}
	ctx = context.WithValue(ctx, visitKey{}, v)
	context.AfterFunc(ctx, func() {
		if conn := v.conn.Load(); conn == nil || !handshaken(conn) {
			g.failed(client.RemoteAddr, context.Cause(ctx))
		}
		g.leave(v)
	})
	return ctx, nil
}

// admit counts a connection of an address, unless it is one too many. Where all places are taken,
// or all memory, a stranger gives way, be it of the same address if that may have all of them.
func (g *gate) admit(ip string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	fits := (g.entered[ip] < g.perIP || g.perIP >= g.maxConns) && (g.total < g.maxConns && g.granted+firstConnWindow <= g.windowMemory || g.giveWay())
	if !guard.Check("quic.max-connections", fits) {
		return false
	}
	g.total++
	g.entered[ip]++
	g.opening++
	g.granted += firstConnWindow
	return true
}

// failedPause is between two lines of the log about handshakes that failed.
const failedPause = time.Second

// failed counts a handshake that failed, and tells the log of it, once in failedPause at most.
func (g *gate) failed(remote net.Addr, why error) {
	g.count("handshake")
	if g.refused != nil && why != nil {
		g.refused(remote, why)
	}
	g.mu.Lock()
	now := time.Now()
	tell, untold := now.Sub(g.told) >= failedPause, g.untold
	if tell {
		g.told, g.untold = now, 0
	} else {
		g.untold++
	}
	g.mu.Unlock()
	if tell {
		g.log.Warn("QUIC handshake failed", "remote", remote.String(), "error", why, "untold", untold)
	}
}

func (g *gate) leave(v *visit) {
	g.open(v)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	g.granted -= firstConnWindow
	if g.entered[v.ip]--; g.entered[v.ip] == 0 {
		delete(g.entered, v.ip)
	}
}

// open counts a handshake as ended.
func (g *gate) open(v *visit) {
	v.opened.Do(func() {
		g.mu.Lock()
		g.opening--
		g.mu.Unlock()
	})
}

// suspects reports whether a client should prove its address first.
func (g *gate) suspects(remote net.Addr) bool {
	return g.crowded() || g.arrivals != nil && !guard.Check("quic.rate-unproven", !g.arrivals.Suspects(remote))
}

// crowded reports whether all clients should.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opening >= halfOpen
}

// accepted lets the windows of a connection grow, and counts its handshake.
func (g *gate) accepted(conn *quic.Conn) {
	g.mu.Lock()
	g.windows[conn] = 0
	g.strangers.add(conn)
	g.mu.Unlock()
	v := visitOf(conn)
	v.conn.Store(conn)
	if handshaken(conn) {
		g.open(v)
		return
	}
	go func() {
		select {
		case <-conn.HandshakeComplete():
		case <-conn.Context().Done():
		}
		g.open(v)
	}()
}

// grow is asked before a connection's window grows. It calls nothing of conn.
func (g *gate) grow(conn *quic.Conn, more uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	has, ok := g.windows[conn]
	fits := ok && g.granted+int64(more) <= g.windowMemory/4*3
	if !guard.Check("quic.window-memory", fits) {
		return false
	}
	g.windows[conn] = has + more
	g.granted += int64(more)
	return true
}

// ended takes back what a connection's windows had grown by.
func (g *gate) ended(conn *quic.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.granted -= int64(g.windows[conn])
	delete(g.windows, conn)
	g.strangers.remove(conn)
}
