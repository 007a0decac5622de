package acl

import (
	"net"
	"net/netip"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/guard"
)

// Authorizer holds the matcher that is in force.
type Authorizer struct {
	matcher    atomic.Pointer[Matcher]
	generation atomic.Uint32 // of matcher, which is stored before it
}

// NewAuthorizer begins with a matcher.
func NewAuthorizer(m *Matcher) *Authorizer {
	a := new(Authorizer)
	a.Set(m)
	return a
}

// Set puts another matcher in force: every decision that begins after it is by that. It is
// called by one goroutine at a time.
func (a *Authorizer) Set(m *Matcher) {
	a.matcher.Store(m)
	a.generation.Add(1)
}

// Matcher returns the matcher in force.
func (a *Authorizer) Matcher() *Matcher { return a.matcher.Load() }

// Client is who asks, and the matcher that decides about it: the same for all that one
// request needs. It holds on to the matcher, and so is not to outlast the request. A nil
// Client may do everything: nobody authorises.
type Client struct {
	matcher   *Matcher
	principal string
	host      netip.Addr
	stamp     Stamp
	refusals  Refusals // nil: nobody is told
}

// Refusals is told what a client is refused. It must not block.
type Refusals interface {
	Refused(op Operation, t ResourceType, name string)
}

// Tell has to be told what c is refused.
func (c *Client) Tell(to Refusals) { c.refusals = to }

// Refuse tells that c is refused what it asked for; that a decision hides something from
// it is no refusal. A nil c is refused nothing.
func (c *Client) Refuse(op Operation, t ResourceType, name string) {
	if c != nil && c.refusals != nil {
		c.refusals.Refused(op, t, name)
	}
}

// Stamp tells decisions of one connection apart: two of one Stamp are about the same
// client, by the same rules. The zero Stamp is of none.
type Stamp struct{ generation, identity uint32 }

// Stamp is that of all decisions about c.
func (c *Client) Stamp() Stamp { return c.stamp }

// Renew has the matcher in force decide about c from now on.
func (a *Authorizer) Renew(c *Client) {
	if now := a.generation.Load(); !guard.Check("acl.client-matcher", c.stamp.generation == now) {
		c.stamp.generation, c.matcher = now, a.Matcher()
	}
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

// View is what a client may do by one matcher. It holds on to that for as long as it is
// kept, and never changes; two that are equal decide alike.
type View struct {
	matcher   *Matcher
	principal string
	host      netip.Addr // zero, where no rule for the client looks at it
}

// View returns what c may do now. c is not nil.
func (c *Client) View() View {
	v := View{matcher: c.matcher, principal: c.principal}
	if c.matcher.byHost[c.principal] || c.matcher.byHost[Everyone] {
		v.host = c.host
	}
	return v
}

// Allowed reports whether the client may do op with a resource.
func (v View) Allowed(op Operation, t ResourceType, name string) bool {
	return v.matcher.Allowed(v.principal, v.host, op, t, name)
}

// SameClient reports whether two views are of one client, by whatever rules.
func (v View) SameClient(other View) bool {
	return v.principal == other.principal && v.host == other.host
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
