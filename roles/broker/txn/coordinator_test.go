package txn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a coordinator over a log in memory, inside a synctest bubble.
type house struct {
	*Coordinator
	t       *testing.T
	log     *coordinatortest.Log
	markers *memoryMarkers
}

func open(t *testing.T, change ...func(*Options)) *house {
	t.Helper()
	h := &house{t: t, log: new(coordinatortest.Log), markers: new(memoryMarkers)}
	ids := int64(0)
	opt := Options{Log: h.log, Markers: h.markers, NewProducerID: func(done func(int64, error)) { ids++; done(ids, nil) }}
	for _, c := range change {
		c(&opt)
	}
	var err error
	if h.Coordinator, err = Open(opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// load loads the partition of the id "tx", and waits until that is done.
func (h *house) load(epoch storage.Epoch) {
	h.t.Helper()
	h.Load(PartitionOf("tx"), epoch)
	synctest.Wait()
}

// shard is the one that coordinates an id, nil where none does.
func (h *house) shard(id string) *shard {
	for _, s := range h.shards.All() {
		if s.Partition == PartitionOf(id) {
			return s
		}
	}
	return nil
}

// call asks and returns where the answer will be, in a channel that tells a second
// answer from the first.
func call[Q, P any](h *house, method func(context.Context, Q, func(P)), req Q) <-chan P {
	h.t.Helper()
	got := make(chan P, 2)
	method(h.t.Context(), req, func(p P) { got <- p })
	return got
}

// now returns an answer that must be there without any time passing.
func now[P any](t *testing.T, c <-chan P) P {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-c:
		return p
	default:
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func none[P any](t *testing.T, c <-chan P) {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-c:
		t.Fatalf("answered %v", p)
	default:
	}
}

func (h *house) init(id string) who {
	h.t.Helper()
	q := initRequest(nobody)
	q.TransactionalID = &id
	resp := now(h.t, call(h, h.InitProducerID, q))
	if resp.ErrorCode != 0 {
		h.t.Fatalf("init of %s: %v", id, kerr.ErrorForCode(resp.ErrorCode))
	}
	return who{resp.ProducerID, resp.ProducerEpoch}
}

func wantCode(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	if want == nil && got != 0 || want != nil && got != want.Code {
		t.Fatalf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

func TestKafkaFindsIDsInTheSamePartition(t *testing.T) {
	// Utils.abs(id.hashCode) % 50
	for id, want := range map[string]int32{"": 0, "tx": 16, "my-transactional-id": 46, "ünïcödé-🙂": 47, "polygenelubricants": 0} {
		if got := PartitionOf(id); got != want {
			t.Errorf("%q in %d, want %d", id, got, want)
		}
	}
}

// A partition is served while it is led, after its log is read, and goes on where it
// was under the next epoch: markers name that epoch.
func TestCoordinatorMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		wantCode(t, "not led", now(t, call(h, h.EndTxn, endRequest(nobody, 5, true))).ErrorCode, kerr.NotCoordinator)
		gate := make(chan struct{})
		h.log.Set(func(l *coordinatortest.Log) { l.Reading = gate })
		h.load(3)
		wantCode(t, "loading", now(t, call(h, h.EndTxn, endRequest(nobody, 5, true))).ErrorCode, kerr.CoordinatorLoadInProgress)
		h.log.Set(func(l *coordinatortest.Log) { l.Reading = nil })
		close(gate)
		synctest.Wait()
		w := h.init("tx")
		wantCode(t, "add", now(t, call(h, h.AddPartitions, addRequest(w, 2, t0)))[0], nil)
		h.markers.set(func(m *memoryMarkers) { m.held = true })
		wantCode(t, "end", now(t, call(h, h.EndTxn, endRequest(w, 5, true))).ErrorCode, nil)
		next := call(h, h.AddPartitions, addRequest(who{w.id, w.epoch + 1}, 2, t0))
		none(t, next)
		h.markers.set(func(m *memoryMarkers) { m.held = false })
		h.load(4)
		wantCode(t, "that waited", now(t, next)[0], kerr.NotCoordinator)
		h.markers.set(func(m *memoryMarkers) {
			if len(m.written) != 2 || m.written[0].CoordinatorEpoch != 3 || m.written[1].CoordinatorEpoch != 4 {
				t.Errorf("%+v", m.written)
			}
		})
		d := now(t, call(h, h.DescribeTransactions, &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"tx", ""}}))
		if d.TransactionStates[0].State != "CompleteCommit" || d.TransactionStates[1].ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("%+v", d)
		}
		for _, land := range h.markers.waiting { // too late
			land()
		}
		h.Unload(PartitionOf("tx"))
		wantCode(t, "unloaded", now(t, call(h, h.EndTxn, endRequest(w, 5, true))).ErrorCode, kerr.NotCoordinator)
		if st := h.Stats(); st != (Stats{}) {
			t.Errorf("%+v", st)
		}
	})
}

// A log that cannot be read is read again; meanwhile nothing is said of its ids.
func TestLoadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.log.Set(func(l *coordinatortest.Log) { l.ReadErr = errors.New("bad disk") })
		h.load(1)
		list := now(t, call(h, h.ListTransactions, kmsg.NewPtrListTransactionsRequest()))
		wantCode(t, "list", list.ErrorCode, kerr.CoordinatorLoadInProgress)
		if st := h.Stats(); st.Loading != 1 {
			t.Errorf("%+v", st)
		}
		h.log.Set(func(l *coordinatortest.Log) { l.ReadErr = nil })
		time.Sleep(coordinator.LoadRetry)
		synctest.Wait()
		h.init("tx")
	})
}

// A transaction whose markers cannot be written is not complete, and they are tried
// again until they are.
func TestMarkersAreWrittenInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		w := h.init("tx")
		wantCode(t, "add", now(t, call(h, h.AddPartitions, addRequest(w, 2, t0, t1)))[0], nil)
		h.markers.set(func(m *memoryMarkers) { m.left = []Partition{t1} })
		wantCode(t, "end", now(t, call(h, h.EndTxn, endRequest(w, 5, true))).ErrorCode, nil)
		time.Sleep(time.Minute)
		d := now(t, call(h, h.DescribeTransactions, &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"tx"}}))
		if s := d.TransactionStates[0]; s.State != "PrepareCommit" || len(s.Topics) != 1 || !slices.Equal(s.Topics[0].Partitions, []int32{1}) {
			t.Errorf("%+v", s)
		}
		h.markers.set(func(m *memoryMarkers) { m.left = nil })
		time.Sleep(maxRetry)
		synctest.Wait()
		if st := h.Stats(); st.Open != 0 || st.IDs != 1 {
			t.Errorf("%+v", st)
		}
		h.markers.set(func(m *memoryMarkers) {
			if n := len(m.written); n < 5 || n > 20 || len(m.written[n-1].Partitions) != 1 {
				t.Errorf("%d markers: %+v", n, m.written[n-1])
			}
		})
	})
}

// Every version of the requests of clients is answered in its own terms.
func TestRequestsByVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.Topics = topics{"t": 2} })
		h.load(1)
		w := h.init("tx")
		for version := range int16(4) {
			q := kmsg.NewPtrAddPartitionsToTxnRequest()
			q.Version, q.TransactionalID, q.ProducerID, q.ProducerEpoch = version, "tx", w.id, w.epoch
			q.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
			resp := now(t, call(h, h.AddPartitionsToTxn, q))
			wantCode(t, "add", resp.Topics[0].Partitions[1].ErrorCode, nil)
			q.Topics[0].Partitions[1] = 2
			resp = now(t, call(h, h.AddPartitionsToTxn, q))
			wantCode(t, "not tried", resp.Topics[0].Partitions[0].ErrorCode, kerr.OperationNotAttempted)
			wantCode(t, "unknown", resp.Topics[0].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
			q.Topics[0].Partitions[1], q.ProducerEpoch = 1, 9
			want := kerr.ProducerFenced
			if version < 2 {
				want = kerr.InvalidProducerEpoch
			}
			wantCode(t, "fenced", now(t, call(h, h.AddPartitionsToTxn, q)).Topics[0].Partitions[0].ErrorCode, want)
		}
		for version := int16(4); version <= 5; version++ {
			q := kmsg.NewPtrAddPartitionsToTxnRequest()
			q.Version = version
			for i, verify := range []bool{false, true, true} {
				topic := kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: "t", Partitions: []int32{int32(i)}}
				q.Transactions = append(q.Transactions, kmsg.AddPartitionsToTxnRequestTransaction{
					TransactionalID: "tx", ProducerID: w.id, ProducerEpoch: w.epoch, VerifyOnly: verify,
					Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{topic},
				})
			}
			resp := now(t, call(h, h.AddPartitionsToTxn, q))
			for i, want := range []*kerr.Error{nil, nil, kerr.TransactionAbortable} {
				wantCode(t, fmt.Sprint("v", version, " ", i), resp.Transactions[i].Topics[0].Partitions[0].ErrorCode, want)
			}
		}
		for version := range int16(5) {
			q := kmsg.NewPtrAddOffsetsToTxnRequest()
			q.Version, q.TransactionalID, q.ProducerID, q.ProducerEpoch = version, "tx", w.id, w.epoch
			wantCode(t, "offsets", now(t, addOffsets(h, q)).ErrorCode, nil)
			q.ProducerEpoch = 9
			want := kerr.ProducerFenced
			if version < 2 {
				want = kerr.InvalidProducerEpoch
			}
			wantCode(t, "offsets, fenced", now(t, addOffsets(h, q)).ErrorCode, want)
		}
		for version := range int16(6) {
			wantCode(t, "end", now(t, call(h, h.EndTxn, endRequest(w, version, true))).ErrorCode, map[bool]*kerr.Error{true: nil, false: kerr.InvalidTxnState}[version < 5])
		}
	})
}

func addOffsets(h *house, q *kmsg.AddOffsetsToTxnRequest) <-chan *kmsg.AddOffsetsToTxnResponse {
	got := make(chan *kmsg.AddOffsetsToTxnResponse, 2)
	h.AddOffsetsToTxn(h.t.Context(), q, Partition{"__consumer_offsets", 3}, func(p *kmsg.AddOffsetsToTxnResponse) { got <- p })
	return got
}

type topics map[string]int32

func (t topics) Partitions(name string) int32 { return t[name] }

func TestTransactionsAreListedByFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		ids := map[string]who{}
		for _, id := range []string{"a-1", "a-2", "b-1"} {
			ids[id] = h.init(id)
			q := addRequest(ids[id], 2, t0)
			q.TransactionalID = id
			wantCode(t, "add", now(t, call(h, h.AddPartitions, q))[0], nil)
			time.Sleep(time.Second)
		}
		end := endRequest(ids["a-1"], 5, true)
		end.TransactionalID = "a-1"
		now(t, call(h, h.EndTxn, end))
		for name, tc := range map[string]struct {
			change  func(*kmsg.ListTransactionsRequest)
			want    []string
			unknown []string
			code    *kerr.Error
		}{
			"all":           {func(q *kmsg.ListTransactionsRequest) {}, []string{"a-1", "a-2", "b-1"}, nil, nil},
			"state":         {func(q *kmsg.ListTransactionsRequest) { q.StateFilters = []string{"Ongoing", "Odd"} }, []string{"a-2", "b-1"}, []string{"Odd"}, nil},
			"unknown state": {func(q *kmsg.ListTransactionsRequest) { q.StateFilters = []string{"Odd"} }, nil, []string{"Odd"}, nil},
			"producer":      {func(q *kmsg.ListTransactionsRequest) { q.ProducerIDFilters = []int64{ids["b-1"].id, 99} }, []string{"b-1"}, nil, nil},
			"duration":      {func(q *kmsg.ListTransactionsRequest) { q.DurationFilterMillis = 1500 }, []string{"a-1", "a-2"}, nil, nil},
			"not in v0":     {func(q *kmsg.ListTransactionsRequest) { q.Version, q.DurationFilterMillis = 0, 1500 }, []string{"a-1", "a-2", "b-1"}, nil, nil},
			"pattern":       {func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = kmsg.StringPtr("a-|.-1") }, []string{"a-1", "b-1"}, nil, nil},
			"large pattern": {func(q *kmsg.ListTransactionsRequest) {
				q.TransactionalIDPattern = kmsg.StringPtr(strings.Repeat("a{1000}", 500))
			}, nil, nil, kerr.InvalidRegularExpression},
			"no pattern": {func(q *kmsg.ListTransactionsRequest) { q.TransactionalIDPattern = kmsg.StringPtr("(") }, nil, nil, kerr.InvalidRegularExpression},
		} {
			q := kmsg.NewPtrListTransactionsRequest()
			q.Version = 2
			tc.change(q)
			resp := now(t, call(h, h.ListTransactions, q))
			wantCode(t, name, resp.ErrorCode, tc.code)
			var got []string
			for _, s := range resp.TransactionStates {
				got = append(got, s.TransactionalID)
			}
			if !slices.Equal(got, tc.want) || !slices.Equal(resp.UnknownStateFilters, tc.unknown) {
				t.Errorf("%s: %v, unknown %v", name, got, resp.UnknownStateFilters)
			}
		}
	})
}

const smallLog = 4 << 10

func compacting(o *Options) { o.CompactBytes = smallLog }

// neighbours are ids of the partition of "tx".
func neighbours(n int) []string {
	var ids []string
	for i := 0; len(ids) < n; i++ {
		if id := fmt.Sprintf("tx%d", i); PartitionOf(id) == PartitionOf("tx") {
			ids = append(ids, id)
		}
	}
	return ids
}

// compaction is that of the partition of "tx".
func (h *house) compaction() *compaction {
	synctest.Wait()
	return &h.shard("tx").compaction
}

// fill makes the log so long that one record more has it written anew.
func (h *house) fill() {
	for {
		c := h.compaction()
		before := c.Grown
		h.init("tx")
		if c.Stage != coordinator.CompactIdle {
			h.t.Fatal("filled too much")
		}
		_, live := h.shard("tx").core.Size()
		if c.Grown+(c.Grown-before) >= smallLog+2*live {
			return
		}
	}
}

// churn begins so often that the log would be written anew.
func (h *house) churn() {
	for range 100 {
		call(h, h.InitProducerID, initRequest(nobody))
		synctest.Wait()
	}
}

// Whatever the log has been shortened to, and wherever a crash cuts it off, it says
// of every id what the whole log says that was ever written.
func TestShortenedLogSaysWhatTheWholeOneSaid(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting, func(o *Options) { o.IDExpiration = 20 * time.Second })
		h.log.KeepAll = true
		h.load(1)
		ids := neighbours(8)
		var answers atomic.Int64
		const asked = 1000
		for range asked {
			id := ids[rng.IntN(len(ids))]
			q := initRequest(nobody)
			q.TransactionalID = &id
			begin, index := rng.IntN(2) == 0, int32(rng.IntN(9))
			h.InitProducerID(t.Context(), q, func(p *kmsg.InitProducerIDResponse) {
				answers.Add(1)
				if p.ErrorCode == 0 && begin {
					add := addRequest(who{p.ProducerID, p.ProducerEpoch}, 2, Partition{"t", index})
					add.TransactionalID = id
					h.AddPartitions(t.Context(), add, func([]int16) {})
				}
			})
			switch rng.IntN(8) {
			case 0:
				h.log.Hold()
			case 1, 2:
				synctest.Wait()
				h.log.Release()
			case 3:
				synctest.Wait()
			case 4:
				time.Sleep(time.Second)
			}
		}
		for range 10 {
			synctest.Wait()
			h.log.Release()
		}
		time.Sleep(2 * maxPark)
		synctest.Wait()
		if n := answers.Load(); n != asked {
			t.Fatalf("%d answers", n)
		}
		whole, starts := h.log.Whole[PartitionOf("tx")], h.log.Starts[PartitionOf("tx")]
		if len(starts) < 3 {
			t.Fatalf("shortened %d times", len(starts))
		}
		rng.Shuffle(len(starts), func(i, j int) { starts[i], starts[j] = starts[j], starts[i] })
		for _, s := range starts[:min(10, len(starts))] {
			for cut := s.Length; cut <= len(whole); cut += 1 + rng.IntN(len(whole)/4) {
				want, got := replayed(t, whole[:cut], 0), replayed(t, whole[:cut], s.Offset)
				if want != got {
					t.Fatalf("from offset %d, of %d batches:\n%s\nwant\n%s", s.Offset, cut, got, want)
				}
			}
		}
	})
}

// replayed is what a core finds in batches from an offset on.
func replayed(t *testing.T, batches []batch.Batch, from storage.Offset) string {
	t.Helper()
	c := NewCore(Options{})
	for _, b := range batches {
		if b.NextOffset() <= from {
			continue
		}
		it := b.Records(1 << 20)
		for it.Next() {
			if err := c.Replay(it.Record().Key, it.Record().Value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return describeAll(c)
}

// The log begins behind what a snapshot holds only once all of it is committed.
func TestLogStartWaitsForTheSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		h.fill()
		h.log.Hold()
		for range 3 {
			call(h, h.InitProducerID, initRequest(nobody))
			synctest.Wait()
		}
		if c := h.compaction(); c.Stage != coordinator.CompactWriting || h.log.Trims > 0 {
			t.Fatalf("stage %d, shortened %d times, and the snapshot is not committed", c.Stage, h.log.Trims)
		}
		h.log.Release()
		synctest.Wait()
		if h.log.Trims == 0 {
			t.Fatal("not shortened")
		}
	})
}

// A write that fails while a snapshot is made leaves its id with a record that may
// lie before it: the log keeps its start, and the next snapshot has it.
func TestFailedWriteKeepsTheLogWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		other := neighbours(1)[0]
		kept := h.init(other)
		h.fill()
		// The id's next record is in flight when the snapshot begins, and fails.
		h.log.Hold()
		h.log.Set(func(l *coordinatortest.Log) { l.FailOnce = errors.New("disk full") })
		q := initRequest(nobody)
		q.TransactionalID = &other
		failed := call(h, h.InitProducerID, q)
		synctest.Wait()
		if c := h.compaction(); c.Stage != coordinator.CompactWriting {
			t.Fatalf("stage %d", c.Stage)
		}
		h.log.Release()
		synctest.Wait()
		wantCode(t, "init", now(t, failed).ErrorCode, kerr.CoordinatorNotAvailable)
		h.log.Set(func(l *coordinatortest.Log) {
			if l.Trims > 0 {
				t.Error("shortened behind a snapshot that lacks an id")
			}
		})
		h.load(2)
		if again := h.init(other); again.id != kept.id || again.epoch != kept.epoch+1 {
			t.Fatalf("%+v after %+v", again, kept)
		}
		time.Sleep(coordinator.CompactRetry)
		h.churn()
		if h.log.Trims == 0 {
			t.Error("never shortened")
		}
	})
}

// Records of kinds that are not known stay: a newer rustmq will want them.
func TestUnknownRecordsKeepTheLogWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		w := new(batch.Builder)
		w.Add(0, []byte{0, 99}, []byte("from the future"))
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		h.log.Append(PartitionOf("tx"), 0, b, func(storage.Offset, error) {})
		h.load(1)
		h.churn()
		if h.log.Trims > 0 {
			t.Error("shortened")
		}
	})
}

// A log start that could not be moved is moved later.
func TestTrimIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.log.Set(func(l *coordinatortest.Log) { l.TrimErr = errors.New("no controller") })
		h.load(1)
		h.churn()
		if h.log.Trims != 1 {
			t.Fatalf("%d trims", h.log.Trims)
		}
		h.log.Set(func(l *coordinatortest.Log) { l.TrimErr = nil })
		time.Sleep(coordinator.CompactRetry)
		synctest.Wait()
		if n := len(h.log.Starts[PartitionOf("tx")]); n == 0 {
			t.Fatalf("%d log starts", n)
		}
	})
}

// A record's key gives a transactional id two bytes for its length. A longer one
// would make a record that says something else, and no load would survive it.
func TestIDsThatNoRecordCanHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		for _, n := range []int{math.MaxInt16, math.MaxInt16 + 1, 1 << 16} {
			q := initRequest(nobody)
			q.TransactionalID = kmsg.StringPtr(strings.Repeat("x", n))
			var want *kerr.Error
			if n > math.MaxInt16 {
				want = kerr.InvalidRequest
			}
			wantCode(t, fmt.Sprint(n, " bytes"), now(t, call(h, h.InitProducerID, q)).ErrorCode, want)
			h.Load(PartitionOf(*q.TransactionalID), 2)
			synctest.Wait()
			if st := h.Stats(); st.Loading > 0 || st.IDs != 1 {
				t.Fatalf("%d bytes: %+v", n, st)
			}
		}
	})
}

// A snapshot that failed is tried again when the log has grown, and nobody spins
// until then.
func TestFailedSnapshotDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		h.fill()
		h.log.Hold()
		h.log.Set(func(l *coordinatortest.Log) { l.FailOnce = errors.New("disk full") })
		call(h, h.InitProducerID, initRequest(nobody))
		synctest.Wait()
		h.log.Release()
		synctest.Wait()
		if c := h.compaction(); c.Stage != coordinator.CompactIdle || c.Retry.IsZero() {
			t.Fatalf("stage %d, retry %v", c.Stage, c.Retry)
		}
		shard := h.shard("tx")
		shard.Post(func() { shard.compaction.Grown = 0 }) // as if the ids had grown
		time.Sleep(2 * coordinator.CompactRetry)
		if c := h.compaction(); !c.Retry.IsZero() {
			t.Fatalf("it would wake at %v, which is over", c.Retry)
		}
	})
}
