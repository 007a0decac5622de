package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// segment is one life of a file. A spare has no log number; log, stamp and first
// are set when it is activated, and stay.
type segment struct {
	file   disk.File
	log    uint64
	stamp  uint64       // random: tells this life of the file from earlier ones
	first  uint64       // sequence of the first frame that counts here
	headed bool         // the header is on disk; only the committer, and Open, use it
	live   atomic.Int64 // bytes of frames that the owner has not released
	// reclaimable is those of them, about, that the owner would rather release
	// than have copied forward.
	reclaimable atomic.Int64
	filled      int64        // bytes of frames; guarded by WAL.mu
	copied      int64        // of them, of copies
	tail        int64        // bytes at the end that a restart found unused, but for a largest frame
	users       atomic.Int64 // readers; closing is set before the file is recycled
	// retire: the file may have failed a write before the restart, so it is
	// removed when it is dead, and never written again.
	retire bool
}

const closing = int64(1) << 62

// fill counts a frame. WAL.mu is held, but for recovery.
func (s *segment) fill(bytes int64, isCopy bool) {
	s.filled += bytes
	if isCopy {
		s.copied += bytes
	}
}

// header returns the block that makes the segment count.
func (s *segment) header(mark, begin uint64) []byte {
	b := make([]byte, blockSize)
	segmentHeader{log: s.log, first: s.first, mark: mark, stamp: s.stamp, begin: begin}.encode(b)
	return b
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

// endUse lets the preparer have the segment, when it waits for that.
func (w *WAL) endUse(s *segment) {
	if s.users.Add(-1) == 0 && s.live.Load() == 0 {
		w.wantSpare()
	}
}

// activate makes a spare the active segment. Its header goes to disk with the
// first commit in it. w.mu is held.
func (w *WAL) activate(seg *segment) {
	seg.log = w.active.log + 1
	seg.stamp = w.o.Rand()
	seg.first = w.sequence + 1
	known := append(slices.Clone(*w.segments.Load()), seg)
	w.segments.Store(&known)
	w.active = seg
}

func segmentName(dir string, n int) string { return path.Join(dir, fmt.Sprintf("segment-%06d", n)) }

// newSpare makes a segment file of zeros, durable with its name.
func (w *WAL) newSpare() (*segment, error) {
	w.nextFile++
	name := segmentName(w.o.Dir, w.nextFile)
	f, err := w.o.FS.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err := w.fill(f); err != nil {
		w.fillFailed = time.Now()
		return nil, errors.Join(fmt.Errorf("fill %s: %w", name, err), f.Close(), w.o.FS.Remove(name))
	}
	if err := w.o.FS.SyncDir(w.o.Dir); err != nil {
		w.fillFailed = time.Now()
		return nil, errors.Join(fmt.Errorf("sync %s: %w", w.o.Dir, err), f.Close(), w.o.FS.Remove(name))
	}
	return &segment{file: f}, nil
}

// fillPiece is how many bytes of zeros are written at once.
const fillPiece = 1 << 20

// fill gives a file all its blocks, and writes zeros to them as long as nobody
// appends about as fast. A block that was written is written again without the
// journal of the file system; but when the device is busy, zeros take half of what
// it can write, and that costs more (docs/design/0001).
func (w *WAL) fill(f disk.File) error {
	size := w.o.SegmentSize
	must := false
	if err := f.Allocate(int64(size)); errors.Is(err, errors.ErrUnsupported) {
		must = true // only zeros take the space
	} else if err != nil {
		return err
	}
	zeros := make([]byte, min(size, fillPiece))
	for at := 0; at < size; at += len(zeros) {
		before := w.counts.bytes.Load()
		if _, err := f.WriteAt(zeros[:min(len(zeros), size-at)], int64(at)); err != nil {
			return err
		}
		if !must && w.counts.bytes.Load()-before > fillPiece*3/4 {
			break
		}
	}
	return f.Sync()
}

// Release says that the owner does not need the frame any more. What outdates
// it (a copy, a trim, newer state) must have been appended before: the segment
// is not recycled before that is on disk.
func (w *WAL) Release(ref Ref) { w.release(ref.Segment, ref.frameBytes()) }

// ReleaseAll is Release of many frames. Those of one segment that follow each
// other are let go of at once.
func (w *WAL) ReleaseAll(refs []Ref) {
	for len(refs) > 0 {
		n, bytes := 0, int64(0)
		for n < len(refs) && refs[n].Segment == refs[0].Segment {
			bytes += refs[n].frameBytes()
			n++
		}
		w.release(refs[0].Segment, bytes)
		refs = refs[n:]
	}
}

func (w *WAL) release(segment uint32, bytes int64) {
	seg := w.segmentOf(segment)
	if seg == nil {
		return
	}
	live := seg.live.Add(-bytes)
	if live < 0 {
		panic(fmt.Sprintf("wal: frames of segment %d were released twice: %d live bytes in it", segment, live))
	}
	if live == 0 {
		w.wantSpare()
	}
}

// Reclaimable says that the owner could release so many more bytes of a segment
// (or fewer, below 0), and will when it is asked to relocate it. They count as
// live until then, and as free in [WAL.Fullness].
func (w *WAL) Reclaimable(segment uint32, bytes int64) {
	seg := w.segmentOf(segment)
	if seg == nil {
		return
	}
	seg.reclaimable.Add(bytes)
	if bytes > 0 {
		w.wantSpare() // it may be what the preparer found too little of
	}
}

func (w *WAL) segmentOf(log uint32) *segment {
	known := *w.segments.Load()
	i, found := slices.BinarySearchFunc(known, uint64(log), func(s *segment, log uint64) int { return cmp.Compare(s.log, log) })
	if !found {
		return nil
	}
	return known[i]
}

// wantSpare wakes the preparer.
func (w *WAL) wantSpare() {
	select {
	case w.prepare <- struct{}{}:
	default:
	}
}

// retryPause is how long after a file was filled in vain another is tried. Filling
// takes the rest of a full disk from everybody else for a moment.
const retryPause = time.Second

// prepareLoop keeps spares ready: it recycles what is dead, makes new files
// within the capacity, and copies live frames forward when neither is enough.
// While no file can be made it looks now and then whether one can.
func (w *WAL) prepareLoop(ctx context.Context) {
	for {
		var again <-chan time.Time
		if w.short() != nil {
			again = time.After(retryPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.prepare:
		case <-again:
		}
		for ctx.Err() == nil && w.maintain(ctx) {
		}
		w.mu.Lock()
		w.passes++
		w.broadcast()
		w.mu.Unlock()
	}
}

// spareTarget is how many spares are kept ready.
const spareTarget = 3 // two for the slack of Admit, one to go on

// maintain does one step and reports whether another may help.
func (w *WAL) maintain(ctx context.Context) bool {
	if w.recycleOldest(ctx) {
		return true
	}
	w.mu.Lock()
	files, most := w.files, int(w.o.Capacity/int64(w.o.SegmentSize))
	spares := len(w.spares)
	_, prepared := w.room(Internal)
	wanted := spares < spareTarget || prepared < w.demand
	if !wanted {
		w.demand = 0
	}
	// A log that is restarted when it is full goes beyond its capacity by what
	// the cleaner needs to bring it back, and no further.
	allowed := files < most || w.cleanerLacks(prepared) && guard.Check("wal.most-files", files < w.mostFiles)
	wanted = wanted || allowed && files >= most
	short := w.prepErr != nil
	dead := w.dead != nil
	w.mu.Unlock()
	switch {
	case dead:
		return false
	case allowed && (wanted || short):
		if w.mayFill() && w.makeSpare() {
			return true
		}
	case short: // and it needs no more files
		w.noteShort(nil)
	}
	if w.runsShort() {
		return w.relocateOldest(ctx)
	}
	return false
}

// cleanerLacks reports whether so much in segments that are ready is too little to copy
// the oldest one forward. w.mu is held.
func (w *WAL) cleanerLacks(prepared int64) bool {
	known := *w.segments.Load()
	return len(w.spares) == 0 || known[0] != w.active && prepared <= w.relocationNeeds(known[0]) && w.worthRelocating(known)
}

// relocationNeeds is what is to be ready to copy a segment forward: less than what Admit
// leaves, or a full log would stay full.
func (w *WAL) relocationNeeds(seg *segment) int64 {
	return relocationRoom(seg.live.Load()) + int64(w.o.MaxPayload)
}

// surplus reports whether another spare would be more than the log needs, which has
// more files than its capacity. w.mu is held.
func (w *WAL) surplus() bool {
	_, prepared := w.room(Internal)
	return int64(w.files) > w.o.Capacity/int64(w.o.SegmentSize) && len(w.spares) >= spareTarget && prepared >= w.demand
}

// runsShort reports whether so little is left that it is time to copy forward: well
// before Produce is refused.
func (w *WAL) runsShort() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := int64(w.o.SegmentSize)
	capacity, reserve := w.budget()
	unused := (capacity/size - int64(w.files-len(w.spares))) * size
	return unused < max(capacity/4, reserve+w.slack(Produce)+2*size)
}

// budget is what the log may take, and what Produce cannot have of it. Where no
// further file can be made, that is the files there are, and their share of the
// reserve. w.mu is held.
func (w *WAL) budget() (capacity, reserve int64) {
	capacity, reserve = w.o.Capacity, w.o.Reserve
	if most, files := capacity/int64(w.o.SegmentSize), int64(w.files); w.prepErr != nil && files < most {
		return files * int64(w.o.SegmentSize), reserve / most * files
	}
	return capacity, reserve
}

// short says why no spare can be made, or nil.
func (w *WAL) short() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prepErr
}

// mayFill reports whether a file is to be tried. After one could not be filled, that
// is a while later, and only when there is room, as far as the disk can say.
func (w *WAL) mayFill() bool {
	why := w.short()
	if why == nil {
		return true
	}
	if !guard.Check("wal.fill-pause", time.Since(w.fillFailed) >= retryPause) {
		return false
	}
	if !disk.IsNoSpace(why) {
		return true
	}
	free, total, err := w.o.FS.Space(w.o.Dir)
	return guard.Check("wal.fill-space", err != nil || total == 0 || free >= int64(w.o.SegmentSize))
}

// makeSpare makes one more spare, and reports whether it could.
func (w *WAL) makeSpare() bool {
	seg, err := w.newSpare()
	if err != nil {
		w.noteShort(spareError(err))
		return false
	}
	w.mu.Lock()
	w.files++
	w.spares = append(w.spares, seg)
	w.mu.Unlock()
	w.noteShort(nil)
	return true
}

// noteShort says why no spare can be made, or that one can: in the log when that
// changes.
func (w *WAL) noteShort(why error) {
	w.mu.Lock()
	was := w.prepErr
	w.prepErr = why
	w.broadcast()
	w.mu.Unlock()
	full := errors.Is(why, ErrFull)
	switch {
	case why == nil && was == nil, why != nil && was != nil && full == errors.Is(was, ErrFull):
	case why == nil:
		w.o.Log.Info("WAL segments can be made again", "dir", w.o.Dir)
	case full:
		w.o.Log.Warn("no room for another WAL segment", "dir", w.o.Dir, "error", why)
	default:
		w.o.Log.Error("the disk failed as a WAL segment was made", "dir", w.o.Dir, "error", why)
	}
}

// spareError says what it means that no spare could be made: no space and no
// file to open pass by themselves.
func spareError(err error) error {
	if !guard.Check("wal.disk-ill", disk.IsNoSpace(err) || disk.IsNoFile(err)) {
		return fmt.Errorf("%w: %w", ErrNoSegment, err)
	}
	return fmt.Errorf("%w: %w", ErrFull, err)
}

// recycleOldest turns the oldest segment into a spare when nothing in it is
// needed, what outdates it is durable, and the log begins on disk without it. Its
// file keeps its old header until it is used again: where the log begins says that
// it is void, and clearing it would take a sync of its own.
func (w *WAL) recycleOldest(ctx context.Context) bool {
	w.mu.Lock()
	known := *w.segments.Load()
	seg := known[0]
	busy := seg == w.active || w.dead != nil
	w.mu.Unlock()
	if !guard.Check("wal.recycle-settled", !w.unsettled.Load()) {
		return false
	}
	if busy || !guard.Check("wal.recycle-live", seg.live.Load() == 0) {
		return false
	}
	if !guard.Check("wal.recycle-pinned", seg.users.CompareAndSwap(0, closing)) {
		return false // the last reader comes back here by endUse
	}
	if !guard.Check("wal.recycle-durable", false) {
		if err := w.beginAt(ctx, known[1].first); err != nil {
			seg.users.Store(0)
			return false
		}
	}
	w.mu.Lock()
	surplus := w.surplus()
	w.mu.Unlock()
	reuse := guard.Check("wal.retire", !seg.retire) && guard.Check("wal.surplus", !surplus)
	if !reuse {
		if err := w.remove(seg); err != nil {
			w.die(fmt.Errorf("recycle %s: %w", seg.file.Name(), err))
			return false
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := slices.Clone((*w.segments.Load())[1:])
	w.segments.Store(&rest)
	resident := *w.chunks.Load()
	keep := 0
	for keep < len(resident) && resident[keep].log == seg.log {
		w.evict(resident[keep])
		keep++
	}
	left := slices.Clone(resident[keep:])
	w.chunks.Store(&left)
	if reuse {
		w.spares = append(w.spares, &segment{file: seg.file})
	} else {
		w.files--
	}
	w.counts.recycled.Add(1)
	w.broadcast()
	return true
}

// beginAt says on disk that the log begins with that frame: without it, a lost
// oldest segment would look like a recycled one. What the owner appended before
// it released the last frame of that segment is on disk before: a power cut that
// tears a commit may leave the header of a group, which says where the log begins,
// and not the frames behind it. The header of the segment that follows is on disk
// after.
func (w *WAL) beginAt(ctx context.Context, first uint64) error {
	if !guard.Check("wal.begin-behind", false) {
		if err := w.settled(ctx); err != nil {
			return err
		}
	}
	w.begin.Store(first)
	return w.barrier(ctx, finalMark)
}

// settled waits until everything appended so far is on disk. It writes nothing
// of its own, and so needs no room.
func (w *WAL) settled(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	target, file := w.sequence, w.chunk.segment.file
	for w.completed < target {
		if w.dead != nil {
			return w.dead
		}
		w.hurry()
		if err := w.waitChange(ctx); err != nil {
			return err
		}
	}
	if w.o.Sync == SyncAlways {
		return nil
	}
	// The segments before this one were synced before it was written to.
	w.mu.Unlock()
	err := w.syncOrDie(file)
	w.mu.Lock()
	return err
}

// barrier waits until everything appended so far is on disk, and the owner was
// told so; at the end of the log stands a group that says what it begins with.
func (w *WAL) barrier(ctx context.Context, p privilege) error {
	done := make(committed, 1)
	w.mu.Lock()
	g, err := w.reserve(0, p)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	g.completions = append(g.completions, done)
	file := g.chunk.segment.file
	w.hurry()
	w.mu.Unlock()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && w.o.Sync == SyncInterval {
		err = w.syncOrDie(file)
	}
	return err
}

// syncOrDie syncs what SyncInterval leaves for later. It does not move durable,
// which is the committer's.
func (w *WAL) syncOrDie(file disk.File) error {
	err := w.syncAlone(file)
	if err != nil {
		w.die(err)
	}
	return err
}

// syncAlone syncs while nobody else does, and not after a sync that failed. The committer
// and the preparer both sync: the system tells one of a failure, and the other, beside it
// or later, that all is well, of pages that were dropped.
func (w *WAL) syncAlone(file disk.File) error {
	if !guard.Check("wal.one-sync", false) {
		w.syncing <- struct{}{}
		defer func() { <-w.syncing }()
	}
	if !guard.Check("wal.sync-dead", w.syncErr == nil) {
		return w.syncErr
	}
	if err := file.Sync(); err != nil {
		w.syncErr = fmt.Errorf("sync %s: %w", file.Name(), err)
		return w.syncErr
	}
	return nil
}

// committed is a Completion that passes its error on.
type committed chan error

func (c committed) Committed(err error) { c <- err }

// remove ends the file of a segment.
func (w *WAL) remove(seg *segment) error {
	if err := errors.Join(seg.file.Close(), w.o.FS.Remove(seg.file.Name())); err != nil {
		return err
	}
	return w.o.FS.SyncDir(w.o.Dir)
}

// waste is how much of the segment copying its live frames forward would win:
// what was released, or will be when the owner is asked, and the padding between
// frames that were not copies. Copies lie as densely as they can, until a restart
// ends their segment. w.mu is held.
func (w *WAL) waste(seg *segment) int64 {
	padding := int64(w.o.SegmentSize) - seg.filled - seg.tail
	return seg.filled - seg.live.Load() + seg.reclaimed() + seg.tail + padding*(seg.filled-seg.copied+1)/(seg.filled+1)
}

// reclaimed is the bytes that the owner would release.
func (s *segment) reclaimed() int64 { return max(min(s.reclaimable.Load(), s.live.Load()), 0) }

// worthRelocating reports whether room is to be had cheaply. Copying u live of 1
// forward wins 1-u, and goes round the whole log if it must: a good part of the
// log is to be waste, or nearly all of the oldest segment what the owner would
// release. w.mu is held.
func (w *WAL) worthRelocating(known []*segment) bool {
	size := int64(w.o.SegmentSize)
	if oldest := known[0]; oldest != w.active && oldest.reclaimed() > 0 && w.waste(oldest) >= size*3/4 {
		return true
	}
	var waste int64
	for _, seg := range known {
		if seg != w.active {
			waste += w.waste(seg)
		}
	}
	return waste >= max(2*size, int64(len(known))*size/4)
}

// relocateOldest has the owner copy what is live in the oldest segment forward,
// or give it up.
func (w *WAL) relocateOldest(ctx context.Context) bool {
	known := *w.segments.Load()
	oldest := known[0]
	w.mu.Lock()
	_, prepared := w.room(Internal)
	relocate := w.handed && oldest != w.active && prepared > w.relocationNeeds(oldest) && w.worthRelocating(known)
	w.relocating = relocate
	w.mu.Unlock()
	if !relocate {
		return false
	}
	err := w.o.Owner.Relocate(ctx, uint32(oldest.log))
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrDead) {
		w.o.Log.Warn("copying live frames forward failed", "dir", w.o.Dir, "segment", oldest.log, "error", err)
	}
	// The owner may release what it copied only once the copies are on disk.
	err = errors.Join(err, w.barrier(ctx, lastSpare))
	w.mu.Lock()
	w.relocating = false
	w.hurry() // without a barrier
	w.mu.Unlock()
	if err != nil {
		return false
	}
	w.counts.relocated.Add(1)
	return oldest.live.Load() == 0
}
