package upload

import (
	"context"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// transact appends a batch of one record to partition 0, in a transaction.
func (w *world) transact(producer int64, sequence int32, bytes int) {
	w.t.Helper()
	b := batch.NewBuilder(batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: producer, BaseSequence: sequence}})
	b.Add(time.Now().UnixMilli(), nil, make([]byte, bytes))
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	led, _ := w.Led(id(0))
	guard, _, err := led.Log.BeginVerification(producer, 0, sequence)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Admit(context.Background(), len(raw)); err != nil {
		w.t.Fatal(err)
	}
	answer := make(appended, 1)
	led.Log.Append(time.Now(), raw, log.AppendOptions{Epoch: led.Epoch, Guard: guard}, answer)
	if r := <-answer; r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

func (w *world) mark(producer int64, commit bool) {
	w.t.Helper()
	led, _ := w.Led(id(0))
	answer := make(appended, 1)
	led.Log.AppendMarker(context.Background(), time.Now(), log.Marker{ProducerID: producer, Commit: commit}, log.MarkerOptions{Epoch: led.Epoch}, answer)
	if r := <-answer; r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

// TestRangeSaysWhatWasStableAtItsEnd: what waits is cut into several ranges, all of
// which are made when more is known than they hold. Each tells of the
// transactions as of where it ends, and has the aborts whose marker it has.
func TestRangeSaysWhatWasStableAtItsEnd(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errAway, Temporary: true})
		const large = 11 << 10  // two do not fit into one range
		w.transact(1, 0, large) // 0, aborted at 3
		w.transact(2, 0, large) // 1, committed at 4
		w.transact(3, 0, large) // 2, open
		w.mark(1, false)        // 3
		w.mark(2, true)         // 4
		w.transact(1, 1, large) // 5, aborted at 7
		w.appendPlain(large)    // 6
		w.mark(1, false)        // 7
		w.appendPlain(large)    // 8
		pass(w.limits.Interval) // and nothing gets through
		w.bucket.Set()          //
		pass(time.Minute)       //
		led, _ := w.Led(id(0))
		if end := w.partition(0).CommittedEnd(); end != 9 || led.Log.LastStable() != 2 {
			t.Fatalf("committed up to %d, stable to %d", end, led.Log.LastStable())
		}
		aborted := []object.Aborted{{ProducerID: 1, First: 0, Last: 3}, {ProducerID: 1, First: 5, Last: 7}}
		n := 0
		for r := range w.partition(0).Ranges().All() {
			n++
			x := w.index(0, r)
			stable := r.End
			for _, open := range []struct{ first, last storage.Offset }{{0, 3}, {1, 4}, {2, 100}, {5, 7}} {
				if open.first < r.End && open.last >= r.End {
					stable = min(stable, open.first)
				}
			}
			want := slices.DeleteFunc(slices.Clone(aborted), func(a object.Aborted) bool { return a.Last < r.Base || a.Last >= r.End })
			if x.LastStable != stable || !slices.Equal(x.Aborted, want) || r.HasAborts != (len(want) > 0) || r.OpenTransactions != (stable < r.End) {
				t.Errorf("[%d, %d): stable to %d, aborted %v; %+v; want stable to %d, aborted %v", r.Base, r.End, x.LastStable, x.Aborted, r, stable, want)
			}
		}
		if n < 4 {
			t.Errorf("%d ranges: the test shows less than it should", n)
		}
	})
}

// appendPlain appends a batch of no transaction to partition 0.
func (w *world) appendPlain(bytes int) {
	w.t.Helper()
	led, _ := w.Led(id(0))
	raw, _ := w.build(0, 1, bytes)
	if err := w.store.Admit(context.Background(), len(raw)); err != nil {
		w.t.Fatal(err)
	}
	answer := make(appended, 1)
	led.Log.Append(time.Now(), raw, log.AppendOptions{Epoch: led.Epoch}, answer)
	if r := <-answer; r.Err != nil {
		w.t.Fatal(r.Err)
	}
}
