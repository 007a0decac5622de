package batch

import (
	"encoding/binary"
	"hash/crc32"

	"rustmq.dev/rustmq/storage"
)

// Sizes of the layout.
const (
	HeaderSize   = 61 // bytes before the records
	lengthPrefix = 12 // bytes that the length field does not count

	// minRecord is the smallest record: seven fields of one byte each.
	minRecord = 7
)

// Where the fields stand.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atNumRecords      = 57
)

// Bits of the attributes.
const (
	codecMask        = 0x07
	logAppendTimeBit = 1 << 3
	transactionalBit = 1 << 4
	controlBit       = 1 << 5
	deleteHorizonBit = 1 << 6
	unknownBits      = ^int16(0x7f)
)

// magic is the only version of the format that is read or written.
const magic = 2

// NoTimestamp is what a record without a timestamp carries.
const NoTimestamp int64 = -1

// NoProducerID is the producer id of a batch that is not idempotent.
const NoProducerID int64 = -1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one record batch, whole, from its base offset to its last record.
type Batch []byte

// TimestampType says who set the timestamps of a batch.
type TimestampType int8

// The two timestamp types.
const (
	CreateTime    TimestampType = 0 // the producer, per record
	LogAppendTime TimestampType = 1 // the broker, one for the whole batch
)

// String returns the name Kafka's topic configuration uses.
func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// BaseOffset is the offset of the first record (or of the place it had before
// compaction).
func (b Batch) BaseOffset() storage.Offset {
	return storage.Offset(binary.BigEndian.Uint64(b[atBaseOffset:]))
}

// Length is the size of the whole batch as it declares itself, in bytes.
func (b Batch) Length() int {
	return lengthPrefix + int(int32(binary.BigEndian.Uint32(b[atLength:])))
}

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() storage.Epoch {
	return storage.Epoch(binary.BigEndian.Uint32(b[atLeaderEpoch:]))
}

// Magic is the version of the format.
func (b Batch) Magic() int8 { return int8(b[atMagic]) }

// CRC is the checksum the batch carries.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// SummedFrom is the first byte of a batch that its CRC covers, to the last. What
// lies before is stamped by whoever stores it.
const SummedFrom = atAttributes

// ComputeCRC is the checksum the batch should carry.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }

// Attributes are the raw attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[atAttributes:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & codecMask) }

// TimestampType says whose timestamps the records have.
func (b Batch) TimestampType() TimestampType {
	if b.Attributes()&logAppendTimeBit != 0 {
		return LogAppendTime
	}
	return CreateTime
}

// IsTransactional reports whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&transactionalBit != 0 }

// IsControl reports whether the batch holds a marker instead of records.
func (b Batch) IsControl() bool { return b.Attributes()&controlBit != 0 }

// LastOffsetDelta is the last offset less the base offset.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() storage.Offset {
	return b.BaseOffset() + storage.Offset(b.LastOffsetDelta())
}

// NextOffset is the offset after the last record.
func (b Batch) NextOffset() storage.Offset { return b.LastOffset() + 1 }

// FirstTimestamp is the timestamp the records' deltas count from, in
// milliseconds since 1970: the first record's as produced, or the batch's delete
// horizon.
func (b Batch) FirstTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:]))
}

// MaxTimestamp is the largest timestamp in the batch.
func (b Batch) MaxTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:]))
}

// ProducerID is the id of an idempotent producer, or [NoProducerID].
func (b Batch) ProducerID() int64 {
	return int64(binary.BigEndian.Uint64(b[atProducerID:]))
}

// ProducerEpoch is the epoch of the producer.
func (b Batch) ProducerEpoch() int16 {
	return int16(binary.BigEndian.Uint16(b[atProducerEpoch:]))
}

// BaseSequence is the producer's sequence number of the first record.
func (b Batch) BaseSequence() int32 {
	return int32(binary.BigEndian.Uint32(b[atBaseSequence:]))
}

// LastSequence is the producer's sequence number of the last record. Sequence
// numbers wrap to 0 after 2³¹-1.
func (b Batch) LastSequence() int32 {
	return NextSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// NextSequence is the sequence number that stands n after seq.
func NextSequence(seq, n int32) int32 { return int32((int64(seq) + int64(n)) & 0x7fffffff) }

// NumRecords is the number of records the batch says it holds.
func (b Batch) NumRecords() int32 {
	return int32(binary.BigEndian.Uint32(b[atNumRecords:]))
}

// body is the records, as compressed.
func (b Batch) body() []byte { return b[HeaderSize:] }

// Next splits the first batch off b by its declared length. The batch it
// returns is safe for every accessor; its content is not checked: see
// [Validate]. Fewer bytes than a whole batch, and anything but version 2, is an
// error.
func Next(b []byte) (first Batch, rest []byte, err error) {
	if len(b) < HeaderSize {
		// The magic of the old formats stands at the same place, so that even
		// a short one can be named.
		if len(b) > atMagic && b[atMagic] != magic {
			return nil, nil, errMagic(int8(b[atMagic]))
		}
		return nil, nil, errorf(CorruptMessage, "%d bytes are left, a batch has at least %d", len(b), HeaderSize)
	}
	if b[atMagic] != magic {
		return nil, nil, errMagic(int8(b[atMagic]))
	}
	// In 64 bits: a length near 2³¹ must not wrap.
	declared := int64(lengthPrefix) + int64(int32(binary.BigEndian.Uint32(b[atLength:])))
	if declared < HeaderSize {
		return nil, nil, errorf(CorruptMessage, "batch declares %d bytes, its header alone has %d", declared, HeaderSize)
	}
	if declared > int64(len(b)) {
		return nil, nil, errorf(CorruptMessage, "batch declares %d bytes, %d are there", declared, len(b))
	}
	return Batch(b[:declared:declared]), b[declared:], nil
}

// Stamp writes the base offset and the leader epoch in place. Neither is under
// the CRC.
func Stamp(b Batch, base storage.Offset, epoch storage.Epoch) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(base))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// StampLogAppendTime makes millis the timestamp of every record, in place, and
// renews the CRC. The records keep their deltas; readers ignore them.
func StampLogAppendTime(b Batch, millis int64) {
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(b.Attributes()|logAppendTimeBit))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(millis))
	b.stampCRC()
}

// StampLatest makes the largest timestamp of a producer's batch that was validated
// one that is not before all of its records, and then renews the CRC: some clients
// leave it out, and searches by time and retention go by it.
func StampLatest(b Batch) {
	if latest := b.latestTimestamp(); latest != b.MaxTimestamp() {
		binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(latest))
		b.stampCRC()
	}
}

func (b Batch) stampCRC() { binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC()) }
