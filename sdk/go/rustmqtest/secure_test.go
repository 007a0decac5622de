package rustmqtest_test

import (
	"strings"
	"testing"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
	"rustmq.dev/rustmq/sdk/go/transport"
)

func TestEveryTransportReachesTheBroker(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	for name, c := range map[string]struct {
		mode transport.Mode
		tls  *rustmq.TLS
		via  transport.Mode
	}{
		"tcp in the clear":  {transport.TCP, nil, transport.TCP},
		"auto in the clear": {transport.Auto, nil, transport.TCP},
		"quic":              {transport.QUIC, &rustmq.TLS{CAFile: server.CAFile(), QUICOnly: true}, transport.QUIC},
	} {
		opts := []rustmq.Option{rustmq.WithTransport(c.mode)}
		if c.tls != nil {
			opts = append(opts, rustmq.WithTLS(*c.tls))
		}
		client := server.Client(t, opts...)
		ctx := within(t, moments)
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}).Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h := client.Health(ctx)
		if len(h.Links) == 0 || h.Links[0].Using != c.via {
			t.Errorf("%s: %+v", name, h.Links)
		}
	}
	if _, err := rustmq.New(rustmq.WithTransport(transport.QUIC)); err == nil {
		t.Error("QUIC in the clear")
	}
}

func TestTLSTrustsTheAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"network.tls": "on"}})
	ctx := within(t, moments)
	for _, mode := range []transport.Mode{transport.TCP, transport.QUIC, transport.Auto} {
		client := server.Client(t, rustmq.WithTransport(mode), rustmq.WithTLS(rustmq.TLS{CAFile: server.CAFile()}))
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}).Err(); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
	}
	stranger := server.Client(t, rustmq.WithTransport(transport.TCP), rustmq.WithTLS(rustmq.TLS{}))
	if err := stranger.Ping(ctx); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
	if _, err := rustmq.New(rustmq.WithTLS(rustmq.TLS{CAFile: "not-there.pem"})); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestSecretsDoNotGoInTheClear(t *testing.T) {
	if _, err := rustmq.New(rustmq.WithPlain("u", "p")); err == nil {
		t.Error("a password goes in the clear")
	}
	if _, err := rustmq.New(rustmq.WithPlain("u", "p"), rustmq.WithTLS(rustmq.TLS{QUICOnly: true})); err == nil {
		t.Error("a password goes in the clear over TCP")
	}
}
