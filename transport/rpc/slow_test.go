package rpc_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/transport/rpc"
)

// slowLine is a line that all connections to a controller share, with a buffer without end
// before it, as routers have them: what is sent waits behind what was sent before.
type slowLine struct {
	rate        int // bytes a second
	ends, ended chan struct{}

	mu    sync.Mutex
	queue []parcel
	bytes int // in queue
	most  int // that there were
	wake  chan struct{}
}

type parcel struct {
	to   net.Conn
	data []byte
}

func newSlowLine(rate int) *slowLine {
	l := &slowLine{rate: rate, ends: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go l.carry()
	return l
}

func (l *slowLine) carry() {
	defer close(l.ended)
	for {
		l.mu.Lock()
		var p parcel
		if len(l.queue) > 0 {
			p = l.queue[0]
		}
		l.mu.Unlock()
		if p.to == nil {
			select {
			case <-l.wake:
				continue
			case <-l.ends:
				return
			}
		}
		time.Sleep(time.Duration(len(p.data)) * time.Second / time.Duration(l.rate)) // simulated
		_, _ = p.to.Write(p.data)                                                    // of an end that has gone nobody hears
		l.mu.Lock()
		l.queue, l.bytes = l.queue[1:], l.bytes-len(p.data)
		l.mu.Unlock()
	}
}

// join has what is written to a connection go over the line.
func (l *slowLine) join(c net.Conn) net.Conn { return &slowConn{c, l} }

type slowConn struct {
	net.Conn
	line *slowLine
}

func (c *slowConn) Write(b []byte) (int, error) {
	l := c.line
	l.mu.Lock()
	l.queue = append(l.queue, parcel{c.Conn, append([]byte(nil), b...)})
	l.bytes += len(b)
	l.most = max(l.most, l.bytes)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

// stop ends the line; what waits is lost.
func (l *slowLine) stop() {
	close(l.ends)
	<-l.ended
}

// behind is a group of which one was away while so many bytes were committed, and is back,
// on a line that takes 1 MiB a second. So much of the log is kept behind a snapshot.
func behind(t *testing.T, image int, trail uint64) (h *house, away uint64, line *slowLine) {
	h = newHouse(t, 1, 2, 3)
	h.slow, h.trail, h.entries = map[string]*slowLine{}, trail, 1000
	h.start(1, 2, 3)
	away = h.leader().node.Status().Leader%3 + 1
	h.stop(away)
	leader := h.leader()
	for range image >> 18 {
		h.propose(leader, strings.Repeat("x", 1<<18))
	}
	line = newSlowLine(1 << 20)
	h.mu.Lock()
	h.slow[address(away)] = line
	h.mu.Unlock()
	h.start(away)
	return h, away, line
}

// catchesUp has the others commit on until the one that is behind has all, which it is to
// have in a few times what its line takes to carry that. Nobody stands for election meanwhile. It
// returns the most that was under way on the line.
func (h *house) catchesUp(away uint64, line *slowLine, image int) int {
	h.t.Helper()
	leader := h.leader()
	term, began := leader.node.Status().Term, time.Now()
	committed := 0
	for behind := true; behind; {
		took := time.Since(began)
		is, leads := h.rooms[away].node.Status(), leader.node.Status()
		if took > 4*time.Duration(image)*time.Second/time.Duration(line.rate) {
			h.t.Fatalf("after %v it has no more than %+v, its leader %+v", took, is, leads)
		}
		if is.Term > 0 && is.Term != term || leads.Term != term {
			h.t.Fatalf("after %v: term %d, and %d of the leader, was %d", took, is.Term, leads.Term, term)
		}
		behind = is.Applied < leads.Applied
		h.propose(leader, "small")
		committed++
		time.Sleep(consensus.DefaultTick) // simulated
	}
	line.mu.Lock()
	defer line.mu.Unlock()
	h.t.Logf("%d MiB took %v, at most %d KiB were under way; %d commits meanwhile", image>>20, time.Since(began), line.most>>10, committed)
	return line.most
}

// TestASnapshotOverASlowLine: a controller is far behind, and its line takes 1 MiB a second.
// Its leader has no more of the image under way than the window allows, however much waits;
// what else it says to it comes in time, so that nobody stands for election, and the others
// go on to commit; and the image arrives.
func TestASnapshotOverASlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const image = 3 << 20
		h, away, line := behind(t, image, 512<<10)
		defer line.stop()
		defer h.stopAll()
		most := h.catchesUp(away, line, image)
		if s := h.rooms[away].node.Status(); s.Snapshot < 8 {
			t.Errorf("it took no snapshot: %+v", s)
		}
		if most < rpc.RaftWindow/2 || most > rpc.RaftWindow+64<<10 {
			t.Errorf("%d bytes were under way at most, the window is %d", most, rpc.RaftWindow)
		}
		h.agree()
	})
}

// TestEntriesOverASlowLine is the same for entries of the log.
func TestEntriesOverASlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const entries = 2 << 20
		h, away, line := behind(t, entries, 0)
		defer line.stop()
		defer h.stopAll()
		if most := h.catchesUp(away, line, entries); most > rpc.RaftWindow+64<<10 {
			t.Errorf("%d bytes were under way at most, the window is %d", most, rpc.RaftWindow)
		}
		h.agree()
	})
}

// TestALargeEntryOverASlowLine: one entry of the log has more than a batch, and its line
// takes 300 KiB a second.
func TestALargeEntryOverASlowLine(t *testing.T) {
	for _, size := range []int{500 << 10, 1900 << 10} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, 1, 2, 3)
			h.slow, h.entries = map[string]*slowLine{}, 1000
			h.start(1, 2, 3)
			leader := h.leader()
			away := leader.node.Status().Leader%3 + 1
			line := newSlowLine(300 << 10)
			defer line.stop()
			defer h.stopAll()
			h.stop(away)
			h.propose(leader, strings.Repeat("x", size))
			h.mu.Lock()
			h.slow[address(away)] = line
			h.mu.Unlock()
			h.start(away)
			h.catchesUp(away, line, size)
			h.agree()
		})
	}
}
