package kafka_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/kafka"
)

// dialled is a listener by memory, for synctest.
type dialled struct {
	conns chan net.Conn
	ended chan struct{}
}

func newDialled() *dialled { return &dialled{make(chan net.Conn), make(chan struct{})} }

func (d *dialled) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.ended:
		return nil, net.ErrClosed
	}
}

func (d *dialled) Close() error   { close(d.ended); return nil }
func (d *dialled) Addr() net.Addr { return &net.TCPAddr{} }

func (d *dialled) dial() net.Conn {
	client, server := net.Pipe()
	d.conns <- server
	return client
}

// TestHalfOpenConnectionsAreCheap has a thousand strangers connect who never get through
// their handshake: some say nothing, some half of their first message. They take little
// memory, others get in beside them, and all are gone in ten seconds.
func TestHalfOpenConnectionsAreCheap(t *testing.T) {
	const strangers, most = 1000, 64 << 10
	ca := pkitest.New(t, "ours")
	ca.Sign("server", pkitest.Server(pki.Identity{Cluster: "prod", Node: 1, Roles: []string{pki.RoleBroker}}, "127.0.0.1"))
	ca.Sign("alice", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	trusts := ca.Client("alice")
	trusts.ServerName = "127.0.0.1"
	hello := firstMessage(t, trusts)
	synctest.Test(t, func(t *testing.T) {
		keeper, err := pki.Keep(func() (tls.Certificate, error) {
			return pki.Load(ca.CertFile("server"), ca.KeyFile("server"), time.Now())
		})
		must(t, err)
		seen, listener := newCounts(), newDialled()
		s := kafka.New(kafka.Options{Handler: newDoor(respond), RequireAuth: true, Metrics: seen})
		served := make(chan error, 1)
		go func() {
			served <- s.ServeListener(tls.NewListener(listener, keeper.ServerConfig(tls.VersionTLS13)), "kafka")
		}()
		before := heap()
		began := time.Now()
		all := make([]net.Conn, strangers)
		for i := range all {
			all[i] = listener.dial()
			if part := len(hello) / 2 * (i % 2); part > 0 {
				_, err := all[i].Write(hello[:part])
				must(t, err)
			}
		}
		synctest.Wait()
		if each := (heap() - before) / strangers; each > most {
			t.Errorf("a connection that is half open takes %d bytes", each)
		}
		good := tls.Client(listener.dial(), trusts)
		go func() { _, _ = good.Write(frame(18, 0, 7, nil)) }()
		if got, _ := readAnswer(t, good); got != 7 || time.Since(began) > time.Second {
			t.Errorf("beside them, answer to %d after %v", got, time.Since(began))
		}
		for i, c := range all {
			if _, err := io.ReadAll(c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("stranger %d: %v", i, err)
			}
		}
		if took := time.Since(began); took < 9*time.Second || took > 16*time.Second {
			t.Errorf("they are gone after %v", took)
		}
		synctest.Wait()
		if n := seen.get(seen.refused, "handshake"); n != strangers {
			t.Errorf("%d handshakes are counted that failed", n)
		}
		_ = good.Close() // the server may be quicker
		closeServer(t, s)
		if err := <-served; !errors.Is(err, kafka.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// firstMessage is what a client says first.
func firstMessage(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _ = tls.Client(client, config).Handshake() }() // nobody answers
	buffer := make([]byte, 4096)
	n, err := server.Read(buffer)
	must(t, err)
	return buffer[:n]
}
