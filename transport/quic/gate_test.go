package quic

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"rustmq.dev/rustmq/transport/kafka"
)

func client(ip string) *quic.ClientInfo {
	return &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.ParseIP(ip), Port: 1}}
}

// TestWindowsStayWithinTheirMemory lets connections enter and their windows
// grow until the budget says no, and end.
func TestWindowsStayWithinTheirMemory(t *testing.T) {
	const memory = 8 * firstConnWindow
	g := newGate(100, 100, memory, func(string) {}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := g.enter(ctx, client("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	conn := new(quic.Conn)
	if g.grow(conn, 1) {
		t.Error("a window grew of a connection that was not accepted")
	}
	g.windows[conn] = 0
	grown := 0
	for g.grow(conn, firstConnWindow) {
		if grown++; grown > 100 {
			t.Fatal("a window grows without end")
		}
	}
	if grown != 5 { // three quarters, less the first
		t.Errorf("grew %d times", grown)
	}
	for range 2 { // the last quarter is for those that come
		if _, err := g.enter(t.Context(), client("10.0.0.2")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.enter(t.Context(), client("10.0.0.2")); err == nil {
		t.Error("a connection entered without room for its window")
	}
	g.ended(conn)
	cancel()
	if _, err := g.enter(t.Context(), client("10.0.0.2")); err != nil {
		t.Errorf("room was not given back: %v", err)
	}
}

func TestCrowdMustProveItsAddress(t *testing.T) {
	g := newGate(10*halfOpen, 10*halfOpen, 1<<40, func(string) {}, slog.New(slog.DiscardHandler))
	var cancels []context.CancelFunc
	for range halfOpen {
		if g.crowded() {
			t.Fatal("crowded too early")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		if _, err := g.enter(ctx, client("10.0.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	if !g.crowded() {
		t.Fatal("nobody must prove an address")
	}
	cancels[0]()
	for g.crowded() { // its end is noticed on another goroutine
		runtime.Gosched()
	}
	for _, cancel := range cancels {
		cancel()
	}
}

// Who has an address of IPv6 has the 2^64 beside it.
func TestANetworkCountsAsOneAddress(t *testing.T) {
	g := newGate(100, 2, 1<<40, func(string) {}, slog.New(slog.DiscardHandler))
	for i, c := range []struct {
		ip   string
		fits bool
	}{{"2001:db8::1", true}, {"2001:db8::2:0:0:1", true}, {"2001:db8::3", false}, {"2001:db8:0:1::1", true}, {"10.0.0.1", true}, {"::ffff:10.0.0.1", true}, {"10.0.0.1", false}} {
		if _, err := g.enter(t.Context(), client(c.ip)); (err == nil) != c.fits {
			t.Errorf("%d, %s: %v", i, c.ip, err)
		}
	}
}

// suspicious suspects one address.
type suspicious string

func (suspicious) Arrive(net.Addr, bool) (time.Duration, bool) { return 0, true }
func (s suspicious) Suspects(remote net.Addr) bool             { return kafka.AddressOf(remote) == string(s) }

// A first packet says where its client is, and nobody knows whether that is so: strangers
// could use up the rate of another's address.
func TestSuspectedAddressesAreProved(t *testing.T) {
	g := newGate(10, 10, 1<<40, func(string) {}, slog.New(slog.DiscardHandler))
	g.arrivals = suspicious("10.0.0.1")
	if !g.suspects(client("10.0.0.1").RemoteAddr) {
		t.Error("a suspected address need not be proved")
	}
	if g.suspects(client("10.0.0.2").RemoteAddr) {
		t.Error("another has to be")
	}
}

// Limits that are set count for who comes from then on.
func TestLimitsOfTheGateChange(t *testing.T) {
	g := newGate(100, 1, 1<<40, func(string) {}, slog.New(slog.DiscardHandler))
	if !g.admit("a") || g.admit("a") {
		t.Fatal("one from an address may come")
	}
	g.set(2, 2)
	if !g.admit("a") || g.admit("b") {
		t.Error("two in all may come, and both from one address")
	}
}

// TestWhichStrangersEnd judges strangers by when they came and what they have sent.
func TestWhichStrangersEnd(t *testing.T) {
	now := time.Now()
	conns := make([]*quic.Conn, 100)
	for i := range conns {
		conns[i] = new(quic.Conn)
	}
	came := func(ago time.Duration, bytes uint64, conns ...*quic.Conn) (all []stranger) {
		for _, c := range conns {
			all = append(all, stranger{c, now.Add(-ago), func() uint64 { return bytes }})
		}
		return all
	}
	for name, is := range map[string]struct {
		all  []stranger
		want []*quic.Conn
	}{
		"who has little time left":         {came(strangerTime-1, 100, conns[:9]...), nil},
		"who has none":                     {append(came(strangerTime, 100, conns[0]), came(1, 100, conns[1])...), conns[:1]},
		"who sends as much as one may":     {came(1, strangerBytes, conns[0]), nil},
		"who sends more":                   {append(came(1, strangerBytes+1, conns[0]), came(1, 100, conns[1])...), conns[:1]},
		"many, who send what they need":    {came(1, strangerNeeds, conns...), nil},
		"all together, of whom most sends": {append(came(1, strangersBytes/90+strangerNeeds, conns[1:91]...), came(1, strangerBytes, conns[0])...), conns[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tooMuch(is.all, now); !slices.Equal(got, is.want) {
				t.Errorf("%d end, want %d", len(got), len(is.want))
			}
		})
	}
}
