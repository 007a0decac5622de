package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

var errStore = errors.New("the store is away")

func TestAnErrorWakesWaitersAndIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 8, 1<<10)
		w.delay = 20 * time.Millisecond
		r := open(t, w.options())
		for _, what := range []string{"index", "piece"} {
			w.faults(bucket.Rule{Op: bucket.OpRead, Err: errStore, Temporary: true, Limit: 1})
			a, b := newClient(r, p), newClient(r, p)
			got := make(chan error)
			for _, c := range []*client{a, b} {
				go func() {
					_, err := c.read(from(0))
					got <- err
				}()
			}
			for range 2 {
				if err := <-got; !errors.Is(err, errStore) || !bucket.IsTemporary(err) {
					t.Errorf("%s: %v, want the store's error", what, err)
				}
			}
			if n := r.Stats().Errors; n == 0 {
				t.Error("no error was counted")
			}
			if what == "index" {
				// It is there for the next round, in which the piece fails.
				q := from(0)
				q.MinOne, q.MaxBytes = false, 0
				_, err := a.read(q)
				must(t, err)
				continue
			}
			bases, err := a.readAll(from(0))
			must(t, err)
			wantBases(t, bases, 0, 8)
		}
		must(t, r.Close())
	})
}

func TestAnErrorOfWhatWasReadAheadIsNotTold(t *testing.T) {
	for nth, what := range map[int]string{1: "index", 2: "piece"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, memory())
				p := w.fill(t, partition(0), 16, 16, 1<<10) // of one piece each
				w.faults(bucket.Rule{Op: bucket.OpRead, Prefix: objectKey(p.Ranges.At(8).Object), Err: errStore, Nth: nth})
				r := open(t, w.options())
				must(t, newClient(r, p).drain(from(0), time.Second))
				if s := r.Stats(); s.Errors != 1 || s.Ahead == 0 {
					t.Errorf("%+v, want one error", s)
				}
				must(t, r.Close())
			})
		})
	}
}

func TestDamageIsReadOnceMoreAndNeverServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 64, 1<<10) // an index and four pieces
		rng := p.Ranges.At(0)
		for name, fault := range map[string]bucket.Rule{
			"flip": {Flip: true}, "shift": {Shift: -7}, "cut off": {Err: &bucket.Error{Op: "read", Err: errCut()}},
		} {
			for nth := 1; nth <= 5; nth++ {
				fault.Op, fault.Nth = bucket.OpRead, nth
				w.faults(fault)
				r := open(t, w.options())
				got, err := newClient(r, p).readAll(from(0))
				if err != nil {
					t.Fatalf("%s of read %d, right when read again: %v", name, nth, err)
				}
				wantBases(t, got, 0, 64)
				must(t, r.Close())

				fault.Nth, fault.From = 0, nth
				w.faults(fault)
				r = open(t, w.options())
				c := newClient(r, p)
				q := from(0)
				q.MaxBytes = 1
				for range 65 {
					var res Result
					if res, err = c.read(q); err != nil {
						break
					}
					if len(res.Batches) > 0 {
						q.Offset = res.Next
					}
				}
				var damage *object.CorruptionError
				if !errors.As(err, &damage) || damage.Object != rng.Object {
					t.Fatalf("%s from read %d on: %v", name, nth, err)
				}
				if at := damage.Position; nth == 1 && at < rng.IndexPosition || nth > 1 && (at < object.HeaderSize || at > rng.IndexPosition) {
					t.Errorf("%s from read %d on: damage at byte %d, the index is at %d", name, nth, at, rng.IndexPosition)
				}
				// What was damaged was not kept, once what is read ahead has met the fault too.
				synctest.Wait()
				w.faults()
				rest, err := c.readAll(q)
				must(t, err)
				wantBases(t, rest, q.Offset, 64)
				must(t, r.Close())
				fault.From = 0
			}
		}
	})
}

// TestWhatLiesBeforeDamageSaysSo: more does not come by waiting.
func TestWhatLiesBeforeDamageSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 64, 1<<10) // an index and four pieces
		w.faults(bucket.Rule{Op: bucket.OpRead, From: 3, Flip: true})
		r := open(t, w.options())
		c := newClient(r, p)
		for range 2 { // the first time it may be on its way
			got, err := c.read(from(0))
			must(t, err)
			if len(got.Batches) == 0 || got.Failing && (!got.Limited || got.Pending) {
				t.Fatalf("%+v", got)
			}
			if got.Failing {
				must(t, r.Close())
				return
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		t.Error("what comes next is not said to fail")
		must(t, r.Close())
	})
}

func errCut() error { return fmt.Errorf("too short: %w", io.ErrUnexpectedEOF) }

func TestNotFoundMeansLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		id := partition(0)
		old := w.fill(t, id, 1, 8, 1<<10)
		compacted := w.fill(t, id, 1, 8, 1<<10)
		must(t, w.dir.Delete(t.Context(), objectKey(old.Ranges.At(0).Object)))
		r := open(t, w.options())
		c := newClient(r, old)
		_, err := c.read(from(0))
		if !errors.Is(err, ErrLookAgain) || !errors.Is(err, bucket.ErrNotFound) || errors.As(err, new(*MissingError)) {
			t.Fatalf("by an old image: %v", err)
		}
		c.p = compacted
		got, err := c.readAll(from(0))
		must(t, err)
		wantBases(t, got, 0, 8)

		c = newClient(r, old) // the newest image names it all the same
		_, err = c.read(from(0))
		if !errors.Is(err, ErrLookAgain) {
			t.Fatal(err)
		}
		for range 2 {
			var missing *MissingError
			if _, err = c.read(from(0)); !errors.As(err, &missing) || missing.Object != old.Ranges.At(0).Object || errors.Is(err, ErrLookAgain) {
				t.Fatalf("named by the newest image: %v", err)
			}
		}
		_, _, _, err = r.FindTime(t.Context(), old, Span{}, 0)
		if !errors.Is(err, ErrLookAgain) {
			t.Fatal(err)
		}
		must(t, r.Close())
	})
}

func TestAnIndexOfAnotherRangeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p, other := w.fill(t, partition(0), 1, 8, 1<<10), partition(1)
		rng := p.Ranges.At(0)
		r := open(t, w.options())
		_, err := newClient(r, p).readAll(from(0))
		must(t, err)
		_, err = newClient(r, Partition{ID: other, Ranges: p.Ranges}).read(from(0))
		if !errors.As(err, new(*object.CorruptionError)) {
			t.Errorf("another partition: %v", err)
		}
		rng.IndexCRC++
		_, err = newClient(r, Partition{ID: p.ID, Ranges: metadata.NewRanges(rng)}).read(from(0))
		if !errors.As(err, new(*object.CorruptionError)) {
			t.Errorf("another index: %v", err)
		}
		must(t, r.Close())
	})
}

func TestNobodyWantsALoadAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 8, 1<<10)
		w.delay = time.Hour
		r := open(t, w.options())
		a, b := newClient(r, p), newClient(r, p)
		for _, c := range []*client{a, b} {
			q := from(0)
			q.Reader = c
			_, err := r.Read(p, q, c)
			must(t, err)
		}
		synctest.Wait()
		r.Forget(a)
		synctest.Wait()
		if n := r.Stats().Loading; n != 1 {
			t.Errorf("%d loads, b waits for one", n)
		}
		r.Forget(b)
		synctest.Wait()
		if s := r.Stats(); s.Loading != 0 || s.Held != 0 || s.Streams != 0 {
			t.Errorf("nobody waits: %+v", s)
		}
		must(t, r.Close())
	})
}

func TestCloseEndsLoadsAndWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 8, 1<<10)
		w.delay = time.Hour
		r := open(t, w.options())
		got := make(chan error)
		go func() {
			_, err := newClient(r, p).read(from(0))
			got <- err
		}()
		go func() {
			_, _, _, err := r.MaxTimestamp(context.Background(), p, Span{})
			got <- err
		}()
		synctest.Wait()
		must(t, r.Close())
		for range 2 {
			if err := <-got; !errors.Is(err, ErrClosed) {
				t.Errorf("%v, want ErrClosed", err)
			}
		}
	})
}

func TestAnIdleStreamGivesItsMemoryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 512, 1<<10)
		r := open(t, w.options())
		c := newClient(r, p)
		q := from(0)
		for q.Offset < 256 {
			got, err := c.read(q)
			must(t, err)
			q.Offset = got.Next
		}
		synctest.Wait()
		if s := r.Stats(); s.Held < 100<<10 || s.Streams != 1 {
			t.Errorf("%+v, want a window of 128 KiB", s)
		}
		wait(idle + time.Second)
		if s := r.Stats(); s.Held != 0 || s.Streams != 0 {
			t.Errorf("after %v: %+v", idle, s)
		}
		// Who waits is not idle, however long it takes.
		w.delay = 5 * idle
		q.Offset = 300
		_, err := newClient(r, w.fill(t, partition(1), 1, 8, 1<<10)).read(from(0))
		must(t, err)
		must(t, r.Close())
	})
}

func wait(d time.Duration) { <-time.After(d) }

func TestAWaiterIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 8, 1<<10)
		w.delay = time.Second
		r := open(t, w.options())
		c := newClient(r, p)
		q := from(0)
		q.Reader = c
		got, err := r.Read(p, q, c)
		must(t, err)
		if !got.Pending {
			t.Fatalf("%+v", got)
		}
		r.Unwatch(c, p.ID, c)
		wait(5 * time.Second)
		if len(c.woken) != 0 {
			t.Error("woken all the same")
		}
		if s := r.Stats(); s.IndexLoads != 1 || s.Errors != 0 {
			t.Errorf("%+v, want what was begun to be brought", s)
		}
		must(t, r.Close())
	})
}

// TestDamageToOneOfSeveralPiecesIsReadAgainAlone: of a request for several, and the
// others are given out.
func TestDamageToOneOfSeveralPiecesIsReadAgainAlone(t *testing.T) {
	for _, rule := range []bucket.Rule{
		{Op: bucket.OpRead, Nth: 10, Flip: true},
		{Op: bucket.OpRead, Nth: 10, Short: true}, // and temporary: told, if somebody waits for it
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, memory())
			p := w.fill(t, partition(0), 1, 512, 1<<10) // 32 pieces, read by two ahead; one index
			w.delay = 10 * time.Millisecond
			w.faults(rule)
			r := open(t, w.options())
			c, q := newClient(r, p), from(0)
			for next := storage.Offset(0); next < 512; next = q.Offset {
				got, err := c.read(q)
				if err != nil && !(rule.Short && bucket.IsTemporary(err)) {
					t.Fatal(err)
				}
				for _, raw := range got.Batches {
					b := batch.Batch(raw)
					if b.BaseOffset() != q.Offset || b.ComputeCRC() != b.CRC() {
						t.Fatalf("batch at %d, or damage, where %d is due", b.BaseOffset(), q.Offset)
					}
					q.Offset = b.NextOffset()
				}
			}
			s := r.Stats()
			if rule.Flip && (s.PieceLoads != 32 || s.Errors != 0 || w.gets.total() != int(s.Requests)+1) {
				t.Errorf("%d reads of the bucket for %+v, want one more than requests", w.gets.total(), s)
			}
			if rule.Short && s.Errors != 1 { // the half that came is given out
				t.Errorf("%+v, want one piece that failed", s)
			}
			if s.Held > w.options().ReadAhead {
				t.Errorf("%d bytes held", s.Held)
			}
			must(t, r.Close())
			if s := r.Stats(); s.Held != 0 || s.Loading != 0 {
				t.Errorf("after the end: %+v", s)
			}
		})
	}
}
