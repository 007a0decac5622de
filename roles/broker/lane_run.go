package broker

import (
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// laneRun is a lane while it has batches, on a goroutine of laneWorkers. It blocks on modules, memory, the WAL, and other
// partitions.
type laneRun struct {
	b         *Broker
	partition *partition
	lane      *lane
	flight    []*transforming // whose records are on their way to other topics
	landed    chan struct{}   // closed when they are there, or not taken; nil: none are
	pending   []*transforming // behind them
}

func (r *laneRun) run() {
	for {
		it := r.lane.next(r.landed != nil)
		switch {
		case it != nil:
			r.process(it)
		case r.landed != nil:
			select {
			case <-r.landed:
			case <-r.lane.came:
			}
		default:
			return
		}
		select {
		case <-r.landed: // never, while none are on their way
			r.land()
		default:
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
	r.pending = append(r.pending, it)
	if r.landed == nil {
		r.depart()
	}
	if len(r.pending) == maxPending {
		r.land()
	}
}

// depart has what the pending batches send go its way, and appends those that need not wait
// for it. None is on its way.
func (r *laneRun) depart() {
	for len(r.pending) > 0 && !r.pending[0].sends() {
		r.append(r.pending[0])
		r.pending = r.pending[1:]
	}
	if len(r.pending) == 0 {
		return
	}
	r.flight, r.pending = r.pending, nil
	landed, flight := make(chan struct{}), r.flight
	r.landed = landed
	go func() { // the lane waits for it
		defer close(landed)
		r.b.deliver(r.partition, flight)
	}()
}

// land waits until what is on its way is there, and appends the batches that it is of, in
// order. Then the next depart.
func (r *laneRun) land() {
	<-r.landed
	flight := r.flight
	r.flight, r.landed = nil, nil
	for _, it := range flight {
		if r.delivered(it) {
			r.append(it)
		}
	}
	r.depart()
}

// flush returns when all that came before is appended, or refused.
func (r *laneRun) flush() {
	for r.landed != nil {
		r.land()
	}
}

// sends reports whether anything of the batch goes elsewhere.
func (it *transforming) sends() bool { return it.out != nil && len(it.out.Sent) > 0 }

// behind says how a batch stands to those before it that are not appended. follows: it is
// the next of a producer of whom one is. Not free: they have to be appended before anybody
// can say what becomes of it, for it may be one of them that comes again.
func (r *laneRun) behind(it *transforming) (follows, free bool) {
	if r.landed == nil {
		return false, true
	}
	if it.expects() {
		return false, false
	}
	b := batch.Batch(it.records)
	if b.ProducerID() == batch.NoProducerID {
		return false, true
	}
	for _, those := range [][]*transforming{r.pending, r.flight} {
		for _, one := range slices.Backward(those) {
			before := batch.Batch(one.records)
			if before.ProducerID() != b.ProducerID() {
				continue
			}
			next := batch.NextSequence(before.LastSequence(), 1)
			follows = before.ProducerEpoch() == b.ProducerEpoch() && b.BaseSequence() == next
			return follows, guard.Check("broker.lane-duplicate", follows)
		}
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
	screened, err := l.Screen(it.ctx, now, it.records, o, follows, it.part)
	if err != nil {
		return r.refuse(it, err)
	}
	if screened.Answered { // the request may be gone
		r.leave(it)
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
		if err := r.takeMemory(it, held); err != nil {
			return fmt.Errorf("transform a batch of %s: %w", it.topic.name, err)
		}
		it.held, it.limit = held, limit
		err := r.once(it)
		if err == nil {
			r.holds(it)
			return nil
		}
		r.giveUp(it)
		if refused, is := errors.AsType[*batch.Error](err); is && refused.Code == batch.DecompressedTooLarge && i+1 < len(limits) {
			continue
		}
		return err
	}
	return nil
}

// takeMemory takes memory to transform a batch in. Before it waits for some, those before it
// give up theirs.
func (r *laneRun) takeMemory(it *transforming, n int64) error {
	share, all := &it.topic.transforms, &r.b.transforms.memory
	if share.tryTake(n) {
		if all.tryTake(n) {
			return nil
		}
		share.give(n)
	}
	r.flush()
	if err := share.take(it.ctx, n, nil); err != nil {
		return err
	}
	if err := all.take(it.ctx, n, nil); err != nil {
		share.give(n)
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
	r.corrects(it, held)
}

// corrects has the batch hold another amount of memory, which is taken whether it is there
// or not.
func (r *laneRun) corrects(it *transforming, held int64) {
	r.memoryOf(it, it.held-held).release()
	it.held = held
}

// memoryOf is n bytes of what the batch holds.
func (r *laneRun) memoryOf(it *transforming, n int64) heldMemory {
	return heldMemory{&it.topic.transforms, &r.b.transforms.memory, n}
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
		if r.b.opt.Tracer != nil {
			it.part.traces(it.out.Tallies)
		}
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
	r.corrects(it, held)
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
	a := admittedBatch{part: it.part, log: l, epoch: role.epoch, now: now, records: it.records}
	if a.transformed = it.changed(); a.transformed {
		a.records, a.transcoded.Condition, a.memory = it.out.Batch, it.condition, r.memoryOf(it, it.held)
		it.held = 0
	} else {
		r.giveUp(it)
		if a.records, a.transcoded, err = l.Transcode(it.ctx, it.records, nil); err != nil {
			r.refuse(it, err)
			return
		}
		a.screened = it.pipeline != nil
	}
	if err := b.store.Admit(it.ctx, len(a.records)); err != nil {
		a.release()
		l.Refused(it.records, err)
		r.refuse(it, err)
		return
	}
	if !isTransactional(a.records) {
		a.append() // the request may be gone
		r.leave(it)
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
	r.leave(it)
}

// refuse tells the part why the batch is not appended; false.
func (r *laneRun) refuse(it *transforming, err error) bool {
	r.giveUp(it)
	if it.log != nil && !guard.Check("broker.lane-refused-stays-first", !comesAgain(err)) {
		it.log.Postponed(it.records)
	}
	it.part.fail(err) // the request may be gone
	r.leave(it)
	return false
}

// giveUp gives the memory of a batch back.
func (r *laneRun) giveUp(it *transforming) { r.corrects(it, 0) }

// leave makes room in the lane, of a batch that is appended or refused.
func (r *laneRun) leave(it *transforming) {
	n := int64(len(it.records))
	if !it.first {
		r.b.transforms.waiting.give(n)
	}
	r.lane.share.give(n)
	r.lane.busy.Add(-1)
}

// heldMemory is what a batch has of its topic's share, and of all, until it is appended or
// refused.
type heldMemory struct {
	share, all *budget
	n          int64
}

func (h heldMemory) release() {
	if h.n != 0 {
		h.share.give(h.n)
		h.all.give(h.n)
	}
}
