package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/test/seeded"
)

const smallLog = 4 << 10

func compacting(o *Options) { o.CompactBytes = smallLog }

// neighbours are groups of g's partition.
func neighbours(n int) []string {
	var ids []string
	for i := 0; len(ids) < n; i++ {
		if id := fmt.Sprintf("g%d", i); Partition(id) == Partition("g") {
			ids = append(ids, id)
		}
	}
	return ids
}

// churn commits for another group until the log was shortened.
func (h *house) churn() {
	h.t.Helper()
	other := neighbours(1)[0]
	before := h.trims()
	for i := range int64(1000) {
		wantCode(h.t, "commit", commitCode(now(h.t, h.commit(other, i))), nil)
		if h.trims() > before {
			return
		}
	}
	h.t.Fatalf("the log was not shortened: it has %d bytes", h.log.Size(Partition("g")))
}

func (h *house) trims() int {
	trims := 0
	h.log.Set(func(l *coordinatortest.Log) { trims = l.Trims })
	return trims
}

// However much is committed, the log stays as short as its budget and what the
// groups hold make it; what they hold survives.
func TestLogOfGroupsStaysShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		ids := neighbours(10)
		most := 0
		for i := range int64(3000) {
			wantCode(t, "commit", commitCode(now(t, h.commit(ids[i%10], i))), nil)
			most = max(most, h.log.Size(Partition("g")))
		}
		if limit := smallLog + 4*int(h.Stats().Bytes); most > limit {
			t.Errorf("the log had %d bytes, with a state of %d", most, h.Stats().Bytes)
		}
		before := h.Stats()
		h.load(2)
		if after := h.Stats(); after != before {
			t.Errorf("%+v, before the restart %+v", after, before)
		}
		for i, id := range ids {
			if got := h.fetched(id); got != 2990+int64(i) {
				t.Errorf("group %s: %d", id, got)
			}
		}
		if n := h.log.Size(Partition("g")); n == 0 {
			t.Error("nothing is left")
		}
	})
}

// A log of nothing but tombstones ends empty.
func TestDeletedGroupsLeaveNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.CompactBytes = smallLog; o.NewID = newUUID })
		h.load(1)
		for i := 0; h.trims() == 0 || h.log.Size(Partition("g")) > 0; i++ {
			wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
			h.log.Set(func(l *coordinatortest.Log) { l.Trims = 0 })
			h.delete("g")
			if i > 1000 {
				t.Fatalf("%d bytes are left", h.log.Size(Partition("g")))
			}
		}
	})
}

func (h *house) delete(group string) {
	h.t.Helper()
	answers := make(chan int16, 1)
	h.shard(group).Submit(h.t.Context(), Request{Body: &DeleteGroup{Group: group}},
		func(body any) { answers <- body.(int16) }, func(code int16) { answers <- code })
	wantCode(h.t, "delete", now(h.t, answers), nil)
}

// What is in flight when a snapshot is due is not overtaken by it: the log would
// say last what the group had before.
func TestSnapshotWaitsForWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		ids := neighbours(5)
		for _, id := range ids {
			wantCode(t, "commit", commitCode(now(t, h.commit(id, 1))), nil)
		}
		h.log.Hold()
		var answers []<-chan *kmsg.OffsetCommitResponse
		for _, id := range ids {
			answers = append(answers, h.commit(id, 2))
			synctest.Wait()
		}
		for i := range int64(100) {
			answers = append(answers, h.commit("g", i))
			synctest.Wait()
		}
		h.log.Release()
		for _, got := range answers {
			wantCode(t, "commit", commitCode(now(t, got)), nil)
		}
		if h.trims() == 0 {
			t.Fatal("the log was not shortened")
		}
		h.load(2)
		for _, id := range ids {
			if got := h.fetched(id); got != 2 {
				t.Errorf("group %s: offset %d after a restart", id, got)
			}
		}
	})
}

// A log start does not move before all of the snapshot is committed.
func TestLogStartWaitsForTheSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.log.Set(func(l *coordinatortest.Log) { l.Limit = 1000 }) // of which a snapshot of these groups takes more
		h.load(1)
		ids := neighbours(30)
		for i := range 600 {
			wantCode(t, "commit", commitCode(now(t, h.commit(ids[i%30], int64(i)))), nil)
		}
		h.log.Set(func(l *coordinatortest.Log) {
			if l.Trims > 0 {
				t.Error("what the snapshot should have held is gone")
			}
			l.Limit, l.TrimErr = 0, fmt.Errorf("no controller")
		})
		time.Sleep(coordinator.CompactRetry + time.Millisecond)
		if h.trims() == 0 {
			t.Fatal("the snapshot was not tried again")
		}
		h.log.Set(func(l *coordinatortest.Log) { l.Trims, l.TrimErr = 0, nil })
		before := h.log.Size(Partition("g"))
		time.Sleep(coordinator.CompactRetry + time.Millisecond)
		if after := h.log.Size(Partition("g")); h.trims() != 1 || after*2 > before {
			t.Errorf("%d trims, %d bytes of %d", h.trims(), after, before)
		}
		h.load(2)
		for i, id := range ids {
			if got := h.fetched(id); got != 570+int64(i) {
				t.Errorf("group %s: %d", id, got)
			}
		}
	})
}

// Records that a newer rustmq wrote are not lost for a snapshot without them.
func TestUnknownRecordsKeepTheLogWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		w := new(batch.Builder)
		w.Add(stamp, []byte{0, 99}, []byte("from the future"))
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		h.log.Append(Partition("g"), 0, b, log.Guard{}, func(storage.Offset, error) {})
		h.load(1)
		for i := range int64(200) {
			wantCode(t, "commit", commitCode(now(t, h.commit("g", i))), nil)
		}
		if h.trims() > 0 {
			t.Fatal("the log was shortened")
		}
	})
}

// A snapshot in a rebalance holds the generation before, as the log did: its
// members go on with it after a restart.
func TestSnapshotInARebalanceHoldsTheGenerationBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		m := now(t, h.join("g", "")).MemberID
		wantCode(t, "sync", now(t, h.sync("g", m, 1)).ErrorCode, nil)
		second := h.join("g", "")
		none(t, second)
		h.churn()
		none(t, second)
		h.load(2)
		wantCode(t, "heartbeat", h.heartbeat("g", m, 1), nil)
		if resp := now(t, h.sync("g", m, 1)); resp.ErrorCode != 0 || string(resp.MemberAssignment) != "all" {
			t.Fatalf("%+v", resp)
		}
	})
}

// Whatever the log has been shortened to, and wherever a crash cuts it off, it
// says of every group what the whole log says that was ever written.
func TestShortenedLogSaysWhatTheWholeOneSaid(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.log.KeepAll = true
		h.load(1)
		ids := neighbours(8)
		var answers []chan int16
		for i := range int64(2000) {
			got := make(chan int16, 1)
			id := ids[rng.IntN(len(ids))]
			switch what := rng.IntN(20); {
			case what < 5:
				req := kmsg.NewPtrTxnOffsetCommitRequest()
				req.Group, req.ProducerID, req.Topics = id, rng.Int64N(3), txnTopics("t", i)
				h.TxnOffsetCommit(t.Context(), req, log.Guard{}, func(p *kmsg.TxnOffsetCommitResponse) { got <- p.Topics[0].Partitions[0].ErrorCode })
			case what < 7:
				m := log.Marker{ProducerID: rng.Int64N(3), Commit: rng.IntN(3) > 0}
				h.EndTransaction(t.Context(), Partition(id), m, func(error) { got <- 0 })
			case what < 9:
				h.shard(id).Submit(t.Context(), Request{Body: &DeleteGroup{Group: id}},
					func(body any) { got <- body.(int16) }, func(code int16) { got <- code })
			default:
				h.OffsetCommit(t.Context(), commitRequest(id, i), func(p *kmsg.OffsetCommitResponse) { got <- commitCode(p) })
			}
			answers = append(answers, got)
			switch rng.IntN(6) {
			case 0:
				h.log.Hold()
			case 1, 2:
				synctest.Wait()
				h.log.Release()
			case 3:
				synctest.Wait()
			}
		}
		synctest.Wait()
		h.log.Release()
		synctest.Wait()
		h.log.Release()
		for _, got := range answers {
			now(t, got)
		}
		whole, starts := h.log.Whole[Partition("g")], h.log.Starts[Partition("g")]
		if len(starts) < 3 {
			t.Fatalf("shortened %d times", len(starts))
		}
		for _, s := range starts {
			for cut := s.Length; cut <= len(whole); cut += 1 + rng.IntN(50) {
				want, got := replayed(t, h.opt, whole[:cut], 0), replayed(t, h.opt, whole[:cut], s.Offset)
				if want != got {
					t.Fatalf("from offset %d, of %d batches:\n%s\nwant\n%s", s.Offset, cut, got, want)
				}
			}
		}
	})
}

// replayed is what a core finds in batches from an offset on.
func replayed(t *testing.T, opt Options, batches []batch.Batch, from storage.Offset) string {
	t.Helper()
	c := NewCore(opt)
	for _, b := range batches {
		if b.NextOffset() <= from {
			continue
		}
		if m, ok := batch.ReadMarker(b); ok {
			c.ReplayMarker(b.ProducerID(), m.Commit)
			continue
		}
		it := b.Records(1 << 20)
		for it.Next() {
			r, err := recordOf(it.Record())
			switch {
			case err != nil:
			case b.IsTransactional():
				err = c.ReplayTransactional(b.ProducerID(), b.ProducerEpoch(), r)
			default:
				err = c.Replay(r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Loaded(time.Now())
	out := ""
	for _, id := range c.Groups() {
		out += fmt.Sprintf("%s %x %s\n", id, c.groups[id].record, inOrder(c.groups[id]))
	}
	return out
}

// inOrder is what a group has of each slot, committed and in transactions, in the
// order that decides between them.
func inOrder(g *group) string {
	out := ""
	for _, s := range g.slots(func(slot) bool { return true }) {
		said := map[uint64]string{}
		if o, ok := g.offsets[s.topic][s.partition]; ok {
			said[o.order] = fmt.Sprintf(" committed %d %q %d", o.offset, o.metadata, o.timestamp)
		}
		for id, t := range g.transactions {
			if o, ok := t.offsets[s]; ok {
				said[o.order] = fmt.Sprintf(" %d in %d/%d", o.offset, id, t.epoch)
			}
		}
		out += fmt.Sprint(s, ":")
		for _, order := range slices.Sorted(maps.Keys(said)) {
			out += said[order]
		}
	}
	return out
}

// txnTopics is what a transaction commits for partition 0 of a topic.
func txnTopics(topic string, offset int64) []kmsg.TxnOffsetCommitRequestTopic {
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = offset
	return []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
}

// A snapshot that failed is tried again when the log has grown, and nobody spins
// until then.
func TestFailedSnapshotDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, compacting)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = errors.New("disk full") })
		shard := h.shard("g")
		c := &shard.compaction
		for c.Retry.IsZero() {
			h.commit("g", 1)
			synctest.Wait()
		}
		shard.Post(func() { c.Grown = 0 }) // as if the groups had grown
		time.Sleep(2 * coordinator.CompactRetry)
		synctest.Wait()
		if !c.Retry.IsZero() {
			t.Fatalf("it would wake at %v, which is over", c.Retry)
		}
	})
}
