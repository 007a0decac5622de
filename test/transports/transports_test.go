package transports

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/embed"
	"rustmq.dev/rustmq/sdk/go/transport"
	"rustmq.dev/rustmq/sdk/go/transport/relay"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/test/seeded"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, o embed.Options) *embed.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, o)
	must(t, err)
	return n
}

func trust(t *testing.T, file string) *tls.Config {
	t.Helper()
	config, err := pki.ClientConfig(file)
	must(t, err)
	return config
}

// client makes a franz-go client whose every connection goes to addr: a relay stands before
// the broker, which names its own address.
func client(t *testing.T, d *transport.Dialer, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.RecordDeliveryTimeout(time.Minute),
		kgo.MetadataMinAge(100*time.Millisecond), // a dial that is refused waits for it
		kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) { return d.Dial(ctx, network, addr) }))...)
	must(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func dialer(t *testing.T, o transport.Options) *transport.Dialer {
	t.Helper()
	d := transport.New(o)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func way(t *testing.T, o relay.Options) *relay.Relay {
	t.Helper()
	r, err := relay.Listen(o)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func link(d *transport.Dialer) transport.Link {
	for _, l := range d.Stats() {
		return l
	}
	return transport.Link{}
}

// load produces numbered records, one after the other, until it is ended, and then proves that each
// that was acked is there once, in order.
type load struct {
	cl   *kgo.Client
	stop context.CancelFunc
	wait sync.WaitGroup

	mu    sync.Mutex
	acked int
	err   error
}

func begin(t *testing.T, cl *kgo.Client) *load {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	l := &load{cl: cl}
	ctx, l.stop = context.WithCancel(t.Context())
	l.wait.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			err := cl.ProduceSync(context.WithoutCancel(ctx), kgo.StringRecord(fmt.Sprint(n))).FirstErr()
			l.mu.Lock()
			if l.err = err; err == nil {
				l.acked++
			}
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return l
}

// more waits for so many acks more.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	from := l.acked
	l.mu.Unlock()
	until(t, fmt.Sprintf("%d records more are acked", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		must(t, l.err)
		return l.acked >= from+n
	})
}

// read has a member of a group read along, over the same transports, and returns how many records
// it has seen, each once and in order.
func read(t *testing.T, d *transport.Dialer, addr string) (seen func() int) {
	t.Helper()
	cl := client(t, d, addr, kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var mu sync.Mutex
	n := 0
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				mu.Lock()
				defer mu.Unlock()
				if string(r.Value) != fmt.Sprint(n) {
					t.Errorf("record %d was read as %q", n, r.Value)
				}
				n++
			})
		}
	})
	t.Cleanup(func() { cancel(); reading.Wait() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// proves ends the load, and reads all of it directly.
func (l *load) proves(t *testing.T, node *embed.Node) {
	t.Helper()
	l.stop()
	l.wait.Wait()
	must(t, l.err)
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.DialTLSConfig(trust(t, node.CAFile())), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for n := 0; n < l.acked; {
		fetches := cl.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != fmt.Sprint(n) {
				t.Fatalf("record %d is %q", n, r.Value)
			}
			n++
		})
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("not in a minute: %s", what)
		case <-ticker.C:
		}
	}
}

var secure = map[string]string{"network.tls": "on"}

// TestUDPIsBlockedUnderLoad has the way let no UDP through any more, and then let it through again.
func TestUDPIsBlockedUnderLoad(t *testing.T) {
	t.Parallel()
	n := start(t, embed.Options{Set: secure})
	defer n.Close()
	r := way(t, relay.Options{To: n.Kafka(), Delay: 10 * time.Millisecond, Loss: 0.005, Seed: seeded.Seed(t)})
	d := dialer(t, transport.Options{TLS: trust(t, n.CAFile())})
	l := begin(t, client(t, d, r.Addr()))
	seen := read(t, d, r.Addr())
	l.more(t, 20)
	until(t, "they are read", func() bool { return seen() >= 20 })
	if got := link(d); got.Using != transport.QUIC {
		t.Fatalf("a far broker: %+v", got)
	}
	r.BlockUDP(true)
	l.more(t, 20)
	until(t, "those are read", func() bool { return seen() >= 40 })
	if got := link(d); got.Using != transport.TCP || got.BlockedUntil.IsZero() {
		t.Errorf("UDP is blocked: %+v", got)
	}
	r.BlockUDP(false)
	until(t, "QUIC is used again", func() bool { return link(d).Using == transport.QUIC })
	until(t, "no connection over TCP is left", func() bool { return link(d).TCP == 0 })
	l.more(t, 20)
	l.proves(t, n)
	until(t, "all of them are read", func() bool { return seen() == l.acked })
}

// TestTheServerRestartsWithTicketsOutstanding restarts it under load, over each transport.
func TestTheServerRestartsWithTicketsOutstanding(t *testing.T) {
	for _, mode := range []transport.Mode{transport.Auto, transport.QUIC, transport.TCP} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			n := start(t, embed.Options{DataDir: dir, Set: secure})
			_, port, err := net.SplitHostPort(n.Kafka())
			must(t, err)
			d := dialer(t, transport.Options{Mode: mode, TLS: trust(t, n.CAFile())})
			l := begin(t, client(t, d, n.Kafka()))
			for range 2 {
				l.more(t, 20)
				must(t, n.Close())
				n = start(t, embed.Options{DataDir: dir, Set: map[string]string{"network.tls": "on", "network.kafka_port": port}})
			}
			l.more(t, 20)
			l.proves(t, n)
			must(t, n.Close())
		})
	}
}

// TestCertificatesRotateUnderLoad replaces those of the server and what clients trust of it.
func TestCertificatesRotateUnderLoad(t *testing.T) {
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
			var authorities []byte
			issue := func() {
				t.Helper()
				made := t.TempDir()
				_, err := pki.Development(made, []string{"127.0.0.1"}, time.Now())
				must(t, err)
				root, err := os.ReadFile(filepath.Join(made, pki.CAFile))
				must(t, err)
				authorities = append(authorities, root...) // trusted before it is shown, and the old one after
				put(t, ca, authorities)
				for from, to := range map[string]string{"server.pem": cert, "server.key": key} {
					content, err := os.ReadFile(filepath.Join(made, from))
					must(t, err)
					put(t, to, content)
				}
			}
			issue()
			n := start(t, embed.Options{Set: map[string]string{"network.tls": "on", "security.tls.cert_file": cert, "security.tls.key_file": key}})
			defer n.Close()
			d := dialer(t, transport.Options{Mode: mode, Reload: transport.NewFiles(ca, "", "").Config})
			cl := client(t, d, n.Kafka())
			l := begin(t, cl)
			for range 2 {
				l.more(t, 20)
				issue()
				must(t, n.Reload())
				// Who dials anew meets the new certificate.
				other := client(t, d, n.Kafka())
				until(t, "another client is served", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					return other.Ping(ctx) == nil
				})
			}
			l.more(t, 20)
			l.stop()
			l.wait.Wait()
			must(t, l.err)
		})
	}
}

func put(t *testing.T, name string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(name+".new", content, 0o600))
	must(t, os.Rename(name+".new", name))
}

// TestTheAddressChangesUnderLoad has a client be seen from one address after the other: all of it is
// one connection to the server.
func TestTheAddressChangesUnderLoad(t *testing.T) {
	t.Parallel()
	n := start(t, embed.Options{Set: secure})
	defer n.Close()
	r := way(t, relay.Options{To: n.Kafka(), Delay: 10 * time.Millisecond})
	d := dialer(t, transport.Options{TLS: trust(t, n.CAFile())})
	l := begin(t, client(t, d, r.Addr()))
	for range 4 {
		l.more(t, 10)
		must(t, r.Rebind())
	}
	l.more(t, 10)
	if got := link(d); got.Using != transport.QUIC || got.TCP != 0 || got.Changes != 0 {
		t.Errorf("%+v", got)
	}
	l.proves(t, n)
}
