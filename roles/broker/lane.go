package broker

import (
	"context"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// lane is the batches of a partition that are on their way through its pipeline, in order
// of arrival.
type lane struct {
	share budget
	busy  atomic.Int64  // batches that are not appended yet, nor refused
	came  chan struct{} // holds a token when one came while somebody takes from the queue

	mu      sync.Mutex
	queue   []*transforming // guarded by mu
	running bool            // somebody takes from it; guarded by mu
}

// transforming is a batch in a lane.
type transforming struct {
	part    *producePart
	topic   *topic
	records []byte // as sent
	ctx     context.Context
	acks    int16
	timeout int32
	first   bool // of its lane when it came: it counts for nothing in transforms.waiting

	log       *log.Log // with its epoch: that it was looked at under
	epoch     storage.Epoch
	condition log.Condition
	pipeline  *pipeline.Pipeline // nil: it is appended as it is
	out       *pipeline.Output
	limit     int64            // what the records may expand to
	held      int64            // of transforms.memory
	away      map[string]error // topics that did not take what the batch sends there
	undone    bool             // one of them did not, since it was transformed
}

// laneOf returns the lane of a partition.
func (p *partition) laneOf() *lane {
	if ln := p.lane.Load(); ln != nil {
		return ln
	}
	p.lane.CompareAndSwap(nil, &lane{share: budget{limit: laneBytes}, came: make(chan struct{}, 1)})
	return p.lane.Load()
}

// inLane reports whether batches of the partition wait, behind which others have to.
func (p *partition) inLane() bool {
	ln := p.lane.Load()
	return ln != nil && !guard.Check("broker.lane-order", ln.busy.Load() == 0)
}

// enterLane has a batch transformed behind those that came before. After nil, the part is
// told the outcome. It waits for room, on the connection's goroutine.
func (part *producePart) enterLane(t *topic, records []byte) error {
	p := part.request
	b, ln := p.b, part.partition.laneOf()
	first, err := p.takeRoom(ln, int64(len(records)))
	if err != nil {
		return err
	}
	it := &transforming{part: part, topic: t, records: records, ctx: p.r.Context(), acks: p.q.Acks, timeout: p.q.TimeoutMillis, first: first}
	ln.mu.Lock()
	ln.queue = append(ln.queue, it)
	starts := !ln.running
	ln.running = true
	ln.mu.Unlock()
	if !starts {
		select {
		case ln.came <- struct{}{}:
		default:
		}
		return nil
	}
	b.requests.Add(1) // this request is one of them until it is answered
	b.transforms.workers.run(&laneRun{b: b, partition: part.partition, lane: ln})
	return nil
}

// takeRoom takes room in a lane for a batch of n bytes, and waits for it. first: nobody is
// before it there.
func (p *produceRequest) takeRoom(ln *lane, n int64) (first bool, err error) {
	if p.timed {
		begun := p.b.opt.Now()
		defer func() { p.waited += p.b.opt.Now().Sub(begun) }()
	}
	if err := ln.share.take(p.r.Context(), n, p.waits); err != nil {
		return false, err
	}
	if ln.busy.CompareAndSwap(0, 1) {
		return true, nil
	}
	if err := p.b.transforms.waiting.take(p.r.Context(), n, p.waits); err != nil {
		ln.share.give(n)
		return false, err
	}
	ln.busy.Add(1)
	return false, nil
}

// next takes the oldest batch. nil: there is none, and unless others are pending the run
// has ended.
func (ln *lane) next(pending bool) *transforming {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if len(ln.queue) == 0 {
		ln.queue, ln.running = nil, pending
		return nil
	}
	it := ln.queue[0]
	ln.queue[0] = nil
	ln.queue = ln.queue[1:]
	return it
}
