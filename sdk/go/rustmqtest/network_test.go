package rustmqtest_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
	"rustmq.dev/rustmq/sdk/go/transport"
	"rustmq.dev/rustmq/sdk/go/transport/relay"
	"rustmq.dev/rustmq/security/pki"
)

// behind starts a server that a relay stands before: who asks the server where it is, is told the
// relay's address.
func behind(t *testing.T, delay time.Duration) (*rustmqtest.Server, *relay.Relay) {
	t.Helper()
	way, err := relay.Listen(relay.Options{To: "127.0.0.2:0", Delay: delay})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := way.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(way.Addr())
	return rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{
		"network.tls": "on", "network.bind": "127.0.0.2", "network.kafka_port": port, "network.advertised_host": "127.0.0.1",
	}}), way
}

// over makes a client that trusts the authority in a file, by the transport of the case.
func (r run) over(t *testing.T, addr, authority string) *rustmq.Client {
	t.Helper()
	var mode transport.Mode
	if err := mode.UnmarshalText([]byte(r.Transport)); err != nil {
		t.Fatal(err)
	}
	client, err := rustmq.New(rustmq.WithBrokers(addr), rustmq.WithTransport(mode), rustmq.WithTLS(rustmq.TLS{CAFile: authority}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// far is over, of a client for which QUIC has won the first race: on a busy machine TCP may, and
// nothing would correct that soon.
func (r run) far(t *testing.T, addr, authority string) (client *rustmq.Client) {
	t.Helper()
	eventually(t, "a far broker is reached over QUIC", func() bool {
		client = r.over(t, addr, authority)
		if err := client.Ping(within(t, moments)); err != nil {
			t.Fatal(err)
		}
		if link(t, client).Using == transport.QUIC {
			return true
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		return false
	})
	return client
}

// link is how a client reaches its one broker, which it has dialled.
func link(t *testing.T, client *rustmq.Client) transport.Link {
	t.Helper()
	links := client.Health(within(t, moments)).Links
	if len(links) != 1 {
		t.Fatalf("one broker is reached as %+v", links)
	}
	return links[0]
}

// load produces numbered records to a topic, one after the other, until it is ended; each
// waits for its ack.
type load struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	mu    sync.Mutex
	acked int
	err   error
}

func produces(t *testing.T, client *rustmq.Client) *load {
	t.Helper()
	topic(t, client, rustmq.Topic{Name: "t", Partitions: 1})
	l := &load{}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	l.wait.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			// A record whose context ends may have been written all the same.
			err := client.ProduceSync(context.WithoutCancel(ctx), &rustmq.Record{Topic: "t", Value: fmt.Append(nil, n)}).Err()
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
	t.Cleanup(func() { l.stop(); l.wait.Wait() })
	return l
}

func (l *load) state(t *testing.T) int {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		t.Fatal(l.err)
	}
	return l.acked
}

// more waits for n acks more.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	from := l.state(t)
	eventually(t, fmt.Sprintf("%d records more are acked", n), func() bool { return l.state(t) >= from+n })
}

// ended ends the load and returns how many records were acked.
func (l *load) ended(t *testing.T) int {
	t.Helper()
	l.stop()
	l.wait.Wait()
	return l.state(t)
}

// proves has all that was acked read, over the same transport.
func (r run) proves(t *testing.T, client *rustmq.Client, l *load) {
	t.Helper()
	n := l.ended(t)
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}})
	got := &readings{ordered: true, seen: map[int]int{}}
	for got.count() < n {
		messages, err := c.Poll(within(t, moments))
		if err != nil {
			t.Fatalf("after %d of %d records: %v", got.count(), n, err)
		}
		for _, m := range messages {
			got.note(m.Value)
		}
	}
	r.judgeAll(t, n, got)
}

// readings are what was read of a load.
type readings struct {
	mu      sync.Mutex
	total   int
	last    int
	ordered bool // nothing has come after what it was produced before
	seen    map[int]int
}

func (s *readings) note(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ordered = s.ordered && (s.total == 0 || n > s.last)
	s.last = n
	s.seen[n]++
	s.total++
}

func (s *readings) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (r run) judgeAll(t *testing.T, n int, s *readings) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r.judge(t, n, s.seen)
	if r.Expect.Ordered && !s.ordered {
		t.Error("records were not read in the order in which they were produced")
	}
}

// reads has a member of a group read along.
func reads(t *testing.T, client *rustmq.Client) *readings {
	t.Helper()
	s := &readings{ordered: true, seen: map[int]int{}}
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g"})
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := c.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error { s.note(m.Value); return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); reading.Wait() })
	return s
}

func udpBlocked(t *testing.T, _ *rustmqtest.Server, r run) {
	server, way := behind(t, time.Duration(r.DelayMs)*time.Millisecond)
	client := r.far(t, way.Addr(), server.CAFile())
	l, third := produces(t, client), r.Records/3
	got := reads(t, client)
	l.more(t, third)
	eventually(t, "they are read", func() bool { return got.count() >= third })
	if is := link(t, client); is.Using != transport.QUIC {
		t.Fatalf("a far broker: %+v", is)
	}
	way.BlockUDP(true)
	l.more(t, third)
	eventually(t, "those are read", func() bool { return got.count() >= 2*third })
	if is := link(t, client); is.Using != transport.TCP || is.BlockedUntil.IsZero() {
		t.Errorf("UDP is blocked: %+v", is)
	}
	way.BlockUDP(false)
	eventually(t, "QUIC is used again", func() bool { return link(t, client).Using == transport.QUIC })
	eventually(t, "no connection over TCP is left", func() bool { return link(t, client).TCP == 0 })
	l.more(t, third)
	n := l.ended(t)
	eventually(t, "all of them are read", func() bool { return got.count() >= n })
	r.judgeAll(t, n, got)
}

// addressChanges has the client be seen from one address after the other, on one connection.
func addressChanges(t *testing.T, _ *rustmqtest.Server, r run) {
	server, way := behind(t, time.Duration(r.DelayMs)*time.Millisecond)
	client := r.far(t, way.Addr(), server.CAFile())
	l, share := produces(t, client), r.Records/(r.Rebinds+1)
	for range r.Rebinds {
		l.more(t, share)
		if err := way.Rebind(); err != nil {
			t.Fatal(err)
		}
	}
	l.more(t, share)
	if is := link(t, client); is.Using != transport.QUIC || is.TCP != 0 || is.Changes != 0 {
		t.Errorf("%+v", is)
	}
	r.proves(t, client, l)
}

func ticketsOutstanding(t *testing.T, _ *rustmqtest.Server, r run) {
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"network.tls": "on"}})
	client := r.over(t, server.Addr(), server.CAFile())
	l, share := produces(t, client), r.Records/(r.Restarts+1)
	for range r.Restarts {
		l.more(t, share)
		server.Restart(t)
	}
	l.more(t, share)
	r.proves(t, client, l)
}

func certificatesRotate(t *testing.T, _ *rustmqtest.Server, r run) {
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	var authorities []byte
	issue := func() {
		t.Helper()
		made := t.TempDir()
		if _, err := pki.Development(made, []string{"127.0.0.1"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		authorities = append(authorities, content(t, made, pki.CAFile)...) // trusted before it is shown, and the old one after
		put(t, ca, authorities)
		put(t, cert, content(t, made, "server.pem"))
		put(t, key, content(t, made, "server.key"))
	}
	issue()
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"network.tls": "on", "security.tls.cert_file": cert, "security.tls.key_file": key}})
	client := r.over(t, server.Addr(), ca)
	l, share := produces(t, client), r.Records/(r.Rotations+1)
	for range r.Rotations {
		l.more(t, share)
		issue()
		server.Reload(t)
		other := r.over(t, server.Addr(), ca)
		eventually(t, "who dials anew is served", func() bool { return other.Ping(within(t, moments)) == nil })
	}
	l.more(t, share)
	r.proves(t, client, l)
}

func content(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}
