package object

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/crc"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// defaultBlock is enough that a request of the bucket is worth its price,
	// and little enough that a reader of one record does not read much more.
	defaultBlock = 256 << 10

	// largestBlock bounds what a reader holds to look at one batch.
	largestBlock = 64 << 20

	// writeBuffer gathers small batches into writes worth a call.
	writeBuffer = 64 << 10
)

// Range is the batches of one partition in [Base, End), to be packed.
type Range struct {
	Partition  storage.PartitionID
	Topic      string         // its name
	Base       storage.Offset // where the partition's range before this one ends
	End        storage.Offset // where the next one will begin
	LastStable storage.Offset // of the partition, now
	Epochs     []EpochStart   // of [Base, End), in order
	Aborted    []Aborted      // whose markers lie in [Base, End), in order of these
	Producers  []byte         // as storage/log encodes them; empty: none here

	// What most ranges must not have is to be said, so that no batch is lost
	// unseen: without Holes, batches follow one another from Base to End.
	Holes bool // compaction took some
	Cut   bool // Base is a log start inside of the first batch, which stays whole

	// Batches calls yield with each batch, in order of offset, and returns its
	// error. A batch need stay as it is only until yield returns. nil: none,
	// compaction took them all.
	Batches func(yield func(batch.Batch) error) error
}

// WriteOptions say how an object is packed. The zero value does.
type WriteOptions struct {
	BlockSize int // bytes that a block grows to, at most 64 MiB; 0: 256 KiB. A larger batch makes a larger block
}

// Validate returns an error that names what is out of range.
func (o WriteOptions) Validate() error {
	if o.BlockSize < 0 || o.BlockSize > largestBlock {
		return fmt.Errorf("block size %d: want 0 to %d bytes", o.BlockSize, largestBlock)
	}
	return nil
}

// Placement is what the catalogue keeps of a range.
type Placement struct {
	Entry
	LastStable   storage.Offset // of the partition, when the object was made
	Aborted      int            // transactions whose abort marker is here
	Bytes        int64          // of batches
	Batches      int64
	Records      int64
	MaxTimestamp int64 // ms since 1970, or batch.NoTimestamp
}

// Summary is what was written.
type Summary struct {
	Size       int64 // bytes
	Placements []Placement
}

// RangeError says which range cannot be packed. Others can, without it.
type RangeError struct {
	Partition storage.PartitionID
	Offset    storage.Offset // where in it
	Reason    string
	Err       error // of the caller's Batches, or nil
}

func (e *RangeError) Error() string {
	s := fmt.Sprintf("pack %s at offset %d: %s", e.Partition, e.Offset, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what the caller's Batches returned.
func (e *RangeError) Unwrap() error { return e.Err }

// Write packs ranges, which stand in the order of [ComparePartitions], into one
// object. It holds 64 KiB of data and the index blocks in memory. What it wrote
// to w before an error is no object: the footer is missing. A range that cannot
// be packed is a [*RangeError]; other errors are w's, or of h and o.
func Write(w io.Writer, h Header, ranges []Range, o WriteOptions) (*Summary, error) {
	if err := errors.Join(o.Validate(), h.validate()); err != nil {
		return nil, fmt.Errorf("write object %s: %w", h.ID, err)
	}
	if uint64(len(ranges)) > (math.MaxUint32-directoryHead)/directoryEntry {
		return nil, fmt.Errorf("write object %s: %d ranges", h.ID, len(ranges))
	}
	p := &packer{
		out: bufio.NewWriterSize(w, writeBuffer), blockSize: o.BlockSize,
		placements: make([]Placement, 0, len(ranges)),
	}
	if p.blockSize == 0 {
		p.blockSize = defaultBlock
	}
	p.x.Object, p.yield = h.ID, p.add
	err := p.write(h.encode())
	for i := range ranges {
		if err == nil {
			err = p.pack(&ranges[i])
		}
	}
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return nil, fmt.Errorf("write object %s: %w", h.ID, err)
	}
	return &Summary{Size: p.size, Placements: p.placements}, nil
}

// packer is the state of one Write.
type packer struct {
	out       *bufio.Writer
	yield     func(batch.Batch) error // add, made once
	size      int64
	blockSize int

	x       Index          // of the range being packed
	next    storage.Offset // where its next batch may begin
	block   Block          // being packed; Length 0: none
	holes   bool           // its batches need not follow one another
	cut     bool           // its first batch may begin before it
	refused error          // of its batches; whatever the caller makes of it

	indexes    []byte // of the ranges packed, their positions still counted from 0
	placements []Placement
	batches    int64
	records    int64
}

func (p *packer) write(b []byte) error {
	p.size += int64(len(b))
	_, err := p.out.Write(b)
	return err
}

func (p *packer) pack(r *Range) error {
	p.x = Index{
		Object: p.x.Object, Partition: r.Partition, Topic: r.Topic, Base: r.Base, End: r.End, LastStable: r.LastStable,
		MaxTimestamp: batch.NoTimestamp, Epochs: r.Epochs, Aborted: r.Aborted, Producers: r.Producers, Blocks: p.x.Blocks[:0],
	}
	refuse := func(reason string, err error) error {
		return &RangeError{Partition: r.Partition, Offset: p.next, Reason: reason, Err: err}
	}
	p.next, p.block, p.holes, p.cut, p.refused = r.Base, Block{}, r.Holes, r.Cut, nil
	if reason := p.x.check(); reason != "" {
		return refuse(reason, nil)
	}
	if n := len(p.placements); n > 0 && !guard.Check("object.range-order", ComparePartitions(p.placements[n-1].Partition, r.Partition) < 0) {
		return refuse("it stands behind "+p.placements[n-1].Partition.String(), nil)
	}
	position := p.size
	if r.Batches != nil {
		err := r.Batches(p.yield)
		if p.refused != nil {
			return p.refused
		}
		if err != nil {
			return refuse("read its batches", err)
		}
		p.endBlock()
	}
	if !guard.Check("object.batch-missing", p.next == r.End || r.Holes) {
		return refuse(fmt.Sprintf("batches to %d are missing", r.End), nil)
	}
	p.x.Bytes = p.size - position
	from := len(p.indexes)
	p.indexes = p.x.append(p.indexes, position)
	length := len(p.indexes) - from
	if uint64(length) > math.MaxUint32 {
		return refuse(fmt.Sprintf("its index has %d bytes", length), nil)
	}
	p.placements = append(p.placements, Placement{
		Entry: Entry{
			Partition: r.Partition, Base: r.Base, End: r.End,
			Index: Extent{int64(from), uint32(length), sealed(p.indexes[from:])},
		},
		LastStable: r.LastStable, Aborted: len(r.Aborted),
		Bytes: p.x.Bytes, Batches: p.x.Batches, Records: p.x.Records, MaxTimestamp: p.x.MaxTimestamp,
	})
	p.batches += p.x.Batches
	p.records += p.x.Records
	return nil
}

// add checks one batch and writes it behind the others.
func (p *packer) add(b batch.Batch) error {
	if p.refused == nil {
		p.refused = p.addOne(b)
	}
	return p.refused
}

func (p *packer) addOne(b batch.Batch) error {
	refuse := func(format string, args ...any) error {
		return &RangeError{Partition: p.x.Partition, Offset: p.next, Reason: fmt.Sprintf(format, args...)}
	}
	if _, rest, err := batch.Next(b); err != nil {
		return refuse("%v", err)
	} else if len(rest) > 0 {
		return refuse("%d bytes behind a batch", len(rest))
	}
	// After the commit no other copy exists (RULES §5.3).
	if got := b.ComputeCRC(); !guard.Check("object.batch-crc", got == b.CRC()) {
		return refuse("batch at %d: crc32c is %08x, it says %08x", b.BaseOffset(), got, b.CRC())
	}
	first, next := b.BaseOffset(), b.NextOffset()
	if p.cut && first < p.x.Base && next > p.x.Base {
		first = p.x.Base
	}
	p.cut = false
	if !guard.Check("object.batch-order", first >= p.next && next > first) {
		return refuse("batch [%d, %d) begins before its turn", b.BaseOffset(), next)
	}
	if !guard.Check("object.batch-gap", first == p.next || p.holes) {
		return refuse("batches to %d are missing", first)
	}
	if !guard.Check("object.batch-end", next <= p.x.End) {
		return refuse("batch [%d, %d) ends beyond %d", first, next, p.x.End)
	}
	if p.block.Length > 0 && int(p.block.Length)+len(b) > p.blockSize {
		p.endBlock()
	}
	if p.block.Length == 0 {
		p.block = Block{First: first, Position: p.size, MaxTimestamp: batch.NoTimestamp}
	}
	if err := p.write(b); err != nil {
		return err
	}
	p.block.Next = next
	p.block.Length += uint32(len(b))
	p.block.CRC = addCRC(p.block.CRC, b)
	p.block.MaxTimestamp = max(p.block.MaxTimestamp, b.MaxTimestamp())
	p.x.Batches++
	p.x.Records += max(0, int64(b.NumRecords()))
	p.next = next
	return nil
}

// addCRC returns the CRC of a block with a batch behind it, whose own CRC was compared.
func addCRC(block uint32, b batch.Batch) uint32 {
	if len(b) < crc.Worth {
		return crc32.Update(block, castagnoli, b)
	}
	return crc.Combine(crc32.Update(block, castagnoli, b[:batch.SummedFrom]), b.CRC(), len(b)-batch.SummedFrom)
}

func (p *packer) endBlock() {
	if p.block.Length == 0 {
		return
	}
	p.x.Blocks = append(p.x.Blocks, p.block)
	p.x.MaxTimestamp = max(p.x.MaxTimestamp, p.block.MaxTimestamp)
	p.block = Block{}
}

// finish writes what stands behind the data.
func (p *packer) finish() error {
	for i := range p.placements {
		p.placements[i].Index.Position += p.size
	}
	if err := p.write(p.indexes); err != nil {
		return err
	}
	tail := appendDirectory(nil, p.x.Object, p.placements)
	f := footer{
		id: p.x.Object, ranges: uint32(len(p.placements)), size: p.size + int64(len(tail)) + FooterSize,
		directory: Extent{p.size, uint32(len(tail)), sealed(tail)},
		batches:   p.batches, records: p.records,
	}
	if err := p.write(f.append(tail)); err != nil {
		return err
	}
	return p.out.Flush()
}
