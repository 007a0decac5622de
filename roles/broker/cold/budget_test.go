package cold

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/cache"
)

// drain reads a partition to its end, a rest after each answer.
func (c *client) drain(q Request, rest time.Duration) error {
	for {
		got, err := c.read(q)
		if err != nil || got.Next == q.Offset {
			return err
		}
		q.Offset = got.Next
		if rest > 0 {
			wait(rest)
		}
	}
}

func TestStreamsTogetherHoldNoMoreThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 10 * time.Millisecond
		o := w.options()
		o.ReadAhead = 200 << 10
		o.BlockCache = 1 // keeps nothing
		r := open(t, o)
		var all sync.WaitGroup
		for i := range 30 { // their windows would come to 4 MiB
			p := w.fill(t, partition(int32(i)), 2, 64, 1<<10)
			all.Go(func() {
				c := newClient(r, p)
				if err := c.drain(from(0), time.Duration(i%3)*time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s := r.Stats(); s.MostHeld > o.ReadAhead || s.MostHeld < o.ReadAhead/2 {
			t.Errorf("%d bytes held, want at most %d, and not much less", s.MostHeld, o.ReadAhead)
		}
		must(t, r.Close())
	})
}

func TestASlowConsumerDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 10 * time.Millisecond
		o := w.options()
		o.ReadAhead, o.MaxReadAhead = 160<<10, 160<<10
		o.BlockCache = 1
		o.RequestSize = o.PieceSize // what is left is less than one
		r := open(t, o)
		slow := newClient(r, w.fill(t, partition(0), 4, 128, 1<<10))
		q := from(0)
		for range 16 { // its window takes all there is
			got, err := slow.read(q)
			must(t, err)
			q.Offset = got.Next
		}
		wait(time.Second)
		if s := r.Stats(); s.Held < 100<<10 {
			t.Fatalf("%+v, want the budget used up", s)
		}
		start := time.Now()
		got, err := newClient(r, w.fill(t, partition(1), 1, 16, 1<<10)).readAll(from(0))
		must(t, err)
		wantBases(t, got, 0, 16)
		if took := time.Since(start); took > 3*w.delay {
			t.Errorf("another consumer took %v, want an index and a piece", took)
		}
		if s := r.Stats(); s.Reclaimed == 0 || s.MostHeld > o.ReadAhead {
			t.Errorf("%+v", s)
		}
		must(t, r.Close())
	})
}

func TestReadersShareTheBudgetNotTheStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 50 * time.Millisecond
		o := w.options()
		o.ReadAhead, o.MaxReadAhead = 400<<10, 400<<10
		o.BlockCache = 1
		r := open(t, o)
		var all sync.WaitGroup
		stop := make(chan struct{})
		for i := range 10 {
			p := w.fill(t, partition(int32(i)), 2, 256, 1<<10)
			all.Go(func() {
				q := from(0)
				q.Reader = "greedy"
				c := newClient(r, p)
				for {
					select {
					case <-stop:
						return
					default:
					}
					got, err := c.read(q)
					if err != nil {
						t.Error(err)
						return
					}
					if q.Offset = got.Next; q.Offset == 512 {
						q.Offset = 0
					}
				}
			})
		}
		p := w.fill(t, partition(10), 4, 256, 1<<10)
		q := from(0)
		q.Reader = "modest"
		c := newClient(r, p)
		start := time.Now()
		for q.Offset < 1024 {
			got, err := c.read(q)
			must(t, err)
			q.Offset = got.Next
		}
		took := time.Since(start)
		close(stop)
		all.Wait()
		// 64 pieces and 4 indexes. Alone it would take some 15 round trips; with
		// half of the budget, ten pieces, no more than twice that.
		if took > 40*w.delay {
			t.Errorf("the modest reader took %v", took)
		}
		must(t, r.Close())
	})
}

func TestReadAheadKeepsWithinTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		o := w.options()
		o.ReadAhead, o.MaxReadAhead = 256<<10, 256<<10
		o.BlockCache = 1
		r := open(t, o)
		p := w.fill(t, partition(0), 1, 512, 1<<10)
		for i := range 4 {
			c := newClient(r, p)
			q := from(storage.Offset(i))
			q.MaxBytes = 1
			_, err := c.read(q)
			must(t, err)
		}
		c := newClient(r, w.fill(t, partition(1), 1, 512, 1<<10))
		q := from(0)
		for range 12 {
			got, err := c.read(q)
			must(t, err)
			q.Offset = got.Next
			synctest.Wait()
			r.mu.Lock()
			held, readers := r.consumers[c].held, len(r.consumers)
			r.mu.Unlock()
			// What it is at, two pieces, comes on top of what it reads ahead.
			if most := o.ReadAhead/int64(readers) + 2*18<<10; held > most {
				t.Errorf("%d readers, one holds %d, want at most %d", readers, held, most)
			}
		}
		must(t, r.Close())
	})
}

func TestNoMoreReadsAreUnderWayThanParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 10 * time.Millisecond
		o := w.options()
		o.Parallel = 4
		r := open(t, o)
		var all sync.WaitGroup
		for i := range 12 {
			p := w.fill(t, partition(int32(i)), 1, 128, 1<<10)
			all.Go(func() {
				if err := newClient(r, p).drain(from(0), 0); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if w.gets.most != 4 {
			t.Errorf("%d reads under way at once, want 4", w.gets.most)
		}
		must(t, r.Close())
	})
}

func TestAScanLeavesTheHotSetInTheCache(t *testing.T) {
	for _, policy := range []cache.Policy{cache.WTinyLFU, cache.LRU} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, memory())
				o := w.options()
				o.Policy = policy
				o.BlockCache = 512 << 10
				r := open(t, o)
				hot := w.fill(t, partition(0), 1, 256, 1<<10) // half of the cache
				for range 5 {
					c := newClient(r, hot)
					must(t, c.drain(from(0), 0))
					r.Forget(c)
				}
				c := newClient(r, w.fill(t, partition(1), 8, 512, 1<<10)) // eight times the cache
				must(t, c.drain(from(0), 0))
				r.Forget(c)
				w.gets.reset()
				must(t, newClient(r, hot).drain(from(0), 0))
				if reads := w.gets.total(); reads > 2 {
					t.Errorf("%d of 16 hot pieces had to be read again", reads)
				}
				must(t, r.Close())
			})
		})
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, o := range []Options{
		{},
		{Bucket: newWorld(t, memory()).b},
		{Bucket: newWorld(t, memory()).b, Key: objectKey, ReadAhead: -1},
		{Bucket: newWorld(t, memory()).b, Key: objectKey, PieceSize: maxPieceSize + 1},
		{Bucket: newWorld(t, memory()).b, Key: objectKey, Policy: "fifo"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestWhatWasSentMakesRoomToReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		w.delay = 10 * time.Millisecond
		o := w.options()
		o.ReadAhead, o.MaxReadAhead = 256<<10, 256<<10
		o.BlockCache = 1
		r := open(t, o)
		c := newClient(r, w.fill(t, partition(0), 8, 128, 1<<10))
		q := from(0)
		for range 16 { // its window takes all there is
			got, err := c.read(q)
			must(t, err)
			q.Offset = got.Next
		}
		wait(time.Second)
		q.MaxBytes = 64 << 10
		got, err := c.read(q)
		must(t, err)
		wait(time.Second)
		before, full := r.Stats(), int64(224<<10)
		if before.Held < full-64<<10 || got.Bytes < 48<<10 {
			t.Fatalf("%d bytes read, %+v, want the budget used up", got.Bytes, before)
		}

		r.Sent("somebody else", c.p.ID, got.Next)
		r.Sent(c, partition(1), got.Next)
		r.Sent(c, c.p.ID, got.Next+1) // was not given out
		wait(time.Second)
		if s := r.Stats(); s.PieceLoads != before.PieceLoads {
			t.Errorf("%d pieces read while all was held, want %d", s.PieceLoads, before.PieceLoads)
		}
		r.Sent(c, c.p.ID, got.Next)
		wait(time.Second)
		s := r.Stats()
		if n := s.PieceLoads - before.PieceLoads; n < 3 || s.Sent != n || s.MostHeld > o.ReadAhead {
			t.Errorf("%d pieces read ahead once 64 KiB were sent, want 3 at least: %+v", n, s)
		}
		// Who asks for it again gets it again, and who goes on has lost nothing.
		again, err := c.read(q)
		must(t, err)
		if again.Bytes == 0 || !bytes.Equal(again.Batches[0], got.Batches[0]) {
			t.Errorf("%d bytes at %d when it was read again, want the same", again.Bytes, q.Offset)
		}
		q.Offset = got.Next
		bases, err := c.readAll(q)
		must(t, err)
		wantBases(t, bases, got.Next, 8*128)
		must(t, r.Close())
	})
}

func TestRequestsStayLargeWhileMemoryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, ranges, each = 8, 4, 256 // 16 pieces to a range
		w := newWorld(t, memory())
		w.delay = 10 * time.Millisecond
		o := w.options()
		o.ReadAhead, o.MaxReadAhead, o.RequestSize = 512<<10, 256<<10, 64<<10
		o.BlockCache = 1
		r := open(t, o)
		var clients [partitions]*client
		var next [partitions]storage.Offset
		for i := range clients {
			clients[i] = newClient(r, w.fill(t, partition(int32(i)), ranges, each, 1<<10))
		}
		for left := partitions; left > 0; {
			left = partitions
			for i, c := range clients {
				q := from(next[i])
				q.Reader = "one of all"
				got, err := c.read(q)
				must(t, err)
				r.Sent(q.Reader, c.p.ID, got.Next)
				if next[i] = got.Next; next[i] == ranges*each {
					left--
				}
			}
		}
		// Each stream has memory for two requests of two pieces, where there is one to
		// read ahead before the end of a range. A request for each piece that is let go
		// of would come to 1.04 pieces for one; in what order the goroutines run decides
		// about the rest.
		s := r.Stats()
		if requests := s.Requests - s.IndexLoads; 4*s.PieceLoads < 5*requests || s.Wasted > s.PieceLoads/10 {
			t.Errorf("%d requests for %d pieces, %d of them for nothing, want a request for several: %+v", requests, s.PieceLoads, s.Wasted, s)
		}
		if s.MostHeld > o.ReadAhead || s.MostHeld < o.ReadAhead/2 {
			t.Errorf("%d bytes held, want at most %d, and not much less", s.MostHeld, o.ReadAhead)
		}
		must(t, r.Close())
	})
}
