package log

import (
	"context"
	"fmt"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Marker ends a transaction in one partition (WriteTxnMarkers).
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32 // leader epoch of the coordinator's partition
	Commit           bool  // else abort
	// TransactionVersion 2 says that ProducerEpoch is above the epoch that the
	// transaction's records were sent with (KIP-890 part 2): a marker that comes
	// late then cannot be taken for that of the next transaction. Below 2 the
	// epochs may be the same.
	TransactionVersion int8
}

// MarkerOptions say how to append a marker.
type MarkerOptions struct {
	Epoch storage.Epoch // the leader epoch that the caller believes in. NoEpoch: any
	// Admitted says that the caller has admitted [batch.MarkerSize] by
	// [Store.AdmitCoordinator], which the append gives back.
	Admitted bool
	// Deadline is from when on [Log.Expire] answers, if the marker still waits for other
	// replicas then; zero: it waits on. It may be committed all the same.
	Deadline time.Time
}

// bumpedEpochs is the transaction version from which on a marker has an epoch of
// its own.
const bumpedEpochs = 2

// AppendMarker ends the open transaction of a producer: it appends a control
// batch. done, which may be nil, is told once the high watermark has passed it.
// A marker that says nothing new, because it is repeated, is not appended again,
// and answered once the first one is committed. Unless it is admitted, it waits for
// room, which the coordinators have a reserve of, as long as ctx allows.
//
// Errors: ErrInvalidProducerEpoch, ErrCoordinatorFenced, ErrTimedOut, and those of Append
// and Admit.
func (l *Log) AppendMarker(ctx context.Context, now time.Time, m Marker, o MarkerOptions, done Appended) {
	result, answered, err := l.appendMarker(ctx, now, m, o, done)
	if err == nil && !answered {
		l.commitHeld()
		l.tellObserver()
	}
	tell(done, result, answered, err)
}

func (l *Log) appendMarker(ctx context.Context, now time.Time, m Marker, o MarkerOptions, done Appended) (result AppendResult, answered bool, err error) {
	if o.Admitted {
		defer l.store.Unadmit(batch.MarkerSize)
	}
	if m.ProducerID < 0 || m.ProducerEpoch < 0 || m.CoordinatorEpoch < 0 {
		return result, false, &batch.Error{Code: batch.InvalidRecord, Reason: fmt.Sprintf("a marker of producer %d, epoch %d, of coordinator epoch %d", m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch)}
	}
	if !o.Admitted {
		if err := l.store.AdmitCoordinator(ctx, batch.MarkerSize); err != nil {
			return result, false, err
		}
		defer l.store.Unadmit(batch.MarkerSize)
	}
	c := l.config.Load()
	b := batch.BuildMarker(now.UnixMilli(), m.ProducerID, m.ProducerEpoch, batch.Marker{Commit: m.Commit, CoordinatorEpoch: m.CoordinatorEpoch})
	if c.TimestampType == batch.LogAppendTime {
		batch.StampLogAppendTime(b, now.UnixMilli())
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	appended := AppendOptions{Epoch: o.Epoch, Internal: true, Deadline: o.Deadline}
	if err := l.mayAppend(c, appended); err != nil {
		return result, false, err
	}
	repeated, err := l.producers.checkMarker(&m)
	if err != nil {
		return result, false, err
	}
	l.endVerification(m.ProducerID, &m)
	if repeated != nil {
		return l.answerRepeated(repeated, o.Deadline, done)
	}
	// There are as many producers as there may be: the marker of one that is not
	// known here ends nothing, and is not remembered, lest the transaction hangs.
	counted := l.counted(m.ProducerID)
	remembered := counted || l.countProducer()
	if err := l.appendBatch(now, b, appended, done); err != nil {
		if remembered && !counted {
			l.uncountProducers(1)
		}
		return result, false, err
	}
	if remembered {
		l.rememberMarker(b.ProducerID(), markOf(b, m.CoordinatorEpoch), m.Commit, now.UnixMilli())
	}
	return result, false, nil
}

// checkMarker decides about a marker. It returns the one that it repeats, or nil
// when it is to be appended.
func (ps producers) checkMarker(m *Marker) (repeated *mark, err error) {
	p := ps[m.ProducerID]
	if p == nil {
		return nil, nil
	}
	newest, last := p.epoch(), p.lastMark()
	late := m.ProducerEpoch < newest
	if m.TransactionVersion >= bumpedEpochs && p.open != storage.NoOffset {
		late = m.ProducerEpoch <= newest // what is open was begun after it
	}
	if !guard.Check("log.marker-epoch", !late) {
		return nil, fmt.Errorf("a marker with epoch %d for producer %d, which has %d: %w", m.ProducerEpoch, m.ProducerID, newest, ErrInvalidProducerEpoch)
	}
	if !guard.Check("log.marker-coordinator", m.CoordinatorEpoch >= last.coordinatorEpoch) {
		return nil, fmt.Errorf("a marker of coordinator epoch %d for producer %d after %d: %w", m.CoordinatorEpoch, m.ProducerID, last.coordinatorEpoch, ErrCoordinatorFenced)
	}
	if p.open == storage.NoOffset && m.ProducerEpoch == newest && m.CoordinatorEpoch == last.coordinatorEpoch {
		return &last, nil
	}
	return nil, nil
}

// answerRepeated answers a marker that says nothing new when what it repeats is
// committed. l.mu is held.
func (l *Log) answerRepeated(m *mark, deadline time.Time, done Appended) (result AppendResult, answered bool, err error) {
	p := l.store.newPending(l, done)
	p.patient, p.deadline = true, deadline
	p.base, p.last, p.appendTime = m.offset, m.offset, batch.NoTimestamp
	if !guard.Check("log.marker-committed", m.offset < l.replica.highWatermark) {
		return result, false, l.park(p)
	}
	result = p.result(l.logStart)
	p.recycle()
	return result, true, nil
}

func markOf(b batch.Batch, coordinatorEpoch int32) mark {
	return mark{offset: b.LastOffset(), first: storage.NoOffset, epoch: b.ProducerEpoch(), coordinatorEpoch: coordinatorEpoch}
}

// rememberMarker notes a marker that was appended. l.mu is held, or the log is
// being recovered.
func (l *Log) rememberMarker(id int64, m mark, commit bool, millis int64) {
	l.handOver(id)
	l.stale++
	first := l.producers.mark(id, m, l.replica.durable(), millis)
	if first != storage.NoOffset {
		l.noteTransactions(func(t *transactions) { t.end(id, first, m.offset, commit, l.store.o.Tiered) })
	}
}
