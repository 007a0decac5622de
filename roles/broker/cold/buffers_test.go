package cold

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// aPieceAtATime is a client that lets what is read ahead come after each read: who is slow
// to be run takes many pieces at once, of which not all are kept, and as many come anew.
func aPieceAtATime(r *Reader, p Partition) *client {
	c := newClient(r, p)
	c.pause = 50 * time.Millisecond
	return c
}

// recycling are options with which the cache takes what is read, and soon gives it up.
func (w *world) recycling() Options {
	o := w.options()
	o.BlockCache, o.ReadAhead, o.MaxReadAhead = 192<<10, 256<<10, 128<<10
	return o
}

// TestMemoryIsUsedAgainOnceNobodyRefersToIt: while results are held, others read
// on, streams and the cache let go of their pieces, and nothing of what was given out
// changes. Once they are released, their memory is used again.
func TestMemoryIsUsedAgainOnceNobodyRefersToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = time.Millisecond
		r := open(t, w.recycling())
		p := w.fill(t, partition(0), 8, 128, 1<<10)
		c := newClient(r, p)
		var held []Result
		q := from(0)
		for q.Offset < 8*128 {
			got, err := c.read(q)
			must(t, err)
			r.Sent(c, p.ID, got.Next)
			held = append(held, got)
			q.Offset = got.Next
		}
		_, err := newClient(r, w.fill(t, partition(1), 8, 128, 1<<10)).readAll(from(0))
		must(t, err)
		r.Forget(c)
		next := storage.Offset(0)
		for _, got := range held {
			for _, b := range got.Batches {
				if !intact(b, next) {
					t.Fatalf("the batch at %d was changed while its result was held", next)
				}
				next = batch.Batch(b).NextOffset()
			}
		}
		before := r.Stats()
		for i := range held {
			held[i].Release()
		}
		s := r.Stats()
		if most := r.o.ReadAhead / freeShare; s.FreeBytes > most || s.FreeBytes < most-32<<10 {
			t.Errorf("%d bytes wait for pieces, want at most %d, and about that", s.FreeBytes, most)
		}
		_, err = aPieceAtATime(r, p).readAll(from(0))
		must(t, err)
		// The cache takes some that are new to it meanwhile.
		s = r.Stats()
		if again, loads := s.Recycled-before.Recycled, s.PieceLoads-before.PieceLoads; 3*again < 2*loads || loads < 32 {
			t.Errorf("%d of %d pieces in memory of earlier ones, want two thirds", again, loads)
		}
		wait(idle + time.Second)
		r.Maintain(time.Now())
		if s := r.Stats(); s.FreeBytes != 0 || s.Streams != 0 {
			t.Errorf("%+v, want no memory kept for nobody", s)
		}
		must(t, r.Close())
	})
}

// TestMemoryOfWhatTheCacheRefusesIsUsedAgain: it is small, and each piece heavier than
// the part of it that one may take.
func TestMemoryOfWhatTheCacheRefusesIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		o := w.recycling()
		o.BlockCache = 64 << 10
		r := open(t, o)
		p := w.fill(t, partition(0), 8, 128, 1<<10)
		for range 2 {
			_, err := aPieceAtATime(r, p).readAll(from(0))
			must(t, err)
		}
		s := r.Stats()
		if 4*s.Blocks.Refused < 3*s.PieceLoads {
			t.Fatalf("%+v: the cache takes many, the test shows less than it should", s)
		}
		if 2*s.Recycled < s.PieceLoads {
			t.Errorf("%d of %d pieces in memory of earlier ones, want half", s.Recycled, s.PieceLoads)
		}
		must(t, r.Close())
	})
}

// TestNothingChangesUnderItsReaders: many read the same partitions at their own
// pace, and give up in the middle, while the cache takes and gives up pieces.
func TestNothingChangesUnderItsReaders(t *testing.T) {
	seed := seeded.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = time.Millisecond
		r := open(t, w.recycling())
		var partitions []Partition
		for i := range int32(3) {
			partitions = append(partitions, w.fill(t, partition(i), 4, 128, 1<<10))
		}
		var all sync.WaitGroup
		for i := range uint64(8) {
			rng := rand.New(rand.NewPCG(seed, i))
			all.Go(func() {
				var held []Result
				for range 12 {
					c := newClient(r, partitions[rng.IntN(len(partitions))])
					q := from(storage.Offset(rng.IntN(400)))
					q.MaxBytes = 1 << (10 + rng.IntN(6))
					for range 30 {
						got, err := c.read(q)
						if err != nil {
							t.Error(err)
							return
						}
						if got.Bytes == 0 {
							break
						}
						if rng.IntN(2) == 0 {
							r.Sent(c, c.p.ID, got.Next)
						}
						held = append(held, got)
						if rng.IntN(3) == 0 {
							wait(time.Duration(rng.IntN(5000)) * time.Microsecond)
						}
						for len(held) > rng.IntN(6) {
							for _, b := range held[0].Batches {
								if !intact(b, batch.Batch(b).BaseOffset()) {
									t.Error("a batch was changed while its result was held")
								}
							}
							held[0].Release()
							held = held[1:]
						}
						q.Offset = got.Next
					}
					r.Forget(c)
				}
			})
		}
		all.Wait()
		if s := r.Stats(); s.Recycled == 0 || s.Recycled > s.PieceLoads {
			t.Errorf("%+v, want pieces in memory of earlier ones", s)
		}
		must(t, r.Close())
	})
}
