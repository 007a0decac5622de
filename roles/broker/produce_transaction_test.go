package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// oracle answers for the coordinators of transactions.
type oracle struct {
	mu        sync.Mutex
	asked     []verification
	answer    func(verification) []error // nil: yes to all
	withholds bool                       // until release
	held      []func()
}

// Verify implements transactionVerifier. Like the coordinator, it refuses what it
// gets to when ctx has ended, and does not answer earlier for that.
func (o *oracle) Verify(ctx context.Context, q *verification, done func([]error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, *q)
	answers := make([]error, len(q.Partitions))
	if o.answer != nil {
		answers = o.answer(*q)
	}
	answer := func() {
		if ctx.Err() != nil {
			answers = slices.Repeat([]error{kerr.CoordinatorNotAvailable}, len(answers))
		}
		done(answers)
	}
	if !o.withholds {
		go answer()
		return
	}
	o.held = append(o.held, answer)
}

// release gives the answers that were held back.
func (o *oracle) release() {
	o.mu.Lock()
	held := o.held
	o.held, o.withholds = nil, false
	o.mu.Unlock()
	for _, answer := range held {
		answer()
	}
}

func (o *oracle) questions() []verification {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// startTransactional opens a broker that has a coordinator to ask.
func startTransactional(t testing.TB) (*node, *oracle) {
	n, o := startNode(t), &oracle{}
	n.verifier = o
	n.controller.createTopic("events", 3)
	n.settle(t.Context())
	return n, o
}

func transactional(t testing.TB, id int64, epoch int16, sequence int32, values ...string) []byte {
	t.Helper()
	return batchWith(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: id, Epoch: epoch, BaseSequence: sequence}}, values...)
}

// inTransaction is a request with a batch of a transaction for each partition.
func inTransaction(records []byte, partitions ...int32) *kmsg.ProduceRequest {
	q := produceTo("events", partitions[0], -1, slices.Clone(records))
	q.TransactionID = kmsg.StringPtr("txn")
	q.TimeoutMillis = 30_000
	for _, p := range partitions[1:] {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p, slices.Clone(records)
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, part)
	}
	return q
}

func (n *node) mark(partition int32, m log.Marker) error {
	answer := make(chan error, 1)
	n.markPartition(n.t.Context(), "events", partition, m, func(err error) { answer <- err })
	return <-answer
}

func committedOnly(q *kmsg.FetchRequest) *kmsg.FetchRequest {
	q.IsolationLevel = 1
	return q
}

// TestTransactionIsVerifiedOnce: at its first batch in each partition, for all
// partitions of a request at once, and not again until it has ended.
func TestTransactionIsVerifiedOnce(t *testing.T) {
	n, o := startTransactional(t)
	c := n.connect()
	for i, version := range []int16{8, 12} {
		epoch := int16(i)
		p := ask[*kmsg.ProduceResponse](c, version, inTransaction(transactional(t, 7, epoch, 0, "a"), 0, 2))
		for _, part := range p.Topics[0].Partitions {
			if part.ErrorCode != 0 || part.BaseOffset != int64(3*i) {
				t.Fatalf("v%d, partition %d: %v, offset %d", version, part.Partition, kerr.ErrorForCode(part.ErrorCode), part.BaseOffset)
			}
		}
		requireProduced(t, ask[*kmsg.ProduceResponse](c, version, inTransaction(transactional(t, 7, epoch, 1, "b"), 0)), nil, int64(3*i+1))
		requireProduced(t, ask[*kmsg.ProduceResponse](c, version, inTransaction(transactional(t, 7, epoch, 1, "b"), 2)), nil, int64(3*i+1))
		asked := o.questions()
		want := verification{"txn", 7, epoch, version >= 12, []topicPartition{{"events", 0}, {"events", 2}}}
		if len(asked) != i+1 || fmt.Sprint(asked[i]) != fmt.Sprint(want) {
			t.Fatalf("v%d: asked %+v, want %+v", version, asked, want)
		}
		for _, partition := range []int32{0, 2} {
			if err := n.mark(partition, log.Marker{ProducerID: 7, ProducerEpoch: epoch + 1, Commit: true, TransactionVersion: 2}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTransactionIsRefusedByItsCoordinator, in words that the client's version
// knows.
func TestTransactionIsRefusedByItsCoordinator(t *testing.T) {
	n, o := startTransactional(t)
	for _, c := range []struct {
		version int16
		says    error
		want    *kerr.Error
	}{
		{8, kerr.InvalidTxnState, kerr.InvalidTxnState},
		{8, kerr.TransactionAbortable, kerr.InvalidTxnState},
		{11, kerr.TransactionAbortable, kerr.TransactionAbortable},
		{12, kerr.ProducerFenced, kerr.InvalidProducerEpoch},
		{12, kerr.InvalidProducerIDMapping, kerr.InvalidProducerIDMapping},
		{12, kerr.ConcurrentTransactions, kerr.NotEnoughReplicas},
		{12, kerr.NotCoordinator, kerr.NotEnoughReplicas},
		{8, kerr.CoordinatorLoadInProgress, kerr.NotEnoughReplicas},
		{8, fmt.Errorf("ask: %w", context.DeadlineExceeded), kerr.NotEnoughReplicas},
		{8, nil, kerr.NotEnoughReplicas}, // no answer for this partition
	} {
		o.answer = func(verification) []error {
			if c.says == nil {
				return nil
			}
			return []error{c.says}
		}
		requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), c.version, inTransaction(transactional(t, 7, 0, 0, "a"), 0)), c.want, -1)
	}
	o.answer = nil
	requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), 12, inTransaction(transactional(t, 7, 0, 0, "a"), 0)), nil, 0)
}

// TestBatchesBehindTheFirstStayBehindIt while the coordinator is asked, once for
// all of them, and other partitions, producers and plain batches do not wait.
func TestBatchesBehindTheFirstStayBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o := startTransactional(t)
		o.withholds = true
		c, other := n.connect(), n.connect()
		for i := range int32(5) {
			q := inTransaction(transactional(t, 7, 0, i, fmt.Sprint(i)), 0)
			q.SetVersion(12)
			c.send(q)
		}
		synctest.Wait()
		other.produce("events", 0, "plain")
		if asked := o.questions(); len(asked) != 1 {
			t.Fatalf("%d questions", len(asked))
		}
		o.release()
		for i := range int64(5) {
			requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, i+1)
		}
		got := fetched(t, ask[*kmsg.FetchResponse](other, 12, fetchFrom("events", 0, 0, 0)))["events-0"]
		if want := []string{"plain", "0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Fatalf("the log has %q, want %q", got, want)
		}
	})
}

// TestFirstBatchThatIsToComeAgainStaysFirst: its coordinator could not say yet, and what
// was sent behind it comes when it can. Nothing else is known of the producer.
func TestFirstBatchThatIsToComeAgainStaysFirst(t *testing.T) {
	for _, refused := range []error{kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable, kerr.RequestTimedOut} {
		n, o := startTransactional(t)
		c := n.connect()
		send := func(sequence int32) int16 {
			return ask[*kmsg.ProduceResponse](c, 12, inTransaction(transactional(t, 7, 0, sequence, "a"), 0)).Topics[0].Partitions[0].ErrorCode
		}
		o.answer = func(verification) []error { return []error{refused} }
		if got := send(0); got != kerr.NotEnoughReplicas.Code {
			t.Fatalf("the first: %v", kerr.ErrorForCode(got))
		}
		o.answer = nil
		if got := send(1); got != kerr.OutOfOrderSequenceNumber.Code {
			t.Fatalf("the second, before the first is there: %v", kerr.ErrorForCode(got))
		}
		for sequence := range int32(2) {
			if got := send(sequence); got != 0 {
				t.Fatalf("batch %d: %v", sequence, kerr.ErrorForCode(got))
			}
		}
	}
}

// TestVerificationThatComesLate: the marker was written while the coordinator's
// answer was under way; nothing is appended behind it.
func TestVerificationThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o := startTransactional(t)
		o.withholds = true
		c := n.connect()
		q := inTransaction(transactional(t, 7, 0, 0, "late"), 0)
		q.SetVersion(12)
		c.send(q)
		synctest.Wait()
		if err := n.mark(0, log.Marker{ProducerID: 7, ProducerEpoch: 0}); err != nil {
			t.Fatal(err)
		}
		o.release()
		requireProduced(t, c.receive().(*kmsg.ProduceResponse), kerr.InvalidTxnState, -1)
	})
}

// TestAnAnswerIsOfWhatItWasAskedAbout: a transaction ended while its coordinator was asked
// about its first batch, and the first of the next waits behind that. The answer, whatever
// it is, does not hold for it.
func TestAnAnswerIsOfWhatItWasAskedAbout(t *testing.T) {
	for _, first := range []error{nil, kerr.TransactionAbortable} {
		for _, second := range []error{nil, kerr.TransactionAbortable} {
			synctest.Test(t, func(t *testing.T) {
				n, o := startTransactional(t)
				o.withholds = true
				o.answer = func(verification) []error { return []error{first} }
				clients := []*client{n.connect(), n.connect(), n.connect()}
				for i, c := range clients { // sequence 0 is of the one, 1 and 2 of the other
					q := inTransaction(transactional(t, 7, 0, int32(i), fmt.Sprint(i)), 0)
					q.SetVersion(11)
					c.send(q)
					synctest.Wait()
					if i > 0 {
						continue
					}
					if err := n.mark(0, log.Marker{ProducerID: 7, ProducerEpoch: 0}); err != nil {
						t.Fatal(err)
					}
				}
				o.mu.Lock()
				o.answer = func(verification) []error { return []error{second} }
				o.mu.Unlock()
				o.release()
				want := kerr.TransactionAbortable
				if first == nil {
					want = kerr.InvalidTxnState // the log knows that its transaction is over
				}
				requireProduced(t, clients[0].receive().(*kmsg.ProduceResponse), want, -1)
				for i, c := range clients[1:] {
					p := c.receive().(*kmsg.ProduceResponse)
					if second == nil {
						requireProduced(t, p, nil, int64(1+i))
					} else {
						requireProduced(t, p, kerr.TransactionAbortable, -1)
					}
				}
				if asked := o.questions(); len(asked) != 2 || fmt.Sprint(asked[0]) != fmt.Sprint(asked[1]) {
					t.Errorf("asked %+v, want the same twice", asked)
				}
			})
		}
	}
}

// TestVerificationIsNotWaitedForBeyondTheTimeout of the request that it came with:
// the batch gives its room back, the producer is told to try again, and the answer,
// should it come after all, is not that of the next try.
func TestVerificationIsNotWaitedForBeyondTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o := startTransactional(t)
		o.withholds = true
		c := n.connect()
		begun, before := time.Now(), n.store.Stats().Fullness
		// Large, so that what else is written meanwhile is little.
		q := inTransaction(transactional(t, 7, 0, 0, strings.Repeat("a", 100_000)), 0, 2)
		q.SetVersion(12)
		q.TimeoutMillis = 7000
		c.send(q)
		synctest.Wait()
		full := n.store.Stats().Fullness
		p := c.receive().(*kmsg.ProduceResponse)
		for _, part := range p.Topics[0].Partitions {
			if part.ErrorCode != kerr.NotEnoughReplicas.Code {
				t.Errorf("partition %d: %v, want that the producer tries again", part.Partition, kerr.ErrorForCode(part.ErrorCode))
			}
		}
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("answered after %v", took)
		}
		if now := n.store.Stats().Fullness; now-before > (full-before)/4 {
			t.Errorf("the log is full to %v, to %v while the batches waited, before to %v", now, full, before)
		}
		c.send(q)
		synctest.Wait()
		if asked := o.questions(); len(asked) != 2 {
			t.Fatalf("%d questions", len(asked))
		}
		o.release() // both answers, the late one first
		p = c.receive().(*kmsg.ProduceResponse)
		for _, part := range p.Topics[0].Partitions {
			if part.ErrorCode != 0 || part.BaseOffset != 0 {
				t.Errorf("partition %d: %v at %d", part.Partition, kerr.ErrorForCode(part.ErrorCode), part.BaseOffset)
			}
		}
	})
}

// TestConnectionThatEndsWhileItsTransactionIsVerified takes nothing with it.
func TestConnectionThatEndsWhileItsTransactionIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o := startTransactional(t)
		o.withholds = true
		gone, c := n.connect(), n.connect()
		for i, from := range []*client{gone, c} {
			q := inTransaction(transactional(t, 7, 0, int32(i), fmt.Sprint(i)), 0)
			q.SetVersion(12)
			from.send(q)
			synctest.Wait()
		}
		gone.conn.Close()
		synctest.Wait()
		o.release()
		requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, 1)
	})
}

// TestNobodyIsAskedAboutWhatCannotBe a batch of a transaction.
func TestNobodyIsAskedAboutWhatCannotBe(t *testing.T) {
	n, o := startTransactional(t)
	cut := transactional(t, 9, 0, 0, "cut")
	for records, want := range map[string]*kerr.Error{
		string(cut[:len(cut)-1]):                           kerr.InvalidRecord,
		string(cut) + string(cut):                          kerr.InvalidRecord,
		string(batch.BuildMarker(0, 9, 0, batch.Marker{})): kerr.InvalidRecord,
		string(transactional(t, -1, -1, -1, "of nobody")):  kerr.InvalidRecord,
	} {
		requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), 12, inTransaction([]byte(records), 0)), want, -1)
	}
	if asked := o.questions(); len(asked) != 0 {
		t.Fatalf("asked %+v", asked)
	}
}

// TestTransactionalBatchesThatCannotBe: without a transactional id, and of two
// producers in one request.
func TestTransactionalBatchesThatCannotBe(t *testing.T) {
	n, o := startTransactional(t)
	q := inTransaction(transactional(t, 7, 0, 0, "a"), 0)
	q.TransactionID = nil
	requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), 12, q), kerr.TransactionalIDAuthorizationFailed, -1)
	q = inTransaction(transactional(t, 7, 0, 0, "a"), 0, 1, 2)
	q.Topics[0].Partitions[1].Records = transactional(t, 8, 0, 0, "b")
	q.Topics[0].Partitions[2].Records = transactional(t, 7, 1, 0, "b")
	p := ask[*kmsg.ProduceResponse](n.connect(), 12, q)
	for i, want := range []int16{0, kerr.InvalidProducerIDMapping.Code, kerr.InvalidProducerIDMapping.Code} {
		if got := p.Topics[0].Partitions[i].ErrorCode; got != want {
			t.Errorf("partition %d: %v", i, kerr.ErrorForCode(got))
		}
	}
	// Nobody left there is waited for.
	requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), 12, inTransaction(transactional(t, 8, 0, 0, "b"), 1)), nil, 0)
	// What is in no transaction may come along with a transactional id.
	q = inTransaction(batchOf(t, "plain"), 0)
	requireProduced(t, ask[*kmsg.ProduceResponse](n.connect(), 12, q), nil, 1)
	if asked := o.questions(); len(asked) != 2 {
		t.Fatalf("asked %+v", asked)
	}
}

// TestFetchReadCommittedInEveryVersion: it waits at the last stable offset, and is
// told of aborted transactions.
func TestFetchReadCommittedInEveryVersion(t *testing.T) {
	n, _ := startTransactional(t)
	c := n.connect()
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 12, inTransaction(transactional(t, 7, 0, 0, "aborted"), 0)), nil, 0)
	c.produce("events", 0, "plain")
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 12, inTransaction(transactional(t, 8, 0, 0, "open"), 0)), nil, 2)
	if err := n.mark(0, log.Marker{ProducerID: 7}); err != nil {
		t.Fatal(err)
	}
	for version := int16(wire.MinFetch); version <= wire.MaxFetch; version++ {
		q := committedOnly(fetchFrom("events", 0, 0, 0))
		q.Topics[0].TopicID = nameOrID(n, version, "events")
		part := ask[*kmsg.FetchResponse](c, version, q).Topics[0].Partitions[0]
		if part.ErrorCode != 0 || part.HighWatermark != 4 || part.LastStableOffset != 2 || len(values(t, part.RecordBatches)) != 2 {
			t.Fatalf("v%d: %+v", version, part)
		}
		if a := part.AbortedTransactions; len(a) != 1 || a[0].ProducerID != 7 || a[0].FirstOffset != 0 {
			t.Fatalf("v%d: aborted %+v", version, a)
		}
		q.IsolationLevel = 0
		part = ask[*kmsg.FetchResponse](c, version, q).Topics[0].Partitions[0]
		if len(values(t, part.RecordBatches)) != 4 || part.AbortedTransactions != nil {
			t.Fatalf("v%d, uncommitted: %+v", version, part)
		}
		// Behind the last stable offset there is nothing yet, which is no error.
		for _, offset := range []int64{2, 3, 4} {
			q = committedOnly(fetchFrom("events", 0, offset, 0))
			q.Topics[0].TopicID = nameOrID(n, version, "events")
			part = ask[*kmsg.FetchResponse](c, version, q).Topics[0].Partitions[0]
			if part.ErrorCode != 0 || len(part.RecordBatches) > 0 {
				t.Fatalf("v%d at %d: %+v", version, offset, part)
			}
		}
	}
	for version := int16(2); version <= 10; version++ {
		for _, at := range []struct{ timestamp, want int64 }{{latest, 2}, {1000, 0}, {earliest, 0}, {5000, -1}} {
			q := kmsg.NewPtrListOffsetsRequest()
			q.IsolationLevel, q.ReplicaID = 1, -1
			topic, part := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
			part.Timestamp, part.CurrentLeaderEpoch = at.timestamp, -1
			topic.Topic, topic.Partitions = "events", append(topic.Partitions, part)
			q.Topics = append(q.Topics, topic)
			got := ask[*kmsg.ListOffsetsResponse](c, version, q).Topics[0].Partitions[0]
			if got.ErrorCode != 0 || got.Offset != at.want {
				t.Fatalf("v%d: offset for %d is %+v, want %d", version, at.timestamp, got, at.want)
			}
		}
	}
}

// TestFetchWaitsForTheTransaction to end, and for nothing else.
func TestFetchWaitsForTheTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := startTransactional(t)
		c, reader := n.connect(), n.connect()
		requireProduced(t, ask[*kmsg.ProduceResponse](c, 12, inTransaction(transactional(t, 7, 0, 0, "a"), 0)), nil, 0)
		q := committedOnly(fetchFrom("events", 0, 0, time.Minute))
		q.Version = 12
		reader.send(q)
		time.Sleep(time.Second)
		c.produce("events", 0, "plain")
		time.Sleep(time.Second)
		began := time.Now()
		if err := n.mark(0, log.Marker{ProducerID: 7, Commit: true}); err != nil {
			t.Fatal(err)
		}
		p := reader.receive().(*kmsg.FetchResponse)
		if waited := time.Since(began); waited > 100*time.Millisecond {
			t.Fatalf("answered %v after the transaction had ended", waited)
		}
		if part := p.Topics[0].Partitions[0]; part.LastStableOffset != 3 || len(values(t, part.RecordBatches)) != 3 || len(part.AbortedTransactions) != 0 || part.AbortedTransactions == nil {
			t.Fatalf("%+v", part)
		}
	})
}

// TestDescribeProducers says who has what open.
func TestDescribeProducers(t *testing.T) {
	n, _ := startTransactional(t)
	c := n.connect()
	requireProduced(t, ask[*kmsg.ProduceResponse](c, 12, inTransaction(transactional(t, 7, 3, 0, "a", "b"), 1)), nil, 0)
	if err := n.mark(1, log.Marker{ProducerID: 8, ProducerEpoch: 2, CoordinatorEpoch: 5}); err != nil {
		t.Fatal(err)
	}
	q := kmsg.NewPtrDescribeProducersRequest()
	for topic, partitions := range map[string][]int32{"events": {1, 9}, "nowhere": {0}} {
		of := kmsg.NewDescribeProducersRequestTopic()
		of.Topic, of.Partitions = topic, partitions
		q.Topics = append(q.Topics, of)
	}
	p := ask[*kmsg.DescribeProducersResponse](c, 0, q)
	for _, topic := range p.Topics {
		for _, part := range topic.Partitions {
			if topic.Topic != "events" || part.Partition != 1 {
				if part.ErrorCode != kerr.UnknownTopicOrPartition.Code {
					t.Errorf("%s-%d: %v", topic.Topic, part.Partition, kerr.ErrorForCode(part.ErrorCode))
				}
				continue
			}
			if len(part.ActiveProducers) != 2 || part.ErrorCode != 0 {
				t.Fatalf("%+v", part)
			}
			a, b := part.ActiveProducers[0], part.ActiveProducers[1]
			if a.ProducerID != 7 || a.ProducerEpoch != 3 || a.LastSequence != 1 || a.LastTimestamp != 1001 || a.CoordinatorEpoch != -1 || a.CurrentTxnStartOffset != 0 {
				t.Errorf("%+v", a)
			}
			if b.ProducerID != 8 || b.ProducerEpoch != 2 || b.LastSequence != -1 || b.LastTimestamp < 1001 || b.CoordinatorEpoch != 5 || b.CurrentTxnStartOffset != -1 {
				t.Errorf("%+v", b)
			}
		}
	}
}

// TestTransactionsLargerThanTheRoomDoNotWaitForThemselves: their first batches hold room
// until the coordinator is asked, and there is not enough for all. Alone, and several
// together, they get it, and so does whoever comes behind.
func TestTransactionsLargerThanTheRoomDoNotWaitForThemselves(t *testing.T) {
	const size = 200 << 10
	for _, withOne := range []int{40, 8} { // batches of a request: 8 MiB, and 1.6, of 6 for producers
		synctest.Test(t, func(t *testing.T) {
			n, _ := startTransactional(t)
			n.controller.createTopic("many", 6*40)
			n.settle(t.Context())
			value := string(make([]byte, size))
			producers := make([]*client, 6)
			for i := range producers {
				producers[i] = n.connect()
				if err := producers[i].conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				q := inTransaction(transactional(t, int64(i), 0, 0, value), 0)
				q.Topics[0].Topic = "many"
				part := q.Topics[0].Partitions[0]
				q.Topics[0].Partitions = nil
				for p := range withOne {
					part.Partition = int32(i*withOne + p)
					q.Topics[0].Partitions = append(q.Topics[0].Partitions, part)
				}
				q.SetVersion(12)
				go producers[i].send(q)
			}
			for i, c := range producers {
				synctest.Wait()
				for _, part := range c.receive().(*kmsg.ProduceResponse).Topics[0].Partitions {
					if part.ErrorCode != 0 {
						t.Fatalf("producer %d, partition %d: %v", i, part.Partition, kerr.ErrorForCode(part.ErrorCode))
					}
				}
			}
			n.connect().produce("events", 0, value)
			n.server.Close()
			n.Close()
		})
	}
}

// TestWhatIsParkedIsAskedForBeforeAWait: a request that finds no room for its third batch
// has the coordinator asked of the two before it, once, and of the third when that is in.
func TestWhatIsParkedIsAskedForBeforeAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o := startTransactional(t)
		records := transactional(t, 7, 0, 0, string(make([]byte, 100<<10)))
		room := 6 << 20
		held := room - 3*len(records) + 1000 // for two of them
		if err := n.store.Admit(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		o.withholds = true
		c := n.connect()
		q := inTransaction(records, 0, 1, 2)
		q.SetVersion(12)
		c.send(q)
		synctest.Wait()
		if asked := fmt.Sprint(o.questions()); asked != "[{txn 7 0 true [{events 0} {events 1}]}]" {
			t.Errorf("asked %s", asked)
		}
		o.release()
		n.store.Unadmit(held)
		for i, part := range c.receive().(*kmsg.ProduceResponse).Topics[0].Partitions {
			if part.ErrorCode != 0 || part.BaseOffset != 0 {
				t.Errorf("part %d: %v, offset %d", i, kerr.ErrorForCode(part.ErrorCode), part.BaseOffset)
			}
		}
		if asked := fmt.Sprint(o.questions()[1:]); asked != "[{txn 7 0 true [{events 2}]}]" {
			t.Errorf("then asked %s", asked)
		}
		n.server.Close()
		n.Close()
	})
}
