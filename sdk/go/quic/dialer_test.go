package quic_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
)

// authority signs the certificates of the tests' brokers.
type authority struct {
	cert tls.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, x509.NewCertPool()}
	a.pool.AddCert(leaf)
	return a
}

// echoBroker sends back what it is sent.
type echoBroker struct {
	addr      *net.UDPAddr
	transport *quic.Transport
	wait      sync.WaitGroup
	stop      context.CancelFunc

	mu    sync.Mutex
	conns []*quic.Conn
}

// serveEcho starts a broker; on "127.0.0.1:0" or the address of one before it.
func serveEcho(t *testing.T, a authority, at *net.UDPAddr, reset *quic.StatelessResetKey) *echoBroker {
	t.Helper()
	if at == nil {
		at = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	}
	socket, err := net.ListenUDP("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	return serveEchoOn(t, a, socket, reset)
}

// serveEchoOn starts a broker on a socket that is there, and closes it in the end.
func serveEchoOn(t *testing.T, a authority, socket *net.UDPConn, reset *quic.StatelessResetKey) *echoBroker {
	t.Helper()
	b := &echoBroker{addr: socket.LocalAddr().(*net.UDPAddr), transport: &quic.Transport{Conn: socket, StatelessResetKey: reset}}
	l, err := b.transport.ListenEarly(
		&tls.Config{Certificates: []tls.Certificate{a.cert}, NextProtos: []string{sdkquic.ALPN}, MinVersion: tls.VersionTLS13},
		&quic.Config{Allow0RTT: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.wait.Go(func() {
		for {
			conn, err := l.Accept(ctx)
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			b.wait.Go(func() {
				for {
					stream, err := conn.AcceptStream(ctx)
					if err != nil {
						return
					}
					b.wait.Go(func() {
						_, _ = io.Copy(stream, stream) // until the client is gone
						_ = stream.Close()
					})
				}
			})
		}
	})
	t.Cleanup(b.close)
	return b
}

// close ends the broker without a word to its clients, as SIGKILL does.
func (b *echoBroker) close() {
	b.stop()
	_ = b.transport.Close()
	_ = b.transport.Conn.Close()
	b.wait.Wait()
}

func (b *echoBroker) accepted() []*quic.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*quic.Conn(nil), b.conns...)
}

func newDialer(t *testing.T, a authority) *sdkquic.Dialer {
	t.Helper()
	d := &sdkquic.Dialer{TLS: &tls.Config{RootCAs: a.pool}}
	t.Cleanup(func() {
		if err := d.Close(); err != nil && !errors.Is(err, sdkquic.ErrClosed) {
			t.Error(err)
		}
	})
	return d
}

func echo(t *testing.T, conn net.Conn, message string) {
	t.Helper()
	if _, err := conn.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != message {
		t.Fatalf("got %q, want %q", got, message)
	}
}

func dial(t *testing.T, d *sdkquic.Dialer, addr string) net.Conn {
	t.Helper()
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestStreamsShareOneConnection(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := newDialer(t, a)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			conn, err := d.DialContext(t.Context(), "tcp", b.addr.String())
			if err != nil {
				t.Error(err)
				return
			}
			echo(t, conn, "hello")
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(b.accepted()); n != 1 {
		t.Fatalf("%d connections for 20 streams", n)
	}
}

func TestClosedPortIsRefusedAtOnce(t *testing.T) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.LocalAddr().String()
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	d := newDialer(t, newAuthority(t))
	began := time.Now()
	_, err = d.DialContext(t.Context(), "tcp", addr)
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &op) || op.Op != "dial" {
		t.Fatalf("want a dial error that says refused, got %v", err)
	}
	if took := time.Since(began); took > 8*time.Second { // less than a handshake may take
		t.Fatalf("took %v", took)
	}
}

func TestUntrustedBrokerIsRefused(t *testing.T) {
	b := serveEcho(t, newAuthority(t), nil, nil)
	d := newDialer(t, newAuthority(t))
	var unknown x509.UnknownAuthorityError
	if _, err := d.DialContext(t.Context(), "tcp", b.addr.String()); !errors.As(err, &unknown) {
		t.Fatalf("want an unknown authority, got %v", err)
	}
}

func TestCallerThatGivesUpLeavesTheDialToOthers(t *testing.T) {
	a := newAuthority(t)
	// A socket that answers nothing: the dial goes on until the broker is there.
	mute, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := mute.LocalAddr().(*net.UDPAddr)
	d := newDialer(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := d.DialContext(ctx, "tcp", addr.String())
		gaveUp <- err
	}()
	if _, _, err := mute.ReadFrom(make([]byte, 2000)); err != nil { // it dials
		t.Fatal(err)
	}
	dialled := make(chan net.Conn, 1)
	go func() {
		conn, err := d.DialContext(t.Context(), "tcp", addr.String())
		if err != nil {
			t.Error(err)
		}
		dialled <- conn
	}()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Fatalf("want canceled, got %v", err)
	}
	serveEchoOn(t, a, mute, nil)
	conn := <-dialled
	if conn == nil {
		t.FailNow()
	}
	echo(t, conn, "hello")
}

// resumable is a dialer that has met the broker and holds a ticket for it.
func resumable(t *testing.T, a authority, b *echoBroker) *tls.Config {
	t.Helper()
	stored := make(chan struct{}, 10)
	conf := &tls.Config{RootCAs: a.pool, ClientSessionCache: &toldCache{ClientSessionCache: tls.NewLRUClientSessionCache(10), stored: stored}}
	d := &sdkquic.Dialer{TLS: conf}
	conn := dial(t, d, b.addr.String())
	echo(t, conn, "first")
	<-stored
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return conf
}

type toldCache struct {
	tls.ClientSessionCache
	stored chan struct{}
}

func (c *toldCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		c.stored <- struct{}{}
	}
}

func TestKnownBrokerIsSentTheFirstRequestEarly(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := &sdkquic.Dialer{TLS: resumable(t, a, b)}
	t.Cleanup(func() { _ = d.Close() })
	echo(t, dial(t, d, b.addr.String()), "early")
	conns := b.accepted()
	if last := conns[len(conns)-1]; !last.ConnectionState().Used0RTT {
		t.Fatal("0-RTT was not used")
	}
}

// TestRefusedEarlyDataIsSentAgain resumes at a broker that has started anew and
// cannot read the ticket: nothing that was written is lost or sent twice.
func TestRefusedEarlyDataIsSentAgain(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	conf := resumable(t, a, b)
	b.close()
	anew := serveEcho(t, a, b.addr, nil)
	for range 3 {
		d := &sdkquic.Dialer{TLS: conf}
		first := dial(t, d, b.addr.String())
		second := dial(t, d, b.addr.String())
		echo(t, first, "early")
		echo(t, second, "too")
		echo(t, first, "and on")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if anew.accepted()[0].ConnectionState().Used0RTT {
			t.Fatal("the broker took 0-RTT with a ticket that it cannot know")
		}
	}
}

func TestMuchEarlyDataWaitsForTheHandshake(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	conf := resumable(t, a, b)
	b.close()
	serveEcho(t, a, b.addr, nil)
	d := &sdkquic.Dialer{TLS: conf}
	t.Cleanup(func() { _ = d.Close() })
	conn := dial(t, d, b.addr.String())
	large := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // 320 kB
	parts := [][]byte{large[:1000], large[1000:200_000], large[200_000:]}
	sent := make(chan error, len(parts))
	go func() {
		for _, part := range parts {
			_, err := conn.Write(part)
			sent <- err
		}
	}()
	got := make([]byte, len(large))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	for range parts {
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, large) {
		t.Fatal("what came back is not what was sent")
	}
}

// TestRestartedBrokerIsDialledAnew kills a broker under an open stream. The one
// that starts in its place resets the connection, which the next dial replaces.
func TestRestartedBrokerIsDialledAnew(t *testing.T) {
	a := newAuthority(t)
	reset := &quic.StatelessResetKey{1}
	b := serveEcho(t, a, nil, reset)
	d := newDialer(t, a)
	old := dial(t, d, b.addr.String())
	echo(t, old, "hello")
	b.close()
	serveEcho(t, a, b.addr, reset)
	if _, err := old.Write([]byte("are you there")); err != nil {
		t.Fatal(err)
	}
	if err := old.SetReadDeadline(time.Now().Add(12 * time.Second)); err != nil { // below the idle time
		t.Fatal(err)
	}
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("want a closed connection, got %v", err)
	}
	echo(t, dial(t, d, b.addr.String()), "hello again")
}

func TestStreamKeepsDeadlinesAndEndsOnClose(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := newDialer(t, a)
	conn := dial(t, d, b.addr.String())
	if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("want a time-out, got %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	echo(t, conn, "hello")
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("want closed, got %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("want closed, got %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestClosedDialerDialsNoMore(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := newDialer(t, a)
	conn := dial(t, d, b.addr.String())
	echo(t, conn, "hello")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("want closed, got %v", err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", b.addr.String()); !errors.Is(err, sdkquic.ErrClosed) {
		t.Fatalf("want ErrClosed, got %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDroppedConnectionIsClosedToItsStreams(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := newDialer(t, a)
	d.Drop(b.addr.String()) // there is none
	conn := dial(t, d, b.addr.String())
	echo(t, conn, "hello")
	if s, ok := d.Stats(b.addr.String()); !ok || !s.Handshaken || s.Streams != 1 || s.MinRTT == 0 || s.Sent == 0 || s.Received == 0 {
		t.Errorf("%+v, %v", s, ok)
	}
	d.CloseIdle() // it is not idle
	echo(t, conn, "still there")
	d.Drop(b.addr.String())
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("want closed, got %v", err)
	}
	if _, ok := d.Stats(b.addr.String()); ok {
		t.Error("there is still a connection")
	}
	echo(t, dial(t, d, b.addr.String()), "hello again")
}

// TestStreamsMigrate moves more often than sockets are kept: then connections end instead.
func TestStreamsMigrate(t *testing.T) {
	a := newAuthority(t)
	b := serveEcho(t, a, nil, nil)
	d := newDialer(t, a)
	if err := d.Migrate(t.Context()); err != nil { // nobody has dialled
		t.Fatal(err)
	}
	conn := dial(t, d, b.addr.String())
	echo(t, conn, "hello")
	for range 8 {
		if err := d.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		echo(t, conn, "hello from elsewhere")
	}
	if n := len(b.accepted()); n != 1 {
		t.Errorf("%d connections", n)
	}
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("want closed, got %v", err)
	}
	echo(t, dial(t, d, b.addr.String()), "hello anew")
}
