package batch

import (
	"encoding/binary"
	"math"

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
	p := parser{b: r.headers}
	for range r.NumHeaders {
		if !yield(Header{Key: p.bytes(), Value: p.nullable()}) {
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

// Next reads the next record and reports whether there was one. After false,
// Err tells the end from an error.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	if !it.opened {
		it.opened = true
		it.plain, it.err = Decompress(it.batch.Codec(), it.batch.body(), it.limit)
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
	b := it.batch
	outer := parser{b: it.rest}
	length := outer.int32()
	if outer.bad || length < 0 || int(length) > len(outer.b) {
		return errorf(InvalidRecord, "record %d declares %d bytes, %d are left", b.NumRecords()-it.left, length, len(outer.b))
	}
	p := parser{b: outer.b[:length]}
	r := &it.record
	r.Attributes = int8(p.byte())
	timestampDelta := p.int64()
	offsetDelta := int64(p.int32())
	r.Key = p.nullable()
	r.Value = p.nullable()
	r.NumHeaders = int(p.int32())
	r.headers = p.b
	for i := 0; i < r.NumHeaders && !p.bad; i++ {
		p.bytes()
		p.nullable()
	}
	if p.bad || r.NumHeaders < 0 || len(p.b) > 0 {
		return errorf(InvalidRecord, "record %d: its fields do not fit its %d bytes", b.NumRecords()-it.left, length)
	}
	// Compaction leaves holes between deltas, and nothing moves them back.
	if !guard.Check("batch.offset-deltas", offsetDelta > it.delta && offsetDelta <= int64(b.LastOffsetDelta())) {
		return errorf(InvalidRecord, "offset delta %d after %d, the batch ends at %d", offsetDelta, it.delta, b.LastOffsetDelta())
	}
	it.delta = offsetDelta
	it.raw, it.rest = it.rest[:len(it.rest)-len(outer.b)+int(length)], outer.b[length:]
	r.Offset = b.BaseOffset() + storage.Offset(offsetDelta)
	if b.TimestampType() == LogAppendTime {
		r.Timestamp = b.MaxTimestamp()
	} else {
		r.Timestamp = b.FirstTimestamp() + timestampDelta
	}
	return nil
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

// parser reads fields off the front of b. Once something did not fit, bad is
// set and every later read returns zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.bad = true
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

func (p *parser) int64() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) int32() int32 {
	if len(p.b) > 0 && p.b[0] < 0x80 { // most are of one byte
		u := int32(p.b[0])
		p.b = p.b[1:]
		return u>>1 ^ -(u & 1)
	}
	return p.longInt32()
}

func (p *parser) longInt32() int32 {
	v := p.int64()
	if v < math.MinInt32 || v > math.MaxInt32 {
		p.bad, p.b = true, nil
		return 0
	}
	return int32(v)
}

// nullable reads a length and that many bytes; nil for length -1.
func (p *parser) nullable() []byte {
	n := p.int32()
	if n == -1 {
		return nil
	}
	if n < 0 || int(n) > len(p.b) {
		p.bad, p.b = true, nil
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

// bytes is nullable where null is not allowed.
func (p *parser) bytes() []byte {
	v := p.nullable()
	if v == nil {
		p.bad, p.b = true, nil
	}
	return v
}
