package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Both ways of transactions that clients have: with an epoch for each transaction
// (KIP-890), and as before.
var transactionVersions = map[string][]kgo.Opt{
	"v2": nil,
	"v1": {kgo.MaxVersions(kversion.V3_7_0())},
}

func newProducer(t *testing.T, addr, id string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl := newClient(t, addr, append([]kgo.Opt{kgo.TransactionalID(id), kgo.DefaultProduceTopic("out"), kgo.AllowAutoTopicCreation()}, opts...)...)
	if err := cl.Ping(t.Context()); err != nil { // it learns what the cluster knows before its first transaction
		t.Fatal(err)
	}
	return cl
}

func begin(t *testing.T, cl *kgo.Client) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatalf("begin: %v", err)
	}
}

func send(ctx context.Context, t *testing.T, cl *kgo.Client, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, kgo.StringRecord(v))
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("produce %q: %v", values, err)
	}
}

func end(ctx context.Context, t *testing.T, cl *kgo.Client, how kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.EndTransaction(ctx, how); err != nil {
		t.Fatalf("end with %v: %v", how, err)
	}
}

// committed is a consumer of what is committed.
func committed(t *testing.T, addr string, topics ...string) *kgo.Client {
	return newClient(t, addr, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
}

func wantValues(ctx context.Context, t *testing.T, cl *kgo.Client, want ...string) {
	t.Helper()
	var got []string
	for _, r := range consume(ctx, t, cl, len(want)) {
		got = append(got, string(r.Value))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("consumed %q, want %q", got, want)
	}
}

// What is committed is read, what is aborted is not, and one producer goes on from
// transaction to transaction.
func TestReadersOfWhatIsCommittedSeeNoAbort(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			_, addr := startCluster(t)
			ctx := within(t, 30*time.Second)
			cl := newProducer(t, addr, "tx", opts...)
			reader := committed(t, addr, "out")
			for i := range 10 {
				begin(t, cl)
				send(ctx, t, cl, fmt.Sprint("c", i), fmt.Sprint("d", i))
				end(ctx, t, cl, kgo.TryCommit)
				begin(t, cl)
				send(ctx, t, cl, fmt.Sprint("a", i))
				end(ctx, t, cl, kgo.TryAbort)
				wantValues(ctx, t, reader, fmt.Sprint("c", i), fmt.Sprint("d", i))
			}
			everything := newClient(t, addr, kgo.ConsumeTopics("out"))
			if n := len(consume(ctx, t, everything, 30)); n != 30 {
				t.Errorf("%d records in all", n)
			}
		})
	}
}

// A second producer of a transactional id aborts what the first has open, and the
// first can do nothing any more.
func TestSecondProducerFencesTheFirst(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			_, addr := startCluster(t)
			ctx := within(t, 30*time.Second)
			first := newProducer(t, addr, "tx", opts...)
			begin(t, first)
			send(ctx, t, first, "lost")
			second := newProducer(t, addr, "tx", opts...)
			begin(t, second)
			send(ctx, t, second, "kept")
			if err := first.ProduceSync(ctx, kgo.StringRecord("late")).FirstErr(); err == nil {
				t.Error("a producer that is fenced off wrote")
			}
			if err := first.EndTransaction(ctx, kgo.TryCommit); err == nil {
				t.Error("a producer that is fenced off committed")
			}
			end(ctx, t, second, kgo.TryCommit)
			wantValues(ctx, t, committed(t, addr, "out"), "kept")
		})
	}
}

// A transaction that takes longer than its producer said is aborted, so that
// readers go on, and cannot be committed any more.
func TestTransactionTimesOut(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			_, addr := startCluster(t)
			ctx := within(t, 30*time.Second)
			cl := newProducer(t, addr, "tx", append(opts, kgo.TransactionTimeout(200*time.Millisecond))...)
			begin(t, cl)
			send(ctx, t, cl, "late")
			plain := newClient(t, addr, kgo.DefaultProduceTopic("out"))
			send(ctx, t, plain, "behind")
			wantValues(ctx, t, committed(t, addr, "out"), "behind")
			if err := cl.EndTransaction(ctx, kgo.TryCommit); err == nil {
				t.Error("a transaction was committed after its time-out")
			}
			wantValues(ctx, t, committed(t, addr, "out"), "behind")
		})
	}
}

// restart closes the broker and opens it again on the same disk.
func restart(t *testing.T, n *node) {
	t.Helper()
	n.server.Close()
	if err := n.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	n.store = openStore(t, n.fs)
	n.options.Store = n.store
	l := listenOn(t, n.options.Listeners[0].Port)
	n.open()
	n.serve(l)
}

// A transaction goes on after a restart of its coordinator, and of everything else.
func TestTransactionGoesOnAfterARestart(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			n, addr := startCluster(t)
			ctx := within(t, 60*time.Second)
			cl := newProducer(t, addr, "tx", opts...)
			begin(t, cl)
			send(ctx, t, cl, "before")
			restart(t, n)
			send(ctx, t, cl, "after")
			end(ctx, t, cl, kgo.TryCommit)
			begin(t, cl)
			send(ctx, t, cl, "aborted")
			restart(t, n)
			end(ctx, t, cl, kgo.TryAbort)
			begin(t, cl)
			send(ctx, t, cl, "next")
			end(ctx, t, cl, kgo.TryCommit)
			wantValues(ctx, t, committed(t, addr, "out"), "before", "after", "next")
		})
	}
}

// Offsets are committed with the transaction, and not before: whoever asks for
// stable ones waits.
func TestOffsetsAreCommittedWithTheTransaction(t *testing.T) {
	for name, opts := range transactionVersions {
		t.Run(name, func(t *testing.T) {
			_, addr := startCluster(t)
			ctx := within(t, 30*time.Second)
			plain := newClient(t, addr, kgo.DefaultProduceTopic("in"), kgo.AllowAutoTopicCreation())
			send(ctx, t, plain, "1", "2", "3")
			admin := kadm.NewClient(plain)
			offset := func() int64 {
				got, err := admin.FetchOffsets(ctx, "group")
				if err != nil {
					t.Fatal(err)
				}
				if o, ok := got.Lookup("in", 0); ok {
					return o.At
				}
				return -1
			}
			session, err := kgo.NewGroupTransactSession(append([]kgo.Opt{
				kgo.SeedBrokers(addr), kgo.TransactionalID("tx"), kgo.ConsumerGroup("group"), kgo.ConsumeTopics("in"),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DefaultProduceTopic("out"), kgo.AllowAutoTopicCreation(),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			}, opts...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			for _, how := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
				var got []*kgo.Record
				if err := session.Begin(); err != nil {
					t.Fatal(err)
				}
				for len(got) < 3 {
					got = append(got, session.PollFetches(ctx).Records()...)
				}
				for _, r := range got {
					if err := session.ProduceSync(ctx, kgo.StringRecord("copy of "+string(r.Value))).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				if was := offset(); was != -1 {
					t.Fatalf("offset %d before the transaction ends", was)
				}
				if done, err := session.End(ctx, how); err != nil || done != bool(how) {
					t.Fatalf("end with %v: %v, %v", how, done, err)
				}
			}
			for offset() != 3 { // markers may be on their way
				if ctx.Err() != nil {
					t.Fatalf("offset %d", offset())
				}
			}
			wantValues(ctx, t, committed(t, addr, "out"), "copy of 1", "copy of 2", "copy of 3")
		})
	}
}

// A chain of copies, each from topic to topic in transactions of a few records of
// which some are aborted and restarts come between, loses and doubles nothing.
func TestCopiesAreExact(t *testing.T) {
	const total, restarts = 300, 3
	n, addr := startCluster(t)
	ctx := within(t, 120*time.Second)
	plain := newClient(t, addr, kgo.DefaultProduceTopic("step-0"), kgo.AllowAutoTopicCreation())
	var want, got []string
	for i := range total {
		want = append(want, fmt.Sprint(i))
		send(ctx, t, plain, want[i])
	}
	copies, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, 2)
	for step := range 2 {
		go func() { errs <- copyExactly(copies, addr, fmt.Sprint("step-", step), fmt.Sprint("step-", step+1)) }()
	}
	reader := committed(t, addr, "step-2")
	for done := 0; len(got) < total; {
		for r := range reader.PollFetches(ctx).RecordsAll() {
			got = append(got, string(r.Value))
		}
		if done < restarts && len(got) > (done+1)*total/(restarts+1) {
			done++
			restart(t, n)
		}
		select {
		case err := <-errs:
			t.Fatal(err)
		default:
		}
	}
	stop()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for r := range reader.PollFetches(within(t, 200*time.Millisecond)).RecordsAll() {
		got = append(got, string(r.Value))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
}

// copyExactly copies until ctx ends.
func copyExactly(ctx context.Context, addr, from, to string) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(addr), kgo.TransactionalID("copy-"+from), kgo.ConsumerGroup("copy-"+from), kgo.ConsumeTopics(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DefaultProduceTopic(to), kgo.AllowAutoTopicCreation(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(600),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.TransactionTimeout(20*time.Second),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for i := 0; ctx.Err() == nil; i++ {
		fetched := session.PollFetches(ctx)
		if ctx.Err() != nil || fetched.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return fmt.Errorf("%s: begin: %w", from, err)
		}
		failed := session.ProduceSync(ctx, copied(fetched)...).FirstErr()
		how := kgo.TransactionEndTry(failed == nil && i%5 != 3)
		if _, err := session.End(context.WithoutCancel(ctx), how); err != nil {
			if _, err := session.End(context.WithoutCancel(ctx), kgo.TryAbort); err != nil {
				return fmt.Errorf("%s: abort: %w", from, err)
			}
		}
	}
	return nil
}

func copied(fetched kgo.Fetches) (records []*kgo.Record) {
	for r := range fetched.RecordsAll() {
		records = append(records, &kgo.Record{Value: r.Value})
	}
	return records
}

// Tools see transactional ids, what is open, and what a transaction writes to.
func TestTransactionsAreListedAndDescribed(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	cl := newProducer(t, addr, "tx-a")
	begin(t, cl)
	send(ctx, t, cl, "x")
	idle := newProducer(t, addr, "tx-b")
	begin(t, idle)
	send(ctx, t, idle, "y")
	end(ctx, t, idle, kgo.TryCommit)
	admin := kadm.NewClient(cl)
	described, err := admin.DescribeTransactions(ctx, "tx-a", "tx-b", "tx-c")
	if err != nil {
		t.Fatal(err)
	}
	if d := described["tx-a"]; d.State != "Ongoing" || !d.Topics.Lookup("out", 0) || d.ProducerEpoch != 0 || d.StartTimestamp <= 0 {
		t.Errorf("%+v", d)
	}
	if d := described["tx-b"]; d.Err != nil || d.ProducerEpoch != 1 || len(d.Topics) > 0 && d.State == "CompleteCommit" {
		t.Errorf("%+v", d)
	}
	if d := described["tx-c"]; !errors.Is(d.Err, kerr.TransactionalIDNotFound) {
		t.Errorf("%+v", d)
	}
	listed, err := admin.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil || !slices.Equal(listed.TransactionalIDs(), []string{"tx-a"}) {
		t.Errorf("%v, %v", listed, err)
	}
	all, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil || !slices.Equal(all.TransactionalIDs(), []string{"tx-a", "tx-b"}) {
		t.Errorf("%v, %v", all, err)
	}
}
