package abi

import (
	"encoding/binary"
	"errors"
	"math"
)

// Sizes of what the layout is made of, in bytes.
const (
	batchHeaderSize = 32
	recordSize      = 48
	headerSize      = 16
	decisionSize    = 40
	// Alignment is that of a batch and of decisions in the guest's memory.
	Alignment = 8
)

// ErrTooLarge says that a batch does not fit into what a guest can address by an i32.
var ErrTooLarge = errors.New("the batch is larger than 2 GiB")

// Size is how many bytes Encode writes for b.
func Size(b *Batch) (int, error) {
	n := batchHeaderSize + len(b.Topic)
	for i := range b.Records {
		r := &b.Records[i]
		n += recordSize + len(r.Key) + len(r.Value) + len(r.Headers)*headerSize
		for j := range r.Headers {
			n += len(r.Headers[j].Name) + len(r.Headers[j].Value)
		}
		if n > math.MaxInt32 {
			return 0, ErrTooLarge
		}
	}
	if n > math.MaxInt32 {
		return 0, ErrTooLarge
	}
	return n, nil
}

// Encode writes b into dst, which is Size bytes long and lies at address in the
// guest's memory, aligned; address and length do not pass 4 GiB.
//
// Fixed parts come first: the batch's header, the records, the tables of their
// headers. What they point to follows, record by record, so that a guest which reads a
// batch from its start to its end reads memory in order.
func Encode(dst []byte, address uint32, b *Batch) {
	le := binary.LittleEndian
	tables := batchHeaderSize + len(b.Records)*recordSize // where the next table of headers goes
	free := tables                                        // where the next bytes go
	for i := range b.Records {
		free += len(b.Records[i].Headers) * headerSize
	}
	h := dst[:batchHeaderSize]
	le.PutUint32(h, uint32(len(b.Records)))
	le.PutUint32(h[4:], b.Flags)
	le.PutUint64(h[8:], uint64(b.Timestamp))
	le.PutUint32(h[16:], uint32(b.Partition))
	le.PutUint32(h[20:], uint32(len(b.Topic)))
	le.PutUint32(h[24:], address+uint32(free))
	le.PutUint32(h[28:], 0)
	free += copy(dst[free:], b.Topic)
	at := batchHeaderSize
	for i := range b.Records {
		r := &b.Records[i]
		e := dst[at : at+recordSize]
		at += recordSize
		le.PutUint64(e, uint64(r.Timestamp))
		le.PutUint64(e[8:], uint64(r.Offset))
		le.PutUint32(e[16:], address+uint32(free))
		le.PutUint32(e[20:], length(r.Key))
		free += copy(dst[free:], r.Key)
		le.PutUint32(e[24:], address+uint32(free))
		le.PutUint32(e[28:], length(r.Value))
		free += copy(dst[free:], r.Value)
		le.PutUint32(e[32:], address+uint32(tables))
		le.PutUint32(e[36:], uint32(len(r.Headers)))
		le.PutUint64(e[40:], 0)
		for j := range r.Headers {
			header := &r.Headers[j]
			e := dst[tables : tables+headerSize]
			tables += headerSize
			le.PutUint32(e, address+uint32(free))
			le.PutUint32(e[4:], uint32(len(header.Name)))
			free += copy(dst[free:], header.Name)
			le.PutUint32(e[8:], address+uint32(free))
			le.PutUint32(e[12:], length(header.Value))
			free += copy(dst[free:], header.Value)
		}
	}
}

// length is that of b as the layout has it: -1 for null.
func length(b []byte) uint32 {
	if b == nil {
		return math.MaxUint32
	}
	return uint32(len(b))
}
