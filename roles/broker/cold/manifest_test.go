package cold

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// file puts ranges into manifests, each up to one of cuts, and leaves the rest to the
// image.
func (w *world) file(t failer, id storage.PartitionID, ranges []metadata.Range, cuts ...int) Partition {
	t.Helper()
	p := Partition{ID: id}
	from := 0
	for _, to := range cuts {
		w.last++
		is := object.Manifest{Header: object.Header{ID: w.last, Cluster: "c", Incarnation: 1}, Partition: id, Topic: "a"}
		ref := metadata.Manifest{ID: w.last, MaxTimestamp: -1}
		for _, r := range ranges[from:to] {
			is.Ranges = append(is.Ranges, metadata.FiledRange(&r, r.IndexPosition+int64(r.IndexLength)+144))
			ref.MaxTimestamp = max(ref.MaxTimestamp, r.MaxTimestamp)
			ref.RangeBytes += r.Bytes
		}
		b, about, err := is.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.dir.Put(context.Background(), objectKey(w.last), bucket.Bytes(b)); err != nil {
			t.Fatal(err)
		}
		ref.ManifestRef = about
		p.Filed = append(p.Filed, ref)
		from = to
	}
	p.Ranges = metadata.NewRanges(ranges[from:]...)
	return p
}

// filled is a partition of n ranges of two batches each, in manifests up to cuts.
func (w *world) filled(t failer, n int, cuts ...int) (Partition, []metadata.Range) {
	t.Helper()
	var ranges []metadata.Range
	for r := range w.fill(t, partition(0), n, 2, 1<<10).Ranges.All() {
		ranges = append(ranges, r)
	}
	return w.file(t, partition(0), ranges, cuts...), ranges
}

// of counts the reads of an object.
func (g *gauge) of(id storage.ObjectID) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keys[objectKey(id)]
}

// TestAScanReadsAManifestOnce, whoever scans beside, and reads ahead by it.
func TestAScanReadsAManifestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 20 * time.Millisecond
		p, _ := w.filled(t, 300, 200, 290)
		w.gets.reset()
		r := open(t, w.options())
		done := make(chan error)
		for range 3 {
			go func() {
				bases, err := newClient(r, p).readAll(from(0))
				if err == nil && len(bases) != 600 {
					err = errors.New("batches are missing")
				}
				done <- err
			}()
		}
		for range 3 {
			must(t, <-done)
		}
		for _, m := range p.Filed {
			if n := w.gets.of(m.ID); n != 1 {
				t.Errorf("manifest %s was read %d times", m.ID, n)
			}
		}
		if s := r.Stats(); s.Ahead == 0 {
			t.Errorf("nothing was read ahead: %+v", s)
		}
		must(t, r.Close())
		synctest.Wait()
		if s := r.Stats(); s.Held != 0 {
			t.Errorf("%d bytes are held", s.Held)
		}
	})
}

// TestDamagedManifestIsReadOnceMoreAndNeverUsed, wherever it is damaged.
func TestDamagedManifestIsReadOnceMoreAndNeverUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p, _ := w.filled(t, 6, 4)
		key := objectKey(p.Filed[0].ID)
		w.faults(bucket.Rule{Op: bucket.OpRead, Prefix: key, Flip: true, Limit: 1})
		r := open(t, w.options())
		bases, err := newClient(r, p).readAll(from(0))
		must(t, err)
		wantBases(t, bases, 0, 12)
		must(t, r.Close())
		w.faults()

		whole, err := bucket.ReadAll(context.Background(), w.dir, key, 1<<20)
		must(t, err)
		for at := range whole {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1 << (at % 8)
			must(t, w.dir.Put(context.Background(), key, bucket.Bytes(damaged)))
			r := open(t, w.options())
			c := newClient(r, p)
			var damage *object.CorruptionError
			if got, err := c.read(from(3)); !errors.As(err, &damage) || damage.Object != p.Filed[0].ID && damage.Object != 0 || len(got.Batches) > 0 {
				t.Fatalf("byte %d: %+v, %v", at, got, err)
			}
			if _, _, _, err := r.FindTime(t.Context(), p, Span{}, 3); !errors.As(err, &damage) {
				t.Fatalf("byte %d, by time: %v", at, err)
			}
			// What lies behind is not concerned.
			bases, err := c.readAll(from(8))
			must(t, err)
			wantBases(t, bases, 8, 12)
			must(t, r.Close())
		}
	})
}

// TestManifestThatIsNotThere: the image is looked at again. A newer one may name
// another, and reading goes on by that; if it names the same, it is missing.
func TestManifestThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p, ranges := w.filled(t, 8, 4)
		newer := w.file(t, p.ID, ranges, 6)
		must(t, w.dir.Delete(context.Background(), objectKey(p.Filed[0].ID)))
		r := open(t, w.options())
		c := newClient(r, p)
		if _, err := c.read(from(0)); !errors.Is(err, ErrLookAgain) {
			t.Fatalf("%v", err)
		}
		c.p = newer
		bases, err := c.readAll(from(0))
		must(t, err)
		wantBases(t, bases, 0, 16)

		late := newClient(r, p)
		if _, err := late.read(from(0)); !errors.Is(err, ErrLookAgain) {
			t.Fatalf("%v", err)
		}
		var missing *MissingError
		if _, err := late.read(from(0)); !errors.As(err, &missing) || missing.Object != p.Filed[0].ID {
			t.Fatalf("%v", err)
		}
		must(t, r.Close())
	})
}

// TestAStreamFollowsItsManifestsSuccessor: a manifest is made anew while a stream
// reads by it, and what it listed first is gone.
func TestAStreamFollowsItsManifestsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p, ranges := w.filled(t, 40, 20)
		r := open(t, w.options())
		c := newClient(r, p)
		q := from(10)
		q.MaxBytes = 1
		got, err := c.read(q)
		must(t, err)
		must(t, w.dir.Delete(context.Background(), objectKey(p.Filed[0].ID)))
		c.p = w.file(t, p.ID, ranges[5:], 25)
		q = from(got.Next)
		bases, err := c.readAll(q)
		must(t, err)
		wantBases(t, bases, 11, 80)
		must(t, r.Close())
	})
}

// TestAManifestThatEndsInAHole: who reads what is committed from within the hole on goes on
// behind it, also where no cache keeps a manifest.
func TestAManifestThatEndsInAHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = time.Second
		id := partition(0)
		ranges := []metadata.Range{w.put(t, id, 0, 12, 400, build(t, 0, 0, "x"), build(t, 1, 1, "x")), w.decided(t, id, 12, 20, 20), w.decided(t, id, 20, 30, 30)}
		o := w.options()
		o.IndexCache = 1
		r := open(t, o)
		q := from(10)
		q.Markers = 30
		bases, err := newClient(r, w.file(t, id, ranges, 1, 2)).readAll(q)
		must(t, err)
		wantBases(t, bases, 12, 30)
		must(t, r.Close())
	})
}

// TestATimeInAManifestCostsOneReadMore.
func TestATimeInAManifestCostsOneReadMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p, _ := w.filled(t, 60, 20, 40) // a millisecond for each offset, two a range
		r := open(t, w.options())
		for _, try := range []struct {
			millis, want storage.Offset
			gets         int
		}{{5, 5, 3}, {41, 41, 3}, {100, 100, 2}} {
			w.gets.reset()
			offset, at, ok, err := r.FindTime(t.Context(), p, Span{}, int64(try.millis))
			must(t, err)
			if n := w.gets.total(); !ok || offset != try.want || at != int64(try.want) || n != try.gets {
				t.Errorf("from %d on: %d at %d by %d reads, want %d by %d", try.millis, offset, at, n, try.want, try.gets)
			}
		}
		w.gets.reset()
		offset, _, ok, err := r.MaxTimestamp(t.Context(), p, Span{})
		must(t, err)
		if n := w.gets.total(); !ok || offset != 119 || n != 2 {
			t.Errorf("newest at %d by %d reads", offset, n)
		}
		must(t, r.Close())
	})
}
