package rustmqtest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

// within is a context for what should take moments.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// moments is how long anything may take on a machine that is busy.
const moments = 2 * time.Minute

func topic(t *testing.T, client *rustmq.Client, made rustmq.Topic) {
	t.Helper()
	if err := client.Admin().CreateTopic(within(t, moments), made); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(moments)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not in %v: %s", moments, what)
		}
	}
}

// faults is a way to brokers that can be cut.
type faults struct {
	mu    sync.Mutex
	down  bool
	quiet bool // a dial waits, and is not refused
	conns map[net.Conn]struct{}
	dials atomic.Int64
}

func (f *faults) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.dials.Add(1)
	f.mu.Lock()
	down, quiet := f.down, f.quiet
	f.mu.Unlock()
	if down && quiet {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for down {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			f.mu.Lock()
			down = f.down
			f.mu.Unlock()
		}
	}
	if down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the way is cut")}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		f.conns = map[net.Conn]struct{}{}
	}
	f.conns[conn] = struct{}{}
	return conn, nil
}

// cut ends all connections, and lets none be made until it is called with false.
func (f *faults) cut(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	for conn := range f.conns {
		_ = conn.Close()
	}
	clear(f.conns)
}

func (f *faults) option() rustmq.Option { return rustmq.WithKafka(kgo.Dialer(f.dial)) }

func TestResultsTellWhereRecordsAre(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	topic(t, client, rustmq.Topic{Name: "t", Partitions: 3})
	ctx := within(t, moments)
	for p := range int32(3) {
		results := client.ProduceSync(ctx, rustmq.Pin(&rustmq.Record{Topic: "t", Value: []byte("a")}, p), rustmq.Pin(&rustmq.Record{Topic: "t", Value: []byte("b")}, p))
		if err := results.Err(); err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Record.Partition != p || r.Record.Offset != int64(i) {
				t.Errorf("record %d pinned to %d is at %d/%d", i, p, r.Record.Partition, r.Record.Offset)
			}
		}
	}
	if err := client.ProduceSync(ctx, rustmq.Pin(&rustmq.Record{Topic: "t"}, 7)).Err(); err == nil {
		t.Error("a record went to a partition that is not there")
	}
}

func TestDeliveryTimesOut(t *testing.T) {
	t.Parallel()
	var way faults
	client := rustmqtest.Start(t).Client(t, way.option(), rustmq.WithDeliveryTimeout(time.Second))
	topic(t, client, rustmq.Topic{Name: "t"})
	ctx := within(t, moments)
	passes := func() bool { return client.ProduceSync(ctx, &rustmq.Record{Topic: "t"}).Err() == nil }
	eventually(t, "a record passes in time", passes) // which a busy machine may not have for the first
	way.cut(true)
	err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t"}).Err()
	if ctx.Err() != nil || err == nil || !rustmq.IsRetriable(err) {
		t.Fatalf("%v", err)
	}
	if h := client.Health(within(t, time.Second)); h.Healthy() || h.Failed == 0 || h.LastError == nil {
		t.Errorf("%+v", h)
	}
	way.cut(false)
	eventually(t, "a record passes again", passes)
	if h := client.Health(ctx); !h.Healthy() || h.Failed != 0 || h.LastDelivered.IsZero() {
		t.Errorf("%+v", h)
	}
}

func TestFullBufferPushesBack(t *testing.T) {
	t.Parallel()
	var way faults
	client := rustmqtest.Start(t).Client(t, way.option(), rustmq.WithBufferedBytes(10_000))
	topic(t, client, rustmq.Topic{Name: "t"})
	ctx := within(t, moments)
	if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t"}).Err(); err != nil {
		t.Fatal(err)
	}
	way.cut(true)
	for range 2 {
		client.Produce(ctx, &rustmq.Record{Topic: "t", Value: make([]byte, 4000)}, nil)
	}
	refused := make(chan error, 1)
	client.TryProduce(ctx, &rustmq.Record{Topic: "t", Value: make([]byte, 4000)}, func(_ *rustmq.Record, err error) { refused <- err })
	if err := <-refused; !errors.Is(err, kgo.ErrMaxBuffered) {
		t.Fatalf("%v", err)
	}
	waited := make(chan error, 1)
	go func() {
		client.Produce(ctx, &rustmq.Record{Topic: "t", Value: make([]byte, 4000)}, func(_ *rustmq.Record, err error) { waited <- err })
	}()
	if h := client.Health(within(t, 100*time.Millisecond)); h.BufferedRecords < 2 || h.BufferedBytes < 8_000 {
		t.Errorf("%+v", h)
	}
	select {
	case err := <-waited:
		t.Fatalf("what is beyond the buffer was answered: %v", err)
	default:
	}
	way.cut(false)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
}

func TestBreakerRefusesWhileNothingIsDelivered(t *testing.T) {
	t.Parallel()
	var way faults
	var mu sync.Mutex
	var states []string
	client := rustmqtest.Start(t).Client(t, way.option(), rustmq.WithDeliveryTimeout(time.Second), rustmq.WithCircuitBreaker(rustmq.Breaker{
		Failures: 1, Cooldown: 50 * time.Millisecond, Changed: func(from, to rustmq.BreakerState) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, fmt.Sprint(from, ">", to))
		},
	}))
	topic(t, client, rustmq.Topic{Name: "t"})
	ctx := within(t, moments)
	send := func() error { return client.ProduceSync(ctx, &rustmq.Record{Topic: "t"}).Err() }
	eventually(t, "a record passes in time", func() bool { return send() == nil }) // which a busy machine may not have for the first
	way.cut(true)
	if err := send(); !rustmq.IsRetriable(err) {
		t.Fatalf("%v", err)
	}
	eventually(t, "a record is refused at once", func() bool { return errors.Is(send(), rustmq.ErrBreakerOpen) })
	way.cut(false)
	eventually(t, "a record passes", func() bool { return send() == nil })
	mu.Lock()
	defer mu.Unlock()
	// The first probe may have failed, where the client still waited to dial again.
	if n := len(states); n < 3 || states[0] != "closed>open" || states[1] != "open>half-open" || states[n-1] != "half-open>closed" {
		t.Errorf("%v", states)
	}
}

func TestOneOfManyConditionalAppendsSucceeds(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	first := server.Client(t)
	topic(t, first, rustmq.Topic{Name: "ledger", Partitions: 1, Config: map[string]string{"rustmq.expect.offset": "true"}})
	ctx := within(t, moments)
	const writers, rounds = 4, 5
	for round := range int64(rounds) {
		var wait sync.WaitGroup
		var won atomic.Int64
		for w := range writers {
			client := server.Client(t)
			wait.Go(func() {
				err := client.AppendAt(ctx, &rustmq.Record{Topic: "ledger", Value: fmt.Append(nil, w)}, round)
				var refused *rustmq.ConditionError
				switch {
				case err == nil:
					won.Add(1)
				case !errors.As(err, &refused) || refused.Expected != round || refused.End != round+1:
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: %d writers have appended", round, won.Load())
		}
	}
	topic(t, first, rustmq.Topic{Name: "plain", Partitions: 1})
	if err := first.AppendAt(ctx, &rustmq.Record{Topic: "plain"}, 3); err == nil {
		t.Error("a topic without conditions has kept one")
	}
}

func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	topic(t, client, rustmq.Topic{Name: "t"})
	ctx := within(t, moments)
	err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: make([]byte, 2<<20)}).Err()
	if !errors.Is(err, kerr.MessageTooLarge) || rustmq.IsRetriable(err) {
		t.Errorf("%v", err)
	}
	if err := client.Admin().CreateTopic(ctx, rustmq.Topic{Name: "t"}); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("%v", err)
	}
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: "t"}); err != nil {
		t.Errorf("%v", err)
	}
}

func TestHooksSeeBothEnds(t *testing.T) {
	t.Parallel()
	type key struct{}
	var sent, processed atomic.Int64
	var traced atomic.Value
	hooks := rustmq.Hooks{
		Inject: func(ctx context.Context, r *rustmq.Record) {
			rustmq.HeaderCarrier{Record: r}.Set("traceparent", ctx.Value(key{}).(string))
		},
		Sent: func(ctx context.Context, r *rustmq.Record, _ time.Duration, err error) {
			if err == nil && ctx.Value(key{}) == "trace-1" {
				sent.Add(1)
			}
		},
		Extract: func(ctx context.Context, r *rustmq.Record) context.Context {
			return context.WithValue(ctx, key{}, rustmq.HeaderCarrier{Record: r}.Get("traceparent"))
		},
		Processed: func(context.Context, *rustmq.Record, int, time.Duration, error) { processed.Add(1) },
	}
	client := rustmqtest.Start(t).Client(t, rustmq.WithHooks(hooks))
	topic(t, client, rustmq.Topic{Name: "t", Partitions: 2})
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	traceful := context.WithValue(ctx, key{}, "trace-1")
	if err := client.ProduceSync(traceful, &rustmq.Record{Topic: "t"}, rustmq.Pin(&rustmq.Record{Topic: "t"}, 1)).Err(); err != nil {
		t.Fatal(err)
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	n := 0
	if err := consumer.Run(ctx, func(ctx context.Context, _ *rustmq.Message[[]byte]) error {
		traced.Store(ctx.Value(key{}))
		if n++; n == 2 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if sent.Load() != 2 || processed.Load() != 2 || traced.Load() != "trace-1" {
		t.Errorf("%d sent, %d processed, trace %v", sent.Load(), processed.Load(), traced.Load())
	}
}
