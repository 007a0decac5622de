package wal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync/atomic"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// segment is one file. A spare has log number 0 and a header of zeros.
type segment struct {
	file  disk.File
	log   uint64
	stamp uint64 // random: tells this life of the file from earlier ones
	// headed: the header is on disk. Only the committer, and Open, use it.
	headed bool
	first  uint64 // for the header
	live   atomic.Int64
	users  atomic.Int64 // readers; closing is set before the file is recycled
}

const closing = int64(1) << 62

// segmentList is the segments in order of log number, which has no gaps.
type segmentList struct {
	base uint64 // log number of the first
	segs []*segment
}

// use keeps the segment from being recycled until done.
func (s *segment) use() bool {
	for {
		n := s.users.Load()
		if n&closing != 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *segment) done() { s.users.Add(-1) }

// activate makes a spare the active segment. Its header goes to disk with the
// first commit in it. w.mu is held.
func (w *WAL) activate(seg *segment) {
	known := w.segments.Load()
	seg.log = known.base + uint64(len(known.segs))
	seg.stamp = w.o.Rand()
	seg.first = w.sequence + 1
	seg.headed = false
	seg.live.Store(0)
	seg.users.Store(0)
	w.segments.Store(&segmentList{known.base, append(slices.Clone(known.segs), seg)})
	w.active = seg
}

func segmentName(dir string, n int) string { return path.Join(dir, fmt.Sprintf("segment-%06d", n)) }

// newSpare makes a zero-filled segment file, durable with its name.
func (w *WAL) newSpare() (*segment, error) {
	for {
		w.nextFile++
		name := segmentName(w.o.Dir, w.nextFile)
		f, err := w.o.FS.Create(name)
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", name, err)
		}
		if err := zeroFill(f, w.o.SegmentSize); err != nil {
			return nil, errors.Join(fmt.Errorf("fill %s: %w", name, err), f.Close(), w.o.FS.Remove(name))
		}
		if err := w.o.FS.SyncDir(w.o.Dir); err != nil {
			return nil, errors.Join(fmt.Errorf("sync %s: %w", w.o.Dir, err), f.Close(), w.o.FS.Remove(name))
		}
		return &segment{file: f}, nil
	}
}

func zeroFill(f disk.File, size int) error {
	zeros := make([]byte, 1<<20)
	for at := 0; at < size; at += len(zeros) {
		if _, err := f.WriteAt(zeros[:min(len(zeros), size-at)], int64(at)); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Release says that the owner does not need the frame any more.
func (w *WAL) Release(ref Ref) {
	seg := w.segmentOf(ref)
	if seg == nil {
		return
	}
	if seg.live.Add(-ref.frameBytes()) == 0 {
		w.wantSpare()
	}
}

func (w *WAL) segmentOf(ref Ref) *segment {
	known := w.segments.Load()
	if i := uint64(ref.Segment) - known.base; i < uint64(len(known.segs)) {
		return known.segs[i]
	}
	return nil
}

// wantSpare wakes the preparer.
func (w *WAL) wantSpare() {
	select {
	case w.prepare <- struct{}{}:
	default:
	}
}

// prepareLoop keeps spares ready: it recycles what is dead, makes new files
// within the capacity, and copies live frames forward when neither is enough.
func (w *WAL) prepareLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.prepare:
		}
		for ctx.Err() == nil && w.maintain(ctx) {
		}
	}
}

// spareTarget is how many spares are kept ready.
const spareTarget = 2

// maintain does one step and reports whether another may help.
func (w *WAL) maintain(ctx context.Context) bool {
	if w.recycleOldest() {
		return true
	}
	w.mu.Lock()
	spares, files := len(w.spares), w.files
	dead := w.dead != nil
	w.mu.Unlock()
	most := int(w.o.Capacity / int64(w.o.SegmentSize))
	if dead {
		return false
	}
	if spares < spareTarget && files < most {
		seg, err := w.newSpare()
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			if w.prepErr == nil {
				w.o.Log.Warn("no room for another WAL segment", "dir", w.o.Dir, "error", err)
			}
			w.prepErr = fmt.Errorf("%w: %w", ErrFull, err)
			w.broadcast()
			return false
		}
		w.prepErr = nil
		w.files++
		w.spares = append(w.spares, seg)
		w.broadcast()
		return true
	}
	if most-files+spares < max(most/4, spareTarget+1) {
		return w.relocateOldest(ctx)
	}
	return false
}

// recycleOldest turns the oldest segment into a spare when nothing in it is
// needed.
func (w *WAL) recycleOldest() bool {
	known := w.segments.Load()
	seg := known.segs[0]
	w.mu.Lock()
	busy := seg == w.active || w.dead != nil || w.durable.Load()+1 < known.segs[1].first
	w.mu.Unlock()
	if busy || !guard.Check("wal.recycle-live", seg.live.Load() == 0) {
		return false
	}
	if !seg.users.CompareAndSwap(0, closing) {
		return false // a reader has it; its end wakes nobody, the next want does
	}
	// The header goes first: a half overwritten segment must not look like one.
	if err := seg.file.WriteSync([][]byte{make([]byte, blockSize)}, 0); err != nil {
		w.die(fmt.Errorf("recycle %s: %w", seg.file.Name(), err))
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	known = w.segments.Load()
	w.segments.Store(&segmentList{known.base + 1, slices.Clone(known.segs[1:])})
	resident := *w.chunks.Load()
	keep := 0
	for keep < len(resident) && resident[keep].log == seg.log {
		w.evict(resident[keep])
		keep++
	}
	rest := slices.Clone(resident[keep:])
	w.chunks.Store(&rest)
	seg.log = 0
	w.spares = append(w.spares, seg)
	w.counts.recycled.Add(1)
	w.broadcast()
	return true
}

// relocateOldest copies what is live in the oldest segment forward, when that
// can win a segment's worth.
func (w *WAL) relocateOldest(ctx context.Context) bool {
	known := w.segments.Load().segs
	var live int64
	for _, seg := range known {
		live += seg.live.Load()
	}
	oldest := known[0]
	w.mu.Lock()
	hasRoom := oldest != w.active && len(w.spares) > 0
	w.mu.Unlock()
	if !hasRoom || int64(len(known))*int64(w.o.SegmentSize)-live < 2*int64(w.o.SegmentSize) || oldest.live.Load() > int64(w.o.SegmentSize)*3/4 {
		return false
	}
	if err := w.o.Owner.Relocate(ctx, uint32(w.segments.Load().base)); err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrDead) {
			w.o.Log.Warn("copying live frames forward failed", "dir", w.o.Dir, "segment", oldest.log, "error", err)
		}
		return false
	}
	if err := w.Flush(ctx); err != nil {
		return false
	}
	w.counts.relocated.Add(1)
	return oldest.live.Load() == 0
}
