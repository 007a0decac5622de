package broker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/wal"
)

const (
	// loadInterval is the time between two reports of load.
	loadInterval = 3 * time.Second
	// While a sync takes slowSync or more the controller is told more often, to find out
	// whether this disk alone is so slow.
	slowSync     = 10 * time.Millisecond
	slowInterval = time.Second
	// What is less than both floors is not told: an idle partition, to the controller.
	loadFloor = 1 << 10  // bytes a second
	tailFloor = 64 << 10 // bytes
	// mostLoads bounds a report. Of more partitions the lightest are left out.
	mostLoads = 10_000
)

// countLoad counts what of the partition goes to a client.
func (part *fetchPart) countLoad(m *metrics) {
	if part.result.Bytes == 0 || part.topic == nil {
		return
	}
	if p := part.topic.partition(part.want.Index); p != nil {
		p.passed.Add(int64(part.result.Bytes))
		part.topic.counts.fetchedBytes.Add(int64(part.result.Bytes))
		if r := p.role.Load(); r.log == nil && r.replica != nil {
			m.followedBytes.Add(float64(part.result.Bytes))
		}
	}
}

// tellLoad tells the controller from time to time what passes through partitions that are
// led here, and how long syncs take, until ctx ends.
func (b *Broker) tellLoad(ctx context.Context) {
	ticker := time.NewTicker(slowInterval)
	defer ticker.Stop()
	last, silent := b.opt.Now(), false
	syncs := syncWatch{told: b.store.Stats().WAL}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, stats := b.opt.Now(), b.store.Stats().WAL
		took := syncs.took(stats)
		if now.Sub(last) < loadInterval-slowInterval/2 && took < slowSync {
			continue
		}
		loads := b.table.loads(now.Sub(last))
		last, syncs.told = now, stats
		if b.registration.lost.Load() {
			continue
		}
		err := b.opt.Controller.ReportLoad(ctx, b.opt.NodeID, b.registration.epoch.Load(), took, loads)
		if err != nil && !silent && ctx.Err() == nil {
			b.log.Info("the controller was not told of the load here; the next report will be", "error", err)
		}
		silent = err != nil
	}
}

// syncWatch tells how long syncs take.
type syncWatch struct{ told wal.Stats } // when the last report was made

// took is how long a sync took since the last report, or the one under way if that takes
// longer; 0: there was none.
func (s *syncWatch) took(now wal.Stats) time.Duration {
	took := now.Syncing
	if n := now.Syncs - s.told.Syncs; n > 0 {
		took = max(took, (now.SyncTime-s.told.SyncTime)/time.Duration(n))
	}
	return took
}

// loads returns which partitions that are to be led here are damaged, what passed through partitions that are led here since the last call,
// which was so long ago, and what they hold that the bucket does not; those are left out
// that have little of both.
func (t *table) loads(since time.Duration) []controller.PartitionLoad {
	seconds := max(since.Seconds(), 0.001)
	var loads []controller.PartitionLoad
	t.mu.RLock()
	for _, tp := range t.ids {
		for _, p := range *tp.partitions.Load() {
			passed := p.passed.Swap(0)
			r := p.role.Load()
			is := controller.PartitionLoad{Partition: p.id(), Damaged: r.damage() != nil}
			if r.log != nil {
				is.Rate, is.Tail = int64(float64(passed)/seconds), r.log.Unuploaded()
			}
			if is.Rate >= loadFloor || is.Tail >= tailFloor || is.Damaged {
				loads = append(loads, is)
			}
		}
	}
	t.mu.RUnlock()
	if len(loads) > mostLoads {
		slices.SortFunc(loads, func(a, b controller.PartitionLoad) int {
			if a.Damaged != b.Damaged {
				return map[bool]int{true: -1, false: 1}[a.Damaged]
			}
			return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Tail, a.Tail))
		})
		loads = loads[:mostLoads]
	}
	return loads
}
