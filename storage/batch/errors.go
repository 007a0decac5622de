package batch

import "fmt"

// Code says what kind of fault a batch has, in the words Kafka answers with.
type Code uint8

// The codes.
const (
	CorruptMessage         Code = iota + 1 // sizes or CRC do not fit; a resend may help
	InvalidRecord                          // well formed on the wire, but breaks a rule
	MessageTooLarge                        // larger than the topic allows
	InvalidTimestamp                       // too far from now, or of the wrong type
	UnsupportedCompression                 // a codec number nobody has given out
	UnsupportedFormat                      // not version 2
	DecompressedTooLarge                   // expands beyond the bound
)

// String returns the code's name.
func (c Code) String() string {
	switch c {
	case CorruptMessage:
		return "corrupt message"
	case InvalidRecord:
		return "invalid record"
	case MessageTooLarge:
		return "message too large"
	case InvalidTimestamp:
		return "invalid timestamp"
	case UnsupportedCompression:
		return "unsupported compression"
	case UnsupportedFormat:
		return "unsupported format"
	case DecompressedTooLarge:
		return "decompressed too large"
	default:
		return fmt.Sprintf("code %d", uint8(c))
	}
}

// Error is a batch refused.
type Error struct {
	Code    Code
	Reason  string
	Err     error         // what a decompressor said, or nil
	Records []RecordError // the first that are to blame; empty: the batch itself is, or nobody looked
}

// RecordError says what is wrong with one record of a batch (KIP-467).
type RecordError struct {
	Index  int // in the batch
	Reason string
}

// maxRecordErrors bounds how many records of a batch are named: the answer is no
// larger for what is sent wrong by the thousand.
const maxRecordErrors = 100

// Blame adds a record to those that e is about.
func (e *Error) Blame(index int, reason string) {
	if len(e.Records) < maxRecordErrors {
		e.Records = append(e.Records, RecordError{index, reason})
	}
}

// Error says what is wrong and with which numbers.
func (e *Error) Error() string {
	if e.Err != nil {
		return "record batch: " + e.Code.String() + ": " + e.Reason + ": " + e.Err.Error()
	}
	return "record batch: " + e.Code.String() + ": " + e.Reason
}

// Unwrap returns what a decompressor said.
func (e *Error) Unwrap() error { return e.Err }

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

func errMagic(m int8) *Error {
	return errorf(UnsupportedFormat, "version %d, want %d", m, magic)
}
