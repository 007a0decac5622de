package roles_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/embed"
	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

// answers reports whether a new connection over TCP is answered; one that is not is ended by
// the server.
func answers(ctx context.Context, t *testing.T, addr string) bool {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // the server may have ended it
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// A write to one that ends may fail, and says as much as the read.
	_, _ = conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1))
	var length [4]byte
	_, err = io.ReadFull(conn, length[:])
	must(t, ctx.Err())
	return err == nil && binary.BigEndian.Uint32(length[:]) > 0
}

// An address that opens connections faster than its quota gets none for a while, over TCP
// as over QUIC; whoever has one goes on.
func TestConnectionsOfAnAddressComeAtItsRate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	trust.NextProtos = []string{sdkquic.ALPN}
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka()))
	must(t, err)
	t.Cleanup(client.Close)
	adm := kadm.NewClient(client)
	ip := "127.0.0.1"
	results, err := adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "ip", Name: &ip}}, Ops: []kadm.AlterClientQuotaOp{{Key: "connection_creation_rate", Value: 1}},
	}})
	must(t, err)
	must(t, results[0].Err)
	took := 0
	for answers(ctx, t, n.Kafka()) {
		took++
	}
	if took < 8 { // ten at once, less those of the client
		t.Errorf("%d connections are served before one is not", took)
	}
	for {
		conn, err := quic.DialAddr(ctx, n.Kafka(), trust, nil)
		must(t, ctx.Err())
		if err == nil { // its turn has come meanwhile
			t.Cleanup(func() { _ = conn.CloseWithError(0, "") }) // the server may be gone before
			continue
		}
		if refused, _ := errors.AsType[*quic.TransportError](err); refused == nil || refused.ErrorCode != quic.ConnectionRefused {
			t.Errorf("a connection over QUIC: %v", err)
		}
		break
	}
	if _, err := adm.DescribeClientQuotas(ctx, false, nil); err != nil {
		t.Error("who has a connection does not go on:", err)
	}
}
