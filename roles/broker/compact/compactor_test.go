package compact

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// compacting is a compactor without its own goroutine: the test says when.
func compacting(t testing.TB, w *world, change ...func(*Options)) *Compactor {
	o := w.options()
	for _, f := range change {
		f(&o)
	}
	c := New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// filled is a world in which partition 0 has seven ranges in mixed objects that
// together fill an object, and partition 1 as many small ones, too few to matter.
func filled(t testing.TB) *world {
	w := newWorld(t, 2)
	for range 7 {
		w.produce(0, 2400, false)
		w.produce(1, 30, false)
		w.upload(1, 0, 1)
	}
	return w
}

// TestEveryBatchStaysReadable: after any schedule of uploads, compactions, moves of
// log starts and of leadership, faults of the bucket, lost answers, stale images,
// collections without grace and restarts, what the catalogue names is what was
// produced.
func TestEveryBatchStaysReadable(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		const partitions = 5
		w := newWorld(t, partitions)
		memory := rapid.SampledFrom([]int64{1, 2000, DefaultMemory}).Draw(rt, "memory")
		indexes := rapid.SampledFrom([]int64{1, 1500, DefaultIndexes}).Draw(rt, "indexes")
		restart := func() *Compactor {
			o := w.options()
			o.Memory, o.Indexes = memory, indexes
			return New(o)
		}
		c := restart()
		defer func() { c.Close() }()
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(1, 9).Draw(rt, "seconds")) * time.Second)
			i := rapid.IntRange(0, partitions-1).Draw(rt, "partition")
			switch rapid.IntRange(0, 14).Draw(rt, "step") {
			case 0:
				p := w.catalogued(i)
				if to := rapid.Int64Range(int64(p.LogStart), int64(w.twins[i].next)).Draw(rt, "log start"); to > 0 {
					w.moveLogStart(i, storage.Offset(to))
				}
			case 1:
				w.moveLeadership()
			case 2:
				w.collect()
			case 3:
				c.Close()
				c = restart()
			case 4, 5, 6:
				c.begin()
				c.done.Wait()
			case 7: // something goes wrong
				w.mishap(rt, i)
				c.begin()
				c.done.Wait()
				w.bucket.Set()
				w.late, w.lost, w.lag = nil, false, 0
				w.check()
			default:
				for range rapid.IntRange(1, 8).Draw(rt, "batches") {
					w.produce(rapid.IntRange(0, partitions-1).Draw(rt, "to"), rapid.SampledFrom([]int{3, 300, 3000}).Draw(rt, "size"), rapid.IntRange(0, 5).Draw(rt, "abort") == 0)
				}
				w.upload(rapid.IntRange(1, 5).Draw(rt, "most"), rapid.SliceOfNDistinct(rapid.IntRange(0, partitions-1), 1, partitions, rapid.ID[int]).Draw(rt, "partitions")...)
			}
		}
		w.check()
		w.now = w.now.Add(time.Hour)
		w.compact(c)
		w.check()
		w.collect()
		w.check()
	})
}

// mishap has the next compaction meet one.
func (w *world) mishap(t *rapid.T, i int) {
	gone := errors.New("gone away")
	nth := rapid.IntRange(1, 12).Draw(t, "nth")
	switch rapid.IntRange(0, 9).Draw(t, "mishap") {
	case 0:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Err: gone, Temporary: true})
	case 1:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Short: true})
	case 2:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Flip: true, Seed: rapid.Uint64().Draw(t, "seed")})
	case 3:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Shift: 1})
	case 4:
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: gone, Done: rapid.Bool().Draw(t, "done")})
	case 5:
		w.lost = true
	case 6:
		w.lag = rapid.IntRange(1, 20).Draw(t, "lag")
	case 7:
		w.lag = rapid.IntRange(1, 20).Draw(t, "lag")
		w.collect()
	case 8:
		w.late = func() {
			if last, ok := w.catalogued(i).Ranges().Last(); ok {
				w.moveLogStart(i, last.Base+1)
			}
		}
	case 9:
		w.late = w.moveLeadership
	}
}

// TestSmallRangesBecomeOne: a partition's ranges come to lie in an object of its
// own, the old objects are condemned once nothing else is in them, and stay in the
// bucket for who still reads them.
func TestSmallRangesBecomeOne(t *testing.T) {
	w := filled(t)
	old, _ := w.catalogued(0).Ranges().Find(0)
	c := compacting(t, w)
	w.compact(c)
	w.check()
	if n := w.catalogued(0).Ranges().Len(); n != 1 {
		t.Fatalf("%d ranges are left", n)
	}
	if _, batches, err := w.read(0, old); err != nil || len(batches) != 1 {
		t.Fatalf("a reader of the old object: %d batches, %v", len(batches), err)
	}
	image := w.image()
	if o, _ := image.Object(old.Object); o.State != metadata.Committed || o.Ranges != 1 {
		t.Fatalf("partition 1 still needs %+v", o)
	}
	w.moveLogStart(1, w.twins[1].next)
	if n := w.image().NumObjects(metadata.Condemned); n != 7 {
		t.Fatalf("%d objects are condemned", n)
	}
	s := c.Stats()
	if s.Objects != 1 || s.RangesIn != 7 || s.RangesOut != 1 || s.ReadBytes == 0 || s.Bytes == 0 || s.Failures+s.RefusedRanges != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestReplacedUnderAMovedLogStartIsRefused: the catalogue moved on while an object
// was made. Its run is refused, and what is left stays readable.
func TestReplacedUnderAMovedLogStartIsRefused(t *testing.T) {
	w := filled(t)
	w.late = func() { w.moveLogStart(0, 4) }
	c := compacting(t, w)
	c.begin()
	c.done.Wait()
	if s := c.Stats(); s.RefusedRanges != 1 || w.catalogued(0).Ranges().Len() != 6 {
		t.Fatalf("%+v, %d ranges", s, w.catalogued(0).Ranges().Len())
	}
	w.late = nil
	w.check()
}

// TestARangeThatIsNotAllThereIsNotCommitted: the object would lack what its
// sources are said to have.
func TestARangeThatIsNotAllThereIsNotCommitted(t *testing.T) {
	w := filled(t)
	c := compacting(t, w)
	jobs := c.planner.plan(w.now, c.view(w.image()))
	jobs[0].Runs[0].Ranges[3].Bytes++
	if _, _, err := c.rewrite(jobs[0]); err == nil || w.catalogued(0).Ranges().Len() != 7 {
		t.Fatalf("committed: %v, %d ranges", err, w.catalogued(0).Ranges().Len())
	}
	w.check()
}

// TestRangesThatAreNoNeighboursAreNotPutTogether: nothing is written of a run with
// one missing between two others.
func TestRangesThatAreNoNeighboursAreNotPutTogether(t *testing.T) {
	w := filled(t)
	c := compacting(t, w)
	w.bucket.Set(bucket.Rule{Op: bucket.OpPut})
	jobs := c.planner.plan(w.now, c.view(w.image()))
	jobs[0].Runs[0].Ranges = slices.Delete(jobs[0].Runs[0].Ranges, 3, 4)
	_, _, err := c.rewrite(jobs[0])
	if puts, _ := w.bucket.Calls(0); err == nil || puts > 0 {
		t.Fatalf("%v, %d objects put", err, puts)
	}
}

// TestDamageHoldsBackItsPartitionAlone: one of two partitions that share a job
// cannot be read, in its data or its index; the other is compacted.
func TestDamageHoldsBackItsPartitionAlone(t *testing.T) {
	t.Run("data", func(t *testing.T) {
		damageHoldsBack(t, func(metadata.Range) int64 { return object.HeaderSize + 70 })
	})
	t.Run("index", func(t *testing.T) {
		damageHoldsBack(t, func(r metadata.Range) int64 { return r.IndexPosition + 50 })
	})
}

func damageHoldsBack(t *testing.T, at func(metadata.Range) int64) {
	w := newWorld(t, 2)
	for range 8 {
		w.produce(0, 30, false)
		w.produce(1, 30, false)
		w.upload(1, 0, 1)
	}
	r := w.catalogued(0).Ranges().At(5)
	all, err := bucket.ReadAll(t.Context(), w.memory, w.key(r.Object), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(all)
	all[at(r)] ^= 1 // of partition 0
	put := func(b []byte) {
		if err := w.memory.Put(t.Context(), w.key(r.Object), bucket.Bytes(b)); err != nil {
			t.Fatal(err)
		}
	}
	put(all)
	c := compacting(t, w)
	c.begin()
	c.done.Wait()
	if a, b := w.catalogued(0).Ranges().Len(), w.catalogued(1).Ranges().Len(); a != 8 || b != 1 || c.Stats().RefusedRanges != 1 {
		t.Fatalf("%d and %d ranges, %+v", a, b, c.Stats())
	}
	put(whole)
	w.check()
}

// TestAnOutageIsWaitedOut: a failure costs nothing, and is tried again later, by
// the compactor's own goroutine. Closing it ends what is under way.
func TestAnOutageIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t)
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("away"), Temporary: true})
		o := w.options()
		o.Now = time.Now
		c := New(o)
		c.Start()
		defer c.Close()
		time.Sleep(o.Interval * 3)
		synctest.Wait()
		if s := c.Stats(); s.Failures == 0 || s.LastError == "" || s.FailingSince.IsZero() || s.Running != 0 {
			t.Fatalf("%+v", s)
		}
		w.bucket.Set()
		time.Sleep(o.Interval)
		synctest.Wait()
		if s := c.Stats(); s.Objects != 1 || s.LastError != "" || !s.FailingSince.IsZero() {
			t.Fatalf("%+v", s)
		}
		w.check()
		for range 7 {
			w.produce(0, 2400, false)
			w.upload(1, 0)
		}
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Hook: func(ctx context.Context, _ bucket.Op, _ string) error { <-ctx.Done(); return ctx.Err() }})
		time.Sleep(o.Interval)
		synctest.Wait()
		if s := c.Stats(); s.Running != 1 {
			t.Fatalf("%+v", s)
		}
		c.Close()
		if s := c.Stats(); s.Failures > 3 || s.Running != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// TestUrgentWorkGoesFirst: nothing is begun while uploads need the bucket.
func TestUrgentWorkGoesFirst(t *testing.T) {
	w := filled(t)
	held := true
	c := compacting(t, w, func(o *Options) { o.Hold = func() bool { return held } })
	c.begin()
	c.done.Wait()
	if s := c.Stats(); s.Objects != 0 {
		t.Fatalf("%+v", s)
	}
	held = false
	w.compact(c)
	if s := c.Stats(); s.Objects != 1 {
		t.Fatalf("%+v", s)
	}
}

// TestBandwidthIsKept: reads wait until those before them are paid for.
func TestBandwidthIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t)
		o := w.options()
		o.Now, o.Bandwidth = time.Now, 100
		start := time.Now()
		c := New(o)
		defer c.Close()
		c.begin()
		c.done.Wait()
		s := c.Stats()
		if took := time.Since(start); s.Objects != 1 || took < time.Duration(s.ReadBytes/2/100)*time.Second || took > time.Duration(s.ReadBytes/100)*time.Second {
			t.Fatalf("%v for %d bytes at 100 a second, %+v", took, s.ReadBytes, s)
		}
	})
}

// TestWhatIsRewrittenElsewhereIsLeftAlone: compaction by key has the partition.
func TestWhatIsRewrittenElsewhereIsLeftAlone(t *testing.T) {
	w := filled(t)
	busy := map[storage.PartitionID]struct{}{worldPartition(0): {}}
	c := compacting(t, w, func(o *Options) { o.Busy = func() map[storage.PartitionID]struct{} { return busy } })
	c.begin()
	c.done.Wait()
	if s := c.Stats(); s.Objects != 0 || s.Failures != 0 {
		t.Fatalf("%+v", s)
	}
	delete(busy, worldPartition(0))
	told := false
	w.late = func() { _, told = c.Rewriting()[worldPartition(0)] }
	c.begin()
	c.done.Wait()
	if !told {
		t.Error("nobody is told that the partition is being rewritten")
	}
	if s := c.Stats(); s.Objects != 1 {
		t.Errorf("%+v", s)
	}
}
