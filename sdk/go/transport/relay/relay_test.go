package relay

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers over both transports on one port.
func echo(t *testing.T) string {
	t.Helper()
	var l net.Listener
	var u *net.UDPConn
	for u == nil { // the port that TCP is given may be another's over UDP
		var err error
		l, err = net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		if u, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
			must(t, l.Close())
		}
	}
	t.Cleanup(func() { _ = l.Close(); _ = u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := u.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	return l.Addr().String()
}

func start(t *testing.T, o Options) *Relay {
	t.Helper()
	o.To = echo(t)
	r, err := Listen(o)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func dial(t *testing.T, network string, r *Relay) net.Conn {
	t.Helper()
	c, err := net.Dial(network, r.Addr())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// trip sends and awaits the echo.
func trip(t *testing.T, c net.Conn, bytes int) time.Duration {
	t.Helper()
	began := time.Now()
	go func() { _, _ = c.Write(make([]byte, bytes)) }()
	_, err := io.ReadFull(c, make([]byte, bytes))
	must(t, err)
	return time.Since(began)
}

// TestTheWayIsAsLongAsItSays has lower bounds alone: a busy machine only adds to them.
func TestTheWayIsAsLongAsItSays(t *testing.T) {
	r := start(t, Options{Delay: 20 * time.Millisecond})
	over := dial(t, "tcp", r)
	if took := trip(t, over, 100); took < 80*time.Millisecond {
		t.Errorf("a handshake and a trip over TCP took %v", took)
	}
	if took := trip(t, over, 100); took < 40*time.Millisecond {
		t.Errorf("a trip over TCP took %v", took)
	}
	if took := trip(t, dial(t, "udp", r), 100); took < 40*time.Millisecond {
		t.Errorf("a trip over UDP took %v", took)
	}
}

func TestTheLineIsAsNarrowAsItSays(t *testing.T) {
	r := start(t, Options{Rate: 1 << 20})
	if took := trip(t, dial(t, "tcp", r), 512<<10); took < 400*time.Millisecond {
		t.Errorf("half a second of bytes took %v", took)
	}
}

func TestSoManyPacketsAreLost(t *testing.T) {
	l := newLine(Options{Loss: 0.1, Delay: time.Millisecond, Seed: 7}, 1)
	again := newLine(Options{Loss: 0.1, Delay: time.Millisecond, Seed: 7}, 1)
	lost, late, now := 0, 0, time.Unix(0, 0)
	for range 10_000 {
		_, arrives := l.datagram(now, 1200)
		if _, same := again.datagram(now, 1200); same != arrives {
			t.Fatal("one seed loses other packets")
		}
		if !arrives {
			lost++
		}
		if due, _ := l.stretch(now, segment); due.Sub(now) > time.Millisecond {
			late++
		}
		_, _ = again.stretch(now, segment)
	}
	if lost < 800 || lost > 1200 || late < 800 || late > 1200 {
		t.Errorf("%d datagrams were lost and %d segments late, of 10,000 each", lost, late)
	}
}

func TestAFullQueueDropsDatagramsAndHoldsStreamsBack(t *testing.T) {
	l := newLine(Options{Rate: 1000}, 1)
	now := time.Unix(0, 0)
	if _, arrives := l.datagram(now, 100); !arrives {
		t.Error("an empty queue drops")
	}
	if _, arrives := l.datagram(now, 100); arrives {
		t.Error("a full queue drops nothing")
	}
	if _, wait := l.stretch(now, 100); wait != 150*time.Millisecond {
		t.Errorf("a stream is held back for %v", wait)
	}
}

func TestUDPIsBlockedAndComesBack(t *testing.T) {
	r := start(t, Options{})
	c := dial(t, "udp", r)
	trip(t, c, 10)
	r.BlockUDP(true)
	_, err := c.Write(make([]byte, 10))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := c.Read(make([]byte, 10)); err == nil {
		t.Error("answered while it is blocked")
	}
	r.BlockUDP(false)
	must(t, r.Rebind())
	must(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	trip(t, c, 10)
}

func TestTCPIsCut(t *testing.T) {
	r := start(t, Options{})
	c := dial(t, "tcp", r)
	trip(t, c, 10)
	r.BlockTCP(true)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("not cut")
	}
	r.BlockTCP(false)
	trip(t, dial(t, "tcp", r), 10)
}
