package quic_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker answers Metadata, and says of every request whether it was early.
type broker struct{ early chan bool }

func (b broker) Versions() []kafka.ApiVersion {
	return []kafka.ApiVersion{{Key: 3, Min: 0, Max: 13}, {Key: 12, Min: 0, Max: 4}}
}

func (b broker) ConnClosed(*kafka.Conn) {}

func (b broker) Serve(r *kafka.Request) {
	req, err := r.Decode()
	if err != nil {
		r.Close(err)
		return
	}
	if r.Key == int16(kmsg.Heartbeat) {
		b.early <- r.Conn.EarlyData()
	}
	r.Respond(req.ResponseKind())
}

func start(t *testing.T, b broker) (addr string, trust *tls.Config) {
	t.Helper()
	return startWith(t, kafka.Options{Handler: b})
}

func startWith(t *testing.T, o kafka.Options) (addr string, trust *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	cert, err := pki.Development(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := kafka.New(o)
	l, err := quic.Listen(quic.Options{
		Conn: conn, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Server: server,
		Name: "quic", IdleTimeout: time.Minute, MaxStreams: 100, ZeroRTT: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	trust, err = pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), trust
}

func dialer(t *testing.T, trust *tls.Config) *sdkquic.Dialer {
	t.Helper()
	d := &sdkquic.Dialer{TLS: trust}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestFranzGoTalksOverQUIC(t *testing.T) {
	addr, trust := start(t, broker{})
	d := dialer(t, trust)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.Dialer(d.DialContext))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestServerWithAnotherCAIsRefused(t *testing.T) {
	addr, _ := start(t, broker{})
	_, other := start(t, broker{})
	d := dialer(t, other)
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		// 0-RTT dials return before the handshake has ended.
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		t.Fatal("a server was trusted whose CA is not")
	}
}

func heartbeat(t *testing.T, conn net.Conn) {
	t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	body := req.AppendTo(nil)
	frame := binary.BigEndian.AppendUint32(nil, uint32(10+len(body)))
	frame = append(frame, 0, 12, 0, 0, 0, 0, 0, 1, 255, 255)
	if _, err := conn.Write(append(frame, body...)); err != nil {
		t.Fatal(err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, binary.BigEndian.Uint32(head[:]))); err != nil {
		t.Fatal(err)
	}
}

// TestEarlyRequestsAreHeldUntilTheHandshake sends a request that is not safe to
// replay in 0-RTT, until it has arrived early a few times: each time it is
// served, but not before the handshake is complete.
func TestEarlyRequestsAreHeldUntilTheHandshake(t *testing.T) {
	b := broker{early: make(chan bool, 10)}
	var arrivedEarly atomic.Int32
	addr, trust := startWith(t, kafka.Options{Handler: b, EarlyOK: func(r *kafka.Request) bool {
		arrivedEarly.Add(1) // asked only then
		return r.Key == int16(kmsg.Metadata)
	}})
	trust.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for arrivedEarly.Load() < 3 {
		d := &sdkquic.Dialer{TLS: trust}
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		heartbeat(t, conn)
		if <-b.early {
			t.Fatal("a request that changes something was served in 0-RTT")
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientGoesOnAfterARestart pings a server, ends it without a word to its
// clients, and pings the one in its place.
func TestClientGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	serve := func() (end func()) {
		t.Helper()
		keeper, err := pki.Keep(func() (tls.Certificate, error) { return pki.Development(dir, nil, time.Now()) })
		if err != nil {
			t.Fatal(err)
		}
		socket, err := net.ListenUDP("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		at = socket.LocalAddr().(*net.UDPAddr)
		server := kafka.New(kafka.Options{Handler: broker{}})
		l, err := quic.Listen(quic.Options{Conn: socket, TLS: keeper.ServerConfig(tls.VersionTLS13), Server: server, ZeroRTT: true})
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			socket.Close() // nothing can be sent any more
			_ = server.Close()
			_ = l.Close() // its socket is gone
		}
	}
	end := serve()
	trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	d := dialer(t, trust)
	cl, err := kgo.NewClient(kgo.SeedBrokers(at.String()), kgo.Dialer(d.DialContext))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	end()
	end = serve()
	defer end()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second) // below the idle time of a connection
	defer cancel()
	for err = cl.Ping(ctx); err != nil; err = cl.Ping(ctx) {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestStreamsOfOneConnectionAreIndependent(t *testing.T) {
	b := broker{early: make(chan bool, 10)}
	addr, trust := start(t, b)
	d := dialer(t, trust)
	stalled, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	if _, err := stalled.Write([]byte{0, 0, 1}); err != nil { // half a length, and no more
		t.Fatal(err)
	}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	heartbeat(t, conn)
	if stalled.RemoteAddr().String() != conn.RemoteAddr().String() || stalled.LocalAddr() != conn.LocalAddr() {
		t.Fatal("two streams to one broker use two connections")
	}
}
