package acl

import (
	"net"
	"net/netip"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/guard"
)

// Authorizer holds the matcher that is in force.
type Authorizer struct{ matcher atomic.Pointer[Matcher] }

// NewAuthorizer begins with a matcher.
func NewAuthorizer(m *Matcher) *Authorizer {
	a := new(Authorizer)
	a.Set(m)
	return a
}

// Set puts another matcher in force: every decision from now on is by it.
func (a *Authorizer) Set(m *Matcher) { a.matcher.Store(m) }

// Matcher returns the matcher in force.
func (a *Authorizer) Matcher() *Matcher { return a.matcher.Load() }

// Client is who asks, and the matcher that decides about it. It never changes. A nil
// Client may do everything: nobody authorises.
type Client struct {
	matcher   *Matcher
	principal string
	host      netip.Addr
}

// NewClient returns a client at an address; nil: it is not known.
func (a *Authorizer) NewClient(principal string, remote net.Addr) *Client {
	return &Client{a.Matcher(), principal, HostOf(remote)}
}

// Renew returns the client as the matcher in force decides about it: c itself, if that is
// the one it has.
func (a *Authorizer) Renew(c *Client) *Client {
	if m := a.Matcher(); !guard.Check("acl.client-matcher", c.matcher == m) {
		return &Client{m, c.principal, c.host}
	}
	return c
}

// Allowed reports whether the client may do op with a resource.
func (c *Client) Allowed(op Operation, t ResourceType, name string) bool {
	return c == nil || c.matcher.Allowed(c.principal, c.host, op, t, name)
}

// AllowedAny is [Matcher.AllowedAny].
func (c *Client) AllowedAny(op Operation, t ResourceType) bool {
	return c == nil || c.matcher.AllowedAny(c.principal, c.host, op, t)
}

// Operations returns which of the operations that resources of a type know the client may
// do with one.
func (c *Client) Operations(t ResourceType, name string) Operations {
	if c == nil {
		return OperationsOf(t)
	}
	return c.matcher.Operations(c.principal, c.host, t, name) & OperationsOf(t)
}

// memoPlaces is how many topics a connection remembers decisions about: with 16 bytes
// each it costs 2 KiB. It is a power of two.
const memoPlaces = 128

// Memo remembers what the client of one connection may do with topics. It belongs to the
// goroutine that reads the connection.
type Memo struct {
	by      *Authorizer
	matcher *Matcher // the client's
	client  *Client  // whom all that follows is about
	remote  net.Addr // whose address the client has
	id      string   // the transactional id decided about last
	ofID    Operations
	places  [memoPlaces]place
}

type place struct {
	key uint64 // 0: none
	may Operations
}

// NewMemo returns one that remembers nothing yet.
func NewMemo(a *Authorizer) *Memo { return &Memo{by: a} }

// Begin says whose request is decided about next, and returns it: what was remembered of
// others, or by another matcher, is forgotten. A nil remote is an address that is not
// known.
func (m *Memo) Begin(principal string, remote net.Addr) *Client {
	known := m.client != nil && guard.Check("acl.memo-client", m.client.principal == principal && m.remote == remote)
	if !known {
		m.remote = remote
		m.take(m.by.NewClient(principal, remote))
	} else if !m.fresh() {
		m.take(m.by.Renew(m.client))
	}
	return m.client
}

// Client returns what Begin did last.
func (m *Memo) Client() *Client { return m.client }

// take begins to remember of a client.
func (m *Memo) take(c *Client) {
	m.client, m.matcher = c, c.matcher
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
	return m.decide(key, name).Has(op)
}

// fresh reports whether what is remembered is of the matcher in force.
func (m *Memo) fresh() bool {
	return guard.Check("acl.memo-matcher", m.by.matcher.Load() == m.matcher)
}

// decide remembers a decision in its place.
func (m *Memo) decide(key uint64, name string) Operations {
	if !m.fresh() {
		m.take(m.by.Renew(m.client))
	}
	may := m.matcher.Operations(m.client.principal, m.client.host, Topic, name)
	m.places[key%memoPlaces] = place{key, may}
	return may
}

// AllowedID reports whether the client may do op with a transactional id. It remembers the
// last one.
func (m *Memo) AllowedID(id []byte, op Operation) bool {
	if !m.fresh() {
		m.take(m.by.Renew(m.client))
	}
	if m.id != string(id) || len(id) == 0 {
		m.id = string(id)
		m.ofID = m.matcher.Operations(m.client.principal, m.client.host, TransactionalID, m.id)
	}
	return m.ofID.Has(op)
}

// HostOf returns the address that rules know a client by; the zero Addr: it is not known.
func HostOf(remote net.Addr) netip.Addr {
	var at netip.AddrPort
	switch a := remote.(type) {
	case *net.TCPAddr:
		if a != nil {
			at = a.AddrPort()
		}
	case *net.UDPAddr:
		if a != nil {
			at = a.AddrPort()
		}
	}
	return at.Addr().Unmap().WithZone("")
}
