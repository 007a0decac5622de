package quic

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"rustmq.dev/rustmq/storage/guard"
)

// What strangers may send. QUIC counts what waits to be read by the bytes of its streams, and
// bytes that come one by one, or behind one that is missing, take two hundred times as much
// memory: windows are no bound for who means harm. It is the bytes of the line that
// bound it, of which each such frame takes seven. Who comes to say who it is needs few: so many
// may come at once as there may be connections, and not much more of all of them.
const (
	strangerBytes  = 256 << 10 // of one connection
	strangerNeeds  = 8 << 10   // of each: a handshake, and who it is
	strangersBytes = 2 << 20   // of all together beyond that
	// strangerTime is how long a connection may go on without a stream whose client is known.
	strangerTime = 30 * time.Second
	// strangersEvery is the time between two looks, while there are any.
	strangersEvery = 50 * time.Millisecond
)

// refusedStranger is the error of a connection of which nothing became known.
const refusedStranger = 2

// strangers are the connections of which no stream has become known (kafka.Info.Known), the one
// that came first in front. The gate's mutex guards them.
type strangers struct {
	order   *list.List // of stranger
	of      map[*quic.Conn]*list.Element
	watched bool // somebody looks
}

type stranger struct {
	conn     *quic.Conn
	came     time.Time
	received func() uint64 // bytes of the line
}

func newStrangers() strangers {
	return strangers{order: list.New(), of: map[*quic.Conn]*list.Element{}}
}

func (s *strangers) add(conn *quic.Conn) {
	s.of[conn] = s.order.PushBack(stranger{conn, time.Now(), func() uint64 { return conn.ConnectionStats().BytesReceived }})
}

func (s *strangers) remove(conn *quic.Conn) {
	if e := s.of[conn]; e != nil {
		s.order.Remove(e)
		delete(s.of, conn)
	}
}

// known says that a connection is no stranger any more.
func (g *gate) known(conn *quic.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strangers.remove(conn)
}

// giveWay ends the connection of the stranger who came first, to make room; false: there is
// none. g.mu is held.
func (g *gate) giveWay() bool {
	e := g.strangers.order.Front()
	if guard.Check("quic.strangers-give-way", e == nil) {
		return false
	}
	conn := e.Value.(stranger).conn
	g.strangers.remove(conn)
	go func() {
		g.count("max_connections")
		refuseStranger(conn)
	}()
	return true
}

func refuseStranger(conn *quic.Conn) {
	_ = conn.CloseWithError(refusedStranger, "it is not known who you are") // whoever it is, nobody was promised anything
}

// watches reports whether the caller is to watch strangers, which nobody does.
func (g *gate) watches() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.strangers.watched
	g.strangers.watched = true
	return !was
}

// watch ends connections of strangers that take too long or send too much, until there are none,
// or ctx ends.
func (g *gate) watch(ctx context.Context) {
	ticker := time.NewTicker(strangersEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			g.mu.Lock()
			g.strangers.watched = false
			g.mu.Unlock()
			return
		case now := <-ticker.C:
			all, over := g.listStrangers()
			if over {
				return
			}
			for _, conn := range tooMuch(all, now) {
				g.count("stranger")
				g.known(conn) // it was judged
				refuseStranger(conn)
			}
		}
	}
}

// listStrangers are those of now; over: there are none, and nobody watches them from now on.
func (g *gate) listStrangers() (all []stranger, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.strangers.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(stranger))
	}
	if len(all) == 0 {
		g.strangers.watched = false
	}
	return all, len(all) == 0
}

// tooMuch are the connections of strangers that are to end: of who takes too long, has sent too
// much, or, where all together have, has sent the most.
func tooMuch(all []stranger, now time.Time) (end []*quic.Conn) {
	type sender struct {
		conn  *quic.Conn
		bytes uint64
	}
	var left []sender
	total := uint64(0)
	for _, s := range all {
		bytes := s.received()
		if !guard.Check("quic.stranger-time", now.Sub(s.came) < strangerTime) || !guard.Check("quic.stranger-bytes", bytes <= strangerBytes) {
			end = append(end, s.conn)
			continue
		}
		left = append(left, sender{s.conn, bytes})
		total += max(bytes, strangerNeeds) - strangerNeeds
	}
	if guard.Check("quic.strangers-bytes", total <= strangersBytes) {
		return end
	}
	slices.SortFunc(left, func(a, b sender) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, s := range left {
		if total <= strangersBytes {
			break
		}
		end = append(end, s.conn)
		total -= max(s.bytes, strangerNeeds) - strangerNeeds
	}
	return end
}
