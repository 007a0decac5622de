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
	most    int
	mu      sync.Mutex
	pending int // guarded by mu: of commands whose fate is not known
}

// reserve takes n partitions beside those of the image, or says why not. One
// that is applied and not released counts twice for a moment.
func (q *quota) reserve(image func() *metadata.Image, n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	existing := image().NumPartitions()
	if !guard.Check("controller.max-partitions", existing+q.pending+n <= q.most) {
		return metadata.Errorf(metadata.PolicyViolation, "the cluster has %d partitions; with %d more it would have more than controller.max_partitions, %d", existing+q.pending, n, q.most)
	}
	q.pending += n
	return nil
}

func (q *quota) release(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending -= n
}

// ask is what one request takes of the quota.
type ask struct {
	quota *quota
	image func() *metadata.Image
	taken int
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

func (a *ask) end() { a.quota.release(a.taken) }
