package broker

import (
	"errors"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// fetchMemory bounds the records of fetch responses that are not written yet:
// what slow readers hold, pinned in the WAL's memory or read from its files. A
// fetch that finds it used up waits, as if there were no records.
//
// A connection may hold a quarter of what it leaves to others: so that a few that do not
// read leave something. A fetch of who has had his share is answered at once with what it
// has: that it waits could hold back, on its connection, what it waits for. Many that do
// not read use it up all the same. While somebody waits for that, connections are cut that
// take less than fetchPace.
type fetchMemory struct {
	limit int64

	mu      sync.Mutex
	used    int64                      // guarded by mu; beyond limit by a grant or a batch for each read under way
	starved map[*fetchRequest]struct{} // woken when there is room; guarded by mu
	holders map[*connection]struct{}   // that hold some; guarded by mu
	looked  time.Time                  // for slow ones among them; guarded by mu
}

// fetchShare is what a connection holds of the fetch memory. The lock of that guards it.
type fetchShare struct {
	held int64
	due  time.Time // until when it holds all this at fetchPace
}

const (
	// minGrant is granted at least: less would cost as much and bring little.
	minGrant = 64 << 10

	// shareOfLeft is what a connection may hold, a part of what is left.
	shareOfLeft = 4

	// fetchPace is how many bytes of its answers a connection takes a second, at least,
	// when others wait for memory; fetchGrace is for the network to begin with.
	fetchPace  = 256 << 10
	fetchGrace = 10 * time.Second

	// slowLook is how often slow ones are looked for at most: it takes a look at all.
	slowLook = time.Second

	// starvedAtOnce is how many are woken when memory is given back. Each of
	// them gives back in its turn, and wakes the next.
	starvedAtOnce = 16
)

func newFetchMemory(limit int64) *fetchMemory {
	return &fetchMemory{limit: limit, starved: map[*fetchRequest]struct{}{}, holders: map[*connection]struct{}{}}
}

// take grants f up to n bytes to read, to be given back. False: there are none. Either
// f is starved, and woken when there may be, or its connection has had its share, and it
// is full.
func (m *fetchMemory) take(f *fetchRequest, n int) (granted int, ok bool) {
	m.mu.Lock()
	left, held := m.limit-m.used, f.conn.share.held
	if !guard.Check("broker.fetch-share", held == 0 || held*shareOfLeft < left) {
		m.mu.Unlock()
		f.limited, f.full = true, true
		return 0, false
	}
	if !guard.Check("broker.fetch-memory", left > 0) {
		m.starved[f] = struct{}{}
		slow := m.slow(time.Now())
		m.mu.Unlock()
		f.starved = true
		for _, c := range slow {
			c.conn.Cut(errSlowReader)
		}
		return 0, false
	}
	granted = int(min(int64(n), max((left-held*shareOfLeft)/(shareOfLeft+1), minGrant)))
	m.hold(f.conn, granted)
	m.allow(f.conn, granted)
	m.mu.Unlock()
	return granted, true
}

var errSlowReader = errors.New("the client takes its answers too slowly, while others wait for the memory")

// hold counts what a connection holds, more or less than before. m.mu is held.
func (m *fetchMemory) hold(c *connection, bytes int) {
	s := &c.share
	m.used += int64(bytes)
	switch s.held += int64(bytes); {
	case s.held == 0:
		delete(m.holders, c)
		s.due = time.Time{}
	case s.due.IsZero():
		m.holders[c] = struct{}{}
		s.due = time.Now().Add(fetchGrace)
	}
}

// allow gives a connection the time to take so many bytes, or takes what it has for
// them. m.mu is held.
func (m *fetchMemory) allow(c *connection, bytes int) {
	if c.share.held > 0 {
		c.share.due = c.share.due.Add(atPace(int64(bytes)))
	}
}

// atPace is how long the slowest reader takes for so many bytes.
func atPace(bytes int64) time.Duration { return time.Duration(bytes) * time.Second / fetchPace }

// slow returns connections that have held what they hold for longer than they may. m.mu
// is held.
func (m *fetchMemory) slow(now time.Time) (found []*connection) {
	if now.Sub(m.looked) < slowLook {
		return nil
	}
	m.looked = now
	for c := range m.holders {
		if guard.Check("broker.slow-reader", now.After(c.share.due)) {
			found = append(found, c)
		}
	}
	return found
}

// give takes back what was granted or read for a connection, and wakes some who wait
// for it.
func (m *fetchMemory) give(c *connection, bytes int) {
	m.mu.Lock()
	m.hold(c, -bytes)
	// Who was fast is not allowed to be slow for as long afterwards.
	if s := &c.share; s.held > 0 {
		if latest := time.Now().Add(fetchGrace + atPace(s.held)); s.due.After(latest) {
			s.due = latest
		}
	}
	m.wake()
}

// passOn says that f waits for memory no more: others may have what it was
// woken for.
func (m *fetchMemory) passOn(f *fetchRequest) {
	m.mu.Lock()
	delete(m.starved, f)
	m.wake()
}

// wake gives back m.mu, which is held, and wakes some who wait.
func (m *fetchMemory) wake() {
	var woken [starvedAtOnce]*fetchRequest
	n := 0
	if m.used < m.limit {
		for waiting := range m.starved {
			if n == len(woken) {
				break
			}
			woken[n] = waiting
			delete(m.starved, waiting)
			n++
		}
	}
	m.mu.Unlock()
	for _, waiting := range woken[:n] {
		waiting.Wake()
	}
}

// correct replaces a grant by what was read: less, or one larger batch; the time to take
// it is for that. Where there was nothing, nothing will be given back.
func (m *fetchMemory) correct(c *connection, granted, read int) {
	m.mu.Lock()
	m.hold(c, read-granted)
	m.allow(c, read-granted)
	if read == 0 {
		m.wake()
		return
	}
	m.mu.Unlock()
}

func (m *fetchMemory) inUse() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}
