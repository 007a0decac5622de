package async

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/batch"
)

// newTestWorker is a worker of a runner that runs nothing.
func newTestWorker(t *testing.T, spec string, failed func(error, int)) *worker {
	t.Helper()
	s, err := pipeline.ParseSpec([]byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	r := New(Options{
		Image:     func() *metadata.Image { return metadata.NewState().Image() },
		Subscribe: func(func(*metadata.Image)) func() { return func() {} },
	})
	t.Cleanup(r.Close)
	return newWorker(r, &Task{Name: "m", Spec: s, Failed: failed}, source{topic: "in"})
}

// A record that not even the policy's topic takes spends the module's budget, though tries are
// seconds apart: it is not tried for ever.
func TestRecordsThatNobodyTakesEnd(t *testing.T) {
	failures := 0
	w := newTestWorker(t, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass","error_budget":{"failures":500,"window_ms":1000}}`, func(error, int) { failures++ })
	w.condemned, w.turns = 5, 2 // the topic of the policy has refused it
	for try := range 2 * maxTurns {
		before := failures
		if err := w.dispose(&abi.Record{Offset: 5}, "its target does not take it"); err == nil {
			t.Fatal("it is taken")
		}
		if failures-before >= 500 {
			if try < maxTurns/2 {
				t.Errorf("it is given up after %d tries", try)
			}
			return
		}
	}
	t.Errorf("%d failures are told of, and the budget is not spent", failures)
}

// What is compressed is taken apart within a share of the memory: however many partitions wait
// for one, none of them has expanded what it has read, nor does it keep others from a large
// batch, who have shares.
func TestNothingIsExpandedWithoutAShare(t *testing.T) {
	w := newTestWorker(t, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass"}`, nil)
	got := &kmsg.FetchResponseTopicPartition{RecordBatches: madeOf(t, 0, batch.Zstd, 20, make([]byte, 1<<20)), LastStableOffset: 20}
	for range cap(w.runner.shares) {
		w.runner.shares <- struct{}{}
	}
	w.position = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.reader.take(got)
	one := share{of: w.runner.shares, waiting: &w.runner.waiting}
	if err := w.unpack(ctx, &one); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(w.chunk.records); n > 0 || w.reader.holds {
		t.Errorf("%d records are there without a share; the place of large batches is held: %v", n, w.reader.holds)
	}
	<-w.runner.shares
	if err := w.unpack(t.Context(), &one); err != nil {
		t.Fatal(err)
	}
	if n := len(w.chunk.records); n != 20 || !w.reader.holds || !one.taken {
		t.Errorf("%d records, large: %v, a share: %v", n, w.reader.holds, one.taken)
	}
	w.reader.done(&w.chunk)
}

// Timestamps among what is compressed are not looked at when a batch comes, and topics refuse
// odd ones: a dead letter has one that they take.
func TestDeadLettersHaveATimeThatTopicsTake(t *testing.T) {
	now := time.Now().UnixMilli()
	var got []int64
	for _, at := range []int64{-9000, -1, 0, now, now + 1_000_000_000} {
		is := deadLetter(&abi.Record{Timestamp: at}, &Task{Name: "m"}, source{}, "why", now)
		got = append(got, is.Timestamp)
		if h := is.Headers[len(is.Headers)-1]; h.Name != pipeline.DeadLetterTimestamp || len(h.Value) == 0 {
			t.Errorf("%+v", is.Headers)
		}
	}
	if want := []int64{-1, -1, 0, now, now}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}
