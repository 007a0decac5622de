package cold

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

// decided makes an object with one range of one batch for each offset, that says
// what is stable and what was aborted.
func (w *world) decided(t failer, id storage.PartitionID, base, end, stable storage.Offset, aborted ...object.Aborted) metadata.Range {
	t.Helper()
	w.last++
	var out bytes.Buffer
	sum, err := object.Write(&out, object.Header{ID: w.last, Cluster: "c", Incarnation: 1}, []object.Range{{
		Partition: id, Topic: "a", Base: base, End: end, LastStable: stable, Aborted: aborted,
		Batches: func(yield func(batch.Batch) error) error {
			for o := base; o < end; o++ {
				if err := yield(build(t, o, int64(o), "x")); err != nil {
					return err
				}
			}
			return nil
		},
	}}, object.WriteOptions{BlockSize: 400})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dir.Put(context.Background(), objectKey(w.last), bucket.Bytes(out.Bytes())); err != nil {
		t.Fatal(err)
	}
	r := metadata.NewRange(&sum.Placements[0], 0)
	r.Object = w.last
	return r
}

// TestAbortMarkerInLaterObject (RULES 5.4): a transaction's records lie in one
// object, its marker in another, and as many are looked at as it takes, no more.
func TestAbortMarkerInLaterObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		long := object.Aborted{ProducerID: 1, First: 3, Last: 33}
		p := Partition{ID: partition(0), Ranges: metadata.NewRanges(
			w.decided(t, partition(0), 0, 10, 3),                                                             // the transaction begins
			w.decided(t, partition(0), 10, 20, 3),                                                            // nothing is decided
			w.decided(t, partition(0), 20, 30, 3, object.Aborted{ProducerID: 2, First: 12, Last: 21}),        // something else is
			w.decided(t, partition(0), 30, 40, 40, long, object.Aborted{ProducerID: 2, First: 35, Last: 36}), // it is
			w.decided(t, partition(0), 40, 50, 50, object.Aborted{ProducerID: 2, First: 45, Last: 46}),
		)}
		for _, c := range []struct {
			name        string
			offset      storage.Offset
			until       storage.Offset
			markers     storage.Offset
			want        []object.Aborted
			neverOpened []storage.ObjectID
		}{
			{"records before it began", 0, 3, 50, nil, []storage.ObjectID{2, 3, 4, 5}},
			{"records of it", 0, 10, 50, []object.Aborted{long}, []storage.ObjectID{2, 5}},
			{"records between", 10, 20, 50, []object.Aborted{{ProducerID: 2, First: 12, Last: 21}, long}, []storage.ObjectID{1, 5}},
			{"behind the other's marker", 22, 30, 50, []object.Aborted{long}, []storage.ObjectID{1, 2, 5}},
			{"behind both", 37, 40, 50, nil, []storage.ObjectID{1, 2, 3, 5}},
			{"the last range", 44, 50, 50, []object.Aborted{{ProducerID: 2, First: 45, Last: 46}}, []storage.ObjectID{1, 2, 3, 4}},
			{"the log has the marker", 0, 10, 30, nil, []storage.ObjectID{2, 4, 5}},
			{"the log has it, and what lies before it in the range not", 0, 10, 33, nil, []storage.ObjectID{2, 5}},
			{"nobody asked", 0, 10, 0, nil, []storage.ObjectID{2, 3, 4, 5}},
		} {
			r := open(t, w.options())
			w.gets.reset()
			got, err := newClient(r, p).read(Request{Offset: c.offset, Until: c.until, MaxBytes: 1 << 20, MinOne: true, Markers: c.markers})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if !slices.Equal(got.Aborted, c.want) || got.Next != c.until {
				t.Errorf("%s: read to %d, aborted %v, want %v", c.name, got.Next, got.Aborted, c.want)
			}
			for _, id := range c.neverOpened {
				if n := w.gets.keys[objectKey(id)]; n > 0 {
					t.Errorf("%s: object %d was read %d times for nothing", c.name, id, n)
				}
			}
			r.Close()
		}
	})
}

// TestAbortsByAnOldImage: the log has given up more than the image knows of; a
// newer one is asked for, and nothing is taken for committed.
func TestAbortsByAnOldImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		r := open(t, w.options())
		defer r.Close()
		p := Partition{ID: partition(0), Ranges: metadata.NewRanges(w.decided(t, partition(0), 0, 10, 3))}
		_, err := newClient(r, p).read(Request{Offset: 0, Until: 10, MaxBytes: 1 << 20, MinOne: true, Markers: 20})
		if !errors.Is(err, ErrLookAgain) {
			t.Fatalf("got %v, want to look again", err)
		}
	})
}

// TestAbortsWhoseMarkerIsGoneAreNotTold: while a consumer reads, compaction by key
// takes the marker of an aborted transaction away, whose records went before. Told of
// the transaction, the consumer would skip what the producer commits from then on.
func TestAbortsWhoseMarkerIsGoneAreNotTold(t *testing.T) {
	for _, filed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, memory())
			r := open(t, w.options())
			defer r.Close()
			gone := object.Aborted{ProducerID: 1, First: 3, Last: 13}
			stays := object.Aborted{ProducerID: 2, First: 4, Last: 25}
			begin, last := w.decided(t, partition(0), 0, 10, 3), w.decided(t, partition(0), 20, 30, 30, stays)
			c := newClient(r, Partition{ID: partition(0), Ranges: metadata.NewRanges(begin, w.decided(t, partition(0), 10, 20, 4, gone), last)})
			q := Request{Until: 30, MaxBytes: 1, MinOne: true, Markers: 30}
			told := func(want ...object.Aborted) {
				t.Helper()
				got, err := c.read(q)
				if err != nil || !slices.Equal(got.Aborted, want) {
					t.Fatalf("at %d: aborted %v, %v, want %v", q.Offset, got.Aborted, err, want)
				}
				q.Offset = got.Next
			}
			for q.Offset < 3 {
				told()
			}
			told(gone)
			told(gone, stays)
			sifted := w.decided(t, partition(0), 10, 20, 4)
			if c.p = w.file(t, partition(0), []metadata.Range{begin, sifted, last}); filed {
				c.p = w.file(t, partition(0), []metadata.Range{begin, sifted, last}, 2)
			}
			for q.Offset < 25 {
				told(stays)
			}
		})
	}
}

// TestAbortsThatCannotBeRead: an error of the index that has the marker is told,
// and then it is read again.
func TestAbortsThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		r := open(t, w.options())
		defer r.Close()
		long := object.Aborted{ProducerID: 1, First: 3, Last: 13}
		p := Partition{ID: partition(0), Ranges: metadata.NewRanges(w.decided(t, partition(0), 0, 10, 3), w.decided(t, partition(0), 10, 20, 20, long))}
		w.faults(bucket.Rule{Op: bucket.OpRead, Prefix: objectKey(2), Err: errors.New("503"), Temporary: true, Limit: 1})
		c := newClient(r, p)
		q := Request{Offset: 0, Until: 10, MaxBytes: 1 << 20, MinOne: true, Markers: 20}
		if got, err := c.read(q); err == nil {
			t.Fatalf("read %+v", got)
		}
		if got, err := c.read(q); err != nil || !slices.Equal(got.Aborted, []object.Aborted{long}) {
			t.Fatalf("read %+v, %v", got, err)
		}
	})
}

// TestAbortsAreThoseOfAScan: whoever reads on from anywhere, in whatever steps, is
// told what a look at all markers tells; the caches keep nothing, and the memory
// is short.
func TestAbortsAreThoseOfAScan(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		for range 60 {
			w := newWorld(t, memory())
			p, all, end := w.history(t, rng)
			o := w.options()
			o.IndexCache, o.BlockCache, o.ReadAhead, o.PieceSize = 1, 1, 64<<10, 1<<10
			r := open(t, o)
			c := newClient(r, p)
			markers := end - storage.Offset(rng.IntN(int(end)))
			for range 4 {
				q := Request{Offset: storage.Offset(rng.IntN(int(markers))), Until: markers, MinOne: true, Markers: markers}
				for q.Offset < markers {
					q.MaxBytes = 1 + rng.IntN(2000)
					got, err := c.read(q)
					if err != nil {
						t.Fatal(err)
					}
					var want []object.Aborted
					for _, a := range all {
						if a.Last >= q.Offset && a.First < got.Next && a.Last < markers {
							want = append(want, a)
						}
					}
					if !slices.Equal(got.Aborted, want) {
						t.Fatalf("[%d, %d) of %d: aborted %v, want %v", q.Offset, got.Next, markers, got.Aborted, want)
					}
					q.Offset = got.Next
				}
			}
			r.Close()
		}
	})
}

// TestAbortsOfALongTransactionAreNotAllKept: thousands were aborted while it was
// open; who reads its first records has to look past them, and does not hold them.
func TestAbortsOfALongTransactionAreNotAllKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		const others = 3*mostAborts + 7
		end := storage.Offset(10 + 2*others + 2)
		long := object.Aborted{ProducerID: 1, First: 3, Last: end - 1}
		var all []object.Aborted
		for o := storage.Offset(10); o < end-2; o += 2 {
			all = append(all, object.Aborted{ProducerID: 2, First: o, Last: o + 1})
		}
		all = append(all, long)
		var ranges []metadata.Range
		ranges = append(ranges, w.decided(t, partition(0), 0, 10, 3))
		ranges = append(ranges, w.holed(t, partition(0), 10, end, all...))
		p := Partition{ID: partition(0), Ranges: metadata.NewRanges(ranges...)}
		r := open(t, w.options())
		defer r.Close()
		c := newClient(r, p)
		q := Request{MaxBytes: 1 << 10, MinOne: true, Markers: end, Until: end}
		for q.Offset < end {
			got, err := c.read(q)
			if err != nil {
				t.Fatal(err)
			}
			if got.Bytes == 0 {
				break
			}
			var want []object.Aborted
			for _, a := range all {
				if a.Last >= q.Offset && a.First < got.Next {
					want = append(want, a)
				}
			}
			if !slices.Equal(got.Aborted, want) {
				t.Fatalf("[%d, %d): %d aborted, want %d", q.Offset, got.Next, len(got.Aborted), len(want))
			}
			for _, s := range r.consumers[any(c)].streams[p.ID] {
				if n := len(s.aborts.known); n > mostAborts+len(want) {
					t.Fatalf("[%d, %d): %d are held", q.Offset, got.Next, n)
				}
			}
			q.Offset = got.Next
		}
		if q.Offset != end {
			t.Fatalf("read to %d of %d", q.Offset, end)
		}
	})
}

// holed makes an object with one range that has a batch in every 1000 offsets and
// at its end, with all that it says decided.
func (w *world) holed(t failer, id storage.PartitionID, base, end storage.Offset, aborted ...object.Aborted) metadata.Range {
	t.Helper()
	w.last++
	var out bytes.Buffer
	sum, err := object.Write(&out, object.Header{ID: w.last, Cluster: "c", Incarnation: 1}, []object.Range{{
		Partition: id, Topic: "a", Base: base, End: end, LastStable: end, Aborted: aborted, Holes: true,
		Batches: func(yield func(batch.Batch) error) error {
			for o := base; o < end; o += 1000 {
				if err := yield(build(t, o, int64(o), "x")); err != nil {
					return err
				}
			}
			return yield(build(t, end-1, int64(end), "x"))
		},
	}}, object.WriteOptions{BlockSize: 400})
	if err == nil {
		err = w.dir.Put(context.Background(), objectKey(w.last), bucket.Bytes(out.Bytes()))
	}
	if err != nil {
		t.Fatal(err)
	}
	r := metadata.NewRange(&sum.Placements[0], 0)
	r.Object = w.last
	return r
}

// history is ranges of a partition with transactions in it, all of which were
// aborted, and those, in order of their markers.
func (w *world) history(t failer, rng *rand.Rand) (p Partition, all []object.Aborted, end storage.Offset) {
	t.Helper()
	open := map[int64]storage.Offset{}
	var ranges []metadata.Range
	for range 1 + rng.IntN(8) {
		base := end
		var here []object.Aborted
		for range 1 + rng.IntN(12) {
			id := int64(rng.IntN(4))
			first, is := open[id]
			switch {
			case rng.IntN(2) == 0:
			case is:
				here = append(here, object.Aborted{ProducerID: id, First: first, Last: end})
				delete(open, id)
			default:
				open[id] = end
			}
			end++
		}
		stable := end
		for _, first := range open {
			stable = min(stable, first)
		}
		all = append(all, here...)
		ranges = append(ranges, w.decided(t, partition(0), base, end, stable, here...))
	}
	if cut := rng.IntN(len(ranges) + 1); cut > 0 { // some of them filed
		cuts := []int{cut}
		if cut > 1 {
			cuts = []int{1 + rng.IntN(cut-1), cut}
		}
		return w.file(t, partition(0), ranges, cuts...), all, end
	}
	return Partition{ID: partition(0), Ranges: metadata.NewRanges(ranges...)}, all, end
}
