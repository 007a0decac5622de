package quic_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/kafka"
	"rustmq.dev/rustmq/transport/quic"
)

// held keeps requests until the test answers them.
type held struct {
	arrived chan *kafka.Request
	closed  chan struct{}
}

func newHeld() held {
	return held{make(chan *kafka.Request, 1000), make(chan struct{}, 1000)}
}

func (h held) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 12, Max: 4}} }
func (h held) ConnClosed(*kafka.Conn)       { h.closed <- struct{}{} }
func (h held) Serve(r *kafka.Request)       { h.arrived <- r }

// rig is a listener, and clients that speak QUIC to it without our dialer.
type rig struct {
	addr     net.Addr
	server   *kafka.Server
	client   *quicgo.Transport
	trust    *tls.Config
	listener *quic.Listener
}

func newRig(t *testing.T, handler kafka.Handler, o quic.Options) rig {
	t.Helper()
	dir := t.TempDir()
	cert, err := pki.Development(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pki.ClientConfig(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	trust.NextProtos, trust.ServerName = []string{"kafka"}, "localhost"
	if o.Conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	o.Server = kafka.New(kafka.Options{Handler: handler})
	l, err := quic.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := rig{l.Addr(), o.Server, &quicgo.Transport{Conn: socket}, trust, l}
	t.Cleanup(func() {
		for _, err := range []error{o.Server.Close(), l.Close(), r.client.Close(), socket.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

func (r rig) dial(ctx context.Context) (*quicgo.Conn, error) {
	return r.client.Dial(ctx, r.addr, r.trust, &quicgo.Config{HandshakeIdleTimeout: 30 * time.Second})
}

func (r rig) mustDial(t *testing.T) *quicgo.Conn {
	t.Helper()
	conn, err := r.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") }) // may have ended
	return conn
}

func open(t *testing.T, conn *quicgo.Conn) *quicgo.Stream {
	t.Helper()
	stream, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func heartbeatFrame(correlation uint32) []byte {
	body := kmsg.NewPtrHeartbeatRequest().AppendTo(nil)
	b := binary.BigEndian.AppendUint32(nil, uint32(10+len(body)))
	b = append(b, 0, 12, 0, 0)
	b = binary.BigEndian.AppendUint32(b, correlation)
	return append(append(b, 255, 255), body...)
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestEndOfAStreamIsNotTheEndOfItsAnswers half-closes a stream (FIN): what it
// asked is answered, and then it ends in order.
func TestEndOfAStreamIsNotTheEndOfItsAnswers(t *testing.T) {
	h := newHeld()
	stream := open(t, newRig(t, h, quic.Options{}).mustDial(t))
	write(t, stream, heartbeatFrame(1))
	write(t, stream, heartbeatFrame(2))
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		(<-h.arrived).Respond(kmsg.NewPtrHeartbeatResponse())
	}
	got, err := io.ReadAll(stream)
	if err != nil || len(got) != 2*10 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	<-h.closed
}

// TestStreamThatWantsNoAnswersEnds half-closes a stream and refuses answers
// (STOP_SENDING): nothing waits for its requests.
func TestStreamThatWantsNoAnswersEnds(t *testing.T) {
	h := newHeld()
	stream := open(t, newRig(t, h, quic.Options{}).mustDial(t))
	write(t, stream, heartbeatFrame(1))
	r := <-h.arrived
	ctx := r.Context()
	stream.CancelRead(0)
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	<-h.closed
	r.Drop()
}

func TestResetStreamEndsAlone(t *testing.T) {
	h := newHeld()
	conn := newRig(t, h, quic.Options{}).mustDial(t)
	bad, good := open(t, conn), open(t, conn)
	write(t, bad, heartbeatFrame(1))
	write(t, good, heartbeatFrame(2))
	first, second := <-h.arrived, <-h.arrived
	if first.CorrelationID == 2 {
		first, second = second, first
	}
	ctx := first.Context()
	bad.CancelWrite(7)
	<-ctx.Done()
	first.Drop()
	second.Respond(kmsg.NewPtrHeartbeatResponse())
	if _, err := io.ReadFull(good, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

// TestConnectionThatEndsEndsItsStreams cancels what its requests wait for.
func TestConnectionThatEndsEndsItsStreams(t *testing.T) {
	h := newHeld()
	conn := newRig(t, h, quic.Options{}).mustDial(t)
	for range 3 {
		write(t, open(t, conn), heartbeatFrame(1))
	}
	waiting := []*kafka.Request{<-h.arrived, <-h.arrived, <-h.arrived}
	var ends []context.Context
	for _, r := range waiting {
		ends = append(ends, r.Context())
	}
	if err := conn.CloseWithError(0, ""); err != nil {
		t.Fatal(err)
	}
	for i, ctx := range ends {
		<-ctx.Done()
		<-h.closed
		waiting[i].Respond(kmsg.NewPtrHeartbeatResponse())
	}
}

// TestResetStreamsDoNotPileUp opens and resets streams in a loop. A stream
// counts until its requests have ended, so that no more of them exist at once
// than the client was granted.
func TestResetStreamsDoNotPileUp(t *testing.T) {
	const most = 5
	h := newHeld()
	blocked := blockedHandler{h, make(chan struct{})}
	conn := newRig(t, blocked, quic.Options{MaxStreams: most}).mustDial(t)
	for range most {
		stream := open(t, conn)
		write(t, stream, heartbeatFrame(1))
		<-h.arrived // and its goroutine does not come back
		stream.CancelRead(0)
		stream.CancelWrite(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := conn.OpenStreamSync(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another stream was granted while %d are served: %v", most, err)
	}
	close(blocked.release)
	write(t, open(t, conn), heartbeatFrame(1))
	(<-h.arrived).Drop()
}

type blockedHandler struct {
	held
	release chan struct{}
}

func (b blockedHandler) Serve(r *kafka.Request) {
	b.held.Serve(r)
	<-b.release
}

func TestConnectionsAreCountedFromTheirFirstPacket(t *testing.T) {
	r := newRig(t, newHeld(), quic.Options{MaxConns: 3, PerIP: 2})
	first := r.mustDial(t)
	r.mustDial(t)
	var refused *quicgo.TransportError
	if _, err := r.dial(t.Context()); !errors.As(err, &refused) || refused.ErrorCode != quicgo.ConnectionRefused {
		t.Fatalf("a third connection of one address: %v", err)
	}
	if err := first.CloseWithError(0, ""); err != nil {
		t.Fatal(err)
	}
	for { // the server learns of it by a packet
		conn, err := r.dial(t.Context())
		if err == nil {
			_ = conn.CloseWithError(0, "")
			return
		}
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
}

// Who comes by another port of the same process counts as who comes by the first.
func TestListenersShareLimits(t *testing.T) {
	r := newRig(t, newHeld(), quic.Options{MaxConns: 3, PerIP: 2})
	beside := newRig(t, newHeld(), quic.Options{MaxConns: 100, Beside: r.listener})
	r.mustDial(t)
	beside.mustDial(t)
	var refused *quicgo.TransportError
	if _, err := beside.dial(t.Context()); !errors.As(err, &refused) || refused.ErrorCode != quicgo.ConnectionRefused {
		t.Fatalf("a third connection of one address, to the other port: %v", err)
	}
}

// TestConnectionsFitTheirMemory has room for the first windows of two.
func TestConnectionsFitTheirMemory(t *testing.T) {
	h := newHeld()
	r := newRig(t, h, quic.Options{WindowMemory: 1 << 20})
	known(t, h, r.mustDial(t))
	known(t, h, r.mustDial(t))
	var refused *quicgo.TransportError
	if _, err := r.dial(t.Context()); !errors.As(err, &refused) || refused.ErrorCode != quicgo.ConnectionRefused {
		t.Fatalf("a third connection: %v", err)
	}
}

func TestOtherProtocolsAreRefused(t *testing.T) {
	r := newRig(t, newHeld(), quic.Options{})
	r.trust.NextProtos = []string{"h3"}
	if _, err := r.dial(t.Context()); err == nil {
		t.Fatal("a client of HTTP/3 was let in")
	}
}

func TestUnidirectionalStreamsAreNotGranted(t *testing.T) {
	conn := newRig(t, newHeld(), quic.Options{}).mustDial(t)
	if _, err := conn.OpenUniStream(); err == nil {
		t.Fatal("a unidirectional stream was granted")
	}
}

// TestGarbageIsIgnored sends packets that are no QUIC, and some that begin like
// it, while a connection goes on.
func TestGarbageIsIgnored(t *testing.T) {
	h := newHeld()
	r := newRig(t, h, quic.Options{})
	stream := open(t, r.mustDial(t))
	noise, err := net.Dial("udp", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	for size := range 300 {
		packet := make([]byte, size*4)
		for i := range packet {
			packet[i] = byte(i * size)
		}
		if size%2 == 0 && size > 0 {
			packet[0] |= 0xc0 // a long header
			copy(packet[1:], []byte{0, 0, 0, 1})
		}
		write(t, noise, packet)
	}
	write(t, stream, heartbeatFrame(1))
	(<-h.arrived).Respond(kmsg.NewPtrHeartbeatResponse())
	if _, err := io.ReadFull(stream, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadAnswersStopTheirStreamOnly asks on one stream and does not read.
func TestUnreadAnswersStopTheirStreamOnly(t *testing.T) {
	h := answering{make([]byte, 1<<20)}
	conn := newRig(t, h, quic.Options{}).mustDial(t)
	deaf, good := open(t, conn), open(t, conn)
	for i := range uint32(100) {
		write(t, deaf, heartbeatFrame(i))
	}
	small := make([]byte, 8+1<<20)
	for range 3 {
		write(t, good, heartbeatFrame(1))
		if _, err := io.ReadFull(good, small); err != nil {
			t.Fatal(err)
		}
	}
}

type answering struct{ body []byte }

func (answering) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 12, Max: 4}} }
func (answering) ConnClosed(*kafka.Conn)       {}
func (a answering) Serve(r *kafka.Request)     { r.RespondRaw(net.Buffers{a.body}, nil) }

func TestSmallBuffersAreSaid(t *testing.T) {
	var out strings.Builder
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil))
	newRig(t, newHeld(), quic.Options{Log: log})
	mu.Lock()
	defer mu.Unlock()
	// What the kernel gives here is not ours to say; a warning says it all.
	if s := out.String(); s != "" && !strings.Contains(s, "net.core.rmem_max") {
		t.Errorf("logged %q", s)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// arrivals lets so many connections come; suspected are those of whom nobody has proved
// that they are there.
type arrivals struct {
	left      atomic.Int64
	suspected atomic.Bool
}

func (a *arrivals) Arrive(net.Addr, bool) (time.Duration, bool) { return 0, a.left.Add(-1) >= 0 }
func (a *arrivals) Suspects(net.Addr) bool                      { return a.suspected.Load() }

// What comes faster than it may is refused before its handshake, and its streams do not
// count.
func TestConnectionsThatComeTooFastAreRefused(t *testing.T) {
	var a arrivals
	a.left.Store(2)
	reasons := make(chan string, 10)
	r := newRig(t, newHeld(), quic.Options{Arrivals: &a, Count: func(reason string) { reasons <- reason }})
	conn := r.mustDial(t)
	for range 5 {
		open(t, conn)
	}
	r.mustDial(t)
	var refused *quicgo.TransportError
	if _, err := r.dial(t.Context()); !errors.As(err, &refused) || refused.ErrorCode != quicgo.ConnectionRefused {
		t.Fatalf("a third connection: %v", err)
	}
	if reason := <-reasons; reason != "connection_creation_rate" {
		t.Errorf("it is counted as %s", reason)
	}
}

// Who only says that it is at an address whose share is half used proves it first, and is
// counted once.
func TestSuspectedClientsComeIn(t *testing.T) {
	var a arrivals
	a.left.Store(2)
	a.suspected.Store(true)
	r := newRig(t, newHeld(), quic.Options{Arrivals: &a})
	r.mustDial(t)
	r.mustDial(t)
	if left := a.left.Load(); left != 0 {
		t.Errorf("%d left of two, after two", left)
	}
}
