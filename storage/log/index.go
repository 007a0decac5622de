package log

import (
	"math"
	"slices"
	"sort"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/wal"
)

// entry says where one batch lies. There is one for each batch in the WAL, so
// it is kept to 32 bytes.
type entry struct {
	maxTimestamp int64
	base         uint32 // base offset, less the block's
	count        uint32 // offsets it takes up
	ref          wal.Ref
	_            uint32 // room for flags
}

const (
	entrySize    = 32
	blockEntries = 256 // of a full block: 8 KiB
	blockSize    = 64  // of a block without its entries, about
)

// block is a run of entries.
type block struct {
	base         storage.Offset
	maxTimestamp int64 // of its entries, and perhaps of some that were trimmed
	entries      []entry
	// Between these are the segments its entries lie in, and perhaps others: so
	// that who looks for a segment need not look at every entry.
	oldest, newest uint32
}

// move notes that an entry lies elsewhere now.
func (b *block) move(e *entry, to wal.Ref) {
	e.ref = to
	b.oldest, b.newest = min(b.oldest, to.Segment), max(b.newest, to.Segment)
}

func (b *block) baseOf(i int) storage.Offset {
	return b.base + storage.Offset(b.entries[i].base)
}

func (b *block) nextOf(i int) storage.Offset {
	return b.baseOf(i) + storage.Offset(b.entries[i].count)
}

func (b *block) next() storage.Offset { return b.nextOf(len(b.entries) - 1) }

// index is the batches of a partition in order of offset. No block in it is
// empty. It is not safe for concurrent use.
type index struct {
	blocks []*block
	bytes  int64 // of memory
}

// place is where an entry stands.
type place struct{ block, entry int }

func (x *index) at(p place) (*block, *entry) {
	b := x.blocks[p.block]
	return b, &b.entries[p.entry]
}

// valid reports whether p is an entry, not the end.
func (x *index) valid(p place) bool { return p.block < len(x.blocks) }

// following is the place behind p.
func (x *index) following(p place) place {
	p.entry++
	if p.entry == len(x.blocks[p.block].entries) {
		return place{p.block + 1, 0}
	}
	return p
}

// mayLieIn reports whether a batch may lie in a segment.
func (x *index) mayLieIn(segment uint32) bool {
	return slices.ContainsFunc(x.blocks, func(b *block) bool { return b.oldest <= segment && segment <= b.newest })
}

// nextIn is the first place at or behind p whose batch lies in a segment; or,
// when looked has reached most, where to go on looking.
func (x *index) nextIn(segment uint32, p place, most int) (_ place, looked int) {
	for ; x.valid(p) && looked < most; looked++ {
		b, e := x.at(p)
		switch {
		case segment < b.oldest || segment > b.newest:
			p = place{p.block + 1, 0}
		case e.ref.Segment == segment:
			return p, looked + 1
		default:
			p = x.following(p)
		}
	}
	return p, looked
}

// end is the offset behind the last batch; ok is false without any.
func (x *index) end() (next storage.Offset, ok bool) {
	if len(x.blocks) == 0 {
		return 0, false
	}
	return x.blocks[len(x.blocks)-1].next(), true
}

// append adds a batch behind the last one.
func (x *index) append(base storage.Offset, count uint32, maxTimestamp int64, ref wal.Ref) {
	var last *block
	if n := len(x.blocks); n > 0 {
		last = x.blocks[n-1]
	}
	if last == nil || len(last.entries) == blockEntries || base-last.base > math.MaxUint32 {
		last = &block{base: base, maxTimestamp: math.MinInt64, oldest: ref.Segment}
		x.blocks = append(x.blocks, last)
		x.bytes += blockSize
	}
	before := cap(last.entries)
	last.entries = append(last.entries, entry{
		maxTimestamp: maxTimestamp, base: uint32(base - last.base), count: count, ref: ref,
	})
	x.bytes += int64(cap(last.entries)-before) * entrySize
	last.maxTimestamp = max(last.maxTimestamp, maxTimestamp)
	last.oldest, last.newest = min(last.oldest, ref.Segment), max(last.newest, ref.Segment)
}

// find returns the first batch that ends behind offset.
func (x *index) find(offset storage.Offset) place {
	i := sort.Search(len(x.blocks), func(i int) bool { return x.blocks[i].next() > offset })
	if i == len(x.blocks) {
		return place{i, 0}
	}
	b := x.blocks[i]
	return place{i, sort.Search(len(b.entries), func(j int) bool { return b.nextOf(j) > offset })}
}

// trim removes the batches that end at or before offset, and appends where they
// lie to refs.
func (x *index) trim(offset storage.Offset, refs []wal.Ref) []wal.Ref {
	gone := 0
	for gone < len(x.blocks) && x.blocks[gone].next() <= offset {
		b := x.blocks[gone]
		for i := range b.entries {
			refs = append(refs, b.entries[i].ref)
		}
		x.bytes -= blockSize + int64(cap(b.entries))*entrySize
		gone++
	}
	// The slice is moved down, lest its array keeps the dead blocks.
	n := copy(x.blocks, x.blocks[gone:])
	clear(x.blocks[n:])
	x.blocks = x.blocks[:n]
	if n == 0 {
		x.blocks, x.bytes = nil, 0
		return refs
	}
	first := x.blocks[0]
	head := 0
	for first.nextOf(head) <= offset {
		refs = append(refs, first.entries[head].ref)
		head++
	}
	x.bytes -= int64(head) * entrySize
	first.entries = first.entries[head:]
	return refs
}

// truncate removes the batches that end behind offset, and appends where they
// lie to refs.
func (x *index) truncate(offset storage.Offset, refs []wal.Ref) []wal.Ref {
	for n := len(x.blocks); n > 0; n = len(x.blocks) {
		b := x.blocks[n-1]
		keep := len(b.entries)
		for keep > 0 && b.nextOf(keep-1) > offset {
			keep--
			refs = append(refs, b.entries[keep].ref)
		}
		if keep > 0 {
			b.entries = b.entries[:keep]
			b.maxTimestamp = math.MinInt64
			for i := range b.entries {
				b.maxTimestamp = max(b.maxTimestamp, b.entries[i].maxTimestamp)
			}
			break
		}
		x.bytes -= blockSize + int64(cap(b.entries))*entrySize
		x.blocks[n-1] = nil
		x.blocks = x.blocks[:n-1]
	}
	return refs
}
