package rustmq

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	// ErrClosed is what a closed client or consumer returns.
	ErrClosed = errors.New("rustmq: closed")
	// ErrBreakerOpen refuses a record at once, for the last ones could not be delivered.
	ErrBreakerOpen = errors.New("rustmq: the circuit breaker is open: the last records could not be delivered; it tries again after its cooldown")
	// ErrFenced says that another producer has taken the transactional id: this one
	// has to end.
	ErrFenced = errors.New("rustmq: fenced: another producer uses the transactional id")
	// ErrBusy is returned where one call of its kind is under way already.
	ErrBusy = errors.New("rustmq: the consumer is running already")
)

// ConditionError says that a conditional append was refused: the partition ended
// elsewhere.
type ConditionError struct {
	Topic     string
	Partition int32
	Expected  int64 // offset that the record was to get
	End       int64 // where the partition ended a moment later; -1: not known
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("rustmq: %s/%d does not end at offset %d: somebody appended first; read on (the end is %d), and decide again", e.Topic, e.Partition, e.Expected, e.End)
}

// ProcessingError says which record stopped a consumer.
type ProcessingError struct {
	Topic     string
	Partition int32
	Offset    int64
	Attempts  int // how often it was tried
	Err       error
}

func (e *ProcessingError) Error() string {
	return fmt.Sprintf("rustmq: %s/%d offset %d failed after %d attempts: %v", e.Topic, e.Partition, e.Offset, e.Attempts, e.Err)
}

func (e *ProcessingError) Unwrap() error { return e.Err }

// DecodeError says that a value is not what the codec reads. It is never retried.
type DecodeError struct{ Err error }

func (e *DecodeError) Error() string { return "rustmq: decode the value: " + e.Err.Error() }
func (e *DecodeError) Unwrap() error { return e.Err }

// permanent marks errors that no retry mends.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err, of a handler, as one that trying again does not mend: the
// record goes at once where records go whose attempts are used up. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

func isPermanent(err error) bool {
	var p permanent
	var d *DecodeError
	return errors.As(err, &p) || errors.As(err, &d)
}

// IsRetriable reports whether what failed with err may succeed if it is tried again
// unchanged. It says nothing of whether the first attempt was done all the same:
// where that matters use idempotent or transactional producing, which are the default.
func IsRetriable(err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ErrClosed), errors.Is(err, ErrFenced), isPermanent(err):
		return false
	case errors.Is(err, ErrBreakerOpen), errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries), errors.Is(err, kgo.ErrMaxBuffered), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kerr.TransactionAbortable):
		return true
	}
	var condition *ConditionError
	if errors.As(err, &condition) {
		return false // not unchanged
	}
	var protocol *kerr.Error
	if errors.As(err, &protocol) {
		return protocol.Retriable
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed)
}

func isFenced(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.FencedInstanceID)
}
