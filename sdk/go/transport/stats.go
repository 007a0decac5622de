package transport

import (
	"cmp"
	"slices"
	"time"

	"rustmq.dev/rustmq/sdk/go/quic"
)

// Link is what is known of the way to one broker.
type Link struct {
	Broker string // host:port, as it was dialled
	// Using is what new connections go over; Auto: nothing is known yet.
	Using Mode
	Why   string    // a sentence for people
	Since time.Time // when Using changed last

	// RTT is the shortest round trip of the last half minute; 0: none is known. Loss is
	// the part of packets that were lost in that time, 0..1, or 0 where too few were sent to say.
	RTT  time.Duration
	Loss float64

	QUIC, TCP int // connections to it that are open: streams over QUIC, sockets over TCP
	// Early says whether the QUIC connection that is there began with 0-RTT.
	Early bool
	// BlockedUntil is when UDP, which did not get through, is tried again; zero: it does.
	BlockedUntil time.Time
	Changes      int // of Using by measurement, or because UDP was blocked
	Moves        int // of this machine's address, while connections were open
}

// Stats returns a Link for each broker that was dialled, by address.
func (d *Dialer) Stats() []Link {
	d.mu.Lock()
	g := d.current
	links := make([]Link, 0, len(d.brokers))
	conns := map[string][]*conn{}
	for _, b := range d.brokers {
		links = append(links, b.link())
		for c := range b.conns {
			conns[b.addr] = append(conns[b.addr], c)
		}
	}
	d.mu.Unlock()
	for i := range links {
		l := &links[i]
		if g != nil {
			if over, there := quicStats(g, l.Broker); there {
				l.Early = over.Early
				if l.RTT == 0 {
					l.RTT = over.MinRTT
				}
			}
		}
		if l.RTT == 0 {
			_, _, l.RTT = tcpFigures(conns[l.Broker])
		}
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Broker, b.Broker) })
	return links
}

// link describes the way to a broker. Dialer.mu is held.
func (b *broker) link() Link {
	d := b.dialer
	c := &b.choice
	l := Link{
		Broker: b.addr, Using: c.using, Why: c.why, Since: c.since, RTT: c.rtt(),
		Changes: b.changes, Moves: b.moves,
	}
	if c.blocked(d.o.now()) {
		l.BlockedUntil = c.blockedUntil
	}
	l.Loss, _ = c.loss()
	for over := range b.conns {
		if over.via == QUIC {
			l.QUIC++
		} else {
			l.TCP++
		}
	}
	switch {
	case d.o.Mode != Auto:
		l.Using, l.Why = d.o.Mode, "it was demanded"
	case d.current != nil && d.current.quic == nil:
		l.Using, l.Why = TCP, "QUIC is never in the clear"
	case c.using == Auto:
		l.Why = whyUnknown
	}
	return l
}

func quicStats(g *generation, addr string) (quic.Stats, bool) {
	if g.quic == nil {
		return quic.Stats{}, false
	}
	return g.quic.Stats(addr)
}

// tcpFigures are segments sent and sent again, and the shortest round trip, of all
// connections over TCP; 0 where the kernel does not say.
func tcpFigures(conns []*conn) (segments, resent uint64, trip time.Duration) {
	for _, c := range conns {
		if c.tcp == nil {
			continue
		}
		sent, again, rtt := tcpInfo(c.tcp)
		segments, resent = segments+sent, resent+again
		if rtt > 0 && (trip == 0 || rtt < trip) {
			trip = rtt
		}
	}
	return segments, resent, trip
}
