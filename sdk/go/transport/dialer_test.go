package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"rustmq.dev/rustmq/sdk/go/transport/relay"
)

// faster is how much faster than the machine's the clock is by which things are decided.
const faster = 50

// hurried has an option's clock run faster.
func hurried(o Options) Options {
	began := time.Now()
	o.now = func() time.Time { return began.Add(faster * time.Since(began)) }
	o.tick = tick / faster
	return o
}

func newDialer(t *testing.T, o Options) *Dialer {
	t.Helper()
	d := New(o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return d
}

func way(t *testing.T, o relay.Options) *relay.Relay {
	t.Helper()
	r, err := relay.Listen(o)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func dial(t *testing.T, d *Dialer, addr string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := d.Dial(ctx, "tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialOverQUIC dials a far broker as one of which nothing is known: anew where TCP was sooner, as
// on a busy machine it may be.
func dialOverQUIC(t *testing.T, o Options, addr string) (d *Dialer, c net.Conn) {
	t.Helper()
	until(t, "a far broker is dialled over QUIC", func() bool {
		d = newDialer(t, o)
		c = dial(t, d, addr)
		if via(c) == QUIC {
			return true
		}
		must(t, d.Close())
		return false
	})
	return d, c
}

// newPool is a pool of its own.
func newPool(a *authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// ask has a message echoed.
func ask(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(message(10)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 14))
	return err
}

// closeAll ends what a dialer has open.
func closeAll(d *Dialer) {
	d.mu.Lock()
	open := d.open(func(*conn) bool { return true })
	d.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	d.CloseIdle()
}

// via is what a connection that was dialled goes over.
func via(c net.Conn) Mode { return c.(*conn).via }

func link(t *testing.T, d *Dialer, addr string) Link {
	t.Helper()
	for _, l := range d.Stats() {
		if l.Broker == addr {
			return l
		}
	}
	t.Fatalf("nothing is known of %s", addr)
	return Link{}
}

// until polls, for as long as the slowest machine may need.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("not in half a minute: %s", what)
		case <-ticker.C:
		}
	}
}

func TestAutoUsesWhatTheWayIsGoodFor(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 20 * time.Millisecond})
	d, far := dialOverQUIC(t, hurried(Options{TLS: a.trust()}), r.Addr())
	must(t, ask(far))
	if l := link(t, d, r.Addr()); via(far) != QUIC || l.Using != QUIC || l.RTT < 40*time.Millisecond || l.QUIC != 1 {
		t.Errorf("a far broker is dialled over %v: %+v", via(far), l)
	}
	until(t, "a near broker is dialled over TCP", func() bool { // on a busy machine a first guess may be another
		near := dial(t, d, b.addr)
		must(t, ask(near))
		must(t, near.Close())
		return via(near) == TCP && link(t, d, b.addr).Using == TCP
	})
}

func TestWhatIsDemandedIsUsed(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	for mode, addr := range map[Mode]string{QUIC: b.addr, TCP: r.Addr()} {
		d := newDialer(t, Options{Mode: mode, TLS: a.trust()})
		c := dial(t, d, addr)
		must(t, ask(c))
		if l := link(t, d, addr); via(c) != mode || l.Using != mode || l.RTT == 0 {
			t.Errorf("%v was demanded: %+v", mode, l)
		}
	}
	r.BlockUDP(true)
	d := newDialer(t, Options{Mode: QUIC, TLS: a.trust()})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(ctx, "tcp", r.Addr()); err == nil {
		t.Error("QUIC was demanded, and UDP is blocked")
	}
}

func TestInTheClearIsTCPAlone(t *testing.T) {
	b := serve(t, newAuthority(t), brokerOptions{clear: true})
	d := newDialer(t, Options{})
	c := dial(t, d, b.addr)
	must(t, ask(c))
	if via(c) != TCP || link(t, d, b.addr).Using != TCP {
		t.Errorf("%v", via(c))
	}
	var op *net.OpError
	if _, err := newDialer(t, Options{Mode: QUIC}).Dial(t.Context(), "tcp", b.addr); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("QUIC without TLS: %v", err)
	}
}

// TestTCPMayBeInTheClearBesideQUIC is a broker that has TLS off.
func TestTCPMayBeInTheClearBesideQUIC(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{clear: true})
	d := newDialer(t, Options{TLS: a.trust(), PlainTCP: true})
	must(t, ask(dial(t, d, b.addr)))
	must(t, b.tcp.Close())
	c := dial(t, d, b.addr)
	must(t, ask(c))
	if via(c) != QUIC {
		t.Error("nobody listens on TCP, and it was used")
	}
}

func TestBlockedUDPCostsNothingAfterTheFirstDialAndIsTriedAgain(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	r.BlockUDP(true)
	d := newDialer(t, hurried(Options{TLS: a.trust()}))
	first := dial(t, d, r.Addr())
	must(t, ask(first))
	if via(first) != TCP {
		t.Fatalf("%v", via(first))
	}
	until(t, "UDP is known to be blocked", func() bool { return !link(t, d, r.Addr()).BlockedUntil.IsZero() })
	second := dial(t, d, r.Addr())
	must(t, ask(second))
	if l := link(t, d, r.Addr()); via(second) != TCP || l.Using != TCP || l.Why != whyBlocked {
		t.Errorf("%+v", l)
	}
	r.BlockUDP(false)
	until(t, "QUIC is used again", func() bool { return link(t, d, r.Addr()).Using == QUIC })
	until(t, "a dial takes QUIC", func() bool { // which has a start on TCP that a busy machine may use up
		third := dial(t, d, r.Addr())
		must(t, ask(third))
		return via(third) == QUIC
	})
	until(t, "the connections over TCP have ended", func() bool { return link(t, d, r.Addr()).TCP == 0 })
}

// TestUDPThatVanishesUnderAConnection has an open stream be heard no more: it ends long before
// QUIC's own time-out, and the next dial takes TCP.
func TestUDPThatVanishesUnderAConnection(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	d, c := dialOverQUIC(t, hurried(Options{TLS: a.trust()}), r.Addr())
	must(t, ask(c))
	r.BlockUDP(true)
	if err := ask(c); !errors.Is(err, net.ErrClosed) {
		t.Errorf("an unheard stream: %v", err)
	}
	c = dial(t, d, r.Addr())
	must(t, ask(c))
	if via(c) != TCP {
		t.Errorf("%v", via(c))
	}
}

func TestAKnownBrokerIsAskedInTheFirstPacket(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	d := newDialer(t, Options{TLS: a.trust()})
	must(t, ask(dial(t, d, r.Addr())))
	until(t, "0-RTT is used", func() bool { // a ticket comes a moment after the handshake
		closeAll(d)
		must(t, ask(dial(t, d, r.Addr())))
		return link(t, d, r.Addr()).Early
	})
	// Now nobody hears the first packet.
	closeAll(d)
	r.BlockUDP(true)
	early := dial(t, d, r.Addr())
	if via(early) == QUIC {
		if err := ask(early); !errors.Is(err, net.ErrClosed) {
			t.Errorf("an early stream that nobody hears: %v", err)
		}
	}
	c := dial(t, d, r.Addr())
	must(t, ask(c))
	if via(c) != TCP {
		t.Errorf("%v", via(c))
	}
}

func TestARestartedBrokerWithTicketsOutstanding(t *testing.T) {
	a := newAuthority(t)
	first := serve(t, a, brokerOptions{})
	d := newDialer(t, Options{Mode: QUIC, TLS: a.trust()})
	must(t, ask(dial(t, d, first.addr)))
	first.close()
	anew := serveAt(t, a, first.addr, brokerOptions{})
	until(t, "the broker that has started anew answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := d.Dial(ctx, "tcp", anew.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		return ask(c) == nil
	})
}

// TestReplacedCertificatesAreShown replaces a client's certificate under load: no request fails, and connections
// come to show the new one.
func TestReplacedCertificatesAreShown(t *testing.T) {
	for _, mode := range []Mode{TCP, QUIC} {
		t.Run(mode.String(), func(t *testing.T) {
			a := newAuthority(t)
			b := serve(t, a, brokerOptions{mutual: true})
			dir := t.TempDir()
			old, renewed := a.issue(t, "client"), a.issue(t, "client")
			files := NewFiles(a.write(t, dir, old))
			d := newDialer(t, Options{Mode: mode, Reload: files.Config})
			d.o.tick = 20 * time.Millisecond
			c := dial(t, d, b.addr)
			must(t, ask(c))
			a.write(t, dir, renewed)
			asked, number := 0, renewed.Leaf.SerialNumber.Int64()
			until(t, "the new certificate is shown, and the old connection has ended", func() bool {
				if err := ask(c); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Fatal(err)
					}
					c = dial(t, d, b.addr)
				}
				asked++
				if _, err := d.generation(reloadPause); err != nil {
					t.Fatal(err)
				}
				d.let(d.current)
				b.mu.Lock()
				defer b.mu.Unlock()
				return slices.Contains(b.shown, number)
			})
			if b.shown[0] != old.Leaf.SerialNumber.Int64() {
				t.Errorf("%v were shown", b.shown)
			}
		})
	}
}

func TestCertificatesThatCannotBeReadLeaveThoseBefore(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	var bad atomic.Bool
	conf := a.trust()
	d := newDialer(t, Options{Mode: TCP, Reload: func() (*tls.Config, error) {
		if bad.Load() {
			return nil, errors.New("garbage")
		}
		return conf, nil
	}})
	must(t, ask(dial(t, d, b.addr)))
	bad.Store(true)
	if _, err := d.reload(); err != nil {
		t.Fatal(err)
	}
	d.reloaded = time.Time{}
	must(t, ask(dial(t, d, b.addr)))
	bad.Store(true)
	if _, err := newDialer(t, Options{Reload: d.o.Reload}).Dial(t.Context(), "tcp", b.addr); err == nil {
		t.Error("dialled without certificates")
	}
}

// TestAStreamSurvivesAChangeOfAddress has the machine's address change, as the kernel tells, and a NAT
// forget the client.
func TestAStreamSurvivesAChangeOfAddress(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	o := hurried(Options{TLS: a.trust()})
	var last atomic.Int32
	last.Store(1)
	o.route = func(net.Addr) (netip.Addr, error) {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(last.Load())}), nil
	}
	d, c := dialOverQUIC(t, o, r.Addr())
	must(t, ask(c))
	b.mu.Lock()
	made := b.quics
	b.mu.Unlock()
	until(t, "the address is known", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.brokers[r.Addr()].last.local) == 1
	})
	must(t, r.Rebind())
	must(t, ask(c))
	for range 3 {
		last.Add(1)
		until(t, "the move is noticed", func() bool {
			return link(t, d, r.Addr()).Moves == int(last.Load())-1
		})
		must(t, ask(c))
	}
	if l := link(t, d, r.Addr()); l.Why != whyMoved && l.Using != QUIC {
		t.Errorf("%+v", l)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.quics != made {
		t.Errorf("%d connections, and %d before", b.quics, made)
	}
}

// TestConnectionsOfALostAddressEnd has one over TCP whose address this machine has no more, and one whose
// it still has.
func TestConnectionsOfALostAddressEnd(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	o := hurried(Options{Mode: TCP, TLS: a.trust(), Reload: func() (*tls.Config, error) { return a.trust(), nil }})
	var last atomic.Int32
	o.route = func(net.Addr) (netip.Addr, error) {
		return netip.AddrFrom4([4]byte{127, 0, 0, byte(last.Load() + 1)}), nil
	}
	d := newDialer(t, o)
	kept := dial(t, d, b.addr)
	must(t, ask(kept))
	until(t, "the address is known", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.brokers[b.addr].last.local) == 1
	})
	last.Store(1)
	until(t, "the other is known", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.brokers[b.addr].last.local[netip.MustParseAddr("127.0.0.1")] == netip.MustParseAddr("127.0.0.2")
	})
	must(t, ask(kept)) // 127.0.0.1 is still there
	if has(netip.MustParseAddr("192.0.2.1")) || !has(netip.MustParseAddr("127.0.0.1")) {
		t.Error("this machine's addresses are others")
	}
	end([]*conn{kept.(*conn)}, netip.MustParseAddr("127.0.0.1"))
	if err := ask(kept); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection of a lost address: %v", err)
	}
}

// TestTheSameCertificatesAreNoChange has a Reload that makes a configuration anew each time.
func TestTheSameCertificatesAreNoChange(t *testing.T) {
	a := newAuthority(t)
	own, other := a.issue(t, "client"), a.issue(t, "client")
	with := func(cert tls.Certificate, name string) *tls.Config {
		pool := newPool(a)
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, ServerName: name}
	}
	for _, c := range []struct {
		a, b *tls.Config
		same bool
	}{
		{with(own, ""), with(own, ""), true},
		{with(own, ""), with(other, ""), false},
		{with(own, ""), with(own, "localhost"), false},
		{with(own, ""), &tls.Config{RootCAs: newPool(newAuthority(t)), Certificates: []tls.Certificate{own}}, false},
		{with(own, ""), &tls.Config{Certificates: []tls.Certificate{own}}, false},
		{with(own, ""), &tls.Config{RootCAs: newPool(a)}, false},
		{&tls.Config{}, &tls.Config{}, true},
		{nil, &tls.Config{}, false},
		{nil, nil, true},
	} {
		if got := same(c.a, c.b); got != c.same {
			t.Errorf("%+v and %+v: %v", c.a, c.b, got)
		}
	}
}

func TestStreamsShareOneConnection(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	r := way(t, relay.Options{To: b.addr, Delay: 10 * time.Millisecond})
	d := newDialer(t, Options{TLS: a.trust()})
	for range 10 {
		must(t, ask(dial(t, d, r.Addr())))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.quics != 1 {
		t.Errorf("%d connections for 10 streams", b.quics)
	}
}

func TestNobodyThereIsADialError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	must(t, l.Close())
	for _, mode := range []Mode{Auto, QUIC, TCP} {
		d := newDialer(t, Options{Mode: mode, TLS: newAuthority(t).trust()})
		var op *net.OpError
		if _, err := d.Dial(t.Context(), "tcp", addr); !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("%v: %v", mode, err)
		}
	}
}

func TestAClosedDialerDialsNoMore(t *testing.T) {
	a := newAuthority(t)
	b := serve(t, a, brokerOptions{})
	for _, mode := range []Mode{Auto, QUIC, TCP} {
		d := New(Options{Mode: mode, TLS: a.trust()})
		c := dial(t, d, b.addr)
		must(t, ask(c))
		must(t, d.Close())
		if err := ask(c); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: %v", mode, err)
		}
		if _, err := d.Dial(t.Context(), "tcp", b.addr); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: %v", mode, err)
		}
		if err := d.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: %v", mode, err)
		}
	}
}
