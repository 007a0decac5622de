package kafka_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/transport/kafka"
)

func random(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 1))
}

// TestPipelinedAnswersKeepOrderWhoeverAnswersFirst answers a pipeline of
// requests of all kinds of endings from many goroutines in random order.
func TestPipelinedAnswersKeepOrderWhoeverAnswersFirst(t *testing.T) {
	rng := random(t)
	b := newBroker()
	seen := newCounts()
	s := kafka.New(kafka.Options{Handler: b, Metrics: seen, Limits: kafka.Limits{MaxPipelined: 50}})
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() { s.ServeConn(server, kafka.Info{Transport: "tcp"}); close(ended) }()
	const n = 3000
	bodies := make([][]byte, n) // nil: no answer
	for i := range bodies {
		switch rng.IntN(80) {
		case 0, 1, 2, 3, 4, 5, 6, 7:
		case 8:
			bodies[i] = bytes.Repeat([]byte{byte(i)}, 100_000+rng.IntN(5)*1_000_000)
		default:
			bodies[i] = bytes.Repeat([]byte{byte(i)}, rng.IntN(3000))
		}
	}
	var answered, released sync.WaitGroup
	released.Add(n)
	answered.Go(func() {
		for left := n; left > 0; {
			<-b.arrived
			waiting := b.take()
			for range waiting[1:] {
				<-b.arrived
			}
			rng.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
			for _, r := range waiting {
				left--
				answered.Go(func() {
					body := bodies[r.CorrelationID]
					switch {
					case body == nil:
						r.Drop()
						released.Done()
					default:
						split := len(body) / 3
						r.RespondRaw(net.Buffers{body[:split], body[split:]}, released.Done)
					}
				})
			}
		}
	})
	go func() {
		for i := range int32(n) {
			if _, err := client.Write(frame(12, 0, i, nil)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	expected := 0
	for i, want := range bodies {
		if want == nil {
			continue
		}
		expected++
		got, body := readAnswer(t, client)
		if got != int32(i) || !bytes.Equal(body, want) {
			t.Fatalf("answer %d is to request %d, %d bytes of %d", i, got, len(body), len(want))
		}
	}
	released.Wait()
	answered.Wait()
	client.Close()
	<-ended
	if used, unsent := s.InUse(); used != 0 || unsent != 0 {
		t.Errorf("%d and %d bytes are still counted", used, unsent)
	}
	closeServer(t, s)
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if seen.served != expected {
		t.Errorf("%d answers were timed, %d sent", seen.served, expected)
	}
}

func TestResponseHeaders(t *testing.T) {
	s := kafka.New(kafka.Options{Handler: decoder{}})
	defer closeServer(t, s)
	c := pipe(s, kafka.Info{})
	defer c.Close()
	everyRequest(func(key, version int16, frame []byte) {
		if key == int16(kmsg.ApiVersions) {
			return // they have tests of their own
		}
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		got, body := readAnswer(t, c)
		resp := kmsg.ResponseForKey(key)
		resp.SetVersion(version)
		if resp.IsFlexible() {
			if len(body) == 0 || body[0] != 0 {
				t.Fatalf("%s v%d: no tagged fields in the header", kmsg.NameForKey(key), version)
			}
			body = body[1:]
		}
		if err := resp.ReadFrom(body); err != nil || got != 1 {
			t.Fatalf("%s v%d: answer to %d: %v", kmsg.NameForKey(key), version, got, err)
		}
	})
}

func TestApiVersions(t *testing.T) {
	ask := func(version int16, edit func(*kmsg.ApiVersionsRequest)) []byte {
		q := kmsg.NewPtrApiVersionsRequest()
		q.Version, q.ClientSoftwareName, q.ClientSoftwareVersion = version, "test-client", "1.0"
		if edit != nil {
			edit(q)
		}
		body := q.AppendTo(nil)
		if q.IsFlexible() {
			body = append([]byte{0}, body...)
		}
		return frame(18, version, 1, body)
	}
	cluster := "abc"
	identity := func() (string, int32) { return cluster, 7 }
	for name, test := range map[string]struct {
		request  []byte
		identity func() (string, int32)
		want     *kerr.Error
		version  int16 // of the answer
		newest   int16 // that is announced of ApiVersions
	}{
		"v0":                {request: ask(0, nil), newest: 4},
		"v2":                {request: ask(2, nil), version: 2, newest: 4},
		"v3":                {request: ask(3, nil), version: 3, newest: 4},
		"v4":                {request: ask(4, nil), version: 4, newest: 4},
		"v5 without a name": {request: ask(5, nil), want: kerr.UnsupportedVersion, newest: 4},
		"v5":                {request: ask(5, nil), identity: identity, version: 5, newest: 5},
		"v5 meant": {request: ask(5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = &cluster, 7 }),
			identity: identity, version: 5, newest: 5},
		"v5 another node": {request: ask(5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = &cluster, 8 }),
			identity: identity, version: 5, want: kerr.RebootstrapRequired},
		"v5 half": {request: ask(5, func(q *kmsg.ApiVersionsRequest) { q.NodeID = 7 }),
			identity: identity, version: 5, want: kerr.InvalidRequest},
		"v6":      {request: frame(18, 6, 1, []byte{0, 0, 0, 0}), identity: identity, want: kerr.UnsupportedVersion, newest: 5},
		"v99":     {request: frame(18, 99, 1, []byte{0}), want: kerr.UnsupportedVersion, newest: 4},
		"no name": {request: ask(3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "" }), version: 3, want: kerr.InvalidRequest},
		"a name of two lines": {request: ask(3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "a\nb" }),
			version: 3, want: kerr.InvalidRequest},
		"a version that ends in a dash": {request: ask(3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareVersion = "1-" }),
			version: 3, want: kerr.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			s := kafka.New(kafka.Options{Handler: newBroker(), Identity: test.identity})
			defer closeServer(t, s)
			c := pipe(s, kafka.Info{})
			defer c.Close()
			if _, err := c.Write(test.request); err != nil {
				t.Fatal(err)
			}
			_, body := readAnswer(t, c) // header v0 whatever the version
			resp := kmsg.NewPtrApiVersionsResponse()
			resp.Version = test.version
			if err := resp.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			if got := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(got, errOrNil(test.want)) {
				t.Fatalf("error %v, want %v", got, test.want)
			}
			announced := map[int16]kafka.ApiVersion{}
			for _, k := range resp.ApiKeys {
				announced[k.ApiKey] = kafka.ApiVersion{Key: k.ApiKey, Min: k.MinVersion, Max: k.MaxVersion}
			}
			if test.newest == 0 {
				return
			}
			if announced[18].Max != test.newest || announced[3].Max != 13 {
				t.Errorf("announced %v", announced)
			}
			if produce := announced[0]; produce.Min != 0 || produce.Max != 13 {
				t.Errorf("Produce is announced as %+v: an old librdkafka would not compress", produce)
			}
		})
	}
}

// What a client says of its implementation is known of its connection, cut to what is
// kept, and only when it was taken.
func TestSoftwareIsThatOfTheConnection(t *testing.T) {
	long := strings.Repeat("v", 1000)
	for _, tc := range []struct {
		says          string
		version       int16
		name, release string // that are asked with
		want          [2]string
	}{
		{"all", 3, "librdkafka", "2.11.0", [2]string{"librdkafka", "2.11.0"}},
		{"much", 4, long, long, [2]string{long[:128], long[:128]}},
		{"nothing", 2, "", "", [2]string{}},
		{"what is refused", 3, "a b", "1", [2]string{}},
	} {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		c := pipe(s, kafka.Info{})
		q := kmsg.NewPtrApiVersionsRequest()
		q.Version, q.ClientSoftwareName, q.ClientSoftwareVersion = tc.version, tc.name, tc.release
		body := q.AppendTo(nil)
		if q.IsFlexible() {
			body = append([]byte{0}, body...)
		}
		if _, err := c.Write(frame(18, tc.version, 1, body)); err != nil {
			t.Fatal(err)
		}
		readAnswer(t, c)
		if _, err := c.Write(frame(12, 0, 2, nil)); err != nil {
			t.Fatal(err)
		}
		<-b.arrived
		r := b.take()[0]
		if name, release := r.Conn.Software(); [2]string{name, release} != tc.want {
			t.Errorf("a client that says %s: %q %q", tc.says, name, release)
		}
		r.Drop()
		c.Close()
		closeServer(t, s)
	}
}

func errOrNil(e *kerr.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func TestFranzGoTalksOverTLS(t *testing.T) {
	addr, trust, end := serveTLS(t, kafka.Options{Handler: newBroker()})
	defer end()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DialTLSConfig(trust))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestWhoOnlyLooksIsNoWarning holds that a connection which is closed before a word, as of
// a probe of whether somebody listens, is counted and not warned of.
func TestWhoOnlyLooksIsNoWarning(t *testing.T) {
	var out lockedBuffer
	seen := newCounts()
	addr, _, end := serveTLS(t, kafka.Options{Handler: newBroker(), Metrics: seen, Log: slog.New(slog.NewJSONHandler(&out, nil))})
	for _, says := range []string{"", "plain text"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn) // until the server has closed it
		conn.Close()
	}
	end() // it has counted by then
	if warned := strings.Count(out.String(), "TLS handshake failed"); warned != 1 || seen.get(seen.refused, "handshake") != 2 {
		t.Errorf("warned of %d, counted %v:\n%s", warned, seen.refused, out.String())
	}
	if !strings.Contains(out.String(), `"remote":"127.0.0.1:`) {
		t.Errorf("the log does not say who: %s", out.String())
	}
}

func TestClientThatSaysNoHelloIsClosed(t *testing.T) {
	seen := newCounts()
	addr, _, end := serveTLS(t, kafka.Options{Handler: newBroker(), Metrics: seen, Limits: kafka.Limits{HandshakeTimeout: 100 * time.Millisecond}})
	mute, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	if _, err := mute.Read(make([]byte, 1)); err == nil {
		t.Error("a client that sends no hello was waited for")
	}
	end() // it has counted by then
	if seen.get(seen.refused, "handshake") != 1 {
		t.Errorf("counted %v", seen.refused)
	}
}

// TestWhoGivesWayInItsHandshakeIsCountedOnce: that it came to no end is not its fault.
func TestWhoGivesWayInItsHandshakeIsCountedOnce(t *testing.T) {
	seen, told := newCounts(), make(watched, 10)
	addr, trust, end := serveTLS(t, kafka.Options{Handler: newBroker(), Metrics: seen, Watcher: told, Limits: kafka.Limits{MaxConns: 1}})
	mute, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	next, err := tls.Dial("tcp", addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := next.Write(frame(18, 0, 1, nil)); err != nil {
		t.Error(err)
	}
	if got, _ := readAnswer(t, next); got != 1 {
		t.Errorf("answer to %d", got)
	}
	if _, err := mute.Read(make([]byte, 1)); err == nil {
		t.Error("who came first, and is silent, stays")
	}
	end() // it has counted by then
	if !maps.Equal(seen.refused, map[string]int{"max_connections": 1}) || len(told) != 0 {
		t.Errorf("counted %v, and told of %d", seen.refused, len(told))
	}
}

// serveTLS starts a server with a certificate of its own.
func serveTLS(t *testing.T, o kafka.Options) (addr string, trust *tls.Config, end func()) {
	t.Helper()
	dir := t.TempDir()
	cert, err := pki.Development(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if trust, err = pki.ClientConfig(filepath.Join(dir, pki.CAFile)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := kafka.New(o)
	served := make(chan error, 1)
	go func() {
		served <- s.ServeListener(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}}), "kafka")
	}()
	return listener.Addr().String(), trust, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-served
	}
}

// TestShutdownAnswersWhatWasRead begins to close while a request waits: it is
// answered, and nothing more is read.
func TestShutdownAnswersWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		c, idle := pipe(s, kafka.Info{}), pipe(s, kafka.Info{})
		if _, err := c.Write(frame(12, 0, 1, nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(t.Context()) }()
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("an idle connection was read from")
		}
		synctest.Wait()
		select {
		case err := <-down:
			t.Fatalf("did not wait for the answer: %v", err)
		default:
		}
		b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
		if got, _ := readAnswer(t, c); got != 1 {
			t.Errorf("answer to %d", got)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b, Limits: kafka.Limits{DrainTimeout: time.Hour}})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(12, 0, 1, nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		b.take()[0].Drop()
	})
}

// TestClientThatSendsNoMoreIsAnswered ends the requests of a stream whose other
// direction is open; of one that takes no answers, nothing is waited for.
func TestClientThatSendsNoMoreIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		gone := make(chan struct{})
		client, server := net.Pipe()
		half := &halfClosed{Conn: server, in: bytes.NewReader(append(frame(12, 0, 1, nil), frame(12, 0, 2, nil)...))}
		go s.ServeConn(half, kafka.Info{Transport: "quic", Gone: gone})
		synctest.Wait()
		waiting := b.take()
		waiting[0].Respond(kmsg.NewPtrHeartbeatResponse())
		if got, _ := readAnswer(t, client); got != 1 {
			t.Errorf("answer to %d", got)
		}
		close(gone)
		<-b.closed
		waiting[1].Drop()
		closeServer(t, s)
	})
}

// halfClosed reads what is there and then io.EOF.
type halfClosed struct {
	net.Conn
	in io.Reader
}

func (h *halfClosed) Read(b []byte) (int, error) { return h.in.Read(b) }

// TestRequestsCostNoAllocation pipelines requests over TCP through a handler
// that allocates nothing.
func TestRequestsCostNoAllocation(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := kafka.New(kafka.Options{Handler: echoer{net.Buffers{make([]byte, 40)}}})
	served := make(chan error, 1)
	go func() { served <- s.ServeListener(listener, "kafka") }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	request, answer := frame(0, 7, 1, make([]byte, 1000)), make([]byte, 48)
	exchange := func(n int) {
		for range n {
			if _, err := conn.Write(request); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, answer); err != nil {
				t.Fatal(err)
			}
		}
	}
	exchange(1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	exchange(5000)
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > 500 { // the pools lose a few to the collector
		t.Errorf("%d allocations for 5000 requests", n)
	}
	if n := binary.BigEndian.Uint32(answer); n != 44 {
		t.Errorf("answer of %d bytes", n)
	}
	conn.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-served
}
