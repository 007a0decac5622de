package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/transport/rpc"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// answering is a controller that answers as a test says.
type answering struct {
	cluster atomic.Value // string
	calls   atomic.Int64
	answer  func(rpc.Call) rpc.Answer
	images  func(context.Context, func(rpc.ImagesState, []byte) error) error

	mu    sync.Mutex
	heard []string // of brokers; guarded by mu
}

func (a *answering) Cluster() string { return a.cluster.Load().(string) }

func (a *answering) Call(_ context.Context, c rpc.Call) rpc.Answer {
	a.calls.Add(1)
	return a.answer(c)
}

func (a *answering) Images(ctx context.Context, _ int32, _ uint64, _ bool, send func(rpc.ImagesState, []byte) error) error {
	return a.images(ctx, send)
}

func (a *answering) Hear(broker int32, epoch int64) { a.note("%d lives as %d", broker, epoch) }

func (a *answering) Broke(broker int32, epoch int64) { a.note("%d broke as %d", broker, epoch) }

func (a *answering) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = append(a.heard, fmt.Sprintf(format, args...))
}

// told returns what it was told of brokers since it was asked last.
func (a *answering) told() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	heard := strings.Join(a.heard, ", ")
	a.heard = nil
	return heard
}

// controllers returns a way to a server that is made here, at the address "there".
func controllers(t *testing.T, cluster string, register func(*grpc.Server)) *rpc.Controllers {
	t.Helper()
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(rpc.MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	register(server)
	door := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(door) }()
	c := rpc.NewControllers(rpc.ControllersOptions{
		Cluster: func() string { return cluster }, MaxDelta: 4 << 20,
		Dial: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
			if to != "there" {
				return nil, errors.New("nobody listens")
			}
			return door.DialContext(ctx)
		})},
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		server.Stop()
	})
	return c
}

func newAnswering(cluster string) *answering {
	a := &answering{answer: func(c rpc.Call) rpc.Answer { return rpc.Answer{Offset: c.Offset, Body: c.Body} }}
	a.cluster.Store(cluster)
	return a
}

func TestCallReachesAController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("ours")
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		got, err := c.Call(t.Context(), "there", rpc.Call{Broker: 3, Offset: 7, Method: "m", Body: []byte("body")})
		if err != nil || got.Offset != 7 || string(got.Body) != "body" {
			t.Fatalf("answer %+v, %v", got, err)
		}
		a.answer = func(rpc.Call) rpc.Answer { return rpc.Answer{Untried: &rpc.Untried{"why", 2, "there:1"}} }
		if got, err = c.Call(t.Context(), "there", rpc.Call{}); err != nil || *got.Untried != (rpc.Untried{"why", 2, "there:1"}) {
			t.Errorf("untried: %+v, %v", got, err)
		}
		a.answer = func(rpc.Call) rpc.Answer { return rpc.Answer{Refused: &rpc.Refused{-1, "no"}} }
		if got, err = c.Call(t.Context(), "there", rpc.Call{}); err != nil || *got.Refused != (rpc.Refused{-1, "no"}) {
			t.Errorf("refused: %+v, %v", got, err)
		}
	})
}

// It matters that a call is known not to have been run.
func TestCallThatIsNotRunSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("theirs")
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		begun := time.Now()
		for what, call := range map[string]struct {
			address string
			body    []byte
			says    string
		}{
			"nobody is there":            {"elsewhere", nil, "elsewhere"},
			"a controller of another":    {"there", nil, "belongs to cluster theirs, and not to ours"},
			"a body beyond what is read": {"there", make([]byte, rpc.MaxCall+1), ""},
		} {
			if call.says == "" {
				a.cluster.Store("ours")
			} else {
				a.cluster.Store("theirs")
			}
			_, err := c.Call(t.Context(), call.address, rpc.Call{Body: call.body})
			if _, untried := errors.AsType[*rpc.UntriedError](err); !untried || !strings.Contains(err.Error(), call.says) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if n := a.calls.Load(); n != 0 {
			t.Errorf("%d calls came through", n)
		}
		// Nor does it take long to know it, at the second try either.
		for range 3 {
			_, _ = c.Call(t.Context(), "elsewhere", rpc.Call{})
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAnswerThatIsLostMayHaveBeenRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("ours")
		held := make(chan struct{})
		a.answer = func(rpc.Call) rpc.Answer { <-held; return rpc.Answer{} }
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		defer close(held)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Call(ctx, "there", rpc.Call{})
		if _, untried := errors.AsType[*rpc.UntriedError](err); err == nil || untried || a.calls.Load() != 1 {
			t.Errorf("%v after %d calls", err, a.calls.Load())
		}
	})
}

func TestImagesComeInOrderAndWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("ours")
		deltas := [][]byte{[]byte("first"), nil, bytes.Repeat([]byte("large"), 200_000), nil, []byte("last")}
		a.images = func(ctx context.Context, send func(rpc.ImagesState, []byte) error) error {
			for i, delta := range deltas {
				if err := send(rpc.ImagesState{Leader: 2, Address: "two", Offset: uint64(i)}, delta); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return ctx.Err()
		}
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		var got [][]byte
		enough := errors.New("enough")
		err := c.Images(t.Context(), "there", 1, 0, true, func(s rpc.ImagesState, delta []byte) error {
			if s != (rpc.ImagesState{Leader: 2, Address: "two", Offset: uint64(len(got))}) {
				t.Errorf("state %+v of part %d", s, len(got))
			}
			if got = append(got, delta); len(got) == len(deltas) {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || !strings.Contains(err.Error(), "there") {
			t.Errorf("ended with %v", err)
		}
		for i, delta := range got {
			if !bytes.Equal(delta, deltas[i]) || (delta == nil) != (deltas[i] == nil) {
				t.Errorf("delta %d has %d bytes, want %d", i, len(delta), len(deltas[i]))
			}
		}
	})
}

func TestSilentControllerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("ours")
		a.images = func(ctx context.Context, send func(rpc.ImagesState, []byte) error) error {
			for range 20 { // it lives for 10 s
				if err := send(rpc.ImagesState{}, nil); err != nil {
					return err
				}
				wait(ctx, rpc.ImagesBeat)
			}
			<-ctx.Done()
			return ctx.Err()
		}
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		begun := time.Now()
		err := c.Images(t.Context(), "there", 1, 0, true, func(rpc.ImagesState, []byte) error { return nil })
		if took := time.Since(begun); !strings.Contains(err.Error(), "it says nothing") || took < 12*time.Second || took > 14*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// hostile sends parts that no controller would.
type hostile struct {
	rpcpb.UnimplementedControllerServer
	parts []*rpcpb.ImagesPart
}

func (h hostile) Images(_ *rpcpb.ImagesRequest, stream grpc.ServerStreamingServer[rpcpb.ImagesPart]) error {
	for _, p := range h.parts {
		if err := stream.Send(p); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func TestHostileImages(t *testing.T) {
	some := make([]byte, 100)
	for what, parts := range map[string][]*rpcpb.ImagesPart{
		"belongs to cluster theirs": {{ClusterId: "theirs", Data: some}},
		"a delta of more than":      {{Data: some, Rest: 1 << 62}},
		"more than 4194304":         {{Data: make([]byte, 3<<20), Rest: 1 << 20}, {Data: make([]byte, 1<<20), Rest: 1 << 20}},
		"without a byte":            {{Rest: 10}},
		"where 10 were to come":     {{Data: some, Rest: 10}, {Data: some}},
		"where 7 were to come":      {{Data: some, Rest: 7}, {}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := controllers(t, "ours", func(s *grpc.Server) { rpcpb.RegisterControllerServer(s, hostile{parts: parts}) })
			err := c.Images(t.Context(), "there", 1, 0, true, func(rpc.ImagesState, []byte) error {
				t.Errorf("%s: it was taken", what)
				return errors.New("taken")
			})
			if !strings.Contains(err.Error(), what) {
				t.Errorf("%q is wanted: %v", what, err)
			}
		})
	}
}

// TestBeatsAreHeard holds that a controller hears a broker as long as it lives, and of the
// end of its line at once.
func TestBeatsAreHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswering("ours")
		c := controllers(t, "ours", func(s *grpc.Server) { rpc.RegisterController(s, a) })
		expect := func(what, want string) {
			t.Helper()
			if got := a.told(); got != want {
				t.Errorf("%s: it was told %q, want %q", what, got, want)
			}
		}
		open := func() *rpc.Beats {
			t.Helper()
			b, err := c.Beats(t.Context(), "there")
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := open()
		expect("nothing yet", "")
		for range 2 {
			if err := b.Beat(7, 70, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		expect("two beats", "7 lives as 70, 7 lives as 70")
		b.Close()
		expect("an end", "7 broke as 70")
		open().Close()
		expect("one that never beat", "")
		a.cluster.Store("another")
		b = open()
		if err := b.Beat(7, 70, time.Second); err == nil {
			t.Error("another cluster hears it")
		}
		expect("of another cluster", "")
		a.cluster.Store("ours")
		b = open()
		if err := b.Beat(-1, 70, time.Second); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a beat of nobody: %v", err)
		}
		expect("of nobody", "")
		if _, err := c.Beats(t.Context(), "elsewhere"); err == nil {
			t.Error("nobody hears it")
		}
	})
}
