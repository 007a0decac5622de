package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// Open recovers the log of a directory, delivers its frames to the owner, and
// starts it. ctx bounds the opening. Errors: *CorruptionError, *UnknownFormatError,
// *SegmentSizeError, *disk.LockedError, and what the disk or the owner say.
func Open(ctx context.Context, o Options) (*WAL, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("open the write-ahead log in %s: %w", o.Dir, err)
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("make %s: %w", o.Dir, err)
	}
	lock, err := o.FS.Lock(path.Join(o.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	w := &WAL{
		o: o, lock: lock, changed: make(chan struct{}),
		kick: make(chan struct{}, 1), prepare: make(chan struct{}, 1), syncing: make(chan struct{}, 1),
	}
	w.counts.began = time.Now()
	w.chunks.Store(&[]*chunk{})
	w.segments.Store(&[]*segment{})
	if err := w.recover(ctx); err != nil {
		for _, seg := range w.opened {
			err = errors.Join(err, seg.file.Close())
		}
		return nil, errors.Join(err, lock.Close())
	}
	running, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.done.Go(func() { w.commitLoop(running) })
	w.done.Go(func() { w.prepareLoop(running) })
	w.wantSpare()
	return w, nil
}

// scan is what recovery knows of one segment.
type scan struct {
	seg    *segment
	header segmentHeader
	size   int64 // of the file
}

// spare is what recovery knows of a file that is not in use.
type spare struct {
	seg   *segment
	first uint64 // the sequence with which the first group behind a header of zeros begins; 0: no group
	size  int64  // of the file
}

// unconfirmed is a frame above the highest mark, with a copy of its bytes.
type unconfirmed struct {
	frame
	payload []byte
}

// recover finds the segments, delivers what is known to be on disk, rewrites
// the tail, and delivers that.
func (w *WAL) recover(ctx context.Context) error {
	scans, spares, nothing, err := w.findSegments()
	if err != nil {
		return err
	}
	var buf []byte // of one segment; a new log needs none
	if len(scans) > 0 {
		buf = make([]byte, w.o.SegmentSize)
	}
	mark, begin, err := highestMarks(scans, buf)
	if err != nil {
		return err
	}
	news, err := w.retire(scans)
	if err != nil {
		return err
	}
	scans, void := voidRecycled(scans, begin)
	if len(scans) > 0 && !guard.Check("wal.begin", scans[0].seg.first <= begin) {
		return &CorruptionError{File: scans[0].seg.file.Name(),
			Reason: fmt.Sprintf("the log begins with frame %d, and frames from %d on were not recycled: a segment is missing", scans[0].seg.first, begin)}
	}
	known := make([]*segment, len(scans))
	for i, s := range scans {
		known[i] = s.seg
	}
	w.segments.Store(&known)
	tail, err := w.replay(ctx, scans, mark, buf)
	if err != nil {
		return err
	}
	last := mark + uint64(len(tail))
	if !guard.Check("wal.clean-end", last >= w.cleanEnd) {
		return &CorruptionError{File: path.Join(w.o.Dir, cleanName),
			Reason: fmt.Sprintf("the log was closed after frame %d, and frame %d is the last that is there: its last segment is missing", w.cleanEnd, last)}
	}
	if err := checkSpares(spares); err != nil {
		return err
	}
	if err := w.takeSpares(spares, len(known)); err != nil {
		return err
	}
	if w.clean {
		void = slices.DeleteFunc(void, func(seg *segment) bool {
			keep := !seg.retire && w.takesSpare(len(known))
			if keep {
				w.spares = append(w.spares, seg)
			}
			return keep
		})
	}
	void = append(void, nothing...)
	if news {
		if err := w.noteRetired(scans); err != nil {
			return w.withoutRoom(fmt.Errorf("write which segments may have failed: %w", err))
		}
	}
	if err := w.readySpare(); err != nil {
		return w.withoutRoom(err)
	}
	// From here on only a disk that fails refuses the start.
	if err := w.dropCleanNote(); err != nil {
		return err
	}
	if w.torn {
		if err := w.noteCut(); err != nil {
			return w.withoutRoom(err)
		}
	}
	fresh, refs, err := w.rewriteTail(scans, mark, tail)
	if err != nil {
		return err
	}
	if known, err = w.dropSuperseded(known, fresh, void); err != nil {
		return err
	}
	known = append(known, fresh)
	w.segments.Store(&known)
	w.active = fresh
	w.sequence, w.completed, w.written, w.marked = last, last, last, last
	w.durable.Store(last)
	w.begin.Store(known[0].first)
	w.files = len(known) + len(w.spares)
	w.mostFiles = max(len(known), int(w.o.Capacity/int64(w.o.SegmentSize))) + spareTarget
	for i, f := range tail {
		if err := w.deliver(fresh, f.frame, refs[i], f.payload); err != nil {
			return err
		}
	}
	return nil
}

// findSegments opens every file of the directory and returns the segments in
// order of log number, the spares, and files with a damaged header that hold nothing.
func (w *WAL) findSegments() (scans []*scan, spares []*spare, void []*segment, err error) {
	names, err := w.o.FS.List(w.o.Dir)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list %s: %w", w.o.Dir, err)
	}
	var damaged []*broken
	for _, name := range names {
		number, ok := strings.CutPrefix(name, "segment-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		w.nextFile = max(w.nextFile, n)
		s, sp, d, err := w.openSegment(path.Join(w.o.Dir, name))
		if err == nil && d != nil && w.o.Lost == nil {
			err = d.why
		}
		if err != nil {
			return nil, nil, nil, err
		}
		if d != nil {
			damaged = append(damaged, d)
		}
		if s != nil {
			scans = append(scans, s)
		}
		if sp != nil {
			spares = append(spares, sp)
		}
	}
	if err := w.checkSizes(scans, spares); err != nil {
		return nil, nil, nil, err
	}
	w.cut.Store(slices.Contains(names, cutName))
	if slices.Contains(names, cleanName) {
		if err := w.readCleanNote(); err != nil {
			return nil, nil, nil, err
		}
	}
	if slices.Contains(names, lostName) {
		if err := w.readLost(); err != nil {
			return nil, nil, nil, err
		}
	}
	if scans, void, err = w.rebuild(scans, damaged); err != nil {
		return nil, nil, nil, err
	}
	slices.SortFunc(scans, func(a, b *scan) int { return cmp.Compare(a.header.log, b.header.log) })
	// A number may be missing: that of a segment whose header was read by an
	// earlier recovery and never reached the disk. Whether frames are missing is
	// for their sequence to say.
	for i, s := range scans {
		if i > 0 && s.header.log == scans[i-1].header.log {
			return nil, nil, nil, &CorruptionError{File: s.seg.file.Name(),
				Reason: fmt.Sprintf("segment %d is also in %s", s.header.log, scans[i-1].seg.file.Name())}
		}
	}
	return scans, spares, void, nil
}

// voidRecycled splits off the segments that end before the log begins: they were
// recycled, and not used again yet. What says so may be in the page cache alone.
func voidRecycled(scans []*scan, begin uint64) (rest []*scan, void []*segment) {
	for len(scans) > 1 && !guard.Check("wal.void-recycled", scans[1].seg.first > begin) {
		seg := scans[0].seg
		seg.log, seg.stamp, seg.first, seg.headed = 0, 0, 0, false
		void = append(void, seg)
		scans = scans[1:]
	}
	return scans, void
}

// highestMarks returns the highest sequence that any group or header says to be
// on disk, and the highest with which one says the log to begin. Both only grow,
// and the header of the newest segment has them as of its first commit, so only
// that segment is read.
func highestMarks(scans []*scan, buf []byte) (mark, begin uint64, err error) {
	if len(scans) == 0 {
		return 0, 0, nil
	}
	newest := scans[len(scans)-1]
	if err := readWhole(newest.seg.file, buf); err != nil {
		return 0, 0, err
	}
	for _, s := range scans {
		mark, begin = max(mark, s.header.mark), max(begin, s.header.begin)
	}
	groupMark, groupBegin := marksOf(buf, newest.seg.stamp)
	return max(mark, groupMark), max(begin, groupBegin), nil
}

// marksOf returns the highest mark of the groups of a segment, and the highest begin.
func marksOf(buf []byte, stamp uint64) (mark, begin uint64) {
	for at := blockSize; at < len(buf); {
		g, ok := decodeGroupHeader(buf[at:], stamp)
		if !ok { // damaged or unused: what follows may still hold a mark
			at += blockSize
			continue
		}
		mark, begin = max(mark, g.mark), max(begin, g.begin)
		at = alignBlock(at + int(g.length))
	}
	return mark, begin
}

func readWhole(f disk.File, buf []byte) error {
	if n, err := f.ReadAt(buf, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(buf)) {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return nil
}

// checkSizes refuses a log that was made with segments of another size, and segments
// that are of another size than the rest. A spare that is shorter was being made when
// the process ended.
func (w *WAL) checkSizes(scans []*scan, spares []*spare) error {
	want := int64(w.o.SegmentSize)
	for _, s := range scans {
		if guard.Check("wal.segment-size", s.size == want) {
			continue
		}
		for _, other := range scans {
			if other.size != s.size || s.size%blockSize != 0 {
				return &CorruptionError{File: s.seg.file.Name(), Offset: min(s.size, want), Reason: fmt.Sprintf("segment of %d bytes, others have %d", s.size, want)}
			}
		}
		return &SegmentSizeError{File: s.seg.file.Name(), Size: s.size, Want: want}
	}
	for _, sp := range spares {
		if sp.size > want {
			return &SegmentSizeError{File: sp.seg.file.Name(), Size: sp.size, Want: want}
		}
	}
	return nil
}

// openSegment says what a file is: a segment, a spare, or one with a damaged header.
func (w *WAL) openSegment(name string) (*scan, *spare, *broken, error) {
	f, err := w.o.FS.Open(name)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	seg := &segment{file: f}
	w.opened = append(w.opened, seg)
	size, err := f.Size()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("size of %s: %w", name, err)
	}
	head := make([]byte, min(size, blockSize+groupHeaderSize))
	if err := readWhole(f, head); err != nil {
		return nil, nil, nil, err
	}
	block := head[:min(len(head), blockSize)]
	h, err := decodeSegmentHeader(block)
	var unknown errUnknown
	switch blank := errors.Is(err, errBlank); {
	case errors.As(err, &unknown):
		return nil, nil, nil, &UnknownFormatError{File: name, Feature: err.Error()}
	case err != nil && !blank:
		return nil, nil, &broken{seg: seg, size: size, why: &CorruptionError{File: name, Reason: err.Error()}}, nil
	case blank:
		sp := &spare{seg: seg, size: size}
		if g, ok := decodeGroupHeader(head[len(block):], groupStamp(head[len(block):])); ok {
			sp.first = g.first
		}
		return nil, sp, nil, nil
	}
	seg.log, seg.stamp, seg.first = h.log, h.stamp, h.first
	seg.headed = true
	return &scan{seg: seg, header: h, size: size}, nil, nil, nil
}

// discard closes and removes a file; the caller syncs the directory.
func (w *WAL) discard(seg *segment) error {
	w.opened = slices.DeleteFunc(w.opened, func(s *segment) bool { return s == seg })
	if err := errors.Join(seg.file.Close(), w.o.FS.Remove(seg.file.Name())); err != nil {
		return fmt.Errorf("remove %s: %w", seg.file.Name(), err)
	}
	return nil
}

// dropSuperseded removes the segments of which fresh replaces every frame, so
// that a log that is restarted over and over does not grow, and those that fresh,
// which is on disk, says are void. One that comes back with a power cut is
// superseded still, or void.
func (w *WAL) dropSuperseded(known []*segment, fresh *segment, void []*segment) (rest []*segment, err error) {
	for _, seg := range known {
		if seg.first < fresh.first {
			rest = append(rest, seg)
		} else {
			void = append(void, seg)
		}
	}
	for _, seg := range void {
		if err := w.discard(seg); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// checkSpares refuses a spare that holds synced frames:
// it is a segment with a damaged header.
func checkSpares(spares []*spare) error {
	for _, sp := range spares {
		if sp.first == 0 {
			continue
		}
		mark, err := firstMarks(sp.seg)
		if err != nil {
			return err
		}
		if !guard.Check("wal.lost-header", mark < sp.first) {
			return &CorruptionError{File: sp.seg.file.Name(),
				Reason: fmt.Sprintf("the segment header is missing, and frames %d to %d, which were synced, follow it", sp.first, mark)}
		}
	}
	return nil
}

// takeSpares keeps the spares that are whole, beside so many segments, or after an
// unclean end makes room for new ones: one of them may have failed a write.
func (w *WAL) takeSpares(spares []*spare, segments int) error {
	for _, sp := range spares {
		if w.clean && sp.size == int64(w.o.SegmentSize) && w.takesSpare(segments) {
			w.spares = append(w.spares, sp.seg)
		} else if err := w.discard(sp.seg); err != nil {
			return err
		}
	}
	return nil
}

// takesSpare reports whether a log of so many segments is to have another spare: within
// the capacity, or for the cleaner, beside the one that becomes the newest segment.
func (w *WAL) takesSpare(segments int) bool {
	return segments+len(w.spares) < int(w.o.Capacity/int64(w.o.SegmentSize)) || len(w.spares) <= spareTarget
}

// firstMarks returns the highest mark of the unbroken run of groups at the
// start of a segment whose stamp is not known.
func firstMarks(seg *segment) (mark uint64, err error) {
	stamp := uint64(0)
	b := make([]byte, groupHeaderSize)
	for at := int64(blockSize); ; {
		if n, err := seg.file.ReadAt(b, at); err != nil && !(errors.Is(err, io.EOF) && n <= len(b)) {
			return 0, fmt.Errorf("read %s: %w", seg.file.Name(), err)
		} else if n < len(b) {
			return mark, nil
		}
		if at == blockSize {
			stamp = groupStamp(b)
		}
		g, ok := decodeGroupHeader(b, stamp)
		if !ok {
			return mark, nil
		}
		mark = max(mark, g.mark)
		at += int64(alignBlock(int(g.length)))
	}
}

// found is what walk comes upon.
type found struct {
	frame
	at      int // where it lies
	behind  int // where the last whole frame before it ends, or its group: a missing one lies there
	payload []byte
	unknown error // errUnknown or nil: the frame, or its group, is of a newer version
}

// walk calls f for every whole frame of a segment until f says no, and returns where
// the last of them ends, or its group. What is damaged is stepped over, and missed by
// its sequence; damaged, unless it is nil, is told of a frame whose group is whole.
func walk(seg *segment, buf []byte, f func(found) bool, damaged func(at int, why error)) (end int) {
	end = blockSize
	for at := blockSize; at+groupHeaderSize <= len(buf); {
		g, ok := decodeGroupHeader(buf[at:], seg.stamp)
		if !ok {
			at += blockSize
			continue
		}
		if !guard.Check("wal.group-flags", g.flags == 0) {
			unknown := errUnknown(fmt.Sprintf("group flags %#x", g.flags))
			if !f(found{frame: frame{sequence: g.first}, at: at, behind: end, unknown: unknown}) {
				return end
			}
		}
		next, to := alignBlock(at+int(g.length)), min(at+int(g.length), len(buf))
		for pos := at + groupHeaderReserve; ; {
			if pos+frameHeaderSize > to {
				end = min(next, len(buf))
				break
			}
			fr, payload, err := decodeFrame(buf[pos:to], seg.stamp)
			if err != nil && !errors.As(err, new(errUnknown)) {
				if damaged != nil {
					damaged(pos, err)
				}
				if end == at {
					end = pos
				}
				break
			}
			if !f(found{frame: fr, at: pos, behind: end, payload: payload, unknown: err}) {
				return end
			}
			pos += frameSize(fr.length)
			end = pos
		}
		at = next
	}
	return end
}

// replay delivers the frames up to the mark, and returns those that follow
// whole above it. This is the decision of recovery:
//
//	frame is …            at or below the mark            above it
//	whole, in sequence    delivered                       tail
//	superseded            skipped                         skipped
//	missing or damaged    corruption, or told ([Loss])    end of the log
//	of a newer rustmq     refused                         refused
func (w *WAL) replay(ctx context.Context, scans []*scan, mark uint64, buf []byte) (tail []unconfirmed, err error) {
	if len(scans) == 0 {
		return nil, nil
	}
	r := &replaying{w: w, mark: mark, next: scans[0].header.first}
	reading := readInTurn(scans, buf)
	defer reading.stop()
	var end placeOf // of the last frame in the segment before, or its group
	for i, s := range scans {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.buf, err = reading.next(); err != nil {
			return nil, err
		}
		limit := ^uint64(0) // where a later segment takes over
		for _, later := range scans[i+1:] {
			limit = min(limit, later.header.first)
		}
		r.before, r.here = r.here, placeOf{s.seg, blockSize}
		last := walk(s.seg, r.buf, func(f found) bool {
			if !guard.Check("wal.supersede", f.sequence < limit) {
				return false
			}
			if f.sequence != r.next && r.next <= mark {
				if err = r.missing(f, end); err != nil {
					return false
				}
			}
			if f.sequence != r.next {
				r.ended, w.torn = true, true
				return false
			}
			err = r.take(s.seg, f)
			return err == nil
		}, func(int, error) { // of a segment before the last, what comes next would be missing
			w.torn = w.torn || i == len(scans)-1 && r.next > mark
		})
		if err != nil || r.ended {
			return r.tail, err
		}
		end = placeOf{s.seg, last}
		if i == len(scans)-1 && !guard.Check("wal.cut-group-header", !remains(s.seg, r.buf, last)) {
			w.torn = true
		}
		s.seg.tail = max(0, int64(w.o.SegmentSize-last-w.o.MaxPayload-2*blockSize))
	}
	if r.next <= mark && w.o.Lost != nil {
		if err := r.salvage(mark+1, len(buf)); err != nil {
			return nil, err
		}
	}
	if !guard.Check("wal.mark", r.next > mark) {
		return nil, end.corruption("the log ends before frame %d, and frame %d was synced", r.next, mark)
	}
	return r.tail, nil
}

// missing decides what comes of it that a frame was found where an earlier one was due, or
// a later one, that was synced.
func (r *replaying) missing(f found, end placeOf) error {
	if r.w.o.Lost != nil && f.sequence > r.next {
		return r.salvage(f.sequence, f.at)
	}
	if guard.Check("wal.sequence", false) {
		r.next = f.sequence
		return nil
	}
	if r.here.seg.first <= r.next {
		end = placeOf{r.here.seg, f.behind}
	}
	return end.corruption("frame %d, which was synced, is missing or damaged; frame %d follows in %s at byte %d", r.next, f.sequence, r.here.seg.file.Name(), f.at)
}

// remains reports whether a group was begun behind the whole ones of a segment, of which
// not even the header is whole: it has the segment's stamp, as nothing else there has.
func remains(seg *segment, buf []byte, behind int) bool {
	for at := alignBlock(behind); at+groupHeaderSize <= len(buf); at += blockSize {
		if groupStamp(buf[at:]) == seg.stamp {
			return true
		}
	}
	return false
}

// placeOf is where in a segment a frame lies, or should.
type placeOf struct {
	seg *segment
	at  int
}

func (p placeOf) corruption(format string, args ...any) *CorruptionError {
	return &CorruptionError{File: p.seg.file.Name(), Offset: int64(p.at), Reason: fmt.Sprintf(format, args...)}
}

// deliver gives one frame to the owner, and counts what is live.
func (w *WAL) deliver(seg *segment, f frame, ref Ref, payload []byte) error {
	if f.Kind == KindData || f.Kind == KindState {
		seg.live.Add(ref.frameBytes())
	}
	seg.fill(ref.frameBytes(), f.Copy)
	if err := w.o.Owner.Replay(f.Header, ref, payload); err != nil {
		return fmt.Errorf("replay frame %d of %s: %w", f.sequence, seg.file.Name(), err)
	}
	return nil
}

// readySpare makes a spare for the tail, if there is none.
func (w *WAL) readySpare() error {
	if len(w.spares) > 0 {
		return nil
	}
	seg, err := w.newSpare()
	if err != nil {
		return err
	}
	w.opened = append(w.opened, seg)
	w.spares = append(w.spares, seg)
	return nil
}

// withoutRoom says of a start that the disk had no room for what a person can do.
func (w *WAL) withoutRoom(err error) error {
	if !disk.IsNoSpace(err) {
		return err
	}
	return fmt.Errorf("the disk is full, and each start needs a new segment, of %d bytes, in %s: make room for it (not in %[2]s, of which every file is needed) and start again; the log is whole: %w", w.o.SegmentSize, w.o.Dir, err)
}

// rewriteTail puts the frames above the mark into a fresh segment, for nobody
// knows whether they are on disk, and only then writes the header that makes
// it count. There is always a fresh segment, so that none is appended to after
// a restart.
func (w *WAL) rewriteTail(scans []*scan, mark uint64, tail []unconfirmed) (*segment, []Ref, error) {
	begin := mark + 1
	if len(scans) > 0 {
		begin = min(begin, scans[0].seg.first)
	}
	fresh := w.spares[0]
	w.spares = w.spares[1:]
	fresh.log, fresh.stamp, fresh.first = 1, w.o.Rand(), mark+1
	fresh.headed = true
	if len(scans) > 0 {
		fresh.log = scans[len(scans)-1].header.log + 1
	}
	w.chunk = &chunk{segment: fresh, log: fresh.log, base: blockSize}
	refs, err := w.rewrite(fresh, mark, begin, tail)
	if err != nil {
		return nil, nil, err
	}
	// The tail is on disk by now, so the header's mark covers it.
	header := fresh.header(mark+uint64(len(tail)), begin)
	if err := fresh.file.WriteSync([][]byte{header}, 0); err != nil {
		return nil, nil, fmt.Errorf("write the header of %s: %w", fresh.file.Name(), err)
	}
	return fresh, refs, nil
}

// rewrite writes the tail as one group and syncs it.
func (w *WAL) rewrite(fresh *segment, mark, begin uint64, tail []unconfirmed) ([]Ref, error) {
	if len(tail) == 0 {
		return nil, nil
	}
	size := groupHeaderReserve
	for _, f := range tail {
		size += frameSize(f.length)
	}
	if alignBlock(size) > w.o.SegmentSize-blockSize { // a commit is never larger than its segment
		return nil, fmt.Errorf("recover %s: %d bytes above the mark in segments of %d", w.o.Dir, size, w.o.SegmentSize)
	}
	buf := make([]byte, alignBlock(size))
	refs := make([]Ref, len(tail))
	at := groupHeaderReserve
	for i, f := range tail {
		refs[i] = Ref{Segment: uint32(fresh.log), Offset: uint32(blockSize + at), Length: uint32(f.length)}
		encodeFrame(buf[at:at+frameSize(f.length)], &f.Header, fresh.stamp, f.sequence, f.payload, Sum{})
		at += frameSize(f.length)
	}
	groupHeader{stamp: fresh.stamp, first: mark + 1, mark: mark, length: uint32(size), count: uint32(len(tail)), begin: begin}.encode(buf)
	if err := fresh.file.WriteSync([][]byte{buf}, blockSize); err != nil {
		return nil, fmt.Errorf("rewrite the tail into %s: %w", fresh.file.Name(), err)
	}
	w.chunk.used = len(buf)
	return refs, nil
}
