package rustmqtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

// fill produces n records to a topic of p partitions, value i of key i mod keys.
func fill(t *testing.T, client *rustmq.Client, name string, p int32, n, keys int) {
	t.Helper()
	topic(t, client, rustmq.Topic{Name: name, Partitions: p})
	var records []*rustmq.Record
	for i := range n {
		records = append(records, &rustmq.Record{Topic: name, Key: fmt.Append(nil, "key-", i%keys), Value: fmt.Append(nil, i)})
	}
	if err := client.ProduceSync(within(t, moments), records...).Err(); err != nil {
		t.Fatal(err)
	}
}

func consumer(t *testing.T, client *rustmq.Client, o rustmq.ConsumerOptions) *rustmq.Consumer[int] {
	t.Helper()
	c, err := rustmq.NewConsumer(client, rustmq.JSON[int](), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// lag is what a group has not committed of all its topics.
func lag(t *testing.T, client *rustmq.Client, group string) int64 {
	t.Helper()
	groups, err := client.Admin().Groups(within(t, moments), group)
	if err != nil || len(groups) != 1 {
		t.Fatalf("%v, %v", groups, err)
	}
	return groups[0].Lag
}

// TestKeysKeepTheirOrderAmongWorkers also proves that all is committed at the end.
func TestKeysKeepTheirOrderAmongWorkers(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	const records, keys = 2000, 20
	fill(t, client, "t", 3, records, keys)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", Workers: 8})
	var mu sync.Mutex
	last := map[string]int{}
	var seen, begun atomic.Int64
	two := make(chan struct{})
	if err := c.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error {
		switch begun.Add(1) { // the first waits for another at its side
		case 1:
			select {
			case <-two:
			case <-ctx.Done():
				t.Error("one handler is at work at a time")
			}
		case 2:
			close(two)
		}
		mu.Lock()
		defer mu.Unlock()
		key := string(m.Record.Key)
		if before, ok := last[key]; ok && m.Value != before+keys {
			t.Errorf("%s: %d after %d", key, m.Value, before)
		}
		last[key] = m.Value
		if seen.Add(1) == records {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if seen.Load() != records {
		t.Errorf("%d records were handled", seen.Load())
	}
	if n := lag(t, client, "g"); n != 0 {
		t.Errorf("%d records are not committed", n)
	}
}

func TestWhatIsAtWorkEndsFirstAndIsCommitted(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	fill(t, client, "t", 1, 10, 1)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g"})
	handled := 0
	if err := c.Run(ctx, func(handling context.Context, m *rustmq.Message[int]) error {
		if m.Value == 3 {
			cancel()
			if handling.Err() != nil {
				t.Error("the handler's context ended with that of Run")
			}
		}
		handled++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if handled != 4 {
		t.Errorf("%d records were handled", handled)
	}
	if n := lag(t, client, "g"); n != 6 {
		t.Errorf("%d records are not committed: want 6", n)
	}
	// The next run goes on where the last has stopped.
	again, end := context.WithCancel(within(t, moments))
	defer end()
	var values []int
	if err := c.Run(again, func(_ context.Context, m *rustmq.Message[int]) error {
		if values = append(values, m.Value); len(values) == 6 {
			end()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(values, []int{4, 5, 6, 7, 8, 9}) {
		t.Errorf("the next run is given %v", values)
	}
}

func TestDrainTimeoutEndsHandlers(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	fill(t, client, "t", 1, 1, 1)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", DrainTimeout: 10 * time.Millisecond})
	if err := c.Run(ctx, func(handling context.Context, _ *rustmq.Message[int]) error {
		cancel()
		<-handling.Done()
		return handling.Err()
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Poll(within(t, moments)); err != nil || len(got) != 1 {
		t.Errorf("what was not handled is not read again: %d messages, %v", len(got), err)
	}
}

func TestFailuresAreRetriedThenDoneWith(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	client := server.Client(t)
	for _, c := range []struct {
		name     string
		failures rustmq.Failures
		fail     func(attempt int) error
		attempts int
		handled  int
		dead     int
		stopped  bool
	}{
		{"stop", rustmq.Failures{}, always, 1, 2, 0, true},
		{"retry heals", rustmq.Failures{Retries: 3, Pause: time.Millisecond}, first(2), 3, 5, 0, false},
		{"skip", rustmq.Failures{Retries: 1, Pause: time.Millisecond, Then: rustmq.Skip}, always, 2, 4, 0, false},
		{"permanent", rustmq.Failures{Retries: 5, Then: rustmq.Skip}, func(int) error { return rustmq.Permanent(errBroken) }, 1, 4, 0, false},
		{"dead letter", rustmq.Failures{Retries: 1, Pause: time.Millisecond, Then: rustmq.DeadLetter, DeadLetterTopic: "dead"}, always, 2, 4, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.ReplaceAll(c.name, " ", "-")
			fill(t, client, name, 1, 5, 5)
			ctx, cancel := context.WithCancel(within(t, moments))
			defer cancel()
			reader := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{name}, Group: name, Failures: c.failures})
			attempts, handled := 0, 0
			err := reader.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error {
				if m.Value == 2 {
					attempts++
					if err := c.fail(attempts); err != nil {
						return err
					}
				}
				handled++
				if m.Value == 4 {
					cancel()
				}
				return nil
			})
			var stopped *rustmq.ProcessingError
			if c.stopped != errors.As(err, &stopped) || !c.stopped && err != nil {
				t.Fatalf("%v", err)
			}
			if c.stopped && (stopped.Offset != 2 || !errors.Is(err, errBroken)) {
				t.Errorf("%v", err)
			}
			if attempts != c.attempts || handled != c.handled {
				t.Errorf("%d attempts, %d handled: want %d and %d", attempts, handled, c.attempts, c.handled)
			}
			want := int64(0)
			if c.stopped {
				want = 3
			}
			if n := lag(t, client, name); n != want {
				t.Errorf("%d records are not committed: want %d", n, want)
			}
			if c.dead > 0 {
				letters := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"dead"}})
				got, err := letters.Poll(within(t, moments))
				if err != nil || len(got) != 1 {
					t.Fatalf("%v, %v", got, err)
				}
				carrier := rustmq.HeaderCarrier{Record: got[0].Record}
				for header, want := range map[string]string{
					"rustmq.dlt.topic": name, "rustmq.dlt.partition": "0", "rustmq.dlt.offset": "2", "rustmq.dlt.group": name, "rustmq.dlt.attempts": "2", "rustmq.dlt.reason": "broken",
				} {
					if carrier.Get(header) != want {
						t.Errorf("%s is %q: want %q", header, carrier.Get(header), want)
					}
				}
				if got[0].Value != 2 || string(got[0].Record.Key) != "key-2" {
					t.Errorf("%+v", got[0].Record)
				}
			}
		})
	}
}

var errBroken = errors.New("broken")

func always(int) error { return errBroken }

func first(n int) func(int) error {
	return func(attempt int) error {
		if attempt <= n {
			return errBroken
		}
		return nil
	}
}

func TestWhatCannotBeDecodedIsNotRetried(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	topic(t, client, rustmq.Topic{Name: "t", Partitions: 1})
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}, &rustmq.Record{Topic: "t", Value: []byte("}")}, &rustmq.Record{Topic: "t", Value: []byte("3")}).Err(); err != nil {
		t.Fatal(err)
	}
	polled := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}})
	got, err := polled.Poll(ctx)
	var broken *rustmq.DecodeError
	if len(got) != 2 || !errors.As(err, &broken) {
		t.Errorf("%v, %v", got, err)
	}
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", Failures: rustmq.Failures{Retries: -1, Then: rustmq.Skip}})
	sum := 0
	if err := c.RunBatch(ctx, func(_ context.Context, batch []*rustmq.Message[int]) error {
		for _, m := range batch {
			if sum += m.Value; m.Value == 3 {
				cancel()
			}
		}
		return nil
	}); err != nil || sum != 4 {
		t.Errorf("%d, %v", sum, err)
	}
}

func TestOfABatchSomeMayFail(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	fill(t, client, "t", 1, 6, 6)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", MaxPoll: 6, Failures: rustmq.Failures{Retries: 1, Pause: time.Millisecond, Then: rustmq.Skip}})
	tries := map[int]int{}
	if err := c.RunBatch(ctx, func(_ context.Context, batch []*rustmq.Message[int]) error {
		failed := map[int]error{}
		for i, m := range batch {
			if tries[m.Value]++; m.Value%3 == 1 {
				failed[i] = errBroken
			}
			if m.Value == 5 || len(batch) == 2 {
				cancel()
			}
		}
		if len(failed) > 0 {
			return &rustmq.BatchError{Failed: failed}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for v, n := range tries {
		if want := 1; v%3 != 1 && n != want {
			t.Errorf("value %d was tried %d times", v, n)
		}
	}
}

func TestSeekPauseAndManualCommit(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	topic(t, client, rustmq.Topic{Name: "t", Partitions: 1, Config: map[string]string{"retention.ms": "-1"}}) // records are as old as they say
	ctx := within(t, moments)
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: fmt.Append(nil, i), Timestamp: noon.Add(time.Duration(i) * time.Minute)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", Manual: true})
	next := func() []*rustmq.Message[int] {
		t.Helper()
		got, err := c.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := next()
	if got[0].Value != 0 {
		t.Fatalf("reading begins at %d", got[0].Value)
	}
	if err := c.Commit(ctx, got[0]); err != nil {
		t.Fatal(err)
	}
	if n := lag(t, client, "g"); n != 9 {
		t.Errorf("%d records are not committed: want 9", n)
	}
	c.Seek("t", 0, 7)
	if err := c.Commit(ctx, got[1]); err == nil {
		t.Error("a message before the seek was committed")
	}
	if got = next(); got[0].Value != 7 {
		t.Errorf("seek 7 reads %d", got[0].Value)
	}
	if err := c.SeekTime(ctx, noon.Add(4*time.Minute-time.Second)); err != nil {
		t.Fatal(err)
	}
	if got = next(); got[0].Value != 4 {
		t.Errorf("seek by time reads %d", got[0].Value)
	}
	c.Pause("t")
	c.Seek("t", 0, 2)
	if got, err := c.Poll(within(t, 300*time.Millisecond)); err == nil {
		t.Errorf("a paused topic gives %v", got[0].Value)
	}
	c.Resume("t")
	if got = next(); got[0].Value != 2 {
		t.Errorf("after the pause comes %d", got[0].Value)
	}
	// A seek takes effect while a poll waits.
	for len(got) > 0 && got[len(got)-1].Value != 9 {
		got = next()
	}
	polled := make(chan int, 1)
	go func() {
		if got, err := c.Poll(ctx); err == nil {
			polled <- got[0].Value
		}
		close(polled)
	}()
	c.Seek("t", 0, 8)
	if v := <-polled; v != 8 {
		t.Errorf("the poll that waits gives %d", v)
	}
}

func TestOneCallAtATime(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	fill(t, client, "t", 1, 1, 1)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}})
	if err := c.Run(ctx, func(context.Context, *rustmq.Message[int]) error {
		defer cancel()
		if _, err := c.Poll(ctx); !errors.Is(err, rustmq.ErrBusy) {
			t.Errorf("%v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Poll(t.Context()); !errors.Is(err, rustmq.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestPollCommitsWhatItGaveBefore and no more: a crash in between loses nothing.
func TestPollCommitsWhatItGaveBefore(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	fill(t, client, "t", 1, 6, 1)
	ctx := within(t, moments)
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", MaxPoll: 2, CommitEvery: 10 * time.Millisecond})
	for range 2 {
		if got, err := c.Poll(ctx); err != nil || len(got) != 2 {
			t.Fatalf("%d messages, %v", len(got), err)
		}
	}
	eventually(t, "the first two are committed", func() bool { return lag(t, client, "g") == 4 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := lag(t, client, "g"); n != 4 {
		t.Errorf("%d are not committed after Close: want 4", n)
	}
}

// TestManualConsumerGoesOnWhereItWas runs a consumer that commits by hand again and again: what was handled
// is not handed out again, committed or not.
func TestManualConsumerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	const records, atOnce = 30, 7
	fill(t, client, "t", 1, records, 1)
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"t"}, Group: "g", Manual: true, MaxPoll: 4})
	var got []int
	for len(got) < records {
		ctx, stop := context.WithCancel(within(t, moments))
		before := len(got)
		if err := c.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error {
			if got = append(got, m.Value); len(got) == before+atOnce || len(got) == records {
				stop()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) == before {
			t.Fatalf("nothing came in time after %d", before)
		}
		stop()
	}
	for i, v := range got {
		if v != i {
			t.Fatalf("handled %v", got)
		}
	}
	if n := lag(t, client, "g"); n != records {
		t.Errorf("%d records are not committed, and nobody committed any of %d", n, records)
	}
}
