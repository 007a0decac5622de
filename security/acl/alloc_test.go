//go:build !race

package acl

import (
	"net"
	"net/netip"
	"testing"
)

func TestDecisionAlloc(t *testing.T) {
	m, topics := crowd()
	memo := NewMemo(NewAuthorizer(m))
	remote := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}
	host, id := netip.MustParseAddr("10.1.2.3"), []byte("a-transactional-id")
	who := "User:CN=service-7,O=example"
	if n := testing.AllocsPerRun(1000, func() {
		memo.Begin(who, remote)
		if !memo.Allowed(7, topics[7], Write) {
			t.Error("not allowed")
		}
		memo.AllowedID(id, Write)
	}); n != 0 {
		t.Errorf("%v allocations for a decision that is remembered", n)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		m.Allowed(who, host, Write, Topic, topics[i%len(topics)])
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a first decision", n)
	}
}
