package broker

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/broker/telemetry"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// What handlers say by themselves; in Kafka's words where there are any.
var (
	errUnknownTopic     error = kerr.UnknownTopicOrPartition
	errNotLeader        error = kerr.NotLeaderForPartition
	errLeaseOut               = explained{kerr.NotLeaderForPartition, "neither the controller nor a follower in sync has been heard for longer than the lease: another broker may lead by now"}
	errInternalTopic          = explained{kerr.InvalidTopicException, "the topic is the broker's own"}
	errNeverCoordinated       = explained{kerr.InvalidRequest, "no coordinator of transactions has had such an epoch"}
	errManyMarkers            = explained{kerr.KafkaStorageError, "the log of the groups does not keep up with the ends of transactions: send it again"}
	errNamedTwice             = explained{kerr.InvalidRequest, "the request names it more than once"}
)

// explained is one of Kafka's errors with a reason of ours.
type explained struct {
	kind   *kerr.Error
	reason string
}

func (e explained) Error() string { return e.reason }
func (e explained) Unwrap() error { return e.kind }

// batchCodes are Kafka's answers to what is wrong with a batch. A corrupt one is
// sent again by clients: the network may have done it.
var batchCodes = map[batch.Code]*kerr.Error{
	batch.CorruptMessage:         kerr.CorruptMessage,
	batch.InvalidRecord:          kerr.InvalidRecord,
	batch.MessageTooLarge:        kerr.MessageTooLarge,
	batch.InvalidTimestamp:       kerr.InvalidTimestamp,
	batch.UnsupportedCompression: kerr.UnsupportedCompressionType,
	batch.UnsupportedFormat:      kerr.UnsupportedForMessageFormat,
	batch.DecompressedTooLarge:   kerr.MessageTooLarge,
}

// codes are Kafka's answers to errors of the log, and of other rooms. KAFKA_STORAGE_ERROR is what
// every client tries again, after asking for the leader anew: right for a full
// disk, which may get room, for a dead WAL, whose process ends and comes back, and for
// records that are damaged: nobody may take them for never written.
var codes = []struct {
	is   error
	code *kerr.Error
}{
	{log.ErrNotLeader, kerr.NotLeaderForPartition},
	{log.ErrFull, kerr.KafkaStorageError},
	{log.ErrNoSegment, kerr.KafkaStorageError},
	{log.ErrDead, kerr.KafkaStorageError},
	{log.ErrClosed, kerr.NotLeaderForPartition},
	{log.ErrDropped, kerr.UnknownTopicOrPartition},
	{log.ErrFenced, kerr.NotLeaderForPartition},
	{log.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{log.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{log.ErrNotTransactional, kerr.InvalidTxnState},
	{log.ErrUnverified, kerr.InvalidTxnState},
	{log.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{log.ErrTooManyProducers, kerr.KafkaStorageError},
	{errBucket, kerr.KafkaStorageError},
	{errBucketAway, kerr.KafkaStorageError},
	{errLog, kerr.KafkaStorageError},
	{log.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{log.ErrTimedOut, kerr.RequestTimedOut},
	{log.ErrNotEnoughReplicasAfterAppend, kerr.NotEnoughReplicasAfterAppend},
	{log.ErrOffsetNotAvailable, kerr.OffsetNotAvailable},
	{telemetry.ErrInvalidRequest, kerr.InvalidRequest},
	{telemetry.ErrUnknownSubscription, kerr.UnknownSubscriptionID},
	{telemetry.ErrTooEarly, kerr.ThrottlingQuotaExceeded},
	{telemetry.ErrTooLarge, kerr.TelemetryTooLarge},
	{telemetry.ErrUnsupportedCompression, kerr.UnsupportedCompressionType},
	{telemetry.ErrInvalidRecord, kerr.InvalidRecord},
	{rpc.ErrPeerRefused, kerr.NetworkException},
	{rpc.ErrPeerUnreachable, kerr.NetworkException},
	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.NotLeaderForPartition}, // the broker closes
}

// transformError returns what Kafka calls an error of a pipeline: what the modules refuse
// is refused for good, what waits for another topic, or for the module, is to come again.
func transformError(err error) (is *kerr.Error, ok bool) {
	_, refused := errors.AsType[*pipeline.Refusal](err)
	_, target := errors.AsType[*pipeline.TargetError](err)
	switch {
	case waitsForOthers(err):
		return kerr.KafkaStorageError, true
	case refused || target:
		return kerr.InvalidRecord, true
	}
	return nil, false
}

// waitsForOthers reports whether a batch was refused only for a module, or a topic that it sends
// records to, is not there now.
func waitsForOthers(err error) bool {
	_, target := errors.AsType[*pipeline.TargetError](err)
	return errors.Is(err, pipeline.ErrUnready) || target && !isPermanent(err)
}

// comesAgain reports whether a batch that did not get through a pipeline may be sent again.
func comesAgain(err error) bool {
	return waitsForOthers(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// kafkaError returns what Kafka calls err.
func kafkaError(err error) *kerr.Error {
	if is, ok := transformError(err); ok {
		return is
	}
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e
	}
	if isLogDamage(err) { // the batch that is wrong is ours, not the client's
		return kerr.KafkaStorageError
	}
	if e, ok := errors.AsType[*batch.Error](err); ok {
		return batchCodes[e.Code]
	}
	if e, ok := errors.AsType[*metadata.Error](err); ok {
		if named, ok := kerr.ErrorForCode(int16(e.Code)).(*kerr.Error); ok {
			return named
		}
	}
	if _, ok := errors.AsType[*log.OffsetOutOfRangeError](err); ok {
		return kerr.OffsetOutOfRange
	}
	if _, ok := errors.AsType[*log.UnexpectedEndError](err); ok {
		// What no client tries again, no producer dies of, and nothing else of a
		// produce request is answered with.
		return kerr.PolicyViolation
	}
	for _, known := range codes {
		if errors.Is(err, known.is) {
			return known.code
		}
	}
	return kerr.UnknownServerError
}

// code returns Kafka's code for err, 0 for nil.
func code(err error) int16 {
	if err == nil {
		return 0
	}
	return kafkaError(err).Code
}

// message returns what to tell a client of err beside its code: nothing where
// the code says it all.
func message(err error) string {
	if _, ok := err.(*kerr.Error); ok || err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > maxErrorMessage {
		text = strings.ToValidUTF8(text[:maxErrorMessage], "") + "…"
	}
	return text
}

func codeAndMessage(err error) (int16, *string) {
	if text := message(err); text != "" {
		return code(err), &text
	}
	return code(err), nil
}
