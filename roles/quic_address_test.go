package roles_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"rustmq.dev/rustmq/embed"
	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

// What one address may open, it may not open over QUIC either: a connection there needs no
// stream, and so says nothing of who it is.
func TestConnectionsOfOneAddressAreBoundedOverQUIC(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Set: map[string]string{"network.max_connections_per_ip": "2", "security.sasl.mechanisms": "SCRAM-SHA-512"}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	trust.NextProtos = []string{sdkquic.ALPN}
	for i := range 3 {
		conn, err := quic.DialAddr(ctx, n.Kafka(), trust, nil)
		if err == nil {
			t.Cleanup(func() { _ = conn.CloseWithError(0, "") }) // the server may be gone before
		}
		refused, _ := errors.AsType[*quic.TransportError](err)
		if i < 2 && err != nil || i == 2 && (refused == nil || refused.ErrorCode != quic.ConnectionRefused) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}
