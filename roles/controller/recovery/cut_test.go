package recovery

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// cutRead reads the bucket to cut what is torn, with no broker awaited.
func (c *cluster) cutRead() (*Plan, error) {
	return Read(c.t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: []int32{}, CutTorn: true})
}

// saidCuts is a list of cuts in one line each.
func saidCuts(cuts []Cut) (lines []string) {
	for _, c := range cuts {
		lines = append(lines, fmt.Sprintf("%s-%d %d of %d for %v", c.Topic, c.Partition, c.At, c.End, c.For))
	}
	return lines
}

// left are the batches that a topic's partition has in the bucket: of which producer, or nobody's.
func (c *cluster) left(topic string) (batches []string) {
	c.t.Helper()
	t, ok := c.Image().Topic(topic)
	if !ok {
		c.t.Fatalf("%s is gone", topic)
	}
	r := bucketReader{c.bucket, "p", c.id}
	p := t.Partition(0)
	for in := range p.Ranges().All() {
		must(c.t, r.batches(c.t.Context(), storage.PartitionID{Topic: t.ID}, in, func(b batch.Batch) error {
			what := "sent"
			if m, ok := batch.ReadMarker(b); ok {
				what = map[bool]string{true: "committed", false: "aborted"}[m.Commit]
			}
			batches = append(batches, fmt.Sprintf("%d %s %d", b.BaseOffset(), what, b.ProducerID()))
			return nil
		}))
	}
	return batches
}

// TestTornTransactionsAreCut (RULES 7): partitions end before what they have of a torn transaction,
// where nothing is under way, and before what that tears in its turn; the next life begins so, and
// has nothing torn.
func TestTornTransactionsAreCut(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		log, u, v, w, x := c.make(transactionLog), c.make("u"), c.make("v"), c.make("w"), c.make("x")
		plain := func() batch.Batch { return built(t, batch.BuilderOptions{}, nil, []byte("v")) }
		c.commit(u, false, plain())
		c.commit(w, false, plain(), sent(t, 5, 0), ends(5, 0, true))
		c.commit(x, false, plain(), sent(t, 6, 0), ends(6, 0, true))
		c.commit(log, false, on(t, "torn", 7, 3, committed, "u", "v"), on(t, "torn by it", 8, 1, committed, "u", "w"), on(t, "torn by that", 9, 2, completed), on(t, "whole", 6, 0, committed, "x"))
		pass(time.Second)
		// In u an aborted one is under way where the torn one begins, and in w another: nobody
		// would end those.
		c.commit(u, false, plain(), sent(t, 4, 0), sent(t, 7, 3), ends(4, 0, false), ends(7, 3, true), sent(t, 8, 1), ends(8, 1, true))
		c.commit(v, true, plain(), sent(t, 7, 3))
		c.commit(w, false, sent(t, 9, 2), sent(t, 8, 1), ends(8, 1, true), ends(9, 2, true), plain())
		c.commit(x, false, plain())
		c.shipped()
		before := c.keys("")
		plan, err := c.cutRead()
		must(t, err)
		if got, want := said(plan.Torn), []string{"torn 7/3: u-0@-1=true v-0@1=false"}; !slices.Equal(got, want) {
			t.Errorf("torn are %q, want %q", got, want)
		}
		want := []string{"u-0 2 of 8 for [torn]", "v-0 1 of 2 for [torn]", "w-0 3 of 8 for [producer 8]"}
		if got := saidCuts(plan.Cuts); !slices.Equal(got, want) {
			t.Errorf("cut are %q, want %q", got, want)
		}
		for _, p := range plan.Partitions {
			if want, cut := map[string]storage.Offset{"u": 2, "v": 1, "w": 3, "x": 4}[p.Topic]; cut && p.End != want {
				t.Errorf("%s ends at %d, want %d", p.Topic, p.End, want)
			}
		}
		if !slices.Equal(c.keys(""), before) {
			t.Error("to look has changed the bucket")
		}
		must(t, plan.CutTorn(t.Context()))
		life, err := plan.Begin(t.Context(), false)
		must(t, err)
		next := c.again(life)
		defer func() { must(t, next.Close()) }()
		for topic, want := range map[string][]string{
			"u": {"0 sent -1", "1 sent -1"},
			"v": {"0 sent -1"},
			"w": {"0 sent -1", "1 sent 5", "2 committed 5"},
			"x": {"0 sent -1", "1 sent 6", "2 committed 6", "3 sent -1"},
		} {
			if got := next.left(topic); !slices.Equal(got, want) {
				t.Errorf("%s has %q, want %q", topic, got, want)
			}
		}
		for o := range next.Image().ObjectsIn(metadata.Committed) {
			if o.LiveBytes > o.Size || o.Ranges < 1 {
				t.Errorf("%+v", o)
			}
		}
		again, err := c.cutRead()
		must(t, err)
		if len(again.Torn) > 0 || len(again.Cuts) > 0 {
			t.Errorf("once cut, torn are %q, to be cut %q", said(again.Torn), saidCuts(again.Cuts))
		}
	})
}

// TestACutThatIsRefusedLeavesNothing: of two that recover at once one succeeds, and the other has
// written nothing that stays.
func TestACutThatIsRefusedLeavesNothing(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		log, u, v := c.make(transactionLog), c.make("u"), c.make("v")
		c.commit(log, false, on(t, "x", 7, 3, committed, "u", "v"))
		pass(time.Second)
		c.commit(u, false, built(t, batch.BuilderOptions{}, nil, []byte("v")), sent(t, 7, 3), ends(7, 3, true))
		c.commit(v, true, sent(t, 7, 3))
		c.shipped()
		one, err := c.cutRead()
		must(t, err)
		other, err := c.cutRead()
		must(t, err)
		must(t, one.CutTorn(t.Context()))
		_, err = one.Begin(t.Context(), false)
		must(t, err)
		before := c.keys("")
		must(t, other.CutTorn(t.Context()))
		if slices.Equal(c.keys(""), before) {
			t.Fatal("nothing was written: the test shows nothing")
		}
		if _, err := other.Begin(t.Context(), false); !errors.As(err, new(*TakenError)) {
			t.Errorf("%v", err)
		}
		if got := c.keys(""); !slices.Equal(got, before) {
			t.Errorf("the bucket has %q, it had %q", got, before)
		}
	})
}

// TestWhatACutLeavesOfARange: epochs, aborts and producers are those of what is left.
func TestWhatACutLeavesOfARange(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		u, v := c.make("u"), c.make("v")
		c.commit(c.make(transactionLog), false, on(t, "x", 7, 3, committed, "u", "v"))
		pass(time.Second)
		_, p := c.Image().Partition(storage.PartitionID{Topic: u})
		producers := new(log.Rebuild).Encode(0, 6)[16:] // as of the end
		c.commitWith(u, []object.Aborted{{ProducerID: 4, First: 0, Last: 1}, {ProducerID: 5, First: 4, Last: 5}}, producers,
			sent(t, 4, 0), ends(4, 0, false), sent(t, 7, 3), ends(7, 3, true), sent(t, 5, 0), ends(5, 0, false))
		c.commit(v, true, sent(t, 7, 3))
		c.shipped()
		plan, err := c.cutRead()
		must(t, err)
		must(t, plan.CutTorn(t.Context()))
		life, err := plan.Begin(t.Context(), false)
		must(t, err)
		next := c.again(life)
		defer func() { must(t, next.Close()) }()
		_, is := next.Image().Partition(storage.PartitionID{Topic: u})
		last, ok := is.Ranges().Last()
		if !ok || last.Base != 0 || last.End != 2 || !last.HasAborts || last.OpenTransactions {
			t.Fatalf("%+v", last)
		}
		_, x, err := bucketReader{c.bucket, "p", c.id}.index(t.Context(), storage.PartitionID{Topic: u}, last)
		must(t, err)
		if x.LastStable != 2 || x.Batches != 2 || len(x.Producers) > 0 || len(x.Aborted) != 1 || x.Aborted[0].ProducerID != 4 || len(x.Epochs) != 1 || x.Epochs[0].Epoch != p.LeaderEpoch {
			t.Errorf("%+v", x)
		}
		if o, ok := next.Image().Object(last.Object); !ok || o.State != metadata.Committed {
			t.Errorf("%+v", o)
		}
		// The objects that came before are let go of in time, and what was made is not.
		pass(time.Hour)
		if got := next.left("u"); !slices.Equal(got, []string{"0 sent 4", "1 aborted 4"}) {
			t.Errorf("%q is left", got)
		}
	})
}

// TestNothingIsCutOfWhatBrokersHave: what is awaited is not judged, and so not cut.
func TestNothingIsCutOfWhatBrokersHave(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		log, u, v := c.make(transactionLog), c.make("u"), c.make("v")
		c.commit(log, false, on(t, "x", 7, 3, committed, "u", "v"))
		pass(time.Second)
		c.commit(u, false, sent(t, 7, 3), ends(7, 3, true))
		c.commit(v, true, sent(t, 7, 3))
		c.shipped()
		plan, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, CutTorn: true})
		must(t, err)
		if len(plan.Cuts) > 0 {
			t.Errorf("%q", saidCuts(plan.Cuts))
		}
		must(t, plan.CutTorn(t.Context()))
	})
}

// TestWhatTheBucketHoldsIsCutToo: a partition whose acks waited for the bucket lacks the marker only, which
// who has the decision in its log would write: of what is cut elsewhere it must not come to have its part.
func TestWhatTheBucketHoldsIsCutToo(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		log, u, v, w := c.make(transactionLog), c.make("u"), c.make("v"), c.makeHeld("w")
		plain := func() batch.Batch { return built(t, batch.BuilderOptions{}, nil, []byte("v")) }
		c.commit(log, false, on(t, "x", 7, 3, committed, "u", "v", "w"))
		pass(time.Second)
		c.commit(u, false, plain(), sent(t, 7, 3), ends(7, 3, true))
		c.commit(v, false, plain())
		c.commit(w, true, plain(), sent(t, 7, 3))
		c.shipped()
		plan, err := c.cutRead()
		must(t, err)
		if got, want := said(plan.Torn), []string{"x 7/3: u-0@-1=true v-0@-1=false w-0@1=false"}; !slices.Equal(got, want) {
			t.Errorf("torn are %q, want %q", got, want)
		}
		if got, want := saidCuts(plan.Cuts), []string{"u-0 1 of 3 for [x]", "w-0 1 of 2 for [x]"}; !slices.Equal(got, want) {
			t.Errorf("cut are %q, want %q", got, want)
		}
		must(t, plan.CutTorn(t.Context()))
		life, err := plan.Begin(t.Context(), false)
		must(t, err)
		next := c.again(life)
		defer func() { must(t, next.Close()) }()
		for _, topic := range []string{"u", "w"} {
			if got := next.left(topic); !slices.Equal(got, []string{"0 sent -1"}) {
				t.Errorf("%s has %q", topic, got)
			}
		}
		again, err := c.cutRead()
		must(t, err)
		if len(again.Torn) > 0 || len(again.Cuts) > 0 {
			t.Errorf("once cut, torn are %q, to be cut %q", said(again.Torn), saidCuts(again.Cuts))
		}
	})
}
