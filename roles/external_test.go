package roles_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/embed"
	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
	"rustmq.dev/rustmq/security/pki"
)

// listenersOf is what a node tells of where its broker is reached, by the listener's name.
func listenersOf(t *testing.T, n *embed.Node) map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP() + "/api/v1/brokers")
	must(t, err)
	defer resp.Body.Close()
	var list struct {
		Brokers []struct {
			Listeners []struct{ Name, Address string }
		}
	}
	must(t, json.NewDecoder(resp.Body).Decode(&list))
	all := map[string]string{}
	for _, l := range list.Brokers[0].Listeners {
		all[l.Name] = l.Address
	}
	return all
}

// Who comes by the second listener, over TCP or QUIC, is told its address, and who comes by the
// first is told that.
func TestClientsFromElsewhereAreToldWhereTheyDial(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Set: map[string]string{"network.external.advertised_host": "localhost", "network.external.port": "0"}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	outside := listenersOf(t, n)["external"]
	_, port, err := net.SplitHostPort(outside)
	must(t, err)
	for seed, want := range map[string]string{"127.0.0.1:" + port: outside, n.Kafka(): n.Kafka()} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.DefaultProduceTopic("events"), kgo.AllowAutoTopicCreation())
		must(t, err)
		defer cl.Close()
		must(t, cl.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr())
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
		must(t, err)
		b := resp.Brokers[0]
		if got := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))); got != want {
			t.Errorf("a client that came by %s is told %s, want %s", seed, got, want)
		}
	}
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	trust.NextProtos = []string{sdkquic.ALPN}
	trust.ServerName = "localhost"
	conn, err := quic.DialAddr(ctx, "127.0.0.1:"+port, trust, nil)
	must(t, err)
	must(t, conn.CloseWithError(0, ""))
}

// A proxy or load balancer before the second listener has a port of its own.
func TestThePortOfAProxyIsToldToClients(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Set: map[string]string{"network.external.advertised_host": "kafka.example.org", "network.external.port": "0", "network.external.advertised_port": "31091"}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	if at := listenersOf(t, n)["external"]; at != "kafka.example.org:31091" {
		t.Errorf("it is told as %q", at)
	}
}

// One address has as many connections as it may have in all, whichever listener they come by.
func TestListenersCountAnAddressTogether(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{Set: map[string]string{
		"network.external.advertised_host": "localhost", "network.external.port": "0", "network.max_connections_per_ip": "1",
	}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	trust, err := pki.ClientConfig(n.CAFile())
	must(t, err)
	trust.NextProtos = []string{sdkquic.ALPN}
	trust.ServerName = "localhost"
	conn, err := quic.DialAddr(ctx, n.Kafka(), trust, nil)
	must(t, err)
	defer conn.CloseWithError(0, "")
	_, port, err := net.SplitHostPort(listenersOf(t, n)["external"])
	must(t, err)
	var refused *quic.TransportError
	if second, err := quic.DialAddr(ctx, "127.0.0.1:"+port, trust, nil); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
		if err == nil {
			_ = second.CloseWithError(0, "")
		}
		t.Errorf("a second connection, by the other listener: %v", err)
	}
}
