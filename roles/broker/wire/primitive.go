package wire

import (
	"encoding/binary"
	"errors"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// MaxPartitions bounds what one request names, topics or partitions: each costs
// some two hundred bytes until it is answered. Kafka's own advice for a whole
// broker is below it.
const MaxPartitions = 1 << 17

// ErrMalformed says that a body is not what its API key and version promise.
var ErrMalformed = errors.New("malformed request body")

// ErrTooMany says that a request names more than [MaxPartitions].
var ErrTooMany = errors.New("request names too many topics or partitions")

// reader walks a body. After the first field that the body is too short for,
// everything reads as zero and bad is set.
type reader struct {
	rest []byte
	flex bool // compact lengths and tagged fields (KIP-482)
	bad  bool

	named   int  // topics and partitions so far
	tooMany bool // of them
}

// name counts a topic or partition; false: it is one too many.
func (r *reader) name() bool {
	r.named++
	if !guard.Check("wire.partitions", r.named <= MaxPartitions) {
		r.bad, r.tooMany = true, true
	}
	return !r.bad
}

func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	s := r.rest[:n:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) int8() int8 {
	if s := r.span(1); s != nil {
		return int8(s[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if s := r.span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (r *reader) int32() int32 {
	if s := r.span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

func (r *reader) int64() int64 {
	if s := r.span(8); s != nil {
		return int64(binary.BigEndian.Uint64(s))
	}
	return 0
}

func (r *reader) topicID() (id storage.TopicID) {
	copy(id[:], r.span(len(id)))
	return id
}

func (r *reader) uvarint() uint32 {
	var x uint32
	for i := range 5 {
		if i == len(r.rest) {
			break
		}
		b := r.rest[i]
		if i == 4 && b > 0x0f {
			break // more than 32 bits
		}
		x |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return x
		}
	}
	r.bad, r.rest = true, nil
	return 0
}

// count reads the length of an array; null counts as empty. An element takes
// at least one byte, so that what follows is bounded by the body.
func (r *reader) count() int {
	var n int32
	if r.flex {
		n = int32(r.uvarint()) - 1
	} else {
		n = r.int32()
	}
	if int(n) > len(r.rest) {
		r.bad, r.rest = true, nil
	}
	if r.bad || n < 0 {
		return 0
	}
	return int(n)
}

// string reads a string that may not be null.
func (r *reader) string() []byte {
	if r.flex {
		return r.span(int(r.uvarint()) - 1)
	}
	return r.span(int(r.int16()))
}

// nullableString returns nil for null, and otherwise not nil.
func (r *reader) nullableString() []byte {
	n := 0
	if r.flex {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int16())
	}
	if r.bad || n < 0 {
		return nil
	}
	return r.span(n)
}

// nullableBytes returns nil for null.
func (r *reader) nullableBytes() []byte {
	n := 0
	if r.flex {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if r.bad || n < 0 {
		return nil
	}
	return r.span(n)
}

// tags steps over the tagged fields at the end of a structure.
func (r *reader) tags() {
	if !r.flex {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.span(int(r.uvarint()))
	}
}

func (r *reader) err() error {
	switch {
	case r.tooMany:
		return ErrTooMany
	case r.bad:
		return ErrMalformed
	}
	return nil
}

// The functions below append one field; flex chooses its compact form.

func appendInt16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

func appendUvarint(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func appendCount(b []byte, flex bool, n int) []byte {
	if flex {
		return appendUvarint(b, uint32(n)+1)
	}
	return appendInt32(b, int32(n))
}

func appendString[S ~string | ~[]byte](b []byte, flex bool, s S) []byte {
	if flex {
		b = appendUvarint(b, uint32(len(s))+1)
	} else {
		b = appendInt16(b, int16(len(s)))
	}
	return append(b, s...)
}

// appendMessage appends an error message, null when empty.
func appendMessage(b []byte, flex bool, s string) []byte {
	switch {
	case s != "":
		return appendString(b, flex, s)
	case flex:
		return append(b, 0)
	}
	return appendInt16(b, -1)
}

// appendNoTags ends a structure that has no tagged fields.
func appendNoTags(b []byte, flex bool) []byte {
	if flex {
		return append(b, 0)
	}
	return b
}

// Leader tells a client that came to the wrong broker where to go (KIP-951).
// A nil *Leader says nothing.
type Leader struct {
	ID    int32
	Epoch storage.Epoch
}

// currentLeaderBytes is the size of the structure behind its tag.
const currentLeaderBytes = 4 + 4 + 1

func appendCurrentLeader(b []byte, tag byte, l *Leader) []byte {
	b = append(b, tag, currentLeaderBytes)
	b = appendInt32(b, l.ID)
	b = appendInt32(b, int32(l.Epoch))
	return append(b, 0)
}

// Endpoint is where a leader named by a [Leader] is reached.
type Endpoint struct {
	ID   int32
	Host string
	Port int32
	Rack string // empty: none
}

// appendEndpoints appends the tagged fields at the end of a response: none, or
// the endpoints under tag 0.
func appendEndpoints(b []byte, endpoints []Endpoint) []byte {
	if len(endpoints) == 0 {
		return append(b, 0)
	}
	list := appendUvarint(nil, uint32(len(endpoints))+1)
	for _, e := range endpoints {
		list = appendInt32(list, e.ID)
		list = appendString(list, true, e.Host)
		list = appendInt32(list, e.Port)
		list = appendMessage(list, true, e.Rack)
		list = append(list, 0)
	}
	b = append(b, 1, 0)
	b = appendUvarint(b, uint32(len(list)))
	return append(b, list...)
}
