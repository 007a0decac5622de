package async

import (
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
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
