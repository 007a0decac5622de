package roles_test

import (
	"context"
	"crypto/tls"
	"errors"
	"hash/crc32"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

// wiretap is a way to a server over UDP that keeps what a client sends, and can hold back
// what the server says.
type wiretap struct {
	*net.UDPConn // of the client's side
	server       *net.UDPAddr
	wait         sync.WaitGroup

	mu    sync.Mutex
	sent  [][]byte      // guarded by mu
	open  chan struct{} // closed where answers pass; guarded by mu
	up    *net.UDPConn  // of the client that came last; guarded by mu
	whose string        // that client; guarded by mu
}

func newWiretap(t *testing.T, server string) *wiretap {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	must(t, err)
	door, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	w := &wiretap{UDPConn: door, server: to}
	w.hold(false)
	w.wait.Go(w.forward)
	t.Cleanup(func() {
		w.hold(false)
		_ = w.Close() // what reads ends by it
		w.mu.Lock()
		if w.up != nil {
			_ = w.up.Close()
		}
		w.mu.Unlock()
		w.wait.Wait()
	})
	return w
}

// hold holds the server's answers back, or lets them pass. From when it does, what the client
// sends is kept anew.
func (w *wiretap) hold(back bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !back {
		if w.open == nil {
			w.open = make(chan struct{})
		}
		select {
		case <-w.open:
		default:
			close(w.open)
		}
		return
	}
	w.open, w.sent = make(chan struct{}), nil
}

// forward passes a client's datagrams on. Clients come one after the other.
func (w *wiretap) forward() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := w.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		if n == 1 {
			continue // the dialer asks from elsewhere whether a socket is here at all
		}
		w.mu.Lock()
		if w.whose != from.String() {
			if w.up != nil {
				_ = w.up.Close()
			}
			if w.up, err = net.DialUDP("udp", nil, w.server); err != nil {
				w.mu.Unlock()
				return
			}
			w.whose = from.String()
			up := w.up
			w.wait.Go(func() { w.back(up, from) })
		}
		w.sent = append(w.sent, append([]byte(nil), buffer[:n]...))
		up := w.up
		w.mu.Unlock()
		_, _ = up.Write(buffer[:n]) // it is UDP
	}
}

func (w *wiretap) back(from *net.UDPConn, to *net.UDPAddr) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the server is not there
		}
		w.mu.Lock()
		open := w.open
		w.mu.Unlock()
		<-open
		_, _ = w.WriteToUDP(buffer[:n], to) // it is UDP
	}
}

// replay sends what the client has sent once more, from elsewhere, and waits a little for
// what the server says to that.
func (w *wiretap) replay(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	sent := w.sent
	w.mu.Unlock()
	conn, err := net.DialUDP("udp", nil, w.server)
	must(t, err)
	defer conn.Close()
	for _, datagram := range sent {
		_, err := conn.Write(datagram)
		must(t, err)
	}
	must(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	for buffer := make([]byte, 2048); err == nil; {
		_, err = conn.Read(buffer)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// TestProduceIn0RTTIsNotExecutedTwice has a client produce in its first packets, and what it
// has sent is sent again by somebody who has seen it pass: the request comes to the node
// each time, and is carried out once, when the handshake of the client is complete, which
// nobody else can complete.
func TestProduceIn0RTTIsNotExecutedTwice(t *testing.T) {
	t.Parallel() // it waits until the node has forgotten a connection
	n := node(t)
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	trust.ServerName, trust.ClientSessionCache = "localhost", tls.NewLRUClientSessionCache(4)
	f := &fortress{T: t, n: n}
	t.Cleanup(f.http.CloseIdleConnections)
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()))
	must(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err = kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "t")
	must(t, err)
	end := func() int64 {
		t.Helper()
		ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "t")
		must(t, err)
		return ends["t"][0].Offset
	}
	const produces = `rustmq_kafka_requests_total{api="Produce"}`
	tap := newWiretap(t, n.Kafka())
	dial := func(within time.Duration) (*line, func(), error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		d := &sdkquic.Dialer{TLS: trust}
		conn, err := d.DialContext(ctx, "udp", tap.LocalAddr().String())
		if err != nil {
			return nil, nil, errors.Join(err, d.Close())
		}
		return &line{conn, f}, func() { must(t, errors.Join(conn.Close(), d.Close())) }, nil
	}
	q := producedTo("t")
	q.Topics[0].Partitions[0].Records = aBatch(t, 0)
	for early := false; !early; { // a ticket may come late: the next dial waits for answers then
		l, leave, err := dial(10 * time.Second)
		must(t, err)
		_, err = l.ask(at(9, kmsg.NewPtrMetadataRequest()))
		must(t, err)
		leave()
		tap.hold(true)
		before := f.counter(produces)
		if l, leave, err = dial(300 * time.Millisecond); err != nil {
			must(t, ctx.Err())
			tap.hold(false)
			continue
		}
		early = true
		answered := make(chan error, 1)
		go func() {
			_, err := l.ask(q)
			answered <- err
		}()
		f.await("the node has the request", func() bool { return f.counter(produces) == before+1 })
		if got := end(); got != 0 {
			t.Fatalf("carried out before the handshake: the topic ends at %d", got)
		}
		tap.hold(false)
		must(t, <-answered)
		leave()
	}
	if got := end(); got != 1 {
		t.Fatalf("the topic ends at %d", got)
	}
	before := f.counter(produces)
	for f.counter(produces) == before { // while the connection of before is remembered, that gets it
		must(t, ctx.Err())
		tap.replay(t)
	}
	if got := end(); got != 1 {
		t.Errorf("carried out again: the topic ends at %d", got)
	}
}

// transactional is the attribute of a batch of a transaction.
const transactional = 1 << 4

// aBatch is a record in a batch, as producers send it.
func aBatch(t *testing.T, attributes int16) []byte {
	t.Helper()
	record := kmsg.Record{Value: []byte("v")}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: attributes, FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: 1, Records: record.AppendTo(nil),
	}
	if attributes&transactional != 0 {
		batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = 1, 0, 0
	}
	raw := batch.AppendTo(nil)
	batch.Length = int32(len(raw) - 12)
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	return batch.AppendTo(nil)
}
