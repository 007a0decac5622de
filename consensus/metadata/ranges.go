package metadata

import (
	"iter"
	"slices"
	"sort"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// Range is where the batches of one partition in [Base, End) lie in the bucket.
type Range struct {
	Base, End     storage.Offset
	Object        storage.ObjectID
	Bytes         int64 // of its batches
	MaxTimestamp  int64 // of its records, in milliseconds
	IndexPosition int64 // of its index block in the object
	IndexLength   uint32
	IndexCRC      uint32
	Epoch         storage.Epoch // leader epoch that it was committed under

	HasAborts bool // its index lists aborted transactions
	// OpenTransactions: some transaction is open at End, so that the last stable
	// offset there lies below it. A reader who looks for aborts goes on behind
	// such a range, and stops at the first that is none.
	OpenTransactions bool
}

// Entry is what an object says of where the range lies in it.
func (r *Range) Entry(p storage.PartitionID) object.Entry {
	return object.Entry{
		Partition: p, Base: r.Base, End: r.End,
		Index: object.Extent{Position: r.IndexPosition, Length: r.IndexLength, CRC: r.IndexCRC},
	}
}

// NewRange is the range that was packed into an object, led under epoch. Which object
// that is, the command says that names it.
func NewRange(p *object.Placement, epoch storage.Epoch) Range {
	return Range{
		Base: p.Base, End: p.End, Bytes: p.Bytes, MaxTimestamp: p.MaxTimestamp, Epoch: epoch,
		IndexPosition: p.Index.Position, IndexLength: p.Index.Length, IndexCRC: p.Index.CRC,
		HasAborts: p.Aborted > 0, OpenTransactions: p.LastStable < p.End,
	}
}

// chunkRanges is how many ranges a change of one copies at most: at 64 bytes
// each 8 KiB, about what the list of the chunks of 100,000 ranges takes.
const chunkRanges = 128

// Ranges is an immutable list of the ranges of one partition, in chunks, so that
// a range more costs a chunk and not the list. Each range ends where the next
// begins. The zero Ranges is empty.
type Ranges struct {
	chunks []*rangeChunk // none is empty
	n      int
	bytes  int64
}

type rangeChunk struct {
	ranges       []Range
	maxTimestamp int64
}

// NewRanges returns a list of ranges, which stand in order of offset. Those of
// the image come from its commands; this is for who has none.
func NewRanges(ranges ...Range) Ranges { return Ranges{}.splice(0, 0, ranges...) }

// Len returns how many ranges there are.
func (l Ranges) Len() int { return l.n }

// Bytes returns how many bytes their batches have.
func (l Ranges) Bytes() int64 { return l.bytes }

// At returns range i. It steps over the chunks before, and panics when there is
// none.
func (l Ranges) At(i int) Range {
	c, at := l.locate(i)
	return l.chunks[c].ranges[at]
}

// Last returns the last range.
func (l Ranges) Last() (Range, bool) {
	if l.n == 0 {
		return Range{}, false
	}
	last := l.chunks[len(l.chunks)-1].ranges
	return last[len(last)-1], true
}

// All walks the ranges in order of offset.
func (l Ranges) All() iter.Seq[Range] {
	return func(yield func(Range) bool) { l.walk(0, 0, yield) }
}

// From walks the ranges in order of offset, beginning with the first that ends
// above offset.
func (l Ranges) From(offset storage.Offset) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		c, at := l.above(offset)
		l.walk(c, at, yield)
	}
}

// Find returns the range that holds offset.
func (l Ranges) Find(offset storage.Offset) (Range, bool) {
	c, at := l.above(offset)
	if c == len(l.chunks) {
		return Range{}, false
	}
	r := l.chunks[c].ranges[at]
	return r, r.Base <= offset
}

// FindTime returns the first range with a record of that time, in milliseconds,
// or later. It looks into one chunk.
func (l Ranges) FindTime(millis int64) (Range, bool) {
	for _, chunk := range l.chunks {
		if chunk.maxTimestamp < millis {
			continue
		}
		for _, r := range chunk.ranges {
			if r.MaxTimestamp >= millis {
				return r, true
			}
		}
	}
	return Range{}, false
}

func (l Ranges) walk(c, at int, yield func(Range) bool) {
	for ; c < len(l.chunks); c, at = c+1, 0 {
		for _, r := range l.chunks[c].ranges[at:] {
			if !yield(r) {
				return
			}
		}
	}
}

// above returns the place of the first range that ends above offset; the chunk
// is len(l.chunks) when there is none.
func (l Ranges) above(offset storage.Offset) (c, at int) {
	c = sort.Search(len(l.chunks), func(i int) bool {
		ranges := l.chunks[i].ranges
		return ranges[len(ranges)-1].End > offset
	})
	if c == len(l.chunks) {
		return c, 0
	}
	ranges := l.chunks[c].ranges
	return c, sort.Search(len(ranges), func(i int) bool { return ranges[i].End > offset })
}

// locate returns the place of range i; that of range Len() is behind the last.
func (l Ranges) locate(i int) (c, at int) {
	if i == l.n && len(l.chunks) > 0 {
		c = len(l.chunks) - 1
		return c, len(l.chunks[c].ranges)
	}
	for c = range l.chunks {
		if n := len(l.chunks[c].ranges); i >= n {
			i -= n
			continue
		}
		return c, i
	}
	return 0, i
}

// index returns how many ranges come before a place.
func (l Ranges) index(c, at int) int {
	for _, chunk := range l.chunks[:c] {
		at += len(chunk.ranges)
	}
	return at
}

// splice returns the list with others in the place of its ranges from to to-1.
// It copies the chunks that it touches. One that is left short takes in the next,
// so that two neighbours never fit into one for long.
func (l Ranges) splice(from, to int, others ...Range) Ranges {
	first, begin := l.locate(from)
	last, end := l.locate(to)
	if begin == chunkRanges { // behind a full last chunk, which stays shared
		first, begin, last, end = first+1, 0, last+1, 0
	}
	var head, tail []Range
	next := len(l.chunks)
	if first < len(l.chunks) {
		head = l.chunks[first].ranges[:begin]
	}
	if last < len(l.chunks) {
		tail, next = l.chunks[last].ranges[end:], last+1
	}
	if next < len(l.chunks) && len(head)+len(others)+len(tail)+len(l.chunks[next].ranges) <= chunkRanges {
		tail = slices.Concat(tail, l.chunks[next].ranges)
		next++
	}
	merged := slices.Concat(head, others, tail)
	chunks := slices.Grow([]*rangeChunk(nil), first+1+len(l.chunks)-next)
	chunks = append(chunks, l.chunks[:first]...)
	for ranges := range slices.Chunk(merged, chunkRanges) {
		if len(merged) > chunkRanges {
			ranges = slices.Clone(ranges) // so that none keeps its neighbours in memory
		}
		chunk := &rangeChunk{ranges: ranges, maxTimestamp: ranges[0].MaxTimestamp}
		for _, r := range ranges[1:] {
			chunk.maxTimestamp = max(chunk.maxTimestamp, r.MaxTimestamp)
		}
		chunks = append(chunks, chunk)
	}
	chunks = append(chunks, l.chunks[next:]...)
	bytes := l.bytes
	for _, r := range others {
		bytes += r.Bytes
	}
	gone := to - from
	l.walk(first, begin, func(r Range) bool {
		if gone > 0 {
			bytes -= r.Bytes
		}
		gone--
		return gone > 0
	})
	return Ranges{chunks: chunks, n: l.n - (to - from) + len(others), bytes: bytes}
}
