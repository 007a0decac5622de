package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/replication"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// coordinatorLog is a topic that coordinators keep their state in, as they see it.
type coordinatorLog struct {
	b          *Broker
	topic      string
	noWait     context.Context // has ended: admission by it succeeds at once or not at all
	partitions [coordinatorPartitions]coordinatorQueue
}

// coordinatorPartitions is how many partitions each such topic has.
const coordinatorPartitions = 50

// coordinatorQueue is the appends to one partition that wait for room in the WAL.
type coordinatorQueue struct {
	mu      sync.Mutex
	waiting []coordinatorAppend // guarded by mu; while there are any, a goroutine drains them
}

// coordinatorAppend is a batch or a marker that is to be appended.
type coordinatorAppend struct {
	partition int32
	epoch     storage.Epoch
	batch     batch.Batch
	verified  log.Guard
	marker    *log.Marker
	done      func(storage.Offset, error)
}

func (a *coordinatorAppend) size() int {
	if a.marker != nil {
		return batch.MarkerSize
	}
	return len(a.batch)
}

func newCoordinatorLog(b *Broker, topic string) *coordinatorLog {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return &coordinatorLog{b: b, topic: topic, noWait: ended}
}

// offsetsLog is the topic of the group coordinator.
type offsetsLog struct{ *coordinatorLog }

// Append implements [group.Log].
func (o offsetsLog) Append(partition int32, epoch storage.Epoch, b batch.Batch, verified log.Guard, done func(storage.Offset, error)) {
	o.submit(coordinatorAppend{partition: partition, epoch: epoch, batch: b, verified: verified, done: done})
}

// AppendMarker implements [group.Log].
func (o offsetsLog) AppendMarker(partition int32, epoch storage.Epoch, m log.Marker, done func(storage.Offset, error)) {
	o.submit(coordinatorAppend{partition: partition, epoch: epoch, marker: &m, done: done})
}

// confirmPatience is how long those in sync may take to say that they follow: a broker that
// died is out of the set by then.
const confirmPatience = 5 * time.Second

// Confirm implements [group.Log]. Where there is nobody to ask, the controller has to have
// been heard within the lease.
func (o offsetsLog) Confirm(ctx context.Context, partition int32, done func(error)) {
	p, err := o.b.partitionOf(o.topic, partition)
	if err != nil {
		done(coordinator.ErrNotLeader)
		return
	}
	rs := o.b.replication
	if rs == nil || !p.role.Load().replicated {
		done(nil) // or it is not led here, which the coordinator knows
		return
	}
	o.b.requests.Go(func() { // waits for followers
		ctx, cancel := context.WithTimeout(ctx, confirmPatience)
		defer cancel()
		defer context.AfterFunc(o.b.ctx, cancel)()
		err := rs.leader.Confirm(ctx, p.id())
		if errors.Is(err, replication.ErrAlone) {
			err = nil
			if now, mono := o.b.clocks(); !rs.lease.controller(now, mono) {
				err = errLeaseOut
			}
		}
		if !guard.Check("broker.coordinator-confirmed", err == nil) {
			done(err)
			return
		}
		done(nil)
	})
}

// transactionsLog is the topic of the transaction coordinator.
type transactionsLog struct{ *coordinatorLog }

// Append implements [txn.Log].
func (t transactionsLog) Append(partition int32, epoch storage.Epoch, b batch.Batch, done func(storage.Offset, error)) {
	t.submit(coordinatorAppend{partition: partition, epoch: epoch, batch: b, done: done})
}

// submit appends without waiting for room in the WAL: what finds none at once goes
// to a goroutine, and so does what comes behind it. A coordinator calls it from one
// goroutine for each partition.
func (o *coordinatorLog) submit(a coordinatorAppend) {
	q := &o.partitions[a.partition]
	q.mu.Lock()
	if queued := len(q.waiting); queued > 0 || o.b.store.AdmitCoordinator(o.noWait, a.size()) != nil {
		q.waiting = append(q.waiting, a)
		if queued == 0 {
			o.b.done.Go(func() { o.drain(q) }) // the coordinator's goroutine, which calls this, ends before done is waited for
		}
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	o.append(a)
}

// drain appends what waits, in order, until nothing does. It waits for room in
// the WAL.
func (o *coordinatorLog) drain(q *coordinatorQueue) {
	for {
		q.mu.Lock()
		a := q.waiting[0]
		q.mu.Unlock()
		if err := o.b.store.AdmitCoordinator(o.b.ctx, a.size()); err != nil {
			a.done(storage.NoOffset, err)
		} else {
			o.append(a)
		}
		q.mu.Lock()
		q.waiting[0] = coordinatorAppend{}
		q.waiting = q.waiting[1:]
		left := len(q.waiting)
		q.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// append appends what is admitted.
func (o *coordinatorLog) append(a coordinatorAppend) {
	l, err := o.log(a.partition, a.epoch)
	if err != nil {
		o.b.store.Unadmit(a.size())
		a.done(storage.NoOffset, err)
		return
	}
	appended := coordinatorAppended{a.done}
	if a.marker != nil {
		l.AppendMarker(o.noWait, o.b.opt.Now(), *a.marker, log.MarkerOptions{Epoch: a.epoch, Admitted: true}, appended)
		return
	}
	l.Append(o.b.opt.Now(), a.batch, log.AppendOptions{Epoch: a.epoch, Internal: true, Guard: a.verified}, appended)
}

// coordinatorAppended tells a coordinator how an append ended.
type coordinatorAppended struct{ done func(storage.Offset, error) }

// Appended implements log.Appended.
func (a coordinatorAppended) Appended(result log.AppendResult) {
	err := result.Err
	switch refused, ok := errors.AsType[*batch.Error](err); {
	case ok && refused.Code == batch.MessageTooLarge:
		err = fmt.Errorf("%w: %w", coordinator.ErrTooLarge, err)
	case errors.Is(err, log.ErrNotLeader) || errors.Is(err, log.ErrDropped) || errors.Is(err, log.ErrClosed):
		err = fmt.Errorf("%w: %w", coordinator.ErrNotLeader, err)
	case errors.Is(err, log.ErrUnverified):
		err = fmt.Errorf("%w: %w", kerr.TransactionAbortable, err)
	case errors.Is(err, log.ErrInvalidProducerEpoch):
		err = fmt.Errorf("%w: %w", kerr.InvalidProducerEpoch, err)
	}
	a.done(result.Last+1, err)
}

// log returns the log of a partition that is led under the epoch.
func (o *coordinatorLog) log(partition int32, epoch storage.Epoch) (*log.Log, error) {
	p, err := o.b.partitionOf(o.topic, partition)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", coordinator.ErrNotLeader, err)
	}
	l, r, err := p.leading()
	if err != nil || r.epoch != epoch {
		return nil, fmt.Errorf("%w: partition %d of %s at epoch %d", coordinator.ErrNotLeader, partition, o.topic, epoch)
	}
	return l, nil
}

// Read implements [group.Log] and [txn.Log]. It waits until all that was in the
// log when the epoch began is committed: the high watermark has then passed its
// start. The log is kept in the WAL from its start on; only where that was lost is
// it read from the bucket, as far as it is there.
func (o *coordinatorLog) Read(ctx context.Context, partition int32, epoch storage.Epoch, yield func(batch.Batch) error) error {
	l, err := o.log(partition, epoch)
	if err != nil {
		return err
	}
	end := l.End()
	if err := awaitCommit(ctx, l, end); err != nil {
		return err
	}
	at := l.LogStart()
	if local := l.LocalStart(); at < local {
		o.b.log.Warn("coordinators read from the bucket: the WAL does not have it", "topic", o.topic, "partition", l.ID(), "from", at, "to", local)
		if err := o.b.readBucket(ctx, l, at, local, yield); err != nil {
			return fmt.Errorf("read partition %d of %s: %w", partition, o.topic, err)
		}
		at = local
	}
	for at < end {
		read, err := l.Read(log.ReadRequest{Offset: at, MaxBytes: coordinatorStep, MinOne: true})
		if err != nil {
			return fmt.Errorf("read partition %d of %s: %w", partition, o.topic, err)
		}
		for _, b := range read.Batches {
			at = batch.Batch(b).NextOffset()
			if err = yield(b); err != nil {
				break
			}
		}
		empty := len(read.Batches) == 0
		read.Release()
		switch {
		case err != nil:
			return err
		case empty:
			return fmt.Errorf("read partition %d of %s: nothing at offset %d, below its end %d", partition, o.topic, at, end)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
	return nil
}

// coordinatorStep is how many bytes are pinned, or read, at a time.
const coordinatorStep = 1 << 20

// readBucket reads what the WAL does not have. It waits for the bucket.
func (b *Broker) readBucket(ctx context.Context, l *log.Log, at, end storage.Offset, yield func(batch.Batch) error) error {
	return b.readBucketTold(ctx, l, at, end, 0, nil, yield)
}

// readBucketTold is readBucket that, before the batches that it concerns, tells of transactions that
// were aborted, of those whose marker lies before markers; the log has the others.
func (b *Broker) readBucketTold(ctx context.Context, l *log.Log, at, end, markers storage.Offset, tell func(log.Aborted), yield func(batch.Batch) error) error {
	if b.cold == nil {
		return fmt.Errorf("offsets %d to %d are not in the WAL, and there is no bucket", at, end)
	}
	woken := make(signal, 1)
	defer b.cold.Forget(woken)
	for again := false; at < end; {
		where, _ := b.inBucket(l.ID())
		got, err := b.cold.Read(where, cold.Request{Reader: woken, Offset: at, Until: end, MaxBytes: coordinatorStep, MinOne: true, Markers: markers}, woken)
		if errors.Is(err, cold.ErrLookAgain) && !again {
			again = true
			continue
		}
		if err != nil {
			return err
		}
		again = false
		for _, t := range got.Aborted {
			tell(log.Aborted(t))
		}
		for _, one := range got.Batches {
			if err := yield(one); err != nil {
				return err
			}
		}
		if got.Next > at {
			at = got.Next
			continue
		}
		if !got.Pending {
			return fmt.Errorf("neither the WAL nor the bucket has offset %d, below %d", at, end)
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Trim implements [group.Log] and [txn.Log]: the controller decides, by epoch
// (RULES 5.5).
func (o *coordinatorLog) Trim(partition int32, epoch storage.Epoch, start storage.Offset, done func(error)) {
	o.b.done.Go(func() { done(o.trim(partition, epoch, start)) }) // the coordinator's goroutine, which calls this, ends before done is waited for
}

// trim does Trim. It waits for the controller, and for room in the WAL.
func (o *coordinatorLog) trim(partition int32, epoch storage.Epoch, start storage.Offset) error {
	l, err := o.log(partition, epoch)
	if err != nil {
		return err
	}
	ctx, cancel := controllerContext(o.b.ctx, 0)
	defer cancel()
	moved := []controller.LogStart{{Partition: l.ID(), LeaderEpoch: epoch, Offset: start}}
	if err := o.b.opt.Controller.AdvanceLogStart(ctx, o.b.opt.NodeID, o.b.registration.epoch.Load(), moved)[0]; err != nil {
		return err
	}
	return l.SetLogStart(start)
}

// awaitCommit waits until the high watermark has reached end.
func awaitCommit(ctx context.Context, l *log.Log, end storage.Offset) error {
	for l.HighWatermark() < end {
		woken := make(signal, 1)
		at := l.Watch(end-1, woken)
		select {
		case <-woken:
		case <-ctx.Done():
			l.Unwatch(at)
			return context.Cause(ctx)
		}
		if err := l.Err(); err != nil {
			return err
		}
	}
	return nil
}

// signal is a waiter that a goroutine waits for.
type signal chan struct{}

// Wake implements log.Waiter.
func (s signal) Wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}
