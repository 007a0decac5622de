package cold

import (
	"slices"
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// buffers keeps the memory of pieces that nobody refers to any more, for those to
// come: what the kernel gives anew it clears and hands out page by page, which costs
// more than all checks. Its methods are safe for concurrent use.
type buffers struct {
	piece  int64 // Options.PieceSize
	limit  int64 // bytes that are kept
	poison bool  // Options.Poison

	mu    sync.Mutex // guards what follows
	free  [][]byte   // the one let go of last at the end
	bytes int64      // of them
	again uint64     // given out once more
}

const (
	// A new buffer is larger than its piece by less than this part of a full one, as a
	// divisor; an old one by less than two of them. With the places of its batches that
	// is less than the eighth that a piece is charged besides its bytes.
	bufferUnit = 64

	// Buffers that wait for a piece take at most this part of the read-ahead memory,
	// as a divisor, and beside it.
	freeShare = 4
)

func (b *buffers) unit() int64 { return max(1, b.piece/bufferUnit) }

// kept reports whether memory of a size is: that of most pieces, which are about as
// large as they may be. It is not worth it for others.
func (b *buffers) kept(size int64) bool { return size >= b.piece/4*3 && size <= b.piece+b.unit() }

// get returns a buffer of a size. What it holds is of another piece.
func (b *buffers) get(size int64) []byte {
	if !b.kept(size) {
		return make([]byte, size)
	}
	unit := b.unit()
	b.mu.Lock()
	for i, of := range slices.Backward(b.free) {
		if n := int64(cap(of)); n >= size && n < size+2*unit {
			b.free = slices.Delete(b.free, i, i+1)
			b.bytes -= n
			b.again++
			b.mu.Unlock()
			return of[:size]
		}
	}
	b.mu.Unlock()
	return make([]byte, size, (size+unit-1)/unit*unit)
}

// put takes a buffer that nobody refers to.
func (b *buffers) put(buf []byte) {
	n := int64(cap(buf))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.poison {
		for i := range buf {
			buf[i] = 0xdb
		}
	}
	if b.kept(n) && guard.Check("cold.free", b.bytes+n <= b.limit) {
		b.free = append(b.free, buf)
		b.bytes += n
	}
}

// clear leaves to the garbage collector what nobody has asked for.
func (b *buffers) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free, b.bytes = nil, 0
}

func (b *buffers) counts() (again uint64, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.again, b.bytes
}

// hold makes the caller one of those who refer to a piece. false: nobody did, and its
// memory is another's.
func (p *piece) hold() bool {
	for {
		n := p.refs.Load()
		if n <= 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release says that the caller refers to it no more. The last gives its memory back.
// Who does not say so leaves it to the garbage collector.
func (p *piece) release() {
	n := p.refs.Add(-1)
	if n < 0 {
		panic("cold: a piece is released more often than it was held")
	}
	if guard.Check("cold.recycle", n == 0) {
		p.home.put(p.data)
	}
}
