package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/transport/rpc"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// asked is a broker that other brokers ask: it notes what it served, and is as slow as
// the body says.
type asked struct {
	mu     sync.Mutex
	served []string
	hold   map[string]chan struct{} // by body: served when it is closed
}

func (a *asked) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.served = append(a.served, what)
}

func (a *asked) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.served, " ")
}

func (a *asked) AdmitPeer(ctx context.Context, c *rpc.PeerCall) error {
	if c.MetadataOffset == math.MaxUint64 { // which no image ever has
		<-ctx.Done()
		return ctx.Err()
	}
	if c.From.Epoch < 0 {
		return fmt.Errorf("broker %d at epoch %d: %w", c.From.ID, c.From.Epoch, rpc.ErrPeerRefused)
	}
	return nil
}

func (a *asked) ServePeer(ctx context.Context, c *rpc.PeerCall) ([]byte, error) {
	body := string(c.Body)
	a.note("+" + body)
	if hold := a.hold[body]; hold != nil {
		<-hold // whatever becomes of ctx
	}
	if err := ctx.Err(); err != nil {
		a.note("-" + body)
		return nil, err
	}
	a.note("=" + body)
	return fmt.Appendf(nil, "%d.%d %d v%d at %d: %s", c.From.ID, c.From.Epoch, c.Key, c.Version, c.MetadataOffset, body), nil
}

// peersOf is two brokers, and a raw way to the one that is asked.
type peersOf struct {
	t       *testing.T
	asked   *asked
	cl      *rpc.Peers // the one that asks
	answers *rpc.Peers
	raw     rpcpb.PeersClient
	door    *bufconn.Listener
	end     func()
}

func newPeersOf(t *testing.T, theirs, ours string) *peersOf {
	door := bufconn.Listen(1 << 20)
	server := rpc.NewServer(nil, rpc.MaxMessage)
	a := &asked{hold: map[string]chan struct{}{}}
	answers := rpc.NewPeers(rpc.PeersOptions{Cluster: func() string { return ours }})
	answers.Register(server)
	answers.Attach(a)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(door)
	}()
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) })
	p := &peersOf{t: t, asked: a, answers: answers, door: door, cl: rpc.NewPeers(rpc.PeersOptions{Cluster: func() string { return theirs }, Dial: []grpc.DialOption{dial}})}
	line, err := grpc.NewClient("passthrough:///broker", dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	p.raw = rpcpb.NewPeersClient(line)
	p.end = func() {
		if err := errors.Join(line.Close(), p.cl.Close(), answers.Close()); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-serving
	}
	return p
}

func (p *peersOf) call(ctx context.Context, body string, ordered bool) ([]byte, error) {
	return p.cl.Call(ctx, "broker-2:9093", &rpc.PeerCall{
		From: rpc.PeerBroker{ID: 1, Epoch: 7}, To: rpc.PeerBroker{ID: 2}, MetadataOffset: 40, Key: 27, Version: 2, Body: []byte(body), Ordered: ordered,
	})
}

func (p *peersOf) rawCall(epoch int64, order uint64, body string) error {
	_, err := p.raw.Call(p.t.Context(), &rpcpb.PeerRequest{
		ClusterId: "c", From: &rpcpb.PeerBroker{Id: 1, Epoch: epoch}, To: &rpcpb.PeerBroker{Id: 2}, Order: order, Body: []byte(body),
	})
	return err
}

func TestBrokersAskEachOther(t *testing.T) {
	p := newPeersOf(t, "c", "c")
	defer p.end()
	got, err := p.call(t.Context(), "hello", false)
	if want := "1.7 27 v2 at 40: hello"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := p.rawCall(-1, 0, "x"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("who is not admitted: %v", err)
	}
	if _, err := p.cl.Call(t.Context(), "broker-2:9093", &rpc.PeerCall{Body: make([]byte, rpc.MaxPeerBody+1)}); !errors.Is(err, rpc.ErrPeerRefused) {
		t.Errorf("a body that is too large: %v", err)
	}
}

func TestBrokersOfOtherClustersAreRefused(t *testing.T) {
	for _, c := range []struct{ theirs, ours string }{{"a", "b"}, {"", "b"}, {"a", ""}, {"", ""}} {
		p := newPeersOf(t, c.theirs, c.ours)
		if _, err := p.call(t.Context(), "x", false); !errors.Is(err, rpc.ErrPeerRefused) {
			t.Errorf("a caller of cluster %q at a broker of %q: %v", c.theirs, c.ours, err)
		}
		if got := p.asked.all(); got != "" {
			t.Errorf("served %s", got)
		}
		p.end()
	}
}

// TestPeerCallsAreBounded holds as many calls as are served at a time; the next is
// refused, and taken when one of them is over.
func TestPeerCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		body := strings.Repeat("x", rpc.MaxPeerBody)
		release := make(chan struct{})
		p.asked.hold[body] = release
		const held = 32
		var calls sync.WaitGroup
		for range held {
			calls.Go(func() {
				if _, err := p.call(t.Context(), body, false); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := p.call(t.Context(), "one more", false); !strings.Contains(fmt.Sprint(err), codes.ResourceExhausted.String()) {
			t.Errorf("beyond the bound: %v", err)
		}
		close(release)
		calls.Wait()
		if _, err := p.call(t.Context(), "then", false); err != nil {
			t.Error(err)
		}
	})
}

// TestWhatIsTriedAgainIsNotOvertaken gives up two calls, one after the other: the third
// is served when the first, which goes on, is over, and the second never.
func TestWhatIsTriedAgainIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		slow := make(chan struct{})
		p.asked.hold["a"] = slow
		for _, body := range []string{"a", "b"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := p.call(ctx, body, true); !errors.Is(err, rpc.ErrPeerUnreachable) {
				t.Errorf("%s: %v", body, err)
			}
			cancel()
		}
		var third sync.WaitGroup
		third.Go(func() {
			if _, err := p.call(t.Context(), "c", true); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if got, want := p.asked.all(), "+a"; got != want {
			t.Errorf("served %s before the first was over, want %s", got, want)
		}
		if _, err := p.call(t.Context(), "aside", false); err != nil { // what has no order waits for nothing
			t.Error(err)
		}
		close(slow)
		third.Wait()
		synctest.Wait()
		if got := strings.Fields(p.asked.all()); !slices.Equal(got, []string{"+a", "+aside", "=aside", "-a", "+c", "=c"}) {
			t.Errorf("served %s", got)
		}
	})
}

// TestGivenUpCallsAreRefused plays a call that was long on its way: later orders, or the
// next start of its sender, have been served before it came.
func TestGivenUpCallsAreRefused(t *testing.T) {
	p := newPeersOf(t, "c", "c")
	defer p.end()
	for _, c := range []struct {
		epoch int64
		order uint64
		want  codes.Code
	}{{1, 2, codes.OK}, {1, 2, codes.OK}, {1, 1, codes.Aborted}, {2, 1, codes.OK}, {1, 9, codes.Aborted}, {1, 0, codes.OK}, {2, 1, codes.OK}} {
		if err := p.rawCall(c.epoch, c.order, "x"); status.Code(err) != c.want {
			t.Errorf("order %d of epoch %d: %v, want %v", c.order, c.epoch, err, c.want)
		}
	}
}

// TestPeerCallsAreBoundedInTime asks for what never comes, with all the patience there is:
// whoever is no broker can do so before that is known.
func TestPeerCallsAreBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		_, err := p.raw.Call(ctx, &rpcpb.PeerRequest{ClusterId: "c", MetadataOffset: math.MaxUint64})
		if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took > time.Minute {
			t.Errorf("%v after %v, want the end of the server's patience", err, took)
		}
	})
}

// mute is a wire that loses all that is sent from some moment on, both ways, without a
// word.
type mute struct {
	net.Conn
	lost   atomic.Bool
	ended  sync.Once
	closed chan struct{}
}

func (m *mute) Write(b []byte) (int, error) {
	if m.lost.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

func (m *mute) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if m.lost.Load() {
		<-m.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (m *mute) Close() error {
	m.ended.Do(func() { close(m.closed) })
	return m.Conn.Close()
}

// TestALineThatIsDeadIsMadeAnew loses what a connection carries, as one does that a
// network has been cut under: TCP alone finds that out, or goes on, minutes later.
func TestALineThatIsDeadIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeersOf(t, "c", "c")
		defer p.end()
		var wires []*mute
		peers := rpc.NewPeers(rpc.PeersOptions{Cluster: func() string { return "c" }, Dial: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := p.door.DialContext(ctx)
				wires = append(wires, &mute{Conn: conn, closed: make(chan struct{})})
				return wires[len(wires)-1], err
			}),
		}})
		defer peers.Close()
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := peers.Call(ctx, "broker-2:9093", &rpc.PeerCall{From: rpc.PeerBroker{ID: 1, Epoch: 7}, To: rpc.PeerBroker{ID: 2}})
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		wires[0].lost.Store(true)
		begun := time.Now()
		for err := call(); err != nil; err = call() {
			if time.Since(begun) > time.Minute {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
		}
		if len(wires) != 2 {
			t.Errorf("%d connections were made, want 2", len(wires))
		}
	})
}
