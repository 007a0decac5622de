package log

import (
	"context"
	"errors"
	"time"

	"rustmq.dev/rustmq/storage"
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
}

// AppendMarker ends the open transaction of a producer: it appends a control
// batch. done, which may be nil, is told once the high watermark has passed it.
// A marker that is repeated, or says nothing new, is not appended again, and
// answered once the first one is committed. It waits for room, which the
// coordinators have a reserve of, as long as ctx allows.
//
// Errors: ErrInvalidProducerEpoch, ErrCoordinatorFenced, and those of Append and
// Admit.
func (l *Log) AppendMarker(ctx context.Context, now time.Time, m Marker, o MarkerOptions, done Appended) {
	done.Appended(AppendResult{Err: errors.New("not built yet")})
}

// Guard is a verification that was begun: see BeginVerification. The zero value
// is none.
type Guard struct{ id uint64 }

// BeginVerification is called before the first batch of a transaction is
// appended. open: a transaction of the producer is open in this epoch, so that
// nothing needs to be asked. Otherwise the caller asks the coordinator whether
// it knows of a transaction with this partition, and if so appends with
// AppendOptions.Guard; a guard no longer counts once a marker was appended, or
// the log's leader changed: then the append is refused with ErrUnverified.
// baseSequence is that of the batch: a batch behind it is not the first one
// (KIP-890).
func (l *Log) BeginVerification(producerID int64, epoch int16, baseSequence int32) (g Guard, open bool) {
	return Guard{}, false
}

// Aborted is a transaction that was aborted: Last is the offset of its marker.
type Aborted struct {
	ProducerID  int64
	First, Last storage.Offset
}

var (
	// ErrCoordinatorFenced says that a newer coordinator ended a transaction of
	// the producer.
	ErrCoordinatorFenced = errors.New("a newer transaction coordinator is known")
	// ErrUnverified says that no transaction is known to be open which the batch
	// could belong to.
	ErrUnverified = errors.New("the batch belongs to no transaction that is known to be open")
	// ErrNotTransactional says that a producer sent a batch outside of the
	// transaction that it has open.
	ErrNotTransactional = errors.New("the producer has a transaction open, which the batch is no part of")
)
