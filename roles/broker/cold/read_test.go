package cold

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// drawn is a partition in the bucket, and all its batches in a list.
type drawn struct {
	Partition
	batches []batch.Batch
	end     storage.Offset
}

func drawPartition(t *rapid.T, w *world, id storage.PartitionID) drawn {
	d := drawn{Partition: Partition{ID: id}}
	var ranges []metadata.Range
	d.end = storage.Offset(rapid.IntRange(0, 5).Draw(t, "start"))
	for range rapid.IntRange(0, 6).Draw(t, "ranges") {
		base := d.end
		var of []batch.Batch
		for range rapid.IntRange(0, 20).Draw(t, "batches") {
			d.end += storage.Offset(max(0, rapid.IntRange(-6, 4).Draw(t, "hole")))
			values := make([]string, rapid.IntRange(1, 3).Draw(t, "records"))
			values[0] = strings.Repeat("v", rapid.IntRange(0, 3000).Draw(t, "bytes"))
			b := build(t, d.end, rapid.Int64Range(0, 100).Draw(t, "time"), values...)
			of = append(of, b)
			d.end = b.NextOffset()
		}
		d.end += storage.Offset(max(0, rapid.IntRange(-3, 3).Draw(t, "hole at the end")))
		d.end = max(d.end, base+1)
		ranges = append(ranges, w.put(t, id, base, d.end, rapid.IntRange(1, 8000).Draw(t, "block"), of...))
		d.batches = append(d.batches, of...)
	}
	var cuts []int
	if len(ranges) > 1 {
		cuts = rapid.SliceOfNDistinct(rapid.IntRange(1, len(ranges)-1), 0, 2, rapid.ID).Draw(t, "manifests")
		slices.Sort(cuts)
	}
	d.Partition = w.file(t, id, ranges, cuts...)
	return d
}

// check compares an answer with what a look at batch after batch gives.
func (d *drawn) check(q Request, got Result) error {
	var want []storage.Offset // bases of what may be given
	end, bytes := q.Offset, 0 // of what was given
	stop := max(q.Offset, d.end)
	if q.Until > 0 {
		stop = max(q.Offset, min(d.end, q.Until))
	}
	given := len(got.Batches)
	for _, b := range d.batches {
		if b.NextOffset() <= q.Offset || q.Until > 0 && b.BaseOffset() >= q.Until {
			continue
		}
		if len(want) == given {
			stop = max(end, b.BaseOffset()) // the next one to be read
			break
		}
		want = append(want, b.BaseOffset())
		end = b.NextOffset()
		bytes += len(b)
	}
	stop = max(stop, end)
	var bases []storage.Offset
	for _, b := range got.Batches {
		bases = append(bases, batch.Batch(b).BaseOffset())
	}
	switch {
	case !slices.Equal(bases, want):
		return fmt.Errorf("%+v gave %v, want %v", q, bases, want)
	case got.Bytes != bytes || bytes > q.MaxBytes && given > 1:
		return fmt.Errorf("%+v gave %d bytes, they are %d", q, got.Bytes, bytes)
	case got.Next < end || got.Next > stop || given == 0 && got.Next < stop && d.Ranges.Len() > 0:
		return fmt.Errorf("%+v gave %v, and goes on at %d, want %d to %d", q, bases, got.Next, end, stop)
	}
	return nil
}

func TestEveryBatchOnceAndInOrder(outer *testing.T) {
	seeded.Check(outer, func(t *rapid.T) {
		w := newWorld(t, memory())
		o := w.options()
		o.PieceSize = rapid.IntRange(1, 20_000).Draw(t, "piece")
		o.ReadAhead = rapid.Int64Range(10_000, 200_000).Draw(t, "budget")
		o.MaxReadAhead = rapid.Int64Range(1, 200_000).Draw(t, "window")
		o.BlockCache = rapid.Int64Range(1, 400_000).Draw(t, "cache")
		o.IndexCache = rapid.Int64Range(1, 100_000).Draw(t, "indexes")
		o.Parallel = rapid.IntRange(1, 8).Draw(t, "parallel")
		var parts []drawn
		for i := range rapid.IntRange(1, 3).Draw(t, "partitions") {
			parts = append(parts, drawPartition(t, w, partition(int32(i))))
		}
		type plan struct {
			part     *drawn
			q        Request
			maxBytes []int
			rest     time.Duration
		}
		var plans []plan
		for range rapid.IntRange(1, 5).Draw(t, "consumers") {
			d := &parts[rapid.IntRange(0, len(parts)-1).Draw(t, "partition")]
			p := plan{part: d, maxBytes: rapid.SliceOfN(rapid.IntRange(0, 30_000), 1, 5).Draw(t, "bytes")}
			p.q.MinOne = true
			p.q.Offset = storage.Offset(rapid.Int64Range(0, int64(d.end)).Draw(t, "offset"))
			if rapid.Bool().Draw(t, "bounded") {
				p.q.Until = storage.Offset(rapid.Int64Range(1, int64(d.end)+1).Draw(t, "until"))
			}
			p.rest = time.Duration(rapid.IntRange(0, 3).Draw(t, "rest")) * 6 * time.Second
			plans = append(plans, p)
		}
		w.delay = 10 * time.Millisecond
		errs := make([]error, len(plans))
		var after Stats
		synctest.Test(outer, func(outer *testing.T) {
			r := open(outer, o)
			var all sync.WaitGroup
			for i, p := range plans {
				all.Go(func() {
					c := newClient(r, p.part.Partition)
					q := p.q
					for n := 0; ; n++ {
						q.MaxBytes = p.maxBytes[n%len(p.maxBytes)]
						got, err := c.read(q)
						if err != nil {
							errs[i] = err
							return
						}
						if err := p.part.check(q, got); err != nil {
							errs[i] = fmt.Errorf("consumer %d: %w; pending %v", i, err, got.Pending)
							return
						}
						if got.Next == q.Offset {
							return
						}
						q.Offset = got.Next
						if p.rest > 0 {
							<-time.After(p.rest)
						}
					}
				})
			}
			all.Wait()
			must(outer, r.Close())
			after = r.Stats()
		})
		for _, err := range errs {
			must(t, err)
		}
		if after.Held != 0 || after.Loading != 0 || after.Streams != 0 {
			t.Fatalf("after Close: %+v", after)
		}
	})
}

func TestConsumersShareTheReadsOfThePiecesTheyWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 3, 32, 1<<10) // two pieces and an index each
		w.delay = 50 * time.Millisecond
		r := open(t, w.options())
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				got, err := newClient(r, p).readAll(from(0))
				if err != nil {
					t.Error(err)
				}
				wantBases(t, got, 0, 96)
			})
		}
		all.Wait()
		if got, want := w.gets.total(), 3*(1+2); got != want {
			t.Errorf("%d reads of the bucket, want %d", got, want)
		}
		if s := r.Stats(); s.Shared == 0 || s.IndexLoads != 3 || s.PieceLoads != 6 {
			t.Errorf("%+v", s)
		}
		must(t, r.Close())
	})
}

func TestSequentialReadKeepsRequestsInFlight(t *testing.T) {
	for size, inRequest := range map[int]int{16 << 10: 1, 32 << 10: 2, 0: 2} { // 0: a quarter of the window
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, memory())
			p := w.fill(t, partition(0), 10, 128, 1<<10) // 80 pieces, 8 to a range
			w.delay = 100 * time.Millisecond
			o := w.options() // 8 pieces ahead
			o.RequestSize = size
			r := open(t, o)
			start := time.Now()
			got, err := newClient(r, p).readAll(from(0))
			must(t, err)
			wantBases(t, got, 0, 1280)
			took := time.Since(start)
			// One at a time it would be 90 round trips. With eight pieces in flight it is
			// ten, and some more until the window has grown.
			if took > 22*w.delay {
				t.Errorf("%v, want at most 22 round trips", took)
			}
			// The window, the piece that is read, and indexes.
			if least := 8 / inRequest; w.gets.most < least || w.gets.most > 8+1+indexesAhead {
				t.Errorf("%d requests in flight, want those of 8 pieces and a few indexes", w.gets.most)
			}
			s := r.Stats()
			if s.PieceLoads != 80 || s.IndexLoads != 10 || s.Wasted != 0 {
				t.Errorf("%+v", s)
			}
			// Until the window has grown, and at the end of each range, they are smaller.
			if most := 80/inRequest + 10*(inRequest-1) + 10; int(s.Requests) > most || int(s.Requests) != w.gets.total() {
				t.Errorf("%d requests, want %d at most and the bucket's %d", s.Requests, most, w.gets.total())
			}
			must(t, r.Close())
		})
	}
}

func TestSmallRangesAreReadAheadAcrossTheirBorders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 64, 4, 1<<10)
		w.delay = 100 * time.Millisecond
		r := open(t, w.options())
		start := time.Now()
		got, err := newClient(r, p).readAll(from(0))
		must(t, err)
		wantBases(t, got, 0, 256)
		if took := time.Since(start); took > 25*w.delay {
			t.Errorf("%v for 64 indexes and pieces, want at most 25 round trips", took)
		}
		must(t, r.Close())
	})
}

func TestARandomReadReadsNothingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 512, 1<<10)
		r := open(t, w.options())
		c := newClient(r, p)
		q := from(0)
		q.MaxBytes = 1
		for i := range storage.Offset(20) {
			q.Offset = (i * 199) % 512
			_, err := c.read(q)
			must(t, err)
		}
		synctest.Wait()
		if s := r.Stats(); s.Ahead != 0 || s.PieceLoads > 20 || s.Streams > streamsEach {
			t.Errorf("%+v", s)
		}
		must(t, r.Close())
	})
}

func TestBatchesBeyondTheLocalStartAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 2, 32, 1<<10)
		r := open(t, w.options())
		q := from(0)
		q.Until = 37
		got, err := newClient(r, p).readAll(q)
		must(t, err)
		wantBases(t, got, 0, 37)
		must(t, r.Close())
	})
}

func TestAReadGivesOutNoMoreThanItMayHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 512, 1<<10)
		o := w.options()
		o.ReadAhead = 128 << 10
		r := open(t, o)
		c := newClient(r, p)
		q := Request{Reader: c, MaxBytes: 1 << 30}
		for {
			got, err := r.Read(p, q, c)
			must(t, err)
			if got.Limited {
				if got.Pending || got.Bytes < 31<<10 || got.Bytes > 32<<10 {
					t.Errorf("%d bytes, pending %v", got.Bytes, got.Pending)
				}
				break
			}
			<-c.woken
		}
		must(t, r.Close())
	})
}

func TestAPieceLargerThanTheBudgetIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		id := partition(0)
		p := Partition{ID: id, Ranges: metadata.NewRanges(w.put(t, id, 0, 2, 1,
			build(t, 0, 0, strings.Repeat("x", 100<<10)), build(t, 1, 0, strings.Repeat("x", 100<<10))))}
		o := w.options()
		o.ReadAhead = 32 << 10
		r := open(t, o)
		got, err := newClient(r, p).readAll(from(0))
		must(t, err)
		wantBases(t, got, 0, 2)
		must(t, r.Close())
	})
}
