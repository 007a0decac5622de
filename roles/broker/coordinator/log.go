package coordinator

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Log is the topic of a coordinator, as far as both use it alike.
type Log interface {
	// Read calls yield with each batch of the partition from its log start to its
	// high watermark, once that has passed the start of the epoch. It waits as
	// long as ctx lives, and returns what yield returns. A batch is valid during
	// the call only.
	Read(ctx context.Context, partition int32, epoch storage.Epoch, yield func(batch.Batch) error) error
	// Trim makes a committed offset the log start of a partition led under epoch.
	// It must not block; done is called once, from any goroutine.
	Trim(partition int32, epoch storage.Epoch, start storage.Offset, done func(error))
}

// What an append may wrap, besides Kafka's errors of package kerr.
var (
	ErrNotLeader = errors.New("not the leader of the partition")
	ErrTooLarge  = errors.New("record batch larger than the topic allows")
)

// CodeOf is the error code for a write that failed; tooLarge is what stands for a
// batch that the topic does not take.
func CodeOf(err error, tooLarge int16) int16 {
	var invalid *batch.Error
	var kafka *kerr.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNotLeader):
		return kerr.NotCoordinator.Code
	case errors.Is(err, ErrTooLarge), errors.As(err, &invalid) && invalid.Code == batch.MessageTooLarge:
		return tooLarge
	case errors.As(err, &kafka):
		switch kafka {
		case kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.NotCoordinator:
			return kerr.NotCoordinator.Code
		case kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.TransactionAbortable:
			return kafka.Code
		case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidFetchSize:
			return tooLarge
		}
	}
	return kerr.CoordinatorNotAvailable.Code
}
