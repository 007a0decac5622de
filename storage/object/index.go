package object

import (
	"encoding/binary"
	"math"
	"sort"
	"unsafe"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// EpochStart says at which offset of a range a leader epoch begins there.
type EpochStart struct {
	Epoch storage.Epoch
	Start storage.Offset
}

// Aborted is a transaction whose abort marker lies in a range. Its first offset
// may lie in an earlier one.
type Aborted struct {
	ProducerID  int64
	First, Last storage.Offset // Last is the marker's
}

// Block is a run of whole batches of a range.
type Block struct {
	First        storage.Offset // base offset of the first batch, or the range's base inside of it
	Next         storage.Offset // next offset of the last batch
	Position     int64
	Length       uint32
	CRC          uint32
	MaxTimestamp int64 // ms since 1970, or batch.NoTimestamp
}

// Index is what is known of a range without reading its data.
type Index struct {
	Object       storage.ObjectID
	Partition    storage.PartitionID
	Topic        string
	Base, End    storage.Offset // [Base, End); batches may be missing at either end
	LastStable   storage.Offset // of the partition, when the object was made
	MaxTimestamp int64          // of all blocks, or batch.NoTimestamp
	Batches      int64
	Records      int64
	Bytes        int64 // of all blocks
	Epochs       []EpochStart
	Aborted      []Aborted // in order of Last
	Producers    []byte    // as storage/log encodes them, or empty; aliases what was decoded
	Blocks       []Block   // in order of offset and position
}

// The fewest bytes that an item of each list takes.
const (
	leastEpoch   = 2
	leastAborted = 3
	leastBlock   = 8
)

// maxTopic is the longest topic name, Kafka's.
const maxTopic = 249

// check returns what is wrong with an index besides its blocks, or "".
func (x *Index) check() string {
	switch {
	case x.Partition.Topic.IsZero() || x.Partition.Index < 0:
		return "it is of no partition"
	case len(x.Topic) == 0 || len(x.Topic) > maxTopic:
		return "the topic's name is empty or too long"
	case x.Base < 0 || x.End <= x.Base:
		return "it has no offsets"
	case x.LastStable < 0:
		return "the last stable offset is negative"
	}
	for i, e := range x.Epochs {
		if e.Epoch < 0 || e.Start < x.Base || e.Start >= x.End {
			return "a leader epoch begins outside of the range"
		}
		if i > 0 && (e.Epoch <= x.Epochs[i-1].Epoch || e.Start <= x.Epochs[i-1].Start) {
			return "leader epochs are out of order"
		}
	}
	for i, a := range x.Aborted {
		if a.ProducerID < 0 || a.First < 0 || a.First > a.Last || a.Last < x.Base || a.Last >= x.End {
			return "an abort lies outside of the range"
		}
		if i > 0 && a.Last <= x.Aborted[i-1].Last {
			return "aborts are out of order"
		}
	}
	return ""
}

// append adds the index block of x, whose first block lies at position, to b.
func (x *Index) append(b []byte, position int64) []byte {
	from := len(b)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, 0) // sealed below
	b = binary.LittleEndian.AppendUint32(b, uint32(x.Partition.Index))
	b = append(b, x.Partition.Topic[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Object))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Base))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.End))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.LastStable))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.MaxTimestamp))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Batches))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Records))
	b = binary.LittleEndian.AppendUint64(b, uint64(position))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Bytes))

	b = binary.AppendUvarint(b, uint64(len(x.Topic)))
	b = append(b, x.Topic...)
	b = binary.AppendUvarint(b, uint64(len(x.Epochs)))
	last := EpochStart{0, x.Base}
	for _, e := range x.Epochs {
		b = binary.AppendUvarint(b, uint64(e.Epoch-last.Epoch))
		b = binary.AppendUvarint(b, uint64(e.Start-last.Start))
		last = e
	}
	b = binary.AppendUvarint(b, uint64(len(x.Aborted)))
	at := x.Base
	for _, a := range x.Aborted {
		b = binary.AppendUvarint(b, uint64(a.Last-at))
		b = binary.AppendUvarint(b, uint64(a.Last-a.First))
		b = binary.AppendUvarint(b, uint64(a.ProducerID))
		at = a.Last
	}
	b = binary.AppendUvarint(b, uint64(len(x.Producers)))
	b = append(b, x.Producers...)
	b = binary.AppendUvarint(b, uint64(len(x.Blocks)))
	at, millis := x.Base, batch.NoTimestamp
	for _, k := range x.Blocks {
		b = binary.AppendUvarint(b, uint64(k.First-at))
		b = binary.AppendUvarint(b, uint64(k.Next-k.First))
		b = binary.AppendUvarint(b, uint64(k.Length))
		b = binary.LittleEndian.AppendUint32(b, k.CRC)
		b = binary.AppendVarint(b, k.MaxTimestamp-millis) // may wrap, and back
		at, millis = k.Next, k.MaxTimestamp
	}
	seal(b[from:])
	return b
}

// DecodeIndex reads the index block that want names, of the object id. The
// index keeps no reference to b but in Producers.
func DecodeIndex(b []byte, id storage.ObjectID, want Entry) (*Index, error) {
	bad := func(at int, format string, args ...any) (*Index, error) {
		return nil, corrupt(id, want.Index.Position+int64(at), "index of "+want.Partition.String()+": "+format, args...)
	}
	if len(b) < indexHead || !hasMagic(b, indexMagic) {
		return bad(0, "not an index block")
	}
	if sum := checksum(b); !guard.Check("object.index-crc", sum == sealed(b) && sum == want.Index.CRC) {
		return bad(0, "crc32c is %08x, it says %08x, %08x is wanted", sum, sealed(b), want.Index.CRC)
	}
	if err := known(b, indexMagic, "index", id, want.Index.Position); err != nil {
		return nil, err
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	x := &Index{
		Partition:    storage.PartitionID{Topic: storage.TopicID(b[16:32]), Index: int32(binary.LittleEndian.Uint32(b[12:]))},
		Object:       storage.ObjectID(u64(32)),
		Base:         storage.Offset(u64(40)),
		End:          storage.Offset(u64(48)),
		LastStable:   storage.Offset(u64(56)),
		MaxTimestamp: int64(u64(64)),
		Batches:      int64(u64(72)),
		Records:      int64(u64(80)),
		Bytes:        int64(u64(96)),
	}
	position := int64(u64(88))
	if !guard.Check("object.index-identity", x.Object == id && x.Partition == want.Partition && x.Base == want.Base && x.End == want.End) {
		return bad(12, "it is of %s [%d, %d) in object %s, want [%d, %d)", x.Partition, x.Base, x.End, x.Object, want.Base, want.End)
	}
	// All data lies between the header and the first index block.
	if position < HeaderSize || x.Bytes < 0 || x.Bytes > want.Index.Position-position {
		return bad(88, "%d bytes of data at byte %d", x.Bytes, position)
	}
	c := &cursor{b: b, at: indexHead, ok: true}
	x.Topic = string(c.bytes())
	x.decodeEpochs(c)
	x.decodeAborted(c)
	if p := c.bytes(); len(p) > 0 {
		x.Producers = p
	}
	reason := x.decodeBlocks(c, position)
	switch {
	case !c.ok:
		return bad(len(b), "it is cut off")
	case c.at != len(b):
		return bad(c.at, "%d bytes too many", len(b)-c.at)
	case reason == "":
		reason = x.check()
	}
	if reason != "" {
		return bad(indexHead, "%s", reason)
	}
	return x, nil
}

func (x *Index) decodeEpochs(c *cursor) {
	n := c.count(leastEpoch)
	if n == 0 {
		return
	}
	x.Epochs = make([]EpochStart, n)
	last := EpochStart{0, x.Base}
	for i := range x.Epochs {
		// What wraps here is out of order, and check refuses it.
		last.Epoch += storage.Epoch(min(c.uvarint(), math.MaxInt32))
		last.Start += storage.Offset(min(c.uvarint(), math.MaxInt64))
		x.Epochs[i] = last
	}
}

func (x *Index) decodeAborted(c *cursor) {
	n := c.count(leastAborted)
	if n == 0 {
		return
	}
	x.Aborted = make([]Aborted, n)
	last := x.Base
	for i := range x.Aborted {
		last += storage.Offset(min(c.uvarint(), math.MaxInt64))
		x.Aborted[i] = Aborted{Last: last, First: last - storage.Offset(min(c.uvarint(), math.MaxInt64))}
		x.Aborted[i].ProducerID = int64(c.uvarint())
	}
}

// decodeBlocks returns what is wrong with them, or "".
func (x *Index) decodeBlocks(c *cursor, position int64) string {
	n := c.count(leastBlock)
	if n > 0 {
		x.Blocks = make([]Block, n)
	}
	next, millis, newest, end := x.Base, batch.NoTimestamp, batch.NoTimestamp, position+x.Bytes
	for i := range x.Blocks {
		gap, span, length := c.uvarint(), c.uvarint(), c.uvarint()
		crc := c.uint32()
		millis += c.varint()
		if !c.ok {
			return "" // the caller sees it
		}
		left := uint64(x.End - next)
		if !guard.Check("object.index-order", gap <= left && span > 0 && span <= left-gap) {
			return "a block ends beyond the range"
		}
		if length < batch.HeaderSize || length > uint64(end-position) || length > math.MaxUint32 {
			return "a block ends beyond the data"
		}
		first := next + storage.Offset(gap)
		next = first + storage.Offset(span)
		x.Blocks[i] = Block{First: first, Next: next, Position: position, Length: uint32(length), CRC: crc, MaxTimestamp: millis}
		position += int64(length)
		newest = max(newest, millis)
	}
	switch {
	case position != end:
		return "there is data that belongs to no block"
	case newest != x.MaxTimestamp:
		return "the largest timestamp is none of a block"
	case x.Batches < int64(n) || x.Batches > x.Bytes/batch.HeaderSize || x.Records < 0 || n == 0 && x.Records > 0:
		return "the number of batches or records cannot be"
	}
	return ""
}

// Find returns the block with the first batch that does not end before offset.
// It is len(Blocks) when there is none: the partition goes on at End.
func (x *Index) Find(offset storage.Offset) int {
	return sort.Search(len(x.Blocks), func(i int) bool { return x.Blocks[i].Next > offset })
}

// FindTime returns the first block with a timestamp not before millis, or
// len(Blocks). Timestamps need not grow with offsets.
func (x *Index) FindTime(millis int64) int {
	for i := range x.Blocks {
		if x.Blocks[i].MaxTimestamp >= millis {
			return i
		}
	}
	return len(x.Blocks)
}

// Memory is what the index takes, in bytes. While it has Producers, they hold
// all that it was decoded from.
func (x *Index) Memory() int {
	return int(unsafe.Sizeof(*x)) + len(x.Topic) + len(x.Producers) +
		len(x.Epochs)*int(unsafe.Sizeof(EpochStart{})) +
		len(x.Aborted)*int(unsafe.Sizeof(Aborted{})) +
		len(x.Blocks)*int(unsafe.Sizeof(Block{}))
}
