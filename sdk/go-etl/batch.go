package etl

import (
	"encoding/binary"
	"iter"
)

// Bytes of a batch's head, of a record's entry, of a header's entry.
const (
	headBytes   = 32
	entryBytes  = 48
	headerBytes = 16
)

const (
	flagTransactional = 1 << iota
	flagDryRun
	flagAsync
)

// memory is what the host has filled: bytes lie at address base. The host lays it right or
// is broken, so what lies outside panics.
type memory struct {
	bytes []byte
	base  uint32
}

func (m memory) slice(address, length uint32) []byte {
	if length == 0 {
		return m.bytes[:0:0]
	}
	start := int(address - m.base)
	end := start + int(length)
	return m.bytes[start:end:end]
}

// part returns a nullable part, whose address and length stand at b.
func (m memory) part(b []byte) []byte {
	length := int32(binary.LittleEndian.Uint32(b[4:]))
	if length < 0 {
		return nil
	}
	return m.slice(binary.LittleEndian.Uint32(b), uint32(length))
}

// A Batch is records of one partition that pass together.
type Batch struct {
	memory memory
}

// Len is how many records there are.
func (b Batch) Len() int { return int(binary.LittleEndian.Uint32(b.memory.bytes)) }

func (b Batch) flag(bit uint32) bool { return binary.LittleEndian.Uint32(b.memory.bytes[4:])&bit != 0 }

// Transactional says whether the batch is part of a transaction: it cannot be routed then.
func (b Batch) Transactional() bool { return b.flag(flagTransactional) }

// DryRun says whether this is a trial, of which nothing is stored.
func (b Batch) DryRun() bool { return b.flag(flagDryRun) }

// Async says whether records are read from a topic, not on their way into it.
func (b Batch) Async() bool { return b.flag(flagAsync) }

// Timestamp is the largest of the batch, in ms since 1970. It is also what clocks show.
func (b Batch) Timestamp() int64 { return int64(binary.LittleEndian.Uint64(b.memory.bytes[8:])) }

// Partition is the partition's number.
func (b Batch) Partition() int32 { return int32(binary.LittleEndian.Uint32(b.memory.bytes[16:])) }

// Topic is the topic's name, a copy.
func (b Batch) Topic() string {
	head := b.memory.bytes
	return string(b.memory.slice(binary.LittleEndian.Uint32(head[24:]), binary.LittleEndian.Uint32(head[20:])))
}

// Record returns the record at index i, 0 ≤ i < Len.
func (b Batch) Record(i int) Record {
	at := headBytes + i*entryBytes
	return Record{batch: b, entry: b.memory.bytes[at : at+entryBytes]}
}

// A Record is one record of a batch.
type Record struct {
	batch Batch
	entry []byte
}

// Batch is what it lies in.
func (r Record) Batch() Batch { return r.batch }

// Timestamp is in ms since 1970.
func (r Record) Timestamp() int64 { return int64(binary.LittleEndian.Uint64(r.entry)) }

// Offset is the record's, in mode async; inline it has none yet, and this is its index.
func (r Record) Offset() int64 { return int64(binary.LittleEndian.Uint64(r.entry[8:])) }

// Key is the record's key; nil: null, which an empty one is not.
func (r Record) Key() []byte { return r.batch.memory.part(r.entry[16:]) }

// Value is the record's value; nil: null, which compaction takes for a tombstone.
func (r Record) Value() []byte { return r.batch.memory.part(r.entry[24:]) }

// Headers goes through names and values, in order. A nil value is null.
func (r Record) Headers() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		m := r.batch.memory
		count := binary.LittleEndian.Uint32(r.entry[36:])
		table := m.slice(binary.LittleEndian.Uint32(r.entry[32:]), count*headerBytes)
		for ; len(table) > 0; table = table[headerBytes:] {
			name := m.slice(binary.LittleEndian.Uint32(table), binary.LittleEndian.Uint32(table[4:]))
			if !yield(string(name), m.part(table[8:])) {
				return
			}
		}
	}
}

// Header returns the last value of that name, as Kafka's lastHeader; false: there is none.
func (r Record) Header(name string) (value []byte, ok bool) {
	for n, v := range r.Headers() {
		if n == name {
			value, ok = v, true
		}
	}
	return value, ok
}
