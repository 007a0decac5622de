package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// measures are what the counters of a broker's connections stood at when it was looked last.
type measures struct {
	of               *generation // whose QUIC connection was counted
	sent, lost       uint64      // packets over QUIC
	received         uint64
	heard            time.Time // when received last grew
	sentWhenHeard    uint64
	segments, resent uint64                    // of the TCP connections that are open
	local            map[netip.Addr]netip.Addr // that packets to the broker's addresses leave by
}

// watch measures, once a tick, until the Dialer is closed. It blocks on nothing else.
func (d *Dialer) watch() {
	ticker := time.NewTicker(d.o.tick)
	defer ticker.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-ticker.C:
		}
		g, err := d.generation(reloadEvery)
		if err != nil {
			continue // the next dial is told
		}
		moved := false
		for _, b := range d.used() {
			moved = d.look(g, b) || moved
		}
		if moved && g.quic != nil && d.background(func() { d.migrate(g) }) {
			continue // migrate lets the generation go
		}
		d.let(g)
	}
}

// used are brokers that have connections.
func (d *Dialer) used() []*broker {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*broker
	for _, b := range d.brokers {
		if len(b.conns) > 0 {
			all = append(all, b)
		}
	}
	return all
}

// look measures the way to one broker, and acts on it. It reports whether this machine's
// address has changed.
func (d *Dialer) look(g *generation, b *broker) (moved bool) {
	over, quicThere := quicStats(g, b.addr)
	now := d.o.now()
	d.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	d.mu.Unlock()
	segments, resent, trip := tcpFigures(conns)
	moved = d.hasMoved(b, conns)

	d.mu.Lock()
	defer d.mu.Unlock()
	s := sample{}
	if quicThere {
		s = b.last.overQUIC(time.Now(), g, over.RTT, over.Sent, over.Lost, over.Received)
	}
	s.sent, s.lost = s.sent+grown(segments, b.last.segments), s.lost+grown(resent, b.last.resent)
	b.last.segments, b.last.resent = segments, resent
	if d.o.Mode != Auto {
		b.choice.push(s) // for Stats
		return moved
	}
	if moved {
		b.moves++
		b.choice.moved(now)
		d.o.Log.Info("this machine's address has changed", "broker", b.addr)
	}
	if b.choice.measured(now, s) {
		b.changes++
		d.o.Log.Info("the transport changes", "broker", b.addr, "transport", b.choice.using, "why", b.choice.why, "rtt", b.choice.rtt())
		using := b.choice.using
		d.wait.Go(func() { retire(others(conns, using)) })
	}
	if s.sent > 0 && float64(s.lost) >= lossy*float64(s.sent) || trip >= far {
		b.choice.worse(now)
	}
	deaf := quicThere && over.Handshaken && b.last.deaf(time.Now(), over.Sent, b.choice.rtt())
	if d.closed || b.trying || !deaf && !b.choice.probe(now) {
		return moved
	}
	b.trying = true
	g.users++
	d.wait.Go(func() {
		defer d.let(g)
		if deaf {
			d.rescue(g, b)
		} else {
			d.probe(g, b)
		}
		d.mu.Lock()
		b.trying = false
		d.mu.Unlock()
	})
	return moved
}

// overQUIC is what has come since the last look.
func (m *measures) overQUIC(now time.Time, g *generation, rtt time.Duration, sent, lost, received uint64) sample {
	if m.of != g || sent < m.sent { // another connection
		m.of, m.sent, m.lost, m.received, m.heard, m.sentWhenHeard = g, 0, 0, 0, now, 0
	}
	s := sample{rtt: rtt, sent: sent - m.sent, lost: grown(lost, m.lost)}
	m.sent, m.lost = sent, lost
	if received != m.received {
		m.received, m.heard, m.sentWhenHeard = received, now, sent
	}
	return s
}

// deaf reports whether what was sent over QUIC has had no answer for long.
func (m *measures) deaf(now time.Time, sent uint64, rtt time.Duration) bool {
	return sent > m.sentWhenHeard && now.Sub(m.heard) >= max(silence, 2*headTrips*rtt)
}

// grown is by how much a counter has grown, which may go back.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

func others(conns []*conn, using Mode) []*conn {
	var all []*conn
	for _, c := range conns {
		if c.via != using {
			all = append(all, c)
		}
	}
	return all
}

// hasMoved looks by which address packets to the broker leave now. TCP connections of an
// address that this machine has no more are ended: nobody answers them.
func (d *Dialer) hasMoved(b *broker, conns []*conn) bool {
	local := map[netip.Addr]netip.Addr{}
	for _, c := range conns {
		to := addressOf(c.RemoteAddr())
		if _, known := local[to]; known {
			continue
		}
		if by, err := d.o.route(c.RemoteAddr()); err == nil && by.IsValid() { // else it may be between two networks
			local[to] = by
		}
	}
	d.mu.Lock()
	before := b.last.local
	b.last.local = local
	d.mu.Unlock()
	moved := false
	for to, by := range local {
		if was, known := before[to]; known && was != by {
			moved = true
			if !has(was) {
				end(conns, was)
			}
		}
	}
	return moved
}

// end closes TCP connections of an address: their clients dial again.
func end(conns []*conn, of netip.Addr) {
	for _, c := range conns {
		if c.via == TCP && addressOf(c.LocalAddr()) == of {
			_ = c.Close() // the peer cannot be told
		}
	}
}

// has reports whether an address is this machine's, or may be.
func has(address netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == address {
			return true
		}
	}
	return false
}

// addressOf is an address without its port; none is known where it is neither TCP's nor UDP's.
func addressOf(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// outbound asks the kernel by which address packets to a broker leave; none is sent.
func outbound(to net.Addr) (netip.Addr, error) {
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	ip, _ := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP)
	return ip.Unmap(), nil
}

// migrate moves QUIC connections to this machine's address. It lets the generation go.
func (d *Dialer) migrate(g *generation) {
	defer d.let(g)
	ctx, cancel := context.WithTimeout(d.ctx, migrateTimeout)
	defer cancel()
	if err := g.quic.Migrate(ctx); err != nil && d.ctx.Err() == nil {
		d.o.Log.Warn("a QUIC connection stays where it was", "error", err)
	}
}

// probe tries QUIC, while TCP is in use.
func (d *Dialer) probe(g *generation, b *broker) {
	ctx, cancel := context.WithTimeout(d.ctx, probeTimeout)
	defer cancel()
	stream, err := g.quic.DialContext(ctx, "udp", b.addr)
	if err == nil {
		err = (&conn{Conn: stream}).handshake(ctx)
		_ = stream.Close() // nothing was asked of it
	}
	switch {
	case err == nil:
		b.through(g)
	case d.ctx.Err() == nil:
		d.blocked(b, err)
	}
}

// errSilence is why a connection was given up that hears nothing.
var errSilence = errors.New("what was sent has had no answer")

// rescue gives up a QUIC connection that hears nothing, if the broker is there over TCP.
func (d *Dialer) rescue(g *generation, b *broker) {
	if d.answersTCP(b) {
		d.blocked(b, errSilence) // first: who dials again takes TCP
		g.quic.Drop(b.addr)
	}
}

// answersTCP reports whether the broker's machine takes connections over TCP.
func (d *Dialer) answersTCP(b *broker) bool {
	ctx, cancel := context.WithTimeout(d.ctx, probeTimeout)
	defer cancel()
	over, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
	if err != nil {
		return false
	}
	_ = over.Close()
	return true
}

// through notes that QUIC gets to the broker.
func (b *broker) through(g *generation) {
	over, ok := quicStats(g, b.addr)
	if !ok {
		return
	}
	d := b.dialer
	d.mu.Lock()
	defer d.mu.Unlock()
	before := b.choice.using
	b.choice.connected(d.o.now(), over.MinRTT)
	if before != b.choice.using && before != Auto {
		b.changes++
		using := b.choice.using
		d.o.Log.Info("the transport changes", "broker", b.addr, "transport", using, "why", b.choice.why, "rtt", b.choice.rtt())
		retiring := d.open(func(c *conn) bool { return c.broker == b && c.via != using })
		if !d.closed {
			d.wait.Go(func() { retire(retiring) })
		}
	}
}

// blocked notes that QUIC does not get through, where TCP does.
func (d *Dialer) blocked(b *broker, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.choice.using == QUIC {
		b.changes++
	}
	b.choice.failed(d.o.now())
	d.o.Log.Info("QUIC does not get through: TCP is used", "broker", b.addr, "until", b.choice.blockedUntil, "error", err)
}
