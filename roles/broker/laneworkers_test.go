package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/etl/pipeline"
)

func (w *laneWorkers) idling() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

// TestALaneThatBeginsFindsTheGoroutineOfTheLast, and goroutines that no lane needs end.
func TestALaneThatBeginsFindsTheGoroutineOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, _ := startTransforming(t, "")
		c, workers := n.connect(), &n.transforms.workers
		for i := range int64(10) {
			if code, offset, _ := c.put(batchOf(t, "stays"), -1, 9); code != 0 || offset != i {
				t.Fatalf("code %d at %d, not at %d", code, offset, i)
			}
			synctest.Wait()
			if got := workers.idling(); got != 1 {
				t.Fatalf("%d goroutines wait for a lane after %d batches, one behind the other", got, i+1)
			}
		}
		time.Sleep(3 * laneLinger)
		synctest.Wait()
		if got := workers.idling(); got != 0 {
			t.Errorf("%d goroutines wait for a lane, and none came for %v", got, 3*laneLinger)
		}
		if code, _, _ := c.put(batchOf(t, "stays"), -1, 9); code != 0 {
			t.Errorf("code %d", code)
		}
	})
}

// TestEveryLaneHasAGoroutine, however many there are, and few of them stay.
func TestEveryLaneHasAGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = maxIdleLaneWorkers + 20
		n, w, m := startTransforming(t)
		n.controller.createTopic("wide", partitions)
		n.settle(t.Context())
		spec, err := pipeline.ParseSpec([]byte(`{"mode":"inline","topics":["wide"]}`))
		if err != nil {
			t.Fatal(err)
		}
		m.set.Store(pipeline.NewSet([]pipeline.Module{{Name: "m", Version: 1, Spec: spec, Transformer: w}}))
		workers := &n.transforms.workers
		c := n.connect()
		for round := range int64(2) {
			open := w.shut(t)
			for i := range int32(partitions) {
				q := produceTo("wide", i, -1, batchOf(t, fmt.Sprint("stays ", i)))
				q.Version = 9
				c.send(q)
			}
			synctest.Wait()
			if got := workers.idling(); got != 0 {
				t.Errorf("%d goroutines wait for a lane while modules have all of them", got)
			}
			open()
			for range partitions {
				requireProduced(t, c.receive().(*kmsg.ProduceResponse), nil, round)
			}
			synctest.Wait()
			if got := workers.idling(); got != maxIdleLaneWorkers {
				t.Errorf("%d goroutines wait for a lane, not %d", got, maxIdleLaneWorkers)
			}
		}
	})
}
