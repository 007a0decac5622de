package wal

import (
	"cmp"
	"context"
	"fmt"

	"rustmq.dev/rustmq/storage/guard"
)

// Class says whose bytes are to be admitted.
type Class int

// Classes. Produce leaves the reserve of disk and a quarter of the memory to
// the others. Coordinator, what groups commit, leaves half of the reserve: trims
// and drops must find room whatever consumers do, for they make it. Audit, the account
// of who did what, leaves a quarter: it goes on when the others have nothing left. On a
// disk that is full before the capacity is used, the reserve may not be there: then they
// have a part of what stands ready to copy forward with.
const (
	Produce Class = iota
	Replication
	Internal
	Coordinator
	Audit
)

// Admit waits until n bytes fit the memory budget, and holds them until
// Unadmit, which the caller calls once it has appended. ErrFull: the disk
// budget is used up, or the disk is full; it passes when frames are released, or
// the disk has room again. ErrNoSegment: the disk is ill.
func (w *WAL) Admit(ctx context.Context, class Class, n int) error {
	w.mu.Lock()
	refused := w.passes + 2 // the preparer is to go over the log once more first
	for {
		if err := w.usable(); err != nil {
			w.mu.Unlock()
			return err
		}
		if class == Internal && w.relocating {
			refused = 0 // the preparer itself may be who asks
		}
		need := w.footprint(int64(n) + w.admitted)
		room, prepared := w.room(class)
		fits := guard.Check("wal.admit-room", need <= room)
		ready := fits && need+w.slack(class) <= prepared
		spacious := w.spacious(class, n)
		if spacious && ready {
			w.admit(class, n)
			w.mu.Unlock()
			return nil
		}
		if !ready {
			if w.passes >= refused && (!fits || w.prepErr != nil || refused == 0) {
				err := w.prepErr
				w.mu.Unlock()
				return cmp.Or(err, fmt.Errorf("admit %d bytes, %d left: %w", n, max(room-need+int64(n), 0), ErrFull))
			}
			w.demand = max(w.demand, need+w.slack(class))
			w.wantSpare()
		}
		if !spacious {
			w.hurry()
		}
		if err := w.waitChange(ctx); err != nil {
			w.mu.Unlock()
			return fmt.Errorf("wait for room in the write-ahead log: %w", err)
		}
	}
}

// TryAdmit is Admit for who holds what others wait for, and so must not wait: where Admit
// would not have admitted n bytes at once, it reports false and holds nothing.
func (w *WAL) TryAdmit(class Class, n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	need := w.footprint(int64(n) + w.admitted)
	room, prepared := w.room(class)
	if w.usable() != nil || need > room || need+w.slack(class) > prepared || !w.spacious(class, n) {
		return false
	}
	w.admit(class, n)
	return true
}

// admit holds n bytes. w.mu is held.
func (w *WAL) admit(class Class, n int) {
	w.admitted += int64(n)
	if class == Produce { // one that passed alone is done, or this would not pass beside it
		w.excess = max(int64(n)-w.produceMemory(), 0)
	}
}

// produceMemory is what Produce may have of the memory.
func (w *WAL) produceMemory() int64 { return w.o.Memory * 3 / 8 }

// spacious reports whether n more bytes fit the memory budget. A request larger than
// that passes when it is alone; of one of Produce the others have their quarter of it
// all the same, for it may wait for what they write. w.mu is held.
func (w *WAL) spacious(class Class, n int) bool {
	memory := w.o.Memory/2 + w.excess
	if class == Produce {
		memory = w.produceMemory()
	}
	held := w.admitted + w.unsynced
	return guard.Check("wal.admit-memory", held+int64(n) <= memory || held == 0)
}

// Unadmit gives back what Admit or TryAdmit held.
func (w *WAL) Unadmit(n int) {
	w.mu.Lock()
	w.admitted -= int64(n)
	w.broadcast()
	w.mu.Unlock()
}

// room returns the bytes that class may still append, what was admitted
// included, and how many bytes lie in segments that are ready. w.mu is held.
func (w *WAL) room(class Class) (room, prepared int64) {
	size := int64(w.o.SegmentSize)
	capacity, reserve := w.budget()
	prepared = size - (w.chunk.base + int64(w.chunk.used)) + int64(len(w.spares))*(size-blockSize)
	room = prepared + (capacity/size-int64(w.files))*size
	switch class {
	case Produce:
		room -= reserve
	case Coordinator:
		room -= reserve / 2
	case Audit:
		room -= reserve / 4
	case Internal:
		// A log that was written under a larger capacity has more files than it may:
		// what stands ready is the cleaner's to bring it back with.
		if w.relocating {
			room = max(room, prepared)
		}
	}
	return room - w.slack(class), prepared
}

// footprint is what n bytes of frames may take on disk, for at the end of a
// segment there may be as much unused as the largest frame takes.
func (w *WAL) footprint(n int64) int64 {
	size, end := int64(w.o.SegmentSize), int64(w.o.MaxPayload)+4*blockSize
	return n + n*end/(size-end)
}

// slack is what cannot be admitted: room to copy a segment forward, commits
// padded and the end of a segment unused. Who may be copying forward can have it
// all. Where no further file can be made, so that there is no reserve but in what
// stands ready, Internal leaves what a relocation needs, and Coordinator and Audit leave
// it a part. w.mu is held.
func (w *WAL) slack(class Class) int64 {
	size, end := int64(w.o.SegmentSize), int64(w.o.MaxPayload)
	full := 2*size + end
	switch least := relocationRoom(size) + end; {
	case class == Internal && w.relocating:
		return 0
	case w.prepErr != nil && class == Internal:
		return min(least, full)
	case w.prepErr != nil && class == Coordinator:
		return min((least+full)/2, full)
	case w.prepErr != nil && class == Audit:
		return min((3*least+full)/4, full)
	}
	return full
}

// relocationRoom is what copies of so many bytes may take, but for the end of a
// segment that the largest frame leaves unused.
func relocationRoom(live int64) int64 { return live*9/8 + 4*blockSize }

// Fullness is the share of the disk budget that Produce has used, 0 to 1. What
// would be reclaimed before Produce is refused is not used.
func (w *WAL) Fullness() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	room, _ := w.room(Produce)
	if known := *w.segments.Load(); w.worthRelocating(known) {
		for _, seg := range known {
			room += seg.reclaimed()
			// What is dead behind what lives in an older one waits for that; a segment
			// that is dead as a whole gives its padding too.
			switch live := seg.live.Load(); {
			case seg == w.active:
			case live == 0:
				room += int64(w.o.SegmentSize) - blockSize
			default:
				room += seg.filled - live
			}
		}
	}
	capacity, reserve := w.budget()
	budget := capacity - reserve - w.slack(Produce)
	if budget <= 0 { // of the few files that the disk has room for
		return 1
	}
	return 1 - float64(min(max(room-w.footprint(w.admitted), 0), budget))/float64(budget)
}
