package broker

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/controller"
)

// holdAddress holds an address to a rate of connections; "": each that has none by name.
// Zero takes the rate away.
func (n *node) holdAddress(ip string, rate float64) {
	n.t.Helper()
	change := controller.QuotaChange{Entity: metadata.QuotaEntity{IP: metadata.QuotaName{Scope: metadata.QuotaDefault}}}
	if ip != "" {
		change.Entity.IP = metadata.QuotaName{Scope: metadata.QuotaNamed, Name: ip}
	}
	if change.Set = map[string]float64{metadata.ConnectionCreationRate: rate}; rate == 0 {
		change.Set, change.Remove = nil, []string{metadata.ConnectionCreationRate}
	}
	if err := n.controller.AlterClientQuotas(context.Background(), []controller.QuotaChange{change}, false)[0]; err != nil {
		n.t.Fatal(err)
	}
	n.settle(n.t.Context())
}

// come has connections come from an address until one comes too early, and returns how
// many did not; at most 1,000.
func (n *node) come(ip string) (took int) {
	for took < 1000 {
		if _, ok := n.Arrive(&net.TCPAddr{IP: net.ParseIP(ip)}, true); !ok {
			return took
		}
		took++
	}
	return took
}

// once is what may come at once by a rate: the one that makes the debt too.
func once(rate int) int { return rate*int(quota.Window/time.Second) + 1 }

// A quota by name counts before the default, and the default each address for itself
// (KIP-612).
func TestAddressesAreHeldToTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		if got := n.come("192.0.2.1"); got != 1000 {
			t.Errorf("%d come where there is no quota", got)
		}
		n.holdAddress("", 3)
		n.holdAddress("192.0.2.7", 1)
		n.holdAddress("192.0.2.8", 7)
		for _, tc := range []struct {
			ip   string
			want int
		}{
			{"192.0.2.1", once(3)}, {"192.0.2.2", once(3)}, {"192.0.2.7", once(1)}, {"::ffff:192.0.2.8", once(7)},
			{"2001:db8::1", once(3)}, {"2001:db8::2", 0}, {"2001:db8:0:1::1", once(3)}, // a /64 is one
		} {
			if got := n.come(tc.ip); got != tc.want {
				t.Errorf("%d come from %s, want %d", got, tc.ip, tc.want)
			}
		}
		wait, ok := n.Arrive(&net.TCPAddr{IP: net.ParseIP("192.0.2.7")}, true)
		if ok || wait != time.Second {
			t.Errorf("one too early: %v, %v", wait, ok)
		}
		time.Sleep(wait)
		if got := n.come("192.0.2.7"); got != 1 {
			t.Errorf("%d come after a wait for one", got)
		}
		n.holdAddress("192.0.2.7", 0)
		if got := n.come("192.0.2.7"); got != once(3) {
			t.Errorf("%d come where the default counts again", got)
		}
		if got := testutil.ToFloat64(n.Broker.metrics.throttles[quota.Connection]); got != 10 {
			t.Errorf("%v are counted as too early", got)
		}
		n.server.Close()
		n.Close()
	})
}

// Of several quotas in one /64 the lowest counts, whichever was given last.
func TestTheLowestQuotaOfANetworkCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.holdAddress("2001:db8::1", 5)
		n.holdAddress("2001:db8::2", 2)
		n.holdAddress("2001:db8::3", 4)
		if got := n.come("2001:db8::9"); got != once(2) {
			t.Errorf("%d come", got)
		}
		n.server.Close()
		n.Close()
	})
}

// An address is suspected from half of what may come at once on, so that who only says
// that it is there leaves half of it.
func TestAddressesAreSuspectedFromHalfOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.holdAddress("", 1)
		remote := &net.UDPAddr{IP: net.ParseIP("192.0.2.1")}
		for i := range 5 {
			if n.Suspects(remote) {
				t.Errorf("suspected after %d of ten", i)
			}
			n.Arrive(remote, false)
		}
		if !n.Suspects(remote) {
			t.Error("not suspected after five of ten")
		}
		if n.Suspects(&net.UDPAddr{IP: net.ParseIP("192.0.2.2")}) {
			t.Error("another is suspected")
		}
		n.server.Close()
		n.Close()
	})
}

// The rate of all holds who may wait up, and refuses who may not, which then counts
// nowhere.
func TestTheBrokersOwnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, func(o *Options) { o.MaxConnectionRate = 2 })
		n.holdAddress("192.0.2.7", 5)
		for i := range 20 {
			if wait, ok := n.Arrive(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, true); wait != 0 || !ok {
				t.Fatalf("connection %d: %v, %v", i, wait, ok)
			}
		}
		if wait, ok := n.Arrive(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, true); wait != 500*time.Millisecond || !ok {
			t.Errorf("one that may wait: %v, %v", wait, ok)
		}
		for range 100 {
			if wait, ok := n.Arrive(&net.UDPAddr{IP: net.ParseIP("192.0.2.7")}, false); wait != 500*time.Millisecond || ok {
				t.Fatalf("one that may not: %v, %v", wait, ok)
			}
		}
		time.Sleep(500 * time.Millisecond)
		if wait, ok := n.Arrive(&net.UDPAddr{IP: net.ParseIP("192.0.2.7")}, false); wait != 0 || !ok {
			t.Errorf("after the wait: %v, %v", wait, ok)
		}
		n.server.Close()
		n.Close()
	})
}
