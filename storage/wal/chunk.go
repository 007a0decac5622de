package wal

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/guard"
)

// chunk is memory that mirrors a region of a segment byte for byte.
type chunk struct {
	segment *segment
	log     uint64       // the segment's log number when the chunk was made
	base    int64        // where the region begins in the segment
	size    int          // of the region
	buf     []byte       // size bytes, until the chunk is evicted and not pinned
	used    int          // end of its last group; guarded by WAL.mu
	pending atomic.Int64 // groups that are not committed
	// pins counts readers; evicted is set when the memory is given up, and who
	// takes the last pin away then frees it.
	pins atomic.Int64
}

const evicted = int64(1) << 62

// group is the frames of one commit in one chunk, on blocks of their own.
type group struct {
	chunk       *chunk
	start, end  int // in chunk.buf; start is a multiple of blockSize
	first       uint64
	count       int
	copies      sync.WaitGroup // appenders that have reserved and not copied yet
	completions []Completion
}

// groups are reused, so that an append allocates nothing.
var groups = sync.Pool{New: func() any { return new(group) }}

// privilege says what of the last room of a log a group may take. The last spare
// is for the cleaner: without it a full log could not be copied forward. The last
// block of each segment is for a final mark: without it a full log could not
// recycle.
type privilege int

const (
	ordinary  privilege = iota
	lastBlock           // an idle mark
	lastSpare           // what copying forward appends
	finalMark           // both
)

// reserve returns the open group with room for need more bytes. w.mu is held.
func (w *WAL) reserve(need int, p privilege) (*group, error) {
	if w.open != nil {
		if w.open.end+need <= w.chunk.size {
			w.chunk.used = w.open.end + need
			return w.open, nil
		}
		w.open = nil
	}
	start := alignBlock(w.chunk.used)
	if start+groupHeaderReserve+need > w.chunk.size {
		if err := w.nextChunk(need, p); err != nil {
			return nil, err
		}
		start = 0
	}
	g := groups.Get().(*group)
	g.chunk, g.start, g.end = w.chunk, start, start+groupHeaderReserve
	g.first, g.count = w.sequence+1, 0
	g.completions = g.completions[:0]
	w.chunk.used = g.end + need
	w.chunk.pending.Add(1)
	w.open = g
	w.queue = append(w.queue, g)
	return g, nil
}

// groupHeaderReserve keeps frames aligned behind the group's header.
const groupHeaderReserve = (groupHeaderSize + frameAlign - 1) &^ (frameAlign - 1)

// nextChunk makes room for a group with need bytes of frames, in the active
// segment or in the next one. w.mu is held.
func (w *WAL) nextChunk(need int, p privilege) error {
	size := alignBlock(groupHeaderReserve + need)
	base := w.chunk.base + int64(alignBlock(w.chunk.used))
	seg, end := w.active, int64(w.o.SegmentSize)-blockSize
	if p == lastBlock || p == finalMark {
		end += blockSize
	}
	if base+int64(size) > end {
		if len(w.spares) == 0 || !guard.Check("wal.last-spare", len(w.spares) > 1 || p >= lastSpare || w.relocating) {
			w.wantSpare()
			if w.prepErr != nil {
				return w.prepErr
			}
			return ErrFull
		}
		seg = w.spares[0]
		w.spares = w.spares[1:]
		w.activate(seg)
		base, end = blockSize, int64(w.o.SegmentSize)-blockSize
		w.wantSpare()
	}
	w.chunk = w.newChunk(seg, base, min(max(size, w.o.ChunkSize), int(end-base)))
	return nil
}

// newChunk returns memory for a region, after evicting what is over budget.
// w.mu is held.
func (w *WAL) newChunk(seg *segment, base int64, size int) *chunk {
	resident := *w.chunks.Load()
	keep := 0
	for keep < len(resident) && w.resident+int64(size) > w.o.Memory && resident[keep].pending.Load() == 0 && resident[keep] != w.chunk {
		w.evict(resident[keep])
		keep++
	}
	c := &chunk{segment: seg, log: seg.log, base: base, size: size, buf: w.buffer(size)}
	w.resident += int64(cap(c.buf))
	next := append(slices.Clone(resident[keep:]), c)
	w.chunks.Store(&next)
	return c
}

func (w *WAL) buffer(size int) []byte {
	if size <= w.o.ChunkSize {
		if n := len(w.free); n > 0 {
			b := w.free[n-1]
			w.free = w.free[:n-1]
			return b[:size]
		}
		return make([]byte, w.o.ChunkSize)[:size]
	}
	return make([]byte, size)
}

// evict gives the chunk's memory up, at once or with the last pin. w.mu is held.
func (w *WAL) evict(c *chunk) {
	if c.pins.Add(evicted) == evicted {
		w.reclaim(c)
	}
}

// reclaim takes the memory of an evicted chunk that nobody holds. w.mu is held.
func (w *WAL) reclaim(c *chunk) {
	w.resident -= int64(cap(c.buf))
	if cap(c.buf) == w.o.ChunkSize {
		w.free = append(w.free, c.buf)
	}
	c.buf = nil
}

// Pin holds the memory of a chunk for a reader.
type Pin struct {
	w *WAL
	c *chunk
}

// Pin returns the payload in memory, until Release of the pin. False: read it
// from the file, for it was evicted, or readers hold their share of the memory
// already.
func (w *WAL) Pin(ref Ref) ([]byte, Pin, bool) {
	c := w.find(ref)
	if c == nil || !w.pin(c, w.o.Memory/2) {
		return nil, Pin{}, false
	}
	at := int64(ref.Offset) - c.base + frameHeaderSize
	return c.buf[at : at+int64(ref.Length) : at+int64(ref.Length)], Pin{w, c}, true
}

// pin holds the chunk's memory until unpin, unless it is given up, or share bytes
// are pinned already.
func (w *WAL) pin(c *chunk, share int64) bool {
	for {
		pins := c.pins.Load()
		if pins&evicted != 0 {
			return false
		}
		if pins == 0 && !guard.Check("wal.pin-share", w.pinned.Load()+int64(c.size) <= share) {
			return false
		}
		if c.pins.CompareAndSwap(pins, pins+1) {
			if pins == 0 {
				w.pinned.Add(int64(c.size))
			}
			return true
		}
	}
}

func (w *WAL) unpin(c *chunk) {
	left := c.pins.Add(-1)
	if left&^evicted == 0 {
		w.pinned.Add(-int64(c.size))
	}
	if left == evicted {
		w.mu.Lock()
		w.reclaim(c)
		w.mu.Unlock()
	}
}

// Release lets the memory go; the payload must not be used after it.
func (p Pin) Release() { p.w.unpin(p.c) }

// find returns the resident chunk that has ref, or nil: the last one that begins
// at or before it. A chunk's memory may reach further than its region, which
// ends where the next one begins.
func (w *WAL) find(ref Ref) *chunk {
	resident := *w.chunks.Load()
	after, _ := slices.BinarySearchFunc(resident, ref, func(c *chunk, r Ref) int {
		if c.log != uint64(r.Segment) {
			return cmp.Compare(c.log, uint64(r.Segment))
		}
		if c.base <= int64(r.Offset) {
			return -1
		}
		return 1
	})
	if after == 0 {
		return nil
	}
	c := resident[after-1]
	if c.log != uint64(ref.Segment) || int64(ref.Offset)+ref.frameBytes() > c.base+int64(c.size) {
		return nil
	}
	return c
}
