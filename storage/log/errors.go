package log

import (
	"errors"
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/wal"
)

// Errors of a store and its logs. What a batch does wrong is a *batch.Error.
var (
	// ErrFull says that the WAL's disk budget, its disk, or the budget of the index,
	// is used up. It passes when records are released, or the disk has room again.
	ErrFull = wal.ErrFull
	// ErrUploadLag says that the partition holds as much of the WAL as it may
	// that the bucket has not. It is a kind of ErrFull, of that partition alone,
	// and passes when it is uploaded.
	ErrUploadLag = fmt.Errorf("too much of the partition waits for its upload: %w", ErrFull)
	// ErrNoSegment says that the WAL has no further segment because the disk fails as
	// one is made: it is ill, not full. What is in the log is not touched.
	ErrNoSegment = wal.ErrNoSegment
	// ErrDead says that the WAL died: a write or sync failed. It is final.
	ErrDead = wal.ErrDead
	// ErrClosed says that the store was closed.
	ErrClosed = wal.ErrClosed
	// ErrDropped says that the log's topic was dropped.
	ErrDropped = errors.New("the log was dropped")
	// ErrNotLeader says that this broker does not lead the partition.
	ErrNotLeader = errors.New("not the leader of the partition")
	// ErrFenced says that a newer leader epoch is known than the one to lead.
	ErrFenced = errors.New("a newer leader epoch is known")
	// ErrOutOfOrderSequence says that a producer's batches before this one are
	// missing, or that it is older than the last five.
	ErrOutOfOrderSequence = errors.New("the producer's sequence number is out of order")
	// ErrInvalidProducerEpoch says that a newer instance of the producer wrote.
	ErrInvalidProducerEpoch = errors.New("a newer epoch of the producer is known")
	// ErrNotTransactional says that a producer sent a batch outside of the
	// transaction that it has open.
	ErrNotTransactional = errors.New("the producer has a transaction open, which the batch is no part of")
	// ErrUnverified says that no transaction is known to be open which the batch
	// could belong to.
	ErrUnverified = errors.New("the batch belongs to no transaction that is known to be open")
	// ErrCoordinatorFenced says that a newer coordinator ended a transaction of
	// the producer.
	ErrCoordinatorFenced = errors.New("a newer transaction coordinator is known")
	// ErrTooManyProducers says that the broker remembers as many producers as
	// it may; it passes when some expire.
	ErrTooManyProducers = errors.New("the broker remembers as many producers as it may")
	// ErrBehindRefused says that a batch which its producer sent before was refused, for
	// want of room or another reason that passes. It is a kind of ErrFull, and passes
	// when that batch was taken.
	ErrBehindRefused = fmt.Errorf("a batch that the producer sent before was refused: %w", ErrFull)
	// ErrNotEnoughReplicas says that fewer replicas are in sync than the topic
	// wants for acks=all.
	ErrNotEnoughReplicas = errors.New("fewer replicas are in sync than min.insync.replicas")
	// ErrTimedOut says that other replicas have not confirmed a batch by its deadline. It
	// is in the log, and may be committed yet.
	ErrTimedOut = errors.New("the replicas in sync have not confirmed the batch in time")
	// ErrNotEnoughReplicasAfterAppend says the same of a batch that is in the log
	// already, and may be committed yet.
	ErrNotEnoughReplicasAfterAppend = errors.New("fewer replicas are in sync than min.insync.replicas since the batch was appended")
	// ErrOffsetNotAvailable says that it is not known yet how far the log is committed:
	// the leader's high watermark has not passed the start of its epoch, or a
	// follower's is behind the offset asked for (KIP-207).
	ErrOffsetNotAvailable = errors.New("the high watermark has not come that far yet")
)

// ReplicaError says that what a leader sent is not what comes next in its log, or not
// whole.
type ReplicaError struct {
	Partition storage.PartitionID
	Offset    storage.Offset // where the log ends, or the batch is
	Reason    string
}

// Error names the partition and the offset.
func (e *ReplicaError) Error() string {
	return fmt.Sprintf("what was replicated to %s at offset %d is not taken: %s", e.Partition, e.Offset, e.Reason)
}

// OffsetOutOfRangeError says that an offset lies outside the log.
type OffsetOutOfRangeError struct {
	Offset, LogStart, End storage.Offset
}

// Error names the offset and the range.
func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d is out of range [%d, %d]", e.Offset, e.LogStart, e.End)
}

// UnexpectedEndError says that a partition does not end where a batch expects it to
// ([Condition]). The batch is not appended.
type UnexpectedEndError struct {
	Expected, End storage.Offset
}

// Error names both offsets.
func (e *UnexpectedEndError) Error() string {
	return fmt.Sprintf("the record expects offset %d, the next one is %d", e.Expected, e.End)
}

// NotLocalError says that an offset lies between the log start and the local
// start: the WAL has given up what the bucket has.
type NotLocalError struct {
	Offset, LocalStart storage.Offset
}

// Error names the offset, and where the WAL's part begins.
func (e *NotLocalError) Error() string {
	return fmt.Sprintf("offset %d is in the bucket alone, the WAL begins at %d", e.Offset, e.LocalStart)
}

// CorruptionError says that what was recovered of a partition does not hold
// together, or that a batch read back is not the one that was written. The other
// partitions are served.
type CorruptionError struct {
	Partition storage.PartitionID
	Offset    storage.Offset
	Reason    string
	// Missing of a partition that may lack something: all batches that it may lack begin
	// before it. 0: that is not known, or something else is the matter.
	Missing storage.Offset
}

// Error names the partition and the offset.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("partition %s is corrupt at offset %d: %s", e.Partition, e.Offset, e.Reason)
}

func corrupt(id storage.PartitionID, at storage.Offset, format string, args ...any) *CorruptionError {
	return &CorruptionError{Partition: id, Offset: at, Reason: fmt.Sprintf(format, args...)}
}
