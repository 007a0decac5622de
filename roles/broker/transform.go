package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// Batches of a topic that inline modules transform take another way between their check
// and their append (RULES 2.1): the lane of their partition.
//
// The connection's goroutine puts them there in order of arrival, and goes on; it waits
// only for room in the lane. One goroutine of the lane takes them one after the other: what
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
	// laneBytes is how much may wait in one lane, and lanesBytes in all, as sent: what is
	// behind it is not read from its connection.
	laneBytes  = 8 << 20
	lanesBytes = 64 << 20
	// transformMemory is what batches take that are being transformed, of all lanes: the
	// records expanded, what replaces them, and what they are packed into.
	transformMemory = 192 << 20
	transformCost   = 3   // for each byte that records may expand to
	recordCost      = 640 // for each record, besides
	leastExpansion  = 64 << 10
	usualTransform  = 4 << 20 // is tried before batch.DefaultMaxDecompressed
	likelyExpansion = 8       // times what was sent, is tried first

	// maxPending batches of a lane wait together for what they send elsewhere.
	maxPending = 64
	// maxDeliveries is how often a batch is transformed anew because a topic did not take
	// what it sends there.
	maxDeliveries = 3
	// maxUnready is how often a module is asked that is being replaced.
	maxUnready = 3
	// deliveryPatience is how long other partitions may take to commit what is sent there.
	deliveryPatience = 10 * time.Second
)

// transforms is what the lanes of a broker share.
type transforms struct {
	waiting budget // batches in lanes, as sent
	memory  budget
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

// lane is the batches of a partition that are on their way through its pipeline, in order
// of arrival.
type lane struct {
	share budget
	busy  atomic.Int64 // batches that are not appended yet, nor refused

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
	p.lane.CompareAndSwap(nil, &lane{share: budget{limit: laneBytes}})
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
	b, ln, n := p.b, part.partition.laneOf(), int64(len(records))
	if err := ln.share.take(p.r.Context(), n, p.waits); err != nil {
		return err
	}
	if err := b.transforms.waiting.take(p.r.Context(), n, p.waits); err != nil {
		ln.share.give(n)
		return err
	}
	it := &transforming{part: part, topic: t, records: records, ctx: p.r.Context(), acks: p.q.Acks, timeout: p.q.TimeoutMillis}
	ln.busy.Add(1)
	ln.mu.Lock()
	ln.queue = append(ln.queue, it)
	starts := !ln.running
	ln.running = true
	ln.mu.Unlock()
	if starts {
		b.requests.Add(1) // this request is one of them until it is answered
		go func() {       // ends when the lane is empty
			defer b.requests.Done()
			(&laneRun{b: b, partition: part.partition, lane: ln}).run()
		}()
	}
	return nil
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

// laneRun is the goroutine of a lane. It blocks on modules, memory, the WAL, and other
// partitions.
type laneRun struct {
	b         *Broker
	partition *partition
	lane      *lane
	pending   []*transforming // that wait for what they, or those before them, send elsewhere
}

func (r *laneRun) run() {
	for {
		it := r.lane.next(len(r.pending) > 0)
		switch {
		case it != nil:
			r.process(it)
		case len(r.pending) > 0:
			r.flush()
		default:
			return
		}
	}
}

// process has one batch transformed, and appended unless it has to wait.
func (r *laneRun) process(it *transforming) {
	follows, free := r.behind(it)
	if !free {
		r.flush()
		follows = false
	}
	if !r.transform(it, follows) {
		return
	}
	if len(r.pending) == 0 && !it.sends() {
		r.append(it)
		return
	}
	if r.pending = append(r.pending, it); len(r.pending) == maxPending {
		r.flush()
	}
}

// sends reports whether anything of the batch goes elsewhere.
func (it *transforming) sends() bool { return it.out != nil && len(it.out.Sent) > 0 }

// behind says how a batch stands to those that are pending. follows: it is the next of a
// producer of whom one is. Not free: they have to be appended before anybody can say what
// becomes of it, for it may be one of them that comes again.
func (r *laneRun) behind(it *transforming) (follows, free bool) {
	if len(r.pending) == 0 {
		return false, true
	}
	if it.expects() {
		return false, false
	}
	b := batch.Batch(it.records)
	for i := len(r.pending) - 1; i >= 0 && b.ProducerID() != batch.NoProducerID; i-- {
		before := batch.Batch(r.pending[i].records)
		if before.ProducerID() != b.ProducerID() {
			continue
		}
		next := batch.NextSequence(before.LastSequence(), 1)
		follows = before.ProducerEpoch() == b.ProducerEpoch() && b.BaseSequence() == next
		return follows, guard.Check("broker.lane-duplicate", follows)
	}
	return false, true
}

// expects reports whether the batch may have a condition, which is about where the
// partition ends.
func (it *transforming) expects() bool {
	l, _, err := it.part.partition.leading()
	return err == nil && l.Config().ExpectOffset
}

// transform has a batch pass the pipeline. False: it is refused, or was answered.
func (r *laneRun) transform(it *transforming, follows bool) bool {
	now := r.b.opt.Now()
	l, role, err := it.part.takes(it.acks, it.records, now)
	if err != nil {
		return r.refuse(it, err)
	}
	it.log, it.epoch = l, role.epoch
	if it.pipeline = r.b.pipelineOf(it.topic); it.pipeline == nil {
		return true
	}
	o := log.AppendOptions{Epoch: it.epoch, LeaderOnly: it.acks != acksAll, Deadline: r.b.appendDeadline(r.partition, now, it.timeout)}
	n := len(it.records) // the request may be gone once it is answered
	screened, err := l.Screen(it.ctx, now, it.records, o, follows, it.part)
	if err != nil {
		return r.refuse(it, err)
	}
	if screened.Answered {
		r.leave(n)
		return false
	}
	it.condition = screened.Condition
	if err := r.pass(it); err != nil {
		return r.refuse(it, err)
	}
	return true
}

// pass takes memory, and runs the pipeline.
func (r *laneRun) pass(it *transforming) error {
	b := batch.Batch(it.records)
	most := int64(batch.DefaultMaxDecompressed)
	limits := []int64{min(max(leastExpansion, likelyExpansion*int64(len(b))), usualTransform), usualTransform, most}
	if b.Codec() == batch.None {
		limits = []int64{int64(len(b))}
	}
	for i, limit := range limits {
		held := transformCost*limit + recordCost*min(int64(b.NumRecords()), pipeline.MaxRecords)
		if !r.b.transforms.memory.tryTake(held) {
			r.flush() // what is pending holds some
			if err := r.b.transforms.memory.take(it.ctx, held, nil); err != nil {
				return fmt.Errorf("transform a batch of %s: %w", it.topic.name, err)
			}
		}
		it.held, it.limit = held, limit
		err := r.once(it)
		if err == nil {
			r.holds(it)
			return nil
		}
		r.b.transforms.memory.give(it.held)
		it.held = 0
		if refused, is := errors.AsType[*batch.Error](err); is && refused.Code == batch.DecompressedTooLarge && i+1 < len(limits) {
			continue
		}
		return err
	}
	return nil
}

// holds corrects what the batch has of the memory to what is left of it.
func (r *laneRun) holds(it *transforming) {
	var held int64
	if it.sends() {
		held = int64(it.out.Expanded+it.out.Replaced) + 2*int64(it.out.SentBytes) + recordCost*int64(len(it.out.Sent))
	}
	if it.changed() {
		held += int64(len(it.out.Batch))
	}
	r.b.transforms.memory.give(it.held - held)
	it.held = held
}

// changed reports whether the pipeline left another batch than came.
func (it *transforming) changed() bool {
	return it.out != nil && &it.out.Batch[0] != &it.records[0]
}

// once runs the pipeline; of a module that is being replaced, its successor.
func (r *laneRun) once(it *transforming) (err error) {
	c := it.log.Config()
	in := pipeline.Input{
		Batch: batch.Batch(it.records), Partition: r.partition.index, Now: r.b.opt.Now, Limit: it.limit,
		Codec: batch.Batch(it.records).Codec(), Keyed: c.Keyed,
		Target: func(topic string) error { return r.b.takesRecords(topic, it.away) },
	}
	if c.Recompress {
		in.Codec, in.Level = c.Codec, c.Level
	}
	for range maxUnready {
		it.out, err = it.pipeline.Run(it.ctx, &in)
		r.b.metrics.transforms.observe(it.out.Tallies)
		if !errors.Is(err, pipeline.ErrUnready) {
			break
		}
		is := r.b.pipelineOf(it.topic)
		if is == nil {
			it.pipeline, it.out = nil, nil
			return nil
		}
		it.pipeline = is
	}
	return err
}

// flush has the pending batches deliver what they send, and appends them, in order.
func (r *laneRun) flush() {
	if len(r.pending) == 0 {
		return
	}
	pending := r.pending
	r.pending = nil
	r.b.deliver(r.partition, pending)
	for _, it := range pending {
		if r.delivered(it) {
			r.append(it)
		}
	}
}

// delivered reports whether all that a batch sends is there; if not, the policies of its
// modules have been asked what now, and it was refused.
func (r *laneRun) delivered(it *transforming) bool {
	for try := 0; it.undone; try++ {
		it.undone = false
		if try == maxDeliveries {
			return r.refuse(it, it.lost())
		}
		if err := r.again(it); err != nil {
			return r.refuse(it, err)
		}
		if it.sends() {
			r.b.deliver(r.partition, []*transforming{it})
		}
	}
	return true
}

// again runs the pipeline on a batch that it has seen, now that some topics do not take
// what it sends. The memory is taken whether it is there or not: who waited for it here
// would wait with that of others in hand.
func (r *laneRun) again(it *transforming) error {
	held := transformCost*it.limit + recordCost*min(int64(batch.Batch(it.records).NumRecords()), pipeline.MaxRecords)
	r.b.transforms.memory.give(it.held - held)
	it.held = held
	if err := r.once(it); err != nil {
		return err
	}
	r.holds(it)
	return nil
}

// lost is one of the topics that did not take what the batch sends, and why.
func (it *transforming) lost() error {
	for topic, err := range it.away {
		return &pipeline.TargetError{Topic: topic, Err: err}
	}
	return nil
}

// append appends a batch that is transformed, or needs not be.
func (r *laneRun) append(it *transforming) {
	b, now := r.b, r.b.opt.Now()
	l, role, err := it.part.takes(it.acks, it.records, now)
	if err == nil && (l != it.log || role.epoch != it.epoch) {
		err = errNotLeader // who leads now has not looked at it
	}
	if err != nil {
		r.refuse(it, err)
		return
	}
	n := len(it.records)
	a := admittedBatch{part: it.part, log: l, epoch: role.epoch, now: now, records: it.records}
	if a.transformed = it.changed(); a.transformed {
		a.records, a.transcoded.Condition, a.memory = it.out.Batch, it.condition, heldMemory{&b.transforms.memory, it.held}
		it.held = 0
	} else {
		r.giveUp(it)
		if a.records, a.transcoded, err = l.Transcode(it.ctx, it.records, nil); err != nil {
			r.refuse(it, err)
			return
		}
	}
	if err := b.store.Admit(it.ctx, len(a.records)); err != nil {
		a.release()
		l.Refused(it.records, err)
		r.refuse(it, err)
		return
	}
	if !isTransactional(a.records) {
		a.append()
		r.leave(n)
		return
	}
	timeout := it.timeout
	asks, err := a.inTransaction(nil)
	if err != nil {
		r.refuse(it, err)
		return
	}
	if asks.pending() {
		asks.ask(b, timeout)
	}
	r.leave(n)
}

// refuse tells the part why the batch is not appended; false.
func (r *laneRun) refuse(it *transforming, err error) bool {
	r.giveUp(it)
	n := len(it.records)
	it.part.fail(err) // the request may be gone
	r.leave(n)
	return false
}

// giveUp gives the memory of a batch back.
func (r *laneRun) giveUp(it *transforming) {
	if it.held != 0 {
		r.b.transforms.memory.give(it.held)
		it.held = 0
	}
}

// leave makes room in the lane, of a batch of n bytes that is appended or refused.
func (r *laneRun) leave(n int) {
	r.b.transforms.waiting.give(int64(n))
	r.lane.share.give(int64(n))
	r.lane.busy.Add(-1)
}

// heldMemory is what a batch has of a budget until it is appended or refused.
type heldMemory struct {
	of *budget
	n  int64
}

func (h heldMemory) release() {
	if h.of != nil && h.n != 0 {
		h.of.give(h.n)
	}
}
