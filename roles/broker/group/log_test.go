package group

import (
	"context"

	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// memoryLog is a log in memory that takes whatever transaction a batch is part of.
type memoryLog struct {
	coordinatortest.Log
	opposed  error // of Confirm
	confirms int   // how often that was asked
}

func (l *memoryLog) AppendMarker(partition int32, epoch storage.Epoch, m log.Marker, done func(storage.Offset, error)) {
	b := batch.BuildMarker(0, m.ProducerID, m.ProducerEpoch, batch.Marker{Commit: m.Commit, CoordinatorEpoch: m.CoordinatorEpoch})
	l.Log.Append(partition, epoch, b, done)
}

func (l *memoryLog) Append(partition int32, epoch storage.Epoch, b batch.Batch, _ log.Guard, done func(storage.Offset, error)) {
	l.Log.Append(partition, epoch, b, done)
}

// Confirm has nobody who could know better, unless a test says so.
func (l *memoryLog) Confirm(_ context.Context, _ int32, _ storage.Epoch, done func(error)) {
	l.confirms++
	done(l.opposed)
}
