package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"rustmq.dev/rustmq/transport/rpc"
)

// connect opens a connection from broker 1, registered at an epoch, to broker 2.
func (p *peersOf) connect(ctx context.Context, epoch int64) (net.Conn, error) {
	return p.cl.Connect(ctx, "broker-2:9093", &rpc.PeerCall{From: rpc.PeerBroker{ID: 1, Epoch: epoch}, To: rpc.PeerBroker{ID: 2}})
}

// echo gives back what it reads, and says whose it is.
func echo(from rpc.PeerBroker, conn net.Conn) {
	defer conn.Close()
	if from.ID != 1 || conn.RemoteAddr().String() != "broker-1" {
		return
	}
	_, _ = io.Copy(conn, conn) // until the other side ends it
}

// TestConnectionsBetweenBrokers carries more than a message has both ways, at once, and ends
// with either end.
func TestConnectionsBetweenBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		if _, err := p.connect(t.Context(), 7); !errors.Is(err, rpc.ErrPeerUnreachable) {
			t.Errorf("before anybody serves: %v", err)
		}
		p.answers.AttachConns(echo, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn, err := p.connect(ctx, 7)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // which only bounds the opening
		sent := strings.Repeat("0123456789abcdef", 64<<10)
		go func() { _, _ = io.WriteString(conn, sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != sent {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()

		p.answers.AttachConns(func(_ rpc.PeerBroker, conn net.Conn) { _ = conn.Close() }, "")
		if conn, err = p.connect(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(got); !errors.Is(err, io.EOF) {
			t.Errorf("the end of the other side reads as %v", err)
		}
		_ = conn.Close()
	})
}

// TestConnectionsOfBrokersAreAdmitted: who is not admitted gets none, and learns why.
func TestConnectionsOfBrokersAreAdmitted(t *testing.T) {
	for _, c := range []struct {
		theirs string
		epoch  int64
		why    string
		want   string
	}{{"other", 7, "", "cluster"}, {"c", -1, "", "epoch -1"}, {"c", 7, "set security.cluster", "set security.cluster"}} {
		p := newPeersOf(t, c.theirs, "c")
		served := false
		p.answers.AttachConns(func(_ rpc.PeerBroker, conn net.Conn) { served = true; _ = conn.Close() }, c.why)
		if _, err := p.connect(t.Context(), c.epoch); !errors.Is(err, rpc.ErrPeerRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		p.end()
		if served {
			t.Errorf("%+v is served", c)
		}
	}
}

// TestConnectionsOfBrokersAreBounded opens as many as there may be; another is taken when one
// of them has ended.
func TestConnectionsOfBrokersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		p.answers.AttachConns(echo, "")
		const most = 512
		conns := make([]net.Conn, most)
		for i := range conns {
			var err error
			if conns[i], err = p.connect(t.Context(), 7); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := p.connect(ctx, 7); !strings.Contains(fmt.Sprint(err), codes.ResourceExhausted.String()) {
			t.Errorf("one more: %v", err)
		}
		cancel()
		_ = conns[0].Close()
		synctest.Wait()
		var err error
		if conns[0], err = p.connect(t.Context(), 7); err != nil {
			t.Errorf("when one has ended: %v", err)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
}
