package batch

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Rewriter makes a batch of another's records, of which some are changed and some gone, as
// a transform does. What it builds keeps base offset, last offset delta, timestamps,
// producer, sequence and leader epoch: each record that stays has the offset that it would
// have had, and what is gone leaves a hole. It uses its memory again from batch to batch,
// and belongs to one goroutine at a time. The zero value is ready for Reset.
type Rewriter struct {
	batch   Batch
	records []byte
	count   int32
	max     int64
}

// Reset begins anew with the records of b, which is as for [Batch.Records] and stays as it
// is until Build has returned.
func (w *Rewriter) Reset(b Batch) {
	w.batch, w.records, w.count, w.max = b, w.records[:0], 0, NoTimestamp
}

// Keep appends a record as it was: raw are its bytes ([Iterator.Raw]).
func (w *Rewriter) Keep(raw []byte, timestamp int64) {
	w.records = append(w.records, raw...)
	w.count++
	w.max = max(w.max, timestamp)
}

// Add appends a record with other content: r's offset, timestamp and attributes are those
// that it had, key and value what it is to have. Records come in order of their offsets.
func (w *Rewriter) Add(r *Record, headers []Header) {
	offsetDelta := int64(r.Offset - w.batch.BaseOffset())
	w.records = appendRecord(w.records, r.Attributes, r.Timestamp-w.batch.FirstTimestamp(), offsetDelta, r.Key, r.Value, headers)
	w.count++
	w.max = max(w.max, r.Timestamp)
}

// Build returns the batch, compressed by codec at level; one that holds no record is not
// compressed. Its bytes are its own. Errors are of type *[Error].
func (w *Rewriter) Build(codec Codec, level int) (Batch, error) {
	if w.count == 0 {
		codec = None
	}
	body, err := Compress(codec, level, w.records)
	if err != nil {
		return nil, fmt.Errorf("compress %d records: %w", w.count, err)
	}
	if int64(HeaderSize)+int64(len(body)) > math.MaxInt32 {
		return nil, errorf(MessageTooLarge, "%d bytes of records", len(body))
	}
	out := make(Batch, HeaderSize+len(body))
	copy(out, w.batch[:HeaderSize])
	copy(out[HeaderSize:], body)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthPrefix))
	binary.BigEndian.PutUint16(out[atAttributes:], uint16(w.batch.Attributes()&^codecMask)|uint16(codec))
	binary.BigEndian.PutUint32(out[atNumRecords:], uint32(w.count))
	binary.BigEndian.PutUint64(out[atMaxTimestamp:], uint64(w.max))
	out.stampCRC()
	return out, nil
}

// appendRecord appends a record in the format.
func appendRecord(dst []byte, attributes int8, timestampDelta, offsetDelta int64, key, value []byte, headers []Header) []byte {
	size := 1 + varintSize(timestampDelta) + varintSize(offsetDelta) +
		nullableSize(key) + nullableSize(value) + varintSize(int64(len(headers)))
	for _, h := range headers {
		size += varintSize(int64(len(h.Key))) + len(h.Key) + nullableSize(h.Value)
	}
	dst = slices.Grow(dst, size+binary.MaxVarintLen64)
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, byte(attributes))
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, offsetDelta)
	dst = appendNullable(dst, key)
	dst = appendNullable(dst, value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}
