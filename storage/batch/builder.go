package batch

import (
	"encoding/binary"
	"fmt"
	"math"

	"rustmq.dev/rustmq/storage"
)

// Producer is what an idempotent or transactional batch says of its sender.
type Producer struct {
	ID           int64
	Epoch        int16
	BaseSequence int32
}

// BuilderOptions say what a batch is besides its records. The zero value makes
// an uncompressed batch of no producer at offset 0.
type BuilderOptions struct {
	Codec         Codec
	Level         int // as for Compress; 0: the codec's default
	BaseOffset    storage.Offset
	LeaderEpoch   storage.Epoch
	Producer      *Producer // nil: not idempotent
	Transactional bool
	Control       bool
}

// Builder builds one batch after the other. The zero value builds with zero
// options; Reset gives others.
type Builder struct {
	o       BuilderOptions
	records []byte
	count   int32
	first   int64
	max     int64
}

// NewBuilder returns a builder of a first batch with o.
func NewBuilder(o BuilderOptions) *Builder { return &Builder{o: o} }

// Reset begins a new batch with o. Batches built before stay as they are.
func (w *Builder) Reset(o BuilderOptions) { *w = Builder{o: o, records: w.records[:0]} }

// Len is the number of records added.
func (w *Builder) Len() int { return int(w.count) }

// Size is the length of the batch so far, before compression.
func (w *Builder) Size() int { return HeaderSize + len(w.records) }

// Add appends a record. A nil key or value is null; timestamp is milliseconds
// since 1970.
func (w *Builder) Add(timestamp int64, key, value []byte, headers ...Header) {
	if w.count == 0 {
		w.first, w.max = timestamp, timestamp
	}
	w.max = max(w.max, timestamp)
	w.records = appendRecord(w.records, 0, timestamp-w.first, int64(w.count), key, value, headers)
	w.count++
}

// Build returns the batch. Its bytes are its own. A batch without records can be
// built (compaction leaves such), but no producer may send one.
func (w *Builder) Build() (Batch, error) {
	body, err := Compress(w.o.Codec, w.o.Level, w.records)
	if err != nil {
		return nil, fmt.Errorf("compress %d records: %w", w.count, err)
	}
	if int64(HeaderSize)+int64(len(body)) > math.MaxInt32 {
		return nil, errorf(MessageTooLarge, "%d bytes of records", len(body))
	}
	b := make(Batch, HeaderSize+len(body))
	copy(b[HeaderSize:], body)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthPrefix))
	b[atMagic] = magic

	attributes := uint16(w.o.Codec)
	if w.o.Transactional {
		attributes |= transactionalBit
	}
	if w.o.Control {
		attributes |= controlBit
	}
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(max(0, w.count-1)))
	first, last := w.first, w.max
	if w.count == 0 {
		first, last = NoTimestamp, NoTimestamp
	}
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(first))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(last))
	producer := Producer{ID: NoProducerID, Epoch: -1, BaseSequence: -1}
	if w.o.Producer != nil {
		producer = *w.o.Producer
	}
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(producer.ID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(producer.Epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(producer.BaseSequence))
	binary.BigEndian.PutUint32(b[atNumRecords:], uint32(w.count))
	Stamp(b, w.o.BaseOffset, w.o.LeaderEpoch)
	b.stampCRC()
	return b, nil
}

// Recompress returns b with its records compressed by codec, at level. All else
// stays: offsets, timestamps, producer and sequence. limit is as for Records.
// When nothing would change, it returns b itself.
func Recompress(b Batch, codec Codec, level int, limit int64) (Batch, error) {
	if b.Codec() == codec {
		return b, nil
	}
	plain, err := Decompress(b.Codec(), b.body(), limit)
	if err != nil {
		return nil, err
	}
	body, err := Compress(codec, level, plain)
	if err != nil {
		return nil, fmt.Errorf("compress %d bytes: %w", len(plain), err)
	}
	if int64(HeaderSize)+int64(len(body)) > math.MaxInt32 {
		return nil, errorf(MessageTooLarge, "%d bytes of records", len(body))
	}
	out := make(Batch, HeaderSize+len(body))
	copy(out, b[:HeaderSize])
	copy(out[HeaderSize:], body)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthPrefix))
	binary.BigEndian.PutUint16(out[atAttributes:], uint16(b.Attributes()&^codecMask)|uint16(codec))
	out.stampCRC()
	return out, nil
}

// varintSize is the number of bytes of v as a zigzag varint.
func varintSize(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func nullableSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendNullable(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
