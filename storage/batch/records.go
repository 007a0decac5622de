package batch

import (
	"encoding/binary"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Record is one record of a batch. Its slices are the batch's own bytes, or
// those its records expanded to.
type Record struct {
	Attributes int8
	Offset     storage.Offset
	Timestamp  int64  // ms since 1970, or NoTimestamp; the batch's where the broker set it
	Key, Value []byte // nil: null
	NumHeaders int
	headers    []byte
}

// Header is one header of a record. A nil value is null.
type Header struct {
	Key   []byte
	Value []byte
}

// Headers calls yield for each header, until it returns false. The bytes were
// checked when the record was read.
func (r *Record) Headers(yield func(Header) bool) {
	at := 0
	for range r.NumHeaders {
		var h Header
		h.Key, at = nullable(r.headers, at)
		h.Value, at = nullable(r.headers, at)
		if !yield(h) {
			return
		}
	}
}

// Iterator walks the records of a batch. Nothing is decompressed before the
// first call of Next, and records are parsed one at a time.
//
//	it := b.Records(limit)
//	for it.Next() {
//		use(it.Record())
//	}
//	if err := it.Err(); err != nil { … }
type Iterator struct {
	batch  Batch
	limit  int64
	memory []byte // to expand into; nil: there is none
	plain  []byte // the records, expanded
	rest   []byte
	raw    []byte // the last record, with its length
	left   int32  // records not read yet
	delta  int64  // offset delta of the last record
	opened bool
	record Record
	err    error
}

// Records returns an iterator over b. The records may expand to at most limit
// bytes; limit ≤ 0 stands for [DefaultMaxDecompressed]. b must be one that
// [Next] returned or [Validate] passed, and must not change meanwhile.
func (b Batch) Records(limit int64) *Iterator {
	return &Iterator{batch: b, limit: limit, left: b.NumRecords(), delta: -1}
}

// RecordsIn is Records with memory for what compressed records expand to, which is used
// where it is enough. The records lie in it then, and hold until somebody else writes there:
// as many bytes as [Iterator.Expanded] says, from its begin on, whatever its length.
func (b Batch) RecordsIn(memory []byte, limit int64) *Iterator {
	it := b.Records(limit)
	it.memory = memory
	return it
}

// Next reads the next record and reports whether there was one. After false,
// Err tells the end from an error.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	if !it.opened {
		it.opened = true
		it.plain, it.err = decompress(it.batch.Codec(), it.memory, it.batch.body(), it.limit)
		if it.err != nil {
			return false
		}
		it.rest = it.plain
	}
	if it.left <= 0 {
		if it.left < 0 {
			it.err = errorf(InvalidRecord, "%d records", it.batch.NumRecords())
		} else if len(it.rest) > 0 {
			it.err = errorf(InvalidRecord, "%d bytes after the last record", len(it.rest))
		}
		return false
	}
	if it.err = it.parse(); it.err != nil {
		return false
	}
	it.left--
	return true
}

// Record is the record the last call of Next read. It is overwritten by the
// next; its slices are not.
func (it *Iterator) Record() *Record { return &it.record }

// Rewind has the next call of Next read the first record again. Nothing is decompressed
// twice. After an error it does nothing.
func (it *Iterator) Rewind() {
	if it.err == nil {
		it.rest, it.left, it.delta = it.plain, it.batch.NumRecords(), -1
	}
}

// Expanded is how many bytes the records take, once Next was called.
func (it *Iterator) Expanded() int { return len(it.plain) }

// Raw is the bytes of that record, with its length. They are the batch's own, or what its
// records expanded to.
func (it *Iterator) Raw() []byte { return it.raw }

// Err is the error that ended the iteration, or nil.
func (it *Iterator) Err() error { return it.err }

func (it *Iterator) parse() error {
	b := it.rest
	length, at := varint(b, 0)
	if at < 0 || length < 0 || length > int64(len(b)-at) {
		left := len(b) - max(at, 0)
		return errorf(InvalidRecord, "record %d declares %d bytes, %d are left", it.batch.NumRecords()-it.left, length, left)
	}
	end := at + int(length)
	it.raw, it.rest = b[:end], b[end:]
	r := &it.record
	delta, ok := r.parse(b[at:end:end])
	if !ok {
		return errorf(InvalidRecord, "record %d: its fields do not fit its %d bytes", it.batch.NumRecords()-it.left, length)
	}
	// Compaction leaves holes between deltas, and nothing moves them back.
	if !guard.Check("batch.offset-deltas", delta > it.delta && delta <= int64(it.batch.LastOffsetDelta())) {
		return errorf(InvalidRecord, "offset delta %d after %d, the batch ends at %d", delta, it.delta, it.batch.LastOffsetDelta())
	}
	it.delta = delta
	r.Offset = it.batch.BaseOffset() + storage.Offset(delta)
	if it.batch.TimestampType() == LogAppendTime {
		r.Timestamp = it.batch.MaxTimestamp()
	} else {
		r.Timestamp += it.batch.FirstTimestamp()
	}
	return nil
}

// parse reads the fields of a record, which b is to be exactly. Timestamp is its delta then.
func (r *Record) parse(b []byte) (offsetDelta int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	r.Attributes = int8(b[0])
	at, headers := 1, int64(0)
	if v, is := short(b, at); is { // as varint, without the calls
		r.Timestamp, at = v, at+1
	} else {
		r.Timestamp, at = varint(b, at)
	}
	if v, is := short(b, at); is {
		offsetDelta, at = v, at+1
	} else {
		offsetDelta, at = varint(b, at)
	}
	if v, is := short(b, at); is && v == -1 {
		r.Key, at = nil, at+1
	} else {
		r.Key, at = nullable(b, at)
	}
	r.Value, at = nullable(b, at)
	if v, is := short(b, at); is {
		headers, at = v, at+1
	} else {
		headers, at = varint(b, at)
	}
	if at < 0 || headers < 0 || headers > int64(len(b)-at) { // each takes two bytes and more
		return 0, false
	}
	r.NumHeaders, r.headers = int(headers), b[at:]
	for range r.NumHeaders {
		var name []byte
		name, at = nullable(b, at)
		_, at = nullable(b, at)
		if name == nil || at < 0 {
			return 0, false
		}
	}
	return offsetDelta, at == len(b)
}

// short is the number at a place of b, if that is of one byte, as most are.
func short(b []byte, at int) (v int64, is bool) {
	if uint(at) < uint(len(b)) {
		u := int64(b[at])
		return u>>1 ^ -(u & 1), u < 0x80
	}
	return 0, false
}

// varint reads a number at a place of b, and returns the place behind it; -1: it does not
// fit, nor does what is read at -1.
func varint(b []byte, at int) (v int64, next int) {
	if at < 0 || at >= len(b) {
		return 0, -1
	}
	u := int64(b[at])
	if u < 0x80 {
		return u>>1 ^ -(u & 1), at + 1
	}
	if at < len(b)-1 && b[at+1] < 0x80 {
		u = u&0x7f | int64(b[at+1])<<7
		return u>>1 ^ -(u & 1), at + 2
	}
	v, n := binary.Varint(b[at:])
	if n <= 0 {
		return 0, -1
	}
	return v, at + n
}

// nullable reads a length and that many bytes, as varint does; nil for length -1.
func nullable(b []byte, at int) (v []byte, next int) {
	n, at := varint(b, at)
	if uint64(n) <= uint64(len(b)-at) && at >= 0 {
		end := at + int(n)
		return b[at:end:end], end
	}
	if n == -1 {
		return nil, at
	}
	return nil, -1
}

// OffsetForTime returns offset and timestamp of the first record that is not
// older than millis. ok is false when there is none. limit is as for Records.
func (b Batch) OffsetForTime(millis, limit int64) (offset storage.Offset, timestamp int64, ok bool, err error) {
	if b.MaxTimestamp() < millis {
		return storage.NoOffset, NoTimestamp, false, nil
	}
	it := b.Records(limit)
	for it.Next() {
		if it.record.Timestamp >= millis {
			return it.record.Offset, it.record.Timestamp, true, nil
		}
	}
	return storage.NoOffset, NoTimestamp, false, it.err
}
