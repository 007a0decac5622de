package acl

import (
	"net"
	"net/netip"

	"rustmq.dev/rustmq/storage/guard"
)

// memoPlaces is how many topics a connection remembers decisions about: with 16 bytes
// each it costs 2 KiB. It is a power of two.
const memoPlaces = 128

// Memo remembers what the client of one connection may do with topics. It belongs to the
// goroutine that reads the connection, and holds on to no matcher.
type Memo struct {
	by        *Authorizer
	stamp     Stamp // of whom and what all that follows is about
	principal string
	remote    net.Addr // whose address host is
	host      netip.Addr
	id        string // the transactional id decided about last
	ofID      Operations
	places    [memoPlaces]place
	first     func(op Operation, name string) // nil: nobody is told
}

type place struct {
	key uint64 // 0: none
	may Operations
}

// NewMemo returns one that remembers nothing yet.
func NewMemo(a *Authorizer) *Memo { return &Memo{by: a} }

// Begin says whose request is decided about next: what was remembered of others is
// forgotten. A nil remote is an address that is not known.
func (m *Memo) Begin(principal string, remote net.Addr) {
	if m.stamp.identity != 0 && guard.Check("acl.memo-client", m.principal == principal && m.remote == remote) {
		return
	}
	m.principal, m.remote, m.host = principal, remote, HostOf(remote)
	m.stamp = Stamp{identity: m.stamp.identity + 1}
	m.forget()
}

// Client returns whom Begin named last, by the matcher in force.
func (m *Memo) Client() *Client {
	c := new(Client)
	m.Put(c)
	return c
}

// Put is Client without an allocation.
func (m *Memo) Put(c *Client) {
	generation := m.by.generation.Load() // before the matcher, which is not older then
	*c = Client{matcher: m.by.Matcher(), principal: m.principal, host: m.host, stamp: Stamp{generation, m.stamp.identity}}
}

func (m *Memo) forget() {
	m.id, m.ofID = "", 0
	clear(m.places[:])
}

// Allowed reports whether the client may do op with a topic. A key stands for that name
// alone, and for it for ever; it is not 0.
func (m *Memo) Allowed(key uint64, name string, op Operation) bool {
	p := &m.places[key%memoPlaces]
	if m.fresh() && p.key == key {
		return p.may.Has(op)
	}
	may := m.decide(key, name).Has(op)
	if may && m.first != nil {
		m.first(op, name)
	}
	return may
}

// OnFirst has to be told of each topic when it is decided about, and the client may do
// what it asked for: when it is used first, by those rules.
func (m *Memo) OnFirst(told func(op Operation, name string)) { m.first = told }

// fresh reports whether what is remembered is by the matcher in force.
func (m *Memo) fresh() bool {
	return guard.Check("acl.memo-matcher", m.by.generation.Load() == m.stamp.generation)
}

// renew forgets what is not by the matcher in force, and returns that.
func (m *Memo) renew() *Matcher {
	if now := m.by.generation.Load(); !m.fresh() {
		m.stamp.generation = now
		m.forget()
	}
	return m.by.Matcher()
}

// decide remembers a decision in its place.
func (m *Memo) decide(key uint64, name string) Operations {
	may := m.renew().Operations(m.principal, m.host, Topic, name)
	m.places[key%memoPlaces] = place{key, may}
	return may
}

// AllowedID reports whether the client may do op with a transactional id. It remembers the
// last one.
func (m *Memo) AllowedID(id []byte, op Operation) bool {
	if !m.fresh() || m.id != string(id) || len(id) == 0 {
		matcher := m.renew()
		m.id = string(id)
		m.ofID = matcher.Operations(m.principal, m.host, TransactionalID, m.id)
	}
	return m.ofID.Has(op)
}
