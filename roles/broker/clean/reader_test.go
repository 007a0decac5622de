package clean

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// TestReadsHaveTheirTurnsInOrder: with a bound on bandwidth, what is needed first is
// read first, and not behind what is read ahead.
func TestReadsHaveTheirTurnsInOrder(t *testing.T) {
	w := newWorld(t)
	for range 3 * readsAhead {
		w.keyed("a=1", "b=1")
		w.uploadAll()
	}
	var ranges []metadata.Range
	var objects []storage.ObjectID
	for is := range w.partition().Ranges().All() {
		ranges, objects = append(ranges, is), append(objects, is.Object)
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var read []storage.ObjectID
		r := reader{partition: worldPartition, pace: &tiering.Bandwidth{Rate: 100, Now: time.Now}, fill: func(ctx context.Context, id storage.ObjectID, p []byte, at int64) error {
			mu.Lock()
			read = append(read, id)
			mu.Unlock()
			return w.memory.ReadAt(ctx, w.key(id), p, at)
		}}
		indexes, err := r.indexes(t.Context(), ranges)
		if err != nil || !slices.Equal(read, objects) {
			t.Errorf("indexes are read of objects %v, %v", read, err)
		}
		read = nil
		if err := r.batches(t.Context(), indexes, 0, func(batch.Batch) error { return nil }); err != nil || !slices.Equal(read, objects) {
			t.Errorf("batches are read of objects %v, %v", read, err)
		}
	})
}
