package clean

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestWhatIsMoreThanMayBeHeldIsReadTwice: one range of which more stays than is held.
func TestWhatIsMoreThanMayBeHeldIsReadTwice(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	for i := range 300 {
		w.keyed(fmt.Sprintf("a=%d", i), fmt.Sprintf("k%d=%0100d", i, i))
	}
	w.uploadAll()
	r := roundOf(w, c)
	if err := r.learn(); err != nil {
		t.Fatal(err)
	}
	o := &output{r: r, ranges: r.ranges, over: true}
	var err error
	if o.indexes, o.aborted, err = r.open(0, 1); err != nil {
		t.Fatal(err)
	}
	if err := o.sift(r.ctx); err != nil {
		t.Fatal(err)
	}
	if o.held.bytes > 0 {
		t.Fatal("it is held: the test shows nothing")
	}
	if err := o.write(); err != nil {
		t.Fatal(err)
	}
	w.check(false)
	if got := len(w.read()); got != 301 {
		t.Errorf("%d records are left", got)
	}
}

// TestManyKeysInLittleMemory: a table that holds eight thousand keys, and thirty
// thousand of them: several rounds, not more than that takes, and the memory stays as
// it is. BenchmarkClean does it with a million in 1 MiB.
func TestManyKeysInLittleMemory(t *testing.T) {
	w := newWorld(t)
	const keys, memory = 30_000, 256 << 10
	for i := 0; i < 2*keys; i += 500 {
		var s send
		for j := range 500 {
			s.records = append(s.records, record{key: fmt.Appendf(nil, "key-%d", (i+j)%keys), value: []byte{byte(i / keys)}})
		}
		w.produce(s)
		if i%5_000 == 0 {
			w.uploadAll()
		}
	}
	w.uploadAll()
	c := cleaning(t, w, func(o *Options) { o.TargetObject, o.KeyMemory = 1<<20, memory })
	w.step(c)
	for table := c.spare; w.step(c); {
		if c.spare != table {
			t.Fatal("another table")
		}
	}
	if c.spare != nil {
		t.Error("the table stays though no round follows")
	}
	if s := c.Stats(); s.Rounds != 2*keys/(memory/32)+1 || s.FullRounds < s.Rounds-1 || s.KeyMemory > memory {
		t.Errorf("%+v", s)
	}
	got := w.read()
	if len(got) != keys {
		t.Fatalf("%d records are left", len(got))
	}
	for i, r := range got {
		if r.offset != storage.Offset(keys+i) || r.value[0] != 1 {
			t.Fatalf("record %d is at %d", i, r.offset)
		}
	}
}

// TestEveryKeyKeepsItsLastRecord: after any schedule of produced batches of every
// kind, transactions, uploads, rounds, restarts, moves of log starts and of
// leadership, faults of the bucket, lost answers and stale images, whatever has gone
// has a later record of its key that is there, or was a tombstone whose time was
// over; all that stays is as it was.
func TestEveryKeyKeepsItsLastRecord(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.policy = Policy{DirtyRatio: rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(rt, "ratio"), DeleteRetention: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "retention")}
		change := func(o *Options) {
			o.TargetObject = rapid.SampledFrom([]int64{1, 500, 1 << 20}).Draw(rt, "target")
		}
		memory := rapid.SampledFrom([]int64{8 * slotSize, 1 << 20}).Draw(rt, "key memory")
		restart := func() *Cleaner {
			o := w.options()
			change(&o)
			o.KeyMemory = memory
			c := New(o)
			return c
		}
		c := restart()
		defer func() { c.Close() }()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 13).Draw(rt, "step") {
			case 0:
				if p := w.partition(); rapid.IntRange(0, 2).Draw(rt, "move") == 0 {
					w.moveLogStart(storage.Offset(rapid.Int64Range(int64(p.LogStart), int64(w.next)).Draw(rt, "log start")))
				}
			case 1:
				w.moveLeadership()
			case 2:
				c.Close()
				c = restart()
			case 3, 4, 5:
				w.step(c)
				w.check(false)
			case 6:
				w.mishap(rt)
				w.step(c)
				w.bucket.Set()
				w.late, w.lag = nil, 0
				w.note()
				w.check(false)
			case 7, 8, 9:
				w.upload(rapid.IntRange(1, 6).Draw(rt, "batches"))
			default:
				for range rapid.IntRange(1, 6).Draw(rt, "batches") {
					w.drawBatch(rt)
				}
			}
		}
		for _, producer := range slices.Sorted(maps.Keys(w.open)) {
			w.end(producer, rapid.Bool().Draw(rt, "commit"))
		}
		w.uploadAll()
		w.now = w.now.Add(time.Hour)
		w.policy.DirtyRatio = 0
		w.clean(c)
		w.check(true)
		if is := w.partition(); is.Cleaning().To != is.CommittedEnd() && is.Ranges().Len() > 0 {
			rt.Fatalf("cleaned to %d of %d: %+v", is.Cleaning().To, is.CommittedEnd(), c.Stats())
		}
		// What has come to its end changes nothing when it is done again.
		before := w.show()
		w.now = w.now.Add(time.Hour)
		w.clean(c)
		w.now = w.now.Add(time.Hour) // for the markers of tombstones that have just gone
		w.clean(c)
		there := map[storage.Offset]bool{}
		left := w.read()
		if n := len(left); n > 0 && left[n-1].batch.NextOffset() != w.partition().CommittedEnd() {
			rt.Fatalf("the last batch ends at %d, the partition at %d", left[n-1].batch.NextOffset(), w.partition().CommittedEnd())
		}
		for _, r := range left {
			there[r.offset] = true
			if w.spared(left, r) {
				continue
			}
			if r.value == nil {
				rt.Fatalf("a tombstone at %d is for ever", r.offset)
			}
			if _, stays := w.staysOf(there, r.offset); r.control && !stays {
				rt.Fatalf("a marker of nothing at %d is for ever", r.offset)
			}
		}
		w.check(true)
		settled := w.show()
		c.Close()
		c = restart()
		w.clean(c)
		if w.show() != settled {
			rt.Fatalf("done again: %s, %s before, %s at first", w.show(), settled, before)
		}
	})
}
