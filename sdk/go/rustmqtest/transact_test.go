package rustmqtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

// values reads n records of topics that are committed.
func values(t *testing.T, client *rustmq.Client, n int, topics ...string) map[int]int {
	t.Helper()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: topics})
	seen := map[int]int{}
	for total := 0; total < n; {
		got, err := c.Poll(within(t, moments))
		if err != nil {
			t.Fatalf("after %d of %d records: %v", total, n, err)
		}
		for _, m := range got {
			seen[m.Value]++
			total++
		}
	}
	return seen
}

func TestTransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t, rustmq.WithTransactionalID("tx", 0))
	topic(t, client, rustmq.Topic{Name: "a"})
	topic(t, client, rustmq.Topic{Name: "b"})
	ctx := within(t, moments)
	both := func(v int, err error) error {
		return client.Transact(ctx, func(tx *rustmq.Tx) error {
			if err := tx.ProduceSync(ctx, &rustmq.Record{Topic: "a", Value: fmt.Append(nil, v)}, &rustmq.Record{Topic: "b", Value: fmt.Append(nil, v)}).Err(); err != nil {
				return err
			}
			return err
		})
	}
	if err := both(1, nil); err != nil {
		t.Fatal(err)
	}
	if err := both(2, errBroken); !errors.Is(err, errBroken) {
		t.Fatalf("%v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = client.Transact(ctx, func(tx *rustmq.Tx) error {
			tx.Produce(ctx, &rustmq.Record{Topic: "a", Value: []byte("3")}, nil)
			panic("of a handler")
		})
	}()
	// What fails fails the transaction, though nobody looks.
	if err := client.Transact(ctx, func(tx *rustmq.Tx) error {
		tx.Produce(ctx, &rustmq.Record{Topic: "a", Value: []byte("4")}, nil)
		tx.Produce(ctx, &rustmq.Record{Topic: "a", Value: make([]byte, 2<<20)}, nil)
		return nil
	}); err == nil {
		t.Error("a transaction without one of its records was committed")
	}
	if err := both(5, nil); err != nil {
		t.Fatal(err)
	}
	seen := values(t, client, 4, "a", "b")
	if len(seen) != 2 || seen[1] != 2 || seen[5] != 2 {
		t.Errorf("%v: want 1 and 5, twice each", seen)
	}
}

func TestOlderOfTwoIsFenced(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	older := server.Client(t, rustmq.WithTransactionalID("one", 0))
	newer := server.Client(t, rustmq.WithTransactionalID("one", 0))
	topic(t, older, rustmq.Topic{Name: "t"})
	ctx := within(t, moments)
	send := func(client *rustmq.Client, v int) error {
		return client.Transact(ctx, func(tx *rustmq.Tx) error {
			return tx.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: fmt.Append(nil, v)}).Err()
		})
	}
	if err := send(older, 1); err != nil {
		t.Fatal(err)
	}
	if err := send(newer, 2); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and it stays so
		if err := send(older, 3); !errors.Is(err, rustmq.ErrFenced) || rustmq.IsRetriable(err) {
			t.Fatalf("%v", err)
		}
	}
	if err := send(newer, 4); err != nil {
		t.Fatal(err)
	}
	if seen := values(t, newer, 3, "t"); seen[3] != 0 {
		t.Errorf("%v: the fenced one has written", seen)
	}
}

func TestContextThatEndsAborts(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t, rustmq.WithTransactionalID("tx", 0))
	topic(t, client, rustmq.Topic{Name: "t"})
	ctx, cancel := context.WithCancel(within(t, moments))
	if err := client.Transact(ctx, func(tx *rustmq.Tx) error {
		if err := tx.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("1")}).Err(); err != nil {
			return err
		}
		cancel()
		return nil
	}); err == nil {
		t.Fatal("a transaction was committed whose context has ended")
	}
	ctx = within(t, moments)
	if err := client.Transact(ctx, func(tx *rustmq.Tx) error {
		return tx.ProduceSync(ctx, &rustmq.Record{Topic: "t", Value: []byte("2")}).Err()
	}); err != nil {
		t.Fatal(err)
	}
	if seen := values(t, client, 1, "t"); seen[2] != 1 {
		t.Errorf("%v", seen)
	}
}

func TestProcessorHandlesExactlyOnce(t *testing.T) {
	t.Parallel()
	var way faults
	server := rustmqtest.Start(t)
	client := server.Client(t)
	const records = 300
	fill(t, client, "in", 2, records, records)
	topic(t, client, rustmq.Topic{Name: "out", Partitions: 2})
	faulty := server.Client(t, way.option())
	p, err := rustmq.NewProcessor(faulty, rustmq.JSON[int](), "p", rustmq.ConsumerOptions{Topics: []string{"in"}, Group: "g", MaxPoll: 20, Failures: rustmq.Failures{Retries: 2, Pause: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	var batches atomic.Int64
	done := make(chan error, 1)
	go func() {
		done <- p.Run(ctx, func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[int]) error {
			for _, m := range batch {
				tx.Produce(ctx, &rustmq.Record{Topic: "out", Value: fmt.Append(nil, m.Value*2)}, nil)
			}
			switch n := batches.Add(1); {
			case n%5 == 0:
				return errBroken // what was produced is aborted, and the batch comes again
			case n%7 == 0:
				way.cut(true)
				way.cut(false)
			}
			return nil
		})
	}()
	seen := values(t, client, records, "out")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if seen[i*2] != 1 {
			t.Errorf("%d is there %d times", i*2, seen[i*2])
		}
	}
	// Nothing more is there than was seen.
	if c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"out"}}); true {
		n := 0
		for n < records {
			got, err := c.Poll(within(t, moments))
			if err != nil {
				t.Fatal(err)
			}
			n += len(got)
		}
		if n != records {
			t.Errorf("%d records", n)
		}
	}
}

func TestProcessorPassesOverWhatCannotBeHandled(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	const records = 30
	fill(t, client, "in", 1, records, records)
	topic(t, client, rustmq.Topic{Name: "out"})
	topic(t, client, rustmq.Topic{Name: "dead"})
	p, err := rustmq.NewProcessor(client, rustmq.JSON[int](), "p", rustmq.ConsumerOptions{
		Topics: []string{"in"}, Group: "g", MaxPoll: 10,
		Failures: rustmq.Failures{Retries: 1, Pause: time.Millisecond, Then: rustmq.DeadLetter, DeadLetterTopic: "dead"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- p.Run(ctx, func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[int]) error {
			for _, m := range batch {
				tx.Produce(ctx, &rustmq.Record{Topic: "out", Value: fmt.Append(nil, m.Value)}, nil)
				if m.Value%10 == 3 {
					return errBroken
				}
			}
			return nil
		})
	}()
	seen, dead := values(t, client, records-3, "out"), values(t, client, 3, "dead")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range records {
		alive, gone := 1, 0
		if i%10 == 3 {
			alive, gone = 0, 1
		}
		if seen[i] != alive || dead[i] != gone {
			t.Errorf("%d is %d times in out and %d times in dead", i, seen[i], dead[i])
		}
	}
}

// soonOver is a time for transactions: one that is not kept open is over by then, on a busy machine too.
const soonOver = 3 * time.Second

// aborted waits until the coordinator has aborted the open transaction of an id, for it took too long.
func aborted(t *testing.T, client *rustmq.Client, id string) {
	t.Helper()
	eventually(t, "the transaction is aborted", func() bool {
		described, err := client.Admin().Kafka().DescribeTransactions(within(t, moments), id)
		return err == nil && described[id].State == "CompleteAbort"
	})
}

// TestWhatTookTooLongIsRunAgain has a transaction's time be over before it commits, and before
// its second record.
func TestWhatTookTooLongIsRunAgain(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	for name, late := range map[string]bool{"commit": false, "produce": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := server.Client(t, rustmq.WithTransactionalID(name, soonOver))
			topic(t, client, rustmq.Topic{Name: name})
			ctx, runs := within(t, moments), 0
			send := func(tx *rustmq.Tx) error {
				return tx.ProduceSync(ctx, &rustmq.Record{Topic: name, Value: fmt.Append(nil, runs)}).Err()
			}
			if err := client.Transact(ctx, func(tx *rustmq.Tx) error {
				if runs++; runs > 1 {
					return send(tx)
				}
				if err := send(tx); err != nil {
					return err
				}
				aborted(t, client, name)
				if late {
					return send(tx)
				}
				return nil
			}); err != nil || runs != 2 {
				t.Fatalf("after %d runs: %v", runs, err)
			}
			runs++
			if err := client.Transact(ctx, send); err != nil {
				t.Fatal(err)
			}
			if seen := values(t, client, 2, name); seen[2] != 1 || seen[3] != 1 {
				t.Errorf("%v: want 2 and 3, once each", seen)
			}
		})
	}
}

// TestWhoTookTooLongMayHaveBeenFenced has another take the id after the abort: who is run again then
// would fence him.
func TestWhoTookTooLongMayHaveBeenFenced(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	for name, late := range map[string]bool{"commit": false, "produce": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			older, newer := server.Client(t, rustmq.WithTransactionalID(name, soonOver)), server.Client(t, rustmq.WithTransactionalID(name, 0))
			topic(t, older, rustmq.Topic{Name: name})
			ctx, runs := within(t, moments), 0
			send := func(v int) func(*rustmq.Tx) error {
				return func(tx *rustmq.Tx) error {
					return tx.ProduceSync(ctx, &rustmq.Record{Topic: name, Value: fmt.Append(nil, v)}).Err()
				}
			}
			if err := older.Transact(ctx, func(tx *rustmq.Tx) error {
				runs++
				if err := send(1)(tx); err != nil {
					return err
				}
				aborted(t, older, name)
				if err := newer.Transact(ctx, send(2)); err != nil {
					return err
				}
				if late {
					return send(1)(tx)
				}
				return nil
			}); !errors.Is(err, rustmq.ErrFenced) || runs != 1 {
				t.Fatalf("after %d runs: %v", runs, err)
			}
			if err := newer.Transact(ctx, send(3)); err != nil {
				t.Fatalf("the newer one was fenced by the older: %v", err)
			}
			if seen := values(t, newer, 2, name); seen[2] != 1 || seen[3] != 1 {
				t.Errorf("%v: want 2 and 3, once each", seen)
			}
		})
	}
}

// TestProcessorThatTookTooLongGoesOn has a batch's transaction be over before it commits, and
// before its last record, of which the handler says what it was told.
func TestProcessorThatTookTooLongGoesOn(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	for name, late := range map[string]bool{"commit": false, "produce": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := server.Client(t, rustmq.WithTransactionalID("of Transact to "+name, soonOver))
			const records = 20
			from, to := "in-"+name, "out-"+name
			fill(t, client, from, 1, records, records)
			topic(t, client, rustmq.Topic{Name: to})
			p, err := rustmq.NewProcessor(client, rustmq.JSON[int](), name, rustmq.ConsumerOptions{Topics: []string{from}, Group: name, MaxPoll: 10})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(within(t, moments))
			defer cancel()
			done := make(chan struct{})
			first, over := make(chan struct{}), make(chan struct{})
			reached := false
			go func() {
				defer close(done)
				if err := p.Run(ctx, func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[int]) error {
					send := func(batch ...*rustmq.Message[int]) error { // at once: the time is for one wait
						var all []*rustmq.Record
						for _, m := range batch {
							all = append(all, &rustmq.Record{Topic: to, Value: fmt.Append(nil, m.Value)})
						}
						return tx.ProduceSync(ctx, all...).Err()
					}
					last := len(batch) - 1
					if err := send(batch[:last]...); err != nil {
						return err
					}
					if late && !reached {
						reached = true
						close(first)
						<-over
					}
					if err := send(batch[last]); err != nil {
						return err
					}
					if !late && !reached {
						reached = true
						close(first)
						<-over
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}()
			select {
			case <-first:
			case <-done:
				return // it has said why
			}
			aborted(t, client, name)
			close(over)
			seen := values(t, client, records, to)
			cancel()
			<-done
			for i := range records {
				if seen[i] != 1 {
					t.Errorf("%d is there %d times", i, seen[i])
				}
			}
		})
	}
}

func TestProcessorWhoseIDWasTakenEnds(t *testing.T) {
	t.Parallel()
	server := rustmqtest.Start(t)
	client, newer := server.Client(t), server.Client(t, rustmq.WithTransactionalID("p", 0))
	fill(t, client, "in", 1, 10, 10)
	topic(t, client, rustmq.Topic{Name: "out"})
	p, err := rustmq.NewProcessor(client, rustmq.JSON[int](), "p", rustmq.ConsumerOptions{Topics: []string{"in"}, Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, moments)
	send := func(ctx context.Context, tx *rustmq.Tx, v string) error {
		return tx.ProduceSync(ctx, &rustmq.Record{Topic: "out", Value: []byte(v)}).Err()
	}
	take := func(tx *rustmq.Tx) error { return send(ctx, tx, "2") }
	if err := p.Run(ctx, func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[int]) error {
		if err := send(ctx, tx, "1"); err != nil {
			return err
		}
		return newer.Transact(ctx, take)
	}); !errors.Is(err, rustmq.ErrFenced) {
		t.Fatalf("%v", err)
	}
	if err := newer.Transact(ctx, take); err != nil {
		t.Fatalf("the newer one was fenced by the older: %v", err)
	}
	if seen := values(t, client, 2, "out"); seen[2] != 2 {
		t.Errorf("%v: want 2 twice", seen)
	}
}
