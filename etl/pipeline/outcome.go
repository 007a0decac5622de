package pipeline

import (
	"fmt"
	"time"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/batch"
)

// Headers of a record in a dead-letter topic, beside those that it had. All are text.
const (
	DeadLetterModule    = "rustmq.dlt.module"
	DeadLetterVersion   = "rustmq.dlt.version"
	DeadLetterReason    = "rustmq.dlt.reason"
	DeadLetterTopic     = "rustmq.dlt.topic" // that it was produced to
	DeadLetterPartition = "rustmq.dlt.partition"
	DeadLetterTimestamp = "rustmq.dlt.timestamp" // when it was, ms since 1970
)

// Input is a batch that is to pass a pipeline.
type Input struct {
	// Batch is a producer's, at base offset 0, that was validated.
	Batch     batch.Batch
	Partition int32
	Now       func() time.Time
	// Codec and Level are how a batch that was changed is compressed.
	Codec batch.Codec
	Level int
	// Limit is how many bytes the records may expand to; 0: batch.DefaultMaxDecompressed.
	Limit int64
	// Keyed refuses a changed batch that has records without a key.
	Keyed bool
	// DryRun tells the modules that nothing they decide has an effect.
	DryRun bool
	// Target says why records cannot go to a topic; nil: all topics take some.
	Target func(topic string) error
}

// Output is what became of a batch.
type Output struct {
	// Batch is the one that came, the very bytes, unless something of it was changed.
	Batch batch.Batch
	// Sent are the records that go to other topics, in their order. They share memory
	// with the batch that came, unless that is compressed.
	Sent []Sent
	// Tallies are of the modules that were entered, in order; also beside an error.
	Tallies []Tally
	// Expanded is what the records took, decompressed, Replaced what modules put in place
	// of parts of them, and SentBytes what Sent come to, in bytes of memory.
	Expanded, Replaced, SentBytes int
}

// Sent is a record that goes to another topic.
type Sent struct {
	Topic      string
	DeadLetter bool // the module rejected it, or failed on it
	Module     *Module
	Index      int // of the record in its batch
	Timestamp  int64
	Key, Value []byte
	Headers    []abi.Header
}

// Tally is what one module did with one batch, in records.
type Tally struct {
	Module       *Module
	In           int // shown to it
	Dropped      int
	Routed       int
	Rejected     int // by its own decision, whatever the policy made of that
	DeadLettered int
	Failures     int // of the module itself; 0, 1, or 2 where it also routes where it may not
	Took         time.Duration
}

// Refusal says that a batch is refused, and by which module.
type Refusal struct {
	Module  string
	Version int
	Reason  string
	Records []batch.RecordError // the first that are to blame; empty: the batch itself is
	Cause   error               // the failure of the module, or *TargetError; nil: it decided so
}

// Error names the module, its version and the reason.
func (r *Refusal) Error() string {
	return fmt.Sprintf("refused by module %s (version %d): %s", r.Module, r.Version, r.Reason)
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// TargetError says why records cannot go to a topic.
type TargetError struct {
	Topic string
	Err   error
}

// Error names the topic and the reason.
func (t *TargetError) Error() string {
	return fmt.Sprintf("send records to topic %s: %v", t.Topic, t.Err)
}

// Unwrap returns the reason.
func (t *TargetError) Unwrap() error { return t.Err }
