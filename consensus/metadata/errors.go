package metadata

import (
	"errors"
	"fmt"
)

// Code says why a command or request was refused. Names and numbers are those
// of Kafka's protocol, so that the edge maps them without a table.
type Code int16

const (
	// Conflict: what the decision was based on has changed; decide again. It
	// reaches no client of Kafka's protocol.
	Conflict Code = -2

	UnknownServerError          Code = -1
	OffsetOutOfRange            Code = 1
	UnknownTopicOrPartition     Code = 3
	NotLeaderOrFollower         Code = 6
	RequestTimedOut             Code = 7
	BrokerNotAvailable          Code = 8
	InvalidTopic                Code = 17
	ClusterAuthorizationFailed  Code = 31
	UnsupportedVersion          Code = 35
	TopicAlreadyExists          Code = 36
	InvalidPartitions           Code = 37
	InvalidReplicationFactor    Code = 38
	InvalidReplicaAssignment    Code = 39
	InvalidConfig               Code = 40
	NotController               Code = 41
	InvalidRequest              Code = 42
	PolicyViolation             Code = 44
	KafkaStorageError           Code = 56
	FencedLeaderEpoch           Code = 74
	UnknownLeaderEpoch          Code = 75
	StaleBrokerEpoch            Code = 77
	PreferredLeaderNotAvailable Code = 80
	EligibleLeadersNotAvailable Code = 83
	ElectionNotNeeded           Code = 84
	NoReassignmentInProgress    Code = 85
	ThrottlingQuotaExceeded     Code = 89
	ResourceNotFound            Code = 91
	DuplicateResource           Code = 92
	UnacceptableCredential      Code = 93
	DuplicateBrokerRegistration Code = 101
	BrokerIDNotRegistered       Code = 102
	IneligibleReplica           Code = 107
	UnknownTopicID              Code = 100
	InconsistentClusterID       Code = 104
	InvalidUpdateVersion        Code = 95
	InvalidRegistration         Code = 119
)

var codeNames = map[Code]string{
	Conflict:                    "conflict",
	UnknownServerError:          "unknown server error",
	OffsetOutOfRange:            "offset out of range",
	UnknownTopicOrPartition:     "unknown topic or partition",
	NotLeaderOrFollower:         "not leader or follower",
	RequestTimedOut:             "request timed out",
	BrokerNotAvailable:          "broker not available",
	InvalidTopic:                "invalid topic",
	ClusterAuthorizationFailed:  "cluster authorization failed",
	UnsupportedVersion:          "unsupported version",
	TopicAlreadyExists:          "topic already exists",
	InvalidPartitions:           "invalid partitions",
	InvalidReplicationFactor:    "invalid replication factor",
	InvalidReplicaAssignment:    "invalid replica assignment",
	InvalidConfig:               "invalid config",
	DuplicateResource:           "duplicate resource",
	NotController:               "not controller",
	InvalidRequest:              "invalid request",
	PolicyViolation:             "policy violation",
	KafkaStorageError:           "kafka storage error",
	FencedLeaderEpoch:           "fenced leader epoch",
	UnknownLeaderEpoch:          "unknown leader epoch",
	StaleBrokerEpoch:            "stale broker epoch",
	PreferredLeaderNotAvailable: "preferred leader not available",
	EligibleLeadersNotAvailable: "eligible leaders not available",
	ElectionNotNeeded:           "election not needed",
	NoReassignmentInProgress:    "no reassignment in progress",
	ThrottlingQuotaExceeded:     "throttling quota exceeded",
	ResourceNotFound:            "resource not found",
	UnacceptableCredential:      "unacceptable credential",
	DuplicateBrokerRegistration: "duplicate broker registration",
	BrokerIDNotRegistered:       "broker id not registered",
	IneligibleReplica:           "ineligible replica",
	UnknownTopicID:              "unknown topic id",
	InconsistentClusterID:       "inconsistent cluster id",
	InvalidUpdateVersion:        "invalid update version",
	InvalidRegistration:         "invalid registration",
}

// String returns the code's name in words.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code %d", int16(c))
}

// Error is a refusal: of a command by Apply, or of a request before it became
// one. It is the same on every controller.
type Error struct {
	Code    Code
	Message string
}

// Errorf returns an [*Error].
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Message }

// CodeOf returns the code of the [*Error] in err's chain, else UnknownServerError.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return UnknownServerError
}

// StopError says that this node cannot follow the log any further: going on
// would make its state differ from the other controllers'.
type StopError struct {
	Index  uint64 // of the log entry
	Reason string
}

func (e *StopError) Error() string {
	return fmt.Sprintf("metadata log, index %d: %s", e.Index, e.Reason)
}

// CorruptionError says that snapshot bytes are not what was written.
type CorruptionError struct {
	Offset int64 // in the snapshot, or the entry of the log in the bucket
	Reason string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("metadata corrupt at byte %d: %s", e.Offset, e.Reason)
}
