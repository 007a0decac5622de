package broker

import (
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/etl/pipeline"
)

// Batches of a topic that inline modules transform take another way between their check
// and their append (RULES 2.1): the lane of their partition.
//
// The connection's goroutine puts them there in order of arrival, and goes on; it waits
// only for room in the lane. One goroutine, of those that lanes share, takes them one after the other: what
// the log has already is answered and goes no further; the others pass the pipeline; what
// it sends elsewhere is committed there (acks=all) before the batch itself is appended, so
// that a crash between leaves records twice, and none of them nowhere. A batch that sends
// nothing, with none before it that does, is appended at once. Those behind one that does
// are transformed meanwhile, and what they send leaves together: a lane waits for other
// partitions once for all that came, not once for each batch.
//
// What waits for what, so that nobody waits in a circle: a connection for room in a lane;
// a lane for memory to transform in, then for other partitions, then for memory to
// recompress in and for the WAL. It never waits for the memory of transforms while it holds
// some, nor for another partition or the coordinator of a transaction while it holds room
// in the WAL. What is sent elsewhere passes no lane.
const (
	// laneBytes is how much may wait in one lane, and lanesBytes in all, as sent, but for the
	// first batch of each lane: what is behind it is not read from its connection.
	laneBytes  = 8 << 20
	lanesBytes = 64 << 20
	// transformMemory is what batches take that are being transformed, of all lanes: the
	// records expanded, what replaces them, and what they are packed into. One topic may
	// have a quarter of it: who waits for a module that is slow leaves room to others.
	transformMemory = 192 << 20
	topicTransforms = transformMemory / 4
	transformCost   = 3   // for each byte that records may expand to
	recordCost      = 640 // for each record, besides
	leastExpansion  = 64 << 10
	usualTransform  = 4 << 20 // is tried before batch.DefaultMaxDecompressed
	likelyExpansion = 8       // times what was sent, is tried first

	// maxPending batches of a lane wait behind those whose records are on their way.
	maxPending = 64
	// maxDeliveries is how often a batch is transformed anew because a topic did not take
	// what it sends there.
	maxDeliveries = 3
	// maxUnready is how often a module is asked that is being replaced.
	maxUnready = 3
	// deliveryPatience is how long other partitions may take to commit what is sent there.
	deliveryPatience = 10 * time.Second
	// undeliveredSaid is how often it is said that topics do not take what modules send.
	undeliveredSaid = time.Minute
)

// transforms is what the lanes of a broker share.
type transforms struct {
	workers laneWorkers
	waiting budget // batches in lanes, as sent
	memory  budget
	said    atomic.Int64 // when it was last said that a topic takes nothing, ns since 1970
}

// says reports whether it is time to say again that a topic takes nothing.
func (t *transforms) says(now time.Time) bool {
	last := t.said.Load()
	return now.UnixNano()-last >= undeliveredSaid.Nanoseconds() && t.said.CompareAndSwap(last, now.UnixNano())
}

func newTransforms() *transforms {
	return &transforms{waiting: budget{limit: lanesBytes}, memory: budget{limit: transformMemory}}
}

// topicPipeline is what a set of modules has for a topic.
type topicPipeline struct {
	set *pipeline.Set
	is  *pipeline.Pipeline // nil: nothing
}

// pipelineOf returns the modules that batches of a topic pass now; nil: none. While the set
// stays the same it costs a comparison.
func (b *Broker) pipelineOf(t *topic) *pipeline.Pipeline {
	if b.opt.Transforms == nil {
		return nil
	}
	set := b.opt.Transforms()
	if known := t.pipeline.Load(); known != nil && known.set == set {
		return known.is
	}
	found := &topicPipeline{set: set}
	if !t.internal {
		found.is = set.For(t.name)
	}
	t.pipeline.Store(found)
	return found.is
}
