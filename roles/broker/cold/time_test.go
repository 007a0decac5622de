package cold

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// records calls yield for each record of a span.
func (d *drawn) records(t failer, span Span, yield func(storage.Offset, int64) bool) {
	t.Helper()
	for _, b := range d.batches {
		it := b.Records(0)
		for it.Next() {
			r := it.Record()
			if r.Offset >= span.From && !span.beyond(r.Offset) && !yield(r.Offset, r.Timestamp) {
				return
			}
		}
		must(t, it.Err())
	}
}

func TestTimesAreFoundAsByLookingAtEveryRecord(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		w := newWorld(t, memory())
		d := drawPartition(t, w, partition(0))
		o := w.options()
		o.PieceSize = rapid.IntRange(1, 20_000).Draw(t, "piece")
		o.BlockCache = rapid.Int64Range(1, 400_000).Draw(t, "cache")
		r := open(t, o)
		defer r.Close()
		for range 5 {
			span := Span{From: storage.Offset(rapid.Int64Range(0, int64(d.end)).Draw(t, "from"))}
			if rapid.Bool().Draw(t, "bounded") {
				span.Until = storage.Offset(rapid.Int64Range(1, int64(d.end)+1).Draw(t, "until"))
			}
			millis := rapid.Int64Range(0, 110).Draw(t, "millis")
			want := fmt.Sprint(storage.NoOffset, batch.NoTimestamp, false)
			d.records(t, span, func(o storage.Offset, at int64) bool {
				if at >= millis {
					want = fmt.Sprint(o, at, true)
				}
				return at < millis
			})
			offset, at, ok, err := r.FindTime(context.Background(), d.Partition, span, millis)
			must(t, err)
			if got := fmt.Sprint(offset, at, ok); got != want {
				t.Fatalf("first not older than %d in %+v: %s, want %s", millis, span, got, want)
			}
			newest, newestAt := storage.NoOffset, batch.NoTimestamp
			d.records(t, span, func(o storage.Offset, at int64) bool {
				if at > newestAt {
					newest, newestAt = o, at
				}
				return true
			})
			offset, at, ok, err = r.MaxTimestamp(context.Background(), d.Partition, span)
			must(t, err)
			// Where a border of the span cuts off the newest record of a batch, one
			// of the same time may be found before it.
			if at != newestAt || ok != (newest >= 0) || span == (Span{}) && offset != newest {
				t.Fatalf("newest in %+v: %d at %d, want %d at %d", span, offset, at, newest, newestAt)
			}
		}
	})
}

func TestATimeCostsOneIndexAndOnePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 10, 128, 1<<10) // a millisecond for each offset
		r := open(t, w.options())
		for _, find := range []func() (storage.Offset, int64, bool, error){
			func() (storage.Offset, int64, bool, error) { return r.FindTime(t.Context(), p, Span{}, 700) },
			func() (storage.Offset, int64, bool, error) {
				return r.MaxTimestamp(t.Context(), p, Span{Until: 1000})
			},
		} {
			w.gets.reset()
			offset, at, ok, err := find()
			must(t, err)
			if !ok || at != int64(offset) || offset != 700 && offset != 999 {
				t.Errorf("%d at %d, %v", offset, at, ok)
			}
			if n := w.gets.total(); n != 2 {
				t.Errorf("%d reads of the bucket for offset %d, want 2", n, offset)
			}
		}
		if s := r.Stats(); s.Streams != 0 || s.Held != 0 || s.Ahead != 0 {
			t.Errorf("%+v", s)
		}
		must(t, r.Close())
	})
}

func TestASearchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memory())
		p := w.fill(t, partition(0), 1, 8, 1<<10)
		w.delay = time.Hour
		r := open(t, w.options())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, _, _, err := r.FindTime(ctx, p, Span{}, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if s := r.Stats(); s.Loading != 0 || s.Streams != 0 {
			t.Errorf("%+v", s)
		}
		must(t, r.Close())
	})
}
