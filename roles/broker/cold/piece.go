package cold

import (
	"math"
	"slices"
	"sort"
	"sync/atomic"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/object"
)

// key names what is read at once: an index block, or a piece of data. The CRC of
// the index, which the catalogue has, stands for all that the index says, so that
// what is found by a key is of the very range that is asked for.
type key struct {
	object    storage.ObjectID
	partition storage.PartitionID
	crc       uint32
	piece     int32 // or indexPiece, or manifestPiece
}

const (
	indexPiece    = -1
	manifestPiece = -2
)

// isIndex reports whether it is an index, or a manifest: both say where to read.
func (k key) isIndex() bool { return k.piece < 0 }

// layout is an index with its blocks gathered into pieces, or the ranges of a
// manifest.
type layout struct {
	*object.Index
	pieces []int32          // the first block of each
	filed  *metadata.Ranges // of a manifest, which has no index
}

// newLayout gathers blocks into pieces of at most size bytes, or one block. It is
// the same whoever does it: consumers of a range meet at the same pieces.
func newLayout(x *object.Index, size int) *layout {
	l := &layout{Index: x}
	var bytes int64
	for i := range x.Blocks {
		n := int64(x.Blocks[i].Length)
		if i == 0 || bytes+n > int64(size) {
			l.pieces = append(l.pieces, int32(i))
			bytes = 0
		}
		bytes += n
	}
	l.pieces = slices.Clip(l.pieces)
	return l
}

// pieceOf returns the piece that a block is in.
func (l *layout) pieceOf(block int) int {
	return sort.Search(len(l.pieces), func(i int) bool { return int(l.pieces[i]) > block }) - 1
}

// blocks returns the blocks of a piece: from the first, up to the last.
func (l *layout) blocks(piece int) (from, to int) {
	from, to = int(l.pieces[piece]), len(l.Blocks)
	if piece+1 < len(l.pieces) {
		to = int(l.pieces[piece+1])
	}
	return from, to
}

// place returns where a piece lies in the object, and which offsets it covers.
func (l *layout) place(piece int) (position, size int64, first, next storage.Offset) {
	from, to := l.blocks(piece)
	a, z := &l.Blocks[from], &l.Blocks[to-1]
	return a.Position, z.Position + int64(z.Length) - a.Position, a.First, z.Next
}

// open checks the bytes of a piece. The caller refers to it.
func (l *layout) open(n int, data []byte, home *buffers) (*piece, error) {
	from, to := l.blocks(n)
	average := l.Bytes / l.Batches // a header at least: the index was checked
	batches := make([]batch.Batch, 0, int64(len(data))/average+1)
	at := l.Blocks[from].Position
	for i := from; i < to; i++ {
		k := &l.Blocks[i]
		b := data[k.Position-at:][:k.Length]
		var err error
		if batches, err = l.OpenBlock(i, b, batches); err != nil {
			return nil, err
		}
	}
	p := &piece{data: data, starts: make([]uint32, len(batches)+1), home: home}
	p.refs.Store(1)
	end := 0
	for i, b := range batches {
		end += len(b)
		p.starts[i+1] = uint32(end)
	}
	return p, nil
}

func (l *layout) memory() int64 {
	if l.filed != nil {
		return int64(l.filed.Len())*filedMemory + overhead
	}
	return int64(l.Memory()) + 4*int64(cap(l.pieces)) + overhead
}

// filedMemory is what a range of a manifest takes, in bytes.
const filedMemory = 80

// piece is consecutive blocks of a range, checked. It is not changed while somebody
// refers to it: the item it is of, the cache, and each result that has batches of it.
type piece struct {
	data   []byte
	starts []uint32     // of each batch in data, and the end
	refs   atomic.Int32 // who refers to it
	home   *buffers     // that data goes to when it is 0
}

// overhead is about what a value takes besides its bytes.
const overhead = 200

func (p *piece) memory() int64 { return int64(cap(p.data)) + 4*int64(cap(p.starts)) + overhead }

func (p *piece) len() int { return len(p.starts) - 1 }

func (p *piece) batch(i int) batch.Batch {
	from, to := p.starts[i], p.starts[i+1]
	return batch.Batch(p.data[from:to:to])
}

// find returns the first batch that does not end before offset.
func (p *piece) find(offset storage.Offset) int {
	return sort.Search(p.len(), func(i int) bool { return p.batch(i).NextOffset() > offset })
}

// before returns the first batch that begins at offset or behind it.
func (p *piece) before(offset storage.Offset) int {
	return sort.Search(p.len(), func(i int) bool { return p.batch(i).BaseOffset() >= offset })
}

// within returns how far batches go, from one on, that have at most so many bytes
// together.
func (p *piece) within(from, to, bytes int) int {
	end := int64(p.starts[from]) + int64(bytes)
	return from + sort.Search(to-from, func(i int) bool { return int64(p.starts[from+i+1]) > end })
}

func weigh(n int64) uint32 { return uint32(min(n, math.MaxUint32)) }
