package kafka_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/transport/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker answers Metadata at once, and heartbeats when it is told to.
type broker struct {
	mu      sync.Mutex
	waiting []*kafka.Request
	arrived chan struct{}
	closed  chan struct{}
}

func newBroker() *broker {
	return &broker{arrived: make(chan struct{}, 10_000), closed: make(chan struct{}, 10_000)}
}

func (b *broker) Versions() []kafka.ApiVersion {
	return []kafka.ApiVersion{{Key: 0, Min: 3, Max: 13}, {Key: 3, Min: 0, Max: 13}, {Key: 12, Min: 0, Max: 4}, {Key: 17, Min: 1, Max: 1}, {Key: 36, Min: 0, Max: 2}}
}

func (b *broker) ConnClosed(*kafka.Conn) { b.closed <- struct{}{} }

func (b *broker) Serve(r *kafka.Request) {
	if r.Key == int16(kmsg.Metadata) {
		req, err := r.Decode()
		if err != nil {
			r.Close(err)
			return
		}
		r.Respond(req.ResponseKind())
		return
	}
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	b.arrived <- struct{}{}
}

func (b *broker) take() []*kafka.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.waiting
	b.waiting = nil
	return w
}

func start(t *testing.T, b *broker, l kafka.Limits) (*kafka.Server, string) {
	t.Helper()
	s := kafka.New(kafka.Options{Handler: b, Limits: l})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeListener(listener, "kafka") }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != kafka.ErrServerClosed {
			t.Error(err)
		}
	})
	return s, listener.Addr().String()
}

func TestFranzGoTalksToIt(t *testing.T) {
	_, addr := start(t, newBroker(), kafka.Limits{})
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// frame is a request with a one byte client id.
func frame(key, version int16, correlation int32, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(11+len(body)))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = append(b, 0, 1, 'x')
	return append(b, body...)
}

func readAnswer(t *testing.T, r io.Reader) (correlation int32, body []byte) {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return int32(binary.BigEndian.Uint32(body)), body[4:]
}

func TestAnswersLeaveInOrderOfRequests(t *testing.T) {
	b := newBroker()
	_, addr := start(t, b, kafka.Limits{})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 300
	for i := range n {
		if _, err := conn.Write(frame(12, 0, int32(i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		<-b.arrived
	}
	waiting := b.take()
	random(t).Shuffle(n, func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	for _, r := range waiting {
		go r.Respond(kmsg.NewPtrHeartbeatResponse())
	}
	for i := range n {
		if got, _ := readAnswer(t, conn); got != int32(i) {
			t.Fatalf("answer %d is to request %d", i, got)
		}
	}
}

func TestUnknownApiVersionsIsAnsweredWithV0(t *testing.T) {
	_, addr := start(t, newBroker(), kafka.Limits{})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(frame(18, 99, 7, nil)); err != nil {
		t.Fatal(err)
	}
	got, body := readAnswer(t, conn)
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body); err != nil || got != 7 || resp.ErrorCode != 35 || len(resp.ApiKeys) == 0 {
		t.Fatalf("correlation %d, %+v, %v", got, resp, err)
	}
	if resp.ApiKeys[0].ApiKey != 0 || resp.ApiKeys[0].MinVersion != 0 {
		t.Fatalf("Produce is announced from v%d: an old librdkafka would not compress", resp.ApiKeys[0].MinVersion)
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == kmsg.SASLHandshake.Int16() && (k.MinVersion != 0 || k.MaxVersion != 1) {
			t.Fatalf("SaslHandshake is announced from v%d to v%d: librdkafka would not authenticate", k.MinVersion, k.MaxVersion)
		}
	}
}

func TestMalformedInputClosesOnlyItsConnection(t *testing.T) {
	b := newBroker()
	_, addr := start(t, b, kafka.Limits{MaxFrame: 1 << 20})
	good, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	for name, input := range map[string][]byte{
		"huge length":     {0x7f, 0xff, 0xff, 0xff},
		"negative length": {0xff, 0xff, 0xff, 0xff},
		"zero length":     {0, 0, 0, 0},
		"client id":       {0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff},
		"unknown api":     frame(999, 0, 1, nil),
		"unserved":        frame(0, 2, 1, nil),
		"unserved SASL":   frame(17, 0, 1, []byte{0, 0}),
		"tags":            frame(3, 12, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}),
		"body":            frame(3, 0, 1, []byte{0x7f, 0xff, 0xff, 0xff}),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(input); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: answered with %d bytes", name, n)
		}
		conn.Close()
		<-b.closed
	}
	if _, err := good.Write(frame(12, 0, 1, nil)); err != nil {
		t.Fatal(err)
	}
	<-b.arrived
	b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
	readAnswer(t, good)
}

func TestClientThatReadsNoAnswersIsNotReadFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b, Limits: kafka.Limits{MaxPipelined: 5}})
		client, server := net.Pipe()
		go s.ServeConn(server, kafka.Info{Transport: "tcp"})
		wrote := make(chan int, 100)
		go func() {
			for i := range 50 {
				if _, err := client.Write(frame(12, 0, int32(i), nil)); err != nil {
					return
				}
				wrote <- i
			}
		}()
		synctest.Wait()
		if got := len(b.take()); got != 5 {
			t.Errorf("%d requests were started, at most 5 may wait for their answers", got)
		}
		client.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestIdleAndStalledConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: newBroker(), Limits: kafka.Limits{IdleTimeout: time.Minute, FrameTimeout: time.Second}})
		idle, server := net.Pipe()
		go s.ServeConn(server, kafka.Info{Transport: "tcp"})
		slow, server2 := net.Pipe()
		go s.ServeConn(server2, kafka.Info{Transport: "tcp"})
		began := time.Now()
		if _, err := slow.Write([]byte{0, 0, 1, 0, 1}); err != nil { // a frame of 256 bytes that stalls
			t.Fatal(err)
		}
		if _, err := slow.Read(make([]byte, 1)); err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("a stalled frame was waited for %v: %v", time.Since(began), err)
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil || time.Since(began) > 61*time.Second {
			t.Errorf("an idle connection was kept %v: %v", time.Since(began), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFramesWaitForTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b, Limits: kafka.Limits{TotalMemory: 3000}})
		var clients []net.Conn
		for range 5 {
			client, server := net.Pipe()
			clients = append(clients, client)
			go s.ServeConn(server, kafka.Info{Transport: "tcp"})
			go func() { _, _ = client.Write(frame(12, 0, 1, make([]byte, 1000))) }()
		}
		synctest.Wait()
		started := b.take()
		if len(started) != 2 {
			t.Errorf("%d frames of 1011 bytes were read within a budget of 3000", len(started))
		}
		started[0].Drop()
		synctest.Wait()
		if got := len(b.take()); got != 1 {
			t.Errorf("%d frames were read after one had ended", got)
		}
		for _, c := range clients {
			c.Close()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzConnection(f *testing.F) {
	everyRequest(func(_, _ int16, frame []byte) { f.Add(frame) })
	f.Fuzz(func(t *testing.T, input []byte) {
		s := kafka.New(kafka.Options{Handler: decoder{}, Limits: kafka.Limits{MaxFrame: 1 << 16}})
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { s.ServeConn(server, kafka.Info{Transport: "tcp"}); cancel() }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_, _ = client.Write(input)
		client.Close()
		<-ctx.Done()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// decoder parses whatever comes.
type decoder struct{}

func (decoder) Versions() []kafka.ApiVersion {
	var all []kafka.ApiVersion
	for key := range int16(kmsg.MaxKey + 1) {
		if req := kmsg.RequestForKey(key); req != nil {
			all = append(all, kafka.ApiVersion{Key: key, Min: 0, Max: req.MaxVersion()})
		}
	}
	return all
}

func (decoder) ConnClosed(*kafka.Conn) {}

func (decoder) Serve(r *kafka.Request) {
	req, err := r.Decode()
	if err != nil {
		r.Close(err)
		return
	}
	r.Respond(req.ResponseKind())
}
