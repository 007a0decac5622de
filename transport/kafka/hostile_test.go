package kafka_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// counts is Metrics and AnswerTimer for tests.
type counts struct {
	mu      sync.Mutex
	failed  map[string]int
	refused map[string]int
	served  int
}

func newCounts() *counts { return &counts{failed: map[string]int{}, refused: map[string]int{}} }

func (c *counts) Opened(string)         {}
func (c *counts) Closed(string)         {}
func (c *counts) Received(int16, int64) {}
func (c *counts) Sent(int64)            {}

func (c *counts) Refused(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reason]++
}

func (c *counts) Failed(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[reason]++
}

func (c *counts) Answered(_ int16, served, queued time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if served < 0 || queued < 0 {
		panic("an answer that took less than no time")
	}
	c.served++
}

func (c *counts) get(of map[string]int, reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return of[reason]
}

// pipe connects a client to s by memory, for synctest.
func pipe(s *kafka.Server, info kafka.Info) net.Conn {
	client, server := net.Pipe()
	if info.Transport == "" {
		info.Transport = "tcp"
	}
	go s.ServeConn(server, info)
	return client
}

func closeServer(t *testing.T, s *kafka.Server) {
	t.Helper()
	if err := s.Close(); err != nil && !errors.Is(err, kafka.ErrServerClosed) {
		t.Error(err)
	}
}

// everyRequest calls f with a frame of each API and version that kmsg knows.
func everyRequest(f func(key, version int16, frame []byte)) {
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			body := req.AppendTo(nil)
			if req.IsFlexible() {
				body = append([]byte{0}, body...) // tagged fields of the header
			}
			f(key, v, frame(key, v, 1, body))
		}
	}
}

// TestEveryRequestCutAnywhereClosesItsConnection sends each request of each
// version cut at each byte, once with a length that says so and once without.
func TestEveryRequestCutAnywhereClosesItsConnection(t *testing.T) {
	s := kafka.New(kafka.Options{Handler: decoder{}, Limits: kafka.Limits{MaxFrame: 1 << 16}})
	defer closeServer(t, s)
	send := func(input []byte) {
		client, server := net.Pipe()
		ended := make(chan struct{})
		go func() { s.ServeConn(server, kafka.Info{Transport: "tcp"}); close(ended) }()
		drained := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, client); close(drained) }()
		_, _ = client.Write(input) // refused where the server has closed it
		client.Close()
		<-ended
		<-drained
	}
	step := 1
	if underRace {
		step = 5 // it is ten times slower
	}
	first := 0
	everyRequest(func(_, _ int16, whole []byte) {
		first = (first + 1) % step
		for cut := first; cut < len(whole); cut += step {
			send(whole[:cut])
			if cut >= 4 {
				honest := bytes.Clone(whole[:cut])
				binary.BigEndian.PutUint32(honest, uint32(cut-4))
				send(honest)
			}
		}
	})
}

func TestMalformedInputIsLoggedOnceAndCounted(t *testing.T) {
	for name, test := range map[string]struct {
		input  []byte
		reason string
	}{
		"length 2^31-1":      {[]byte{0x7f, 0xff, 0xff, 0xff}, "malformed"},
		"length -1":          {[]byte{0xff, 0xff, 0xff, 0xff}, "malformed"},
		"length 0":           {[]byte{0, 0, 0, 0}, "malformed"},
		"length 9":           {[]byte{0, 0, 0, 9, 0, 3, 0, 0, 0, 0, 0, 1, 0}, "malformed"},
		"length above limit": {[]byte{0, 1, 0, 1, 0, 3, 0, 0, 0, 0, 0, 1, 0}, "malformed"},
		"client id":          {[]byte{0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff}, "malformed"},
		"client id of -2":    {[]byte{0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xfe}, "malformed"},
		"no such API":        {frame(999, 0, 1, nil), "bad_request"},
		"API below 0":        {frame(-1, 0, 1, nil), "bad_request"},
		"version below 0":    {frame(3, -1, 1, nil), "bad_request"},
		"version refused":    {frame(0, 2, 1, nil), "bad_request"},
		"tags without end":   {frame(3, 12, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}), "malformed"},
		"tag too large":      {frame(3, 12, 1, []byte{1, 0, 0x7f}), "malformed"},
		"many tags":          {frame(3, 12, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x07}), "malformed"},
		"array of 2^31-1":    {frame(3, 0, 1, []byte{0x7f, 0xff, 0xff, 0xff}), "bad_request"},
		"HTTP":               {[]byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), "malformed"},
		"TLS hello in clear": {[]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out lockedBuffer
				seen := newCounts()
				s := kafka.New(kafka.Options{
					Handler: newBroker(), Limits: kafka.Limits{MaxFrame: 1 << 16}, Metrics: seen,
					Log: slog.New(slog.NewTextHandler(&out, nil)),
				})
				good, bad := pipe(s, kafka.Info{}), pipe(s, kafka.Info{})
				_, _ = bad.Write(test.input) // refused where the server has closed it
				if n, err := bad.Read(make([]byte, 1)); err == nil {
					t.Errorf("answered with %d bytes", n)
				}
				synctest.Wait()
				if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.Contains(out.String(), "reason="+test.reason) {
					t.Errorf("want one line with the reason %s, got %d:\n%s", test.reason, lines, out.String())
				}
				if n := seen.get(seen.failed, test.reason); n != 1 {
					t.Errorf("counted %d times: %v", n, seen.failed)
				}
				if _, err := good.Write(frame(18, 0, 5, nil)); err != nil { // others go on
					t.Fatal(err)
				}
				if got, _ := readAnswer(t, good); got != 5 {
					t.Errorf("answer to %d", got)
				}
				closeServer(t, s)
			})
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestLogLinesOfHostileClientsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		s := kafka.New(kafka.Options{Handler: newBroker(), Log: slog.New(slog.NewTextHandler(&out, nil))})
		flood := func() {
			for range 100 {
				c := pipe(s, kafka.Info{})
				_, _ = c.Write([]byte{0xff, 0xff, 0xff, 0xff})
				synctest.Wait()
				c.Close()
			}
		}
		flood()
		if n := strings.Count(out.String(), "\n"); n != 10 {
			t.Errorf("%d lines for 100 connections in a second, want 10", n)
		}
		pass(time.Second)
		flood()
		if !strings.Contains(out.String(), "lines_left_out_before=90") {
			t.Error("nothing says that lines were left out")
		}
		closeServer(t, s)
	})
}

// TestFrameTrickledByteByByteIsCut sends a byte a second: neither in the length
// nor in the body does that hold a connection for longer than a frame may take.
func TestFrameTrickledByteByByteIsCut(t *testing.T) {
	for name, head := range map[string][]byte{"length": nil, "body": {0, 0, 4, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kafka.New(kafka.Options{Handler: newBroker(), Limits: kafka.Limits{FrameTimeout: 10 * time.Second}})
				c := pipe(s, kafka.Info{})
				began := time.Now()
				if _, err := c.Write(append(head, 0)); err != nil {
					t.Fatal(err)
				}
				for {
					pass(time.Second)
					if len(head) == 0 && time.Since(began) < 3*time.Second {
						continue // the length is all there after three more
					}
					if _, err := c.Write([]byte{0}); err != nil {
						break
					}
				}
				if took := time.Since(began); took > 22*time.Second {
					t.Errorf("held for %v", took)
				}
				closeServer(t, s)
			})
		})
	}
}

func TestConnectionThatSaysNothingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newCounts()
		s := kafka.New(kafka.Options{Handler: newBroker(), Metrics: seen, Limits: kafka.Limits{FirstTimeout: 7 * time.Second}})
		c := pipe(s, kafka.Info{})
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) != 7*time.Second {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		synctest.Wait()
		if seen.get(seen.failed, "idle") != 1 {
			t.Errorf("counted %v", seen.failed)
		}
		closeServer(t, s)
	})
}

// TestClientThatWaitsForUsIsNotIdle keeps a connection whose request takes
// longer than the idle time.
func TestClientThatWaitsForUsIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b, Limits: kafka.Limits{IdleTimeout: time.Minute}})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(12, 0, 1, nil)); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
		if got, _ := readAnswer(t, c); got != 1 {
			t.Errorf("answer to %d", got)
		}
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) > 2*time.Minute {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		closeServer(t, s)
	})
}

// TestAnswersThatNobodyReadsStopTheirConnection lets clients ask and not read:
// what waits for them stays within the budgets of the connection and of all,
// and is let go of when the write time-out has cut them.
func TestAnswersThatNobodyReadsStopTheirConnection(t *testing.T) {
	const answer = 1000
	for name, test := range map[string]struct {
		limits  kafka.Limits
		clients int
		most    int // answers that wait
	}{
		"of one":    {kafka.Limits{ConnMemory: 10 * answer}, 1, 11},
		"of all":    {kafka.Limits{TotalUnsent: 10 * answer}, 5, 10 + 5},
		"by number": {kafka.Limits{MaxPipelined: 7}, 1, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.limits.WriteTimeout = time.Minute
				h := &answerer{answer: make([]byte, answer)}
				seen := newCounts()
				s := kafka.New(kafka.Options{Handler: h, Limits: test.limits, Metrics: seen})
				for range test.clients {
					c := pipe(s, kafka.Info{})
					go func() {
						for i := range int32(100) {
							if _, err := c.Write(frame(12, 0, i, nil)); err != nil {
								return
							}
						}
					}()
				}
				synctest.Wait()
				asked, released := h.counts()
				if asked == 0 || asked > test.most || released != 0 {
					t.Errorf("%d answers wait for clients that read none, want at most %d; %d were released", asked, test.most, released)
				}
				pass(2 * time.Minute)
				synctest.Wait()
				if asked, released = h.counts(); asked != released {
					t.Errorf("%d answers were given, %d released", asked, released)
				}
				if n := seen.get(seen.failed, "stalled"); n != test.clients {
					t.Errorf("counted %v", seen.failed)
				}
				closeServer(t, s)
			})
		})
	}
}

// answerer answers at once and counts what it gave and got back.
type answerer struct {
	answer          []byte
	mu              sync.Mutex
	asked, released int
}

func (h *answerer) Versions() []kafka.ApiVersion { return []kafka.ApiVersion{{Key: 12, Max: 4}} }
func (h *answerer) ConnClosed(*kafka.Conn)       {}

func (h *answerer) counts() (asked, released int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked, h.released
}

func (h *answerer) Serve(r *kafka.Request) {
	h.mu.Lock()
	h.asked++
	h.mu.Unlock()
	r.RespondRaw(net.Buffers{h.answer}, func() {
		h.mu.Lock()
		h.released++
		h.mu.Unlock()
	})
}

// TestStalledLargeFramesLeaveRoomForSmallOnes lets clients announce frames and
// send the first of them: others are still served.
func TestStalledLargeFramesLeaveRoomForSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: newBroker(), Limits: kafka.Limits{TotalMemory: 8 << 20}})
		for range 10 {
			half := append([]byte{0, 0x20, 0, 0}, make([]byte, 16<<10)...) // 2 MiB
			if _, err := pipe(s, kafka.Info{}).Write(half); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		c := pipe(s, kafka.Info{})
		began := time.Now()
		if _, err := c.Write(frame(18, 0, 3, nil)); err != nil {
			t.Fatal(err)
		}
		if got, _ := readAnswer(t, c); got != 3 || time.Since(began) != 0 {
			t.Errorf("answer to %d after %v", got, time.Since(began))
		}
		closeServer(t, s)
	})
}

func TestUnknownClientsSendSmallFramesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b, RequireAuth: true})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(36, 0, 1, make([]byte, 60<<10))); err != nil {
			t.Fatal(err)
		}
		<-b.arrived
		r := b.take()[0]
		conn := r.Conn
		if conn.Principal() != "User:ANONYMOUS" {
			t.Error(conn.Principal())
		}
		r.Respond(kmsg.NewPtrSASLAuthenticateResponse())
		readAnswer(t, c)
		conn.Authenticate("User:alice")
		if _, err := c.Write(frame(12, 0, 2, make([]byte, 100<<10))); err != nil {
			t.Fatal(err)
		}
		<-b.arrived
		if b.take()[0].Conn.Principal() != "User:alice" {
			t.Error("not alice")
		}
		known := pipe(s, kafka.Info{Principal: "User:bob"}) // by mTLS
		if _, err := known.Write(frame(12, 0, 2, make([]byte, 100<<10))); err != nil {
			t.Error(err)
		}
		unknown := pipe(s, kafka.Info{})
		if _, err := unknown.Write(frame(36, 0, 2, make([]byte, 100<<10))); err == nil {
			t.Error("a client that nobody knows sent 100 KiB")
		}
		closeServer(t, s)
	})
}

func TestConnectionsAreCountedInAllAndByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newCounts()
		s := kafka.New(kafka.Options{Handler: newBroker(), Metrics: seen, Limits: kafka.Limits{MaxConns: 5, PerIP: 2}})
		dial := func(ip string) net.Conn {
			client, server := net.Pipe()
			go s.ServeConn(addressed{server, &net.TCPAddr{IP: net.ParseIP(ip)}}, kafka.Info{Transport: "tcp", Principal: "User:alice"})
			synctest.Wait()
			return client
		}
		first := dial("10.0.0.1")
		dial("::ffff:10.0.0.1")
		dial("10.0.0.1")
		if n := seen.get(seen.refused, "max_connections_per_ip"); n != 1 {
			t.Errorf("a third connection of one address: %v", seen.refused)
		}
		dial("2001:db8::1")
		dial("2001:db8::2")
		dial("2001:db8::3") // of the same /64
		if n := seen.get(seen.refused, "max_connections_per_ip"); n != 2 {
			t.Errorf("a third connection of one network: %v", seen.refused)
		}
		dial("10.0.0.2")
		dial("10.0.0.3")
		if n := seen.get(seen.refused, "max_connections"); n != 1 {
			t.Errorf("a sixth connection: %v", seen.refused)
		}
		first.Close()
		synctest.Wait()
		dial("10.0.0.1")
		if len(seen.refused) != 2 {
			t.Errorf("a place that was left: %v", seen.refused)
		}
		closeServer(t, s)
	})
}

type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

func TestMemoryIsGivenBackWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		for i := range 3 {
			c := pipe(s, kafka.Info{})
			for n := range int32(4) {
				if _, err := c.Write(frame(12, 0, n, make([]byte, 5000))); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			waiting := b.take()
			waiting[1].Drop()
			if i == 1 { // half a frame
				_, _ = c.Write(frame(12, 0, 9, make([]byte, 5000))[:100])
			}
			if i == 2 { // answered before the end, not sent
				waiting[3].Respond(kmsg.NewPtrHeartbeatResponse())
			}
			c.Close()
			synctest.Wait()
			waiting[0].Respond(kmsg.NewPtrHeartbeatResponse()) // after the end
			waiting[2].Close(errors.New("late"))
			if i != 2 {
				waiting[3].Drop()
			}
		}
		synctest.Wait()
		if used, unsent := s.InUse(); used != 0 || unsent != 0 {
			t.Errorf("%d bytes of frames and %d of answers are counted and not there", used, unsent)
		}
		closeServer(t, s)
	})
}

func TestSecondAnswerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		c := pipe(s, kafka.Info{})
		for n := range int32(2) {
			if _, err := c.Write(frame(12, 0, n, nil)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		second := b.take()[1]
		second.Drop()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a request was answered twice and nobody noticed")
				}
			}()
			second.Drop()
		}()
		closeServer(t, s)
	})
}

// TestEarlyRequestsWaitForTheHandshake sends requests in 0-RTT: what the hook
// lets pass is served, the rest is held, in order, until the handshake is
// complete, and ends with it when it fails.
func TestEarlyRequestsWaitForTheHandshake(t *testing.T) {
	for name, fails := range map[string]error{"completes": nil, "fails": errors.New("bad finished")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker()
				s := kafka.New(kafka.Options{Handler: b, EarlyOK: func(r *kafka.Request) bool { return r.Key == int16(kmsg.Metadata) }})
				handshake := make(chan struct{})
				c := pipe(s, kafka.Info{
					Transport: "quic",
					Early: func() bool {
						select {
						case <-handshake:
							return false
						default:
							return true
						}
					},
					Confirm: func(ctx context.Context) error {
						select {
						case <-handshake:
							return fails
						case <-ctx.Done():
							return ctx.Err()
						}
					},
				})
				go func() {
					_, _ = c.Write(frame(18, 0, 1, nil))
					_, _ = c.Write(frame(3, 1, 2, []byte{0, 0, 0, 0}))
					_, _ = c.Write(frame(12, 0, 3, nil))
					_, _ = c.Write(frame(3, 1, 4, []byte{0, 0, 0, 0}))
				}()
				for want := range int32(2) {
					if got, _ := readAnswer(t, c); got != want+1 {
						t.Fatalf("answer to %d", got)
					}
				}
				synctest.Wait()
				if n := len(b.take()); n != 0 {
					t.Fatal("a request that changes something was served in 0-RTT")
				}
				close(handshake)
				synctest.Wait()
				if fails != nil {
					if _, err := c.Read(make([]byte, 1)); err == nil || len(b.take()) != 0 {
						t.Fatal("served though the handshake failed")
					}
					closeServer(t, s)
					return
				}
				b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
				for want := int32(3); want <= 4; want++ {
					if got, _ := readAnswer(t, c); got != want {
						t.Fatalf("answer to %d, want %d", got, want)
					}
				}
				closeServer(t, s)
			})
		})
	}
}

// TestAnsweringNeverWaitsForTheSocket ends a connection whose socket takes its
// time to close, as TLS does that says farewell to a peer who does not read.
func TestAnsweringNeverWaitsForTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		client, server := net.Pipe()
		go s.ServeConn(slowToClose{server}, kafka.Info{Transport: "tls"})
		for n := range int32(2) {
			if _, err := client.Write(frame(12, 0, n, nil)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		waiting := b.take()
		waiting[0].Close(errors.New("no"))
		waiting[1].Respond(kmsg.NewPtrHeartbeatResponse())
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v", took)
		}
		closeServer(t, s)
	})
}

type slowToClose struct{ net.Conn }

func (c slowToClose) Close() error {
	<-time.After(5 * time.Second)
	return c.Conn.Close()
}

// pass lets time pass in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// TestTagsThatNeverEndCloseTheConnection: a few bytes of ApiVersions that promise
// billions of tagged fields are malformed, and cost as little.
func TestTagsThatNeverEndCloseTheConnection(t *testing.T) {
	for version, body := range map[int16][]byte{
		3: {2, 'a', 2, '1', 0xff, 0xff, 0xff, 0xff, 0x07},
		4: {2, 'a', 2, '1', 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		s := kafka.New(kafka.Options{Handler: newBroker()})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(18, version, 1, append([]byte{0}, body...))); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("v%d: answered %q, %v", version, b, err)
		}
		_ = c.Close()
		closeServer(t, s)
	}
}

// TestClientsSayLittleOfThemselves: an ApiVersions request of many tagged fields,
// each of its own number, is refused before a map is made of them.
func TestClientsSayLittleOfThemselves(t *testing.T) {
	const tags = 10_000
	body := []byte{0, 2, 'a', 2, '1'}
	body = binary.AppendUvarint(body, tags)
	for i := range uint64(tags) {
		body = append(binary.AppendUvarint(body, i), 0)
	}
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: newBroker()})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(18, 3, 1, body)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // fails where it is closed already
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("answered %q, %v", b, err)
		}
		_ = c.Close()
		closeServer(t, s)
	})
}
