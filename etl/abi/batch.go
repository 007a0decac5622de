package abi

// Version is what the export rustmq_abi of a module must answer.
const Version = 1

// MaxText is how long a decision's text may be, in bytes.
const MaxText = 1 << 10

// Flags of a batch.
const (
	// Transactional: the batch belongs to a transaction, and can be neither routed nor
	// sent to a dead-letter topic.
	Transactional uint32 = 1 << iota
	// DryRun: nothing that is decided has an effect.
	DryRun
	// Async: the records were read from a topic, and their offsets are its.
	Async
)

// A Header is a record's. A nil Value is null.
type Header struct {
	Name  string
	Value []byte
}

// A Record is what a module is shown of a record. A nil Key or Value is null, an
// empty one is not.
type Record struct {
	Timestamp int64 // ms
	Offset    int64 // async: the record's; inline: its index in the batch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// A Batch is what a module is given by one call.
type Batch struct {
	Topic     string
	Partition int32
	// Timestamp is the largest of the batch, in ms; the clocks that the module sees show it.
	Timestamp int64
	Flags     uint32
	Records   []Record
}

// An Action is what becomes of a record.
type Action uint32

// What may become of a record.
const (
	Keep Action = iota
	Drop
	Route
	Reject
)

// Parts of a record, as bits.
type Parts uint32

// The parts that a decision may replace.
const (
	Key Parts = 1 << iota
	Value
	Headers
)

// A Decision says what becomes of one record.
type Decision struct {
	Action Action
	// Replaces says which of Key, Value and Headers hold; 0 with Drop and Reject.
	Replaces   Parts
	Key, Value []byte   // nil: null
	Headers    []Header // nil: none
	// Text is the topic of a Route or the reason of a Reject: UTF-8, at most MaxText bytes.
	Text string
}
