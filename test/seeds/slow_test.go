//go:build seeds

package seeds

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/tally"
)

// TestADiskThatDragsIsLeft: the disk of one of three nodes takes 500 ms for each sync from some
// moment on. 10 s later acks=all takes no more than twice what it took before at the 99th
// percentile, whichever node it is: leaderships leave it, and those in sync are without it
// (RULES 3.3; the time is simulated, so the figure is the product's and not the machine's).
func TestADiskThatDragsIsLeft(t *testing.T) {
	for id := 1; id <= size; id++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, uint64(id))
			for _, n := range w.nodes {
				n.start()
			}
			w.create("source", size)
			pass(5 * time.Second)
			before := w.acks(10 * time.Second)
			w.nodes[id-1].now().drag.Store(int64(500 * time.Millisecond))
			controls := w.controller() == w.nodes[id-1]
			worst := w.acks(10 * time.Second)
			after := w.acks(10 * time.Second)
			w.end()
			t.Logf("node %d, which leads the controllers: %v; 99th percentile of %d acks %v, while the disk is found out %v, then of %d %v",
				id, controls, len(before), p99(before), p99(worst), len(after), p99(after))
			if p99(after) > 2*p99(before) {
				t.Errorf("node %d: the 99th percentile is %v after 10 s, and was %v", id, p99(after), p99(before))
			}
		})
	}
	tally.Log(t, tally.Counts{"disks_slow": size, "disks_left": size})
}

// acks writes to each partition each 20 ms for so long, with acks=all, and returns how long
// each record took.
func (w *world) acks(d time.Duration) []time.Duration {
	client := w.newClient(kgo.DefaultProduceTopic("source"), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	defer client.Close()
	w.becomeKnown(context.Background(), client)
	var mu sync.Mutex
	var took []time.Duration
	for until := time.Now().Add(d); time.Now().Before(until); pass(20 * time.Millisecond) {
		for p := range int32(partitions) {
			sent := time.Now()
			client.Produce(context.Background(), &kgo.Record{Partition: p, Value: []byte("x")}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				if took = append(took, time.Since(sent)); err != nil {
					w.t.Errorf("produce: %v", err)
				}
			})
		}
	}
	if err := client.Flush(context.Background()); err != nil {
		w.t.Error(err)
	}
	return took
}

func p99(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)*99/100]
}
