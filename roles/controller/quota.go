package controller

import (
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// DefaultMaxPartitions is what Kafka's own controllers are known to carry; an
	// image holds about 100 bytes of each.
	DefaultMaxPartitions = 200_000

	// maxPerRequest bounds the work of one request, as one topic is bounded.
	maxPerRequest = metadata.MaxPartitionsPerTopic
)

// quota bounds the partitions of the cluster. It is asked before anything is
// decided: placing the replicas of partitions that cannot be is work, too.
type quota struct {
	mu      sync.Mutex
	most    int // guarded by mu
	base    int // partitions there are without those that are pending; guarded by mu
	pending int // of commands whose fate is not told yet, applied or not; guarded by mu
}

// reserve takes n partitions beside those there are, or says why not. The image
// has some of those that are pending, and does not tell which: while there are any,
// it is not asked.
func (q *quota) reserve(image func() *metadata.Image, n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending == 0 {
		q.base = image().NumPartitions()
	}
	if existing := q.base + q.pending; !guard.Check("controller.max-partitions", existing+n <= q.most) {
		return metadata.Errorf(metadata.PolicyViolation, "the cluster has %d partitions; with %d more it would have more than controller.max_partitions, %d", existing, n, q.most)
	}
	q.pending += n
	return nil
}

// bound changes how many partitions there may be. Those that there are stay.
func (q *quota) bound(most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.most = most
}

// release gives n back, made of which are there now.
func (q *quota) release(n, made int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending -= n
	q.base += made
}

// ask is what one request takes of the quota.
type ask struct {
	quota *quota
	image func() *metadata.Image
	taken int
	made  int // of them, that are there now
}

// take reserves n more; end gives all of them back.
func (a *ask) take(n int) error {
	if n <= 0 || n > metadata.MaxPartitionsPerTopic {
		return nil // refused for what it is
	}
	if !guard.Check("controller.request-partitions", a.taken+n <= maxPerRequest) {
		return metadata.Errorf(metadata.PolicyViolation, "the request asks for more than %d partitions", maxPerRequest)
	}
	if err := a.quota.reserve(a.image, n); err != nil {
		return err
	}
	a.taken += n
	return nil
}

func (a *ask) end() { a.quota.release(a.taken, a.made) }
