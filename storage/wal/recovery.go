package wal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// Open recovers the log of a directory, delivers its frames to the owner, and
// starts it. ctx bounds the opening. Errors: *CorruptionError,
// *disk.LockedError, and what the disk or the owner say.
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
		kick: make(chan struct{}, 1), prepare: make(chan struct{}, 1),
	}
	w.chunks.Store(&[]*chunk{})
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
}

// unconfirmed is a frame above the highest mark, with a copy of its bytes.
type unconfirmed struct {
	frame
	payload []byte
}

// recover finds the segments, delivers what is known to be on disk, rewrites
// the tail, and delivers that.
func (w *WAL) recover(ctx context.Context) error {
	scans, err := w.findSegments()
	if err != nil {
		return err
	}
	buf := make([]byte, w.o.SegmentSize)
	mark, err := highestMark(scans, buf)
	if err != nil {
		return err
	}
	known := make([]*segment, len(scans), len(scans)+1)
	for i, s := range scans {
		known[i] = s.seg
	}
	base := uint64(1)
	if len(scans) > 0 {
		base = scans[0].header.log
	}
	w.segments.Store(&segmentList{base, known})
	tail, err := w.replay(ctx, scans, mark, buf)
	if err != nil {
		return err
	}
	fresh, refs, err := w.rewriteTail(scans, mark, tail)
	if err != nil {
		return err
	}
	known = append(known, fresh)
	w.segments.Store(&segmentList{base, known})
	w.active = fresh
	w.sequence = mark + uint64(len(tail))
	w.durable.Store(w.sequence)
	w.written, w.marked = w.sequence, mark
	w.files = len(known) + len(w.spares)
	for i, f := range tail {
		if err := w.deliver(fresh, f.frame, refs[i], f.payload); err != nil {
			return err
		}
	}
	return nil
}

// findSegments opens every file of the directory, takes the spares apart, and
// returns the segments in order of log number.
func (w *WAL) findSegments() ([]*scan, error) {
	names, err := w.o.FS.List(w.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", w.o.Dir, err)
	}
	var scans []*scan
	for _, name := range names {
		number, ok := strings.CutPrefix(name, "segment-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		w.nextFile = max(w.nextFile, n)
		if err := w.openSegment(path.Join(w.o.Dir, name), &scans); err != nil {
			return nil, err
		}
	}
	// A file may be here whose name was never synced: the process that made it
	// was killed in between.
	if !guard.Check("wal.sync-found-names", false) {
		if err := w.o.FS.SyncDir(w.o.Dir); err != nil {
			return nil, fmt.Errorf("sync %s: %w", w.o.Dir, err)
		}
	}
	slices.SortFunc(scans, func(a, b *scan) int { return cmp.Compare(a.header.log, b.header.log) })
	for i, s := range scans {
		if i > 0 && !guard.Check("wal.segment-order", s.header.log == scans[i-1].header.log+1) {
			return nil, &CorruptionError{File: s.seg.file.Name(),
				Reason: fmt.Sprintf("segment %d follows segment %d: one between is missing", s.header.log, scans[i-1].header.log)}
		}
	}
	return scans, nil
}

// highestMark returns the highest sequence that any group says to be on disk.
// Every mark of an older segment is at most the one in the header of the
// newest, so only that one is read.
func highestMark(scans []*scan, buf []byte) (uint64, error) {
	if len(scans) == 0 {
		return 0, nil
	}
	newest := scans[len(scans)-1]
	if err := readWhole(newest.seg.file, buf); err != nil {
		return 0, err
	}
	mark := newest.header.mark
	for at := blockSize; at < len(buf); {
		g, ok := decodeGroupHeader(buf[at:], newest.seg.stamp)
		if !ok { // damaged or unused: what follows may still hold a mark
			at += blockSize
			continue
		}
		mark = max(mark, g.mark)
		at = alignBlock(at + int(g.length))
	}
	return mark, nil
}

func readWhole(f disk.File, buf []byte) error {
	if n, err := f.ReadAt(buf, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(buf)) {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return nil
}

// openSegment adds the file to the scans or the spares. A file that is shorter
// than a segment was being made when the process ended; it is removed.
func (w *WAL) openSegment(name string, scans *[]*scan) error {
	f, err := w.o.FS.Open(name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	seg := &segment{file: f}
	w.opened = append(w.opened, seg)
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", name, err)
	}
	head := make([]byte, min(size, blockSize))
	if n, err := f.ReadAt(head, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(head)) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	h, err := decodeSegmentHeader(head)
	switch {
	case errors.Is(err, errSpare) && size == int64(w.o.SegmentSize):
		w.spares = append(w.spares, seg)
		return nil
	case errors.Is(err, errSpare):
		w.opened = w.opened[:len(w.opened)-1]
		if err := errors.Join(f.Close(), w.o.FS.Remove(name)); err != nil {
			return fmt.Errorf("remove the unfinished %s: %w", name, err)
		}
		return nil
	case err != nil:
		return &CorruptionError{File: name, Reason: err.Error()}
	case size != int64(w.o.SegmentSize):
		return &CorruptionError{File: name, Offset: size, Reason: fmt.Sprintf("segment of %d bytes where wal.segment_size is %d", size, w.o.SegmentSize)}
	}
	seg.log, seg.stamp, seg.first, seg.headed = h.log, h.stamp, h.first, true
	*scans = append(*scans, &scan{seg: seg, header: h})
	return nil
}

// walk calls f for every whole frame of a segment until f says no; what is
// damaged is stepped over, and missed by its sequence.
func walk(seg *segment, buf []byte, f func(at int, fr frame, payload []byte, err error) bool) {
	for at := blockSize; at+groupHeaderSize <= len(buf); {
		g, ok := decodeGroupHeader(buf[at:], seg.stamp)
		if !ok {
			at += blockSize
			continue
		}
		end := min(at+int(g.length), len(buf))
		for pos := at + groupHeaderReserve; pos+frameHeaderSize <= end; {
			fr, payload, err := decodeFrame(buf[pos:end], seg.stamp)
			if err != nil && !errors.Is(err, errUnknownFrame) {
				break
			}
			if !f(pos, fr, payload, err) {
				return
			}
			pos += frameSize(fr.length)
		}
		at = alignBlock(at + int(g.length))
	}
}

// replay delivers the frames up to the mark, and returns those that follow
// whole above it. This is the decision of recovery:
//
//	frame is …            at or below the mark    above it
//	whole, in sequence    delivered               tail
//	superseded            skipped                 skipped
//	missing or damaged    corruption              end of the log
//	of a newer rustmq     refused                 refused
func (w *WAL) replay(ctx context.Context, scans []*scan, mark uint64, buf []byte) (tail []unconfirmed, err error) {
	if len(scans) == 0 {
		return nil, nil
	}
	next := scans[0].header.first
	ended := false // above the mark a frame is missing: the log ends there
	for i, s := range scans {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := readWhole(s.seg.file, buf); err != nil {
			return nil, err
		}
		limit := ^uint64(0) // where a later segment takes over
		for _, later := range scans[i+1:] {
			limit = min(limit, later.header.first)
		}
		walk(s.seg, buf, func(at int, f frame, payload []byte, unknown error) bool {
			switch {
			case !guard.Check("wal.supersede", f.sequence < limit):
				return false
			case f.sequence != next && next <= mark:
				if !guard.Check("wal.sequence", false) {
					err = &CorruptionError{File: s.seg.file.Name(), Offset: int64(at),
						Reason: fmt.Sprintf("frame %d, which was synced, is missing or damaged; frame %d follows", next, f.sequence)}
					return false
				}
			case f.sequence != next:
				ended = true
				return false
			case unknown != nil:
				err = &CorruptionError{File: s.seg.file.Name(), Offset: int64(at), Reason: unknown.Error()}
				return false
			}
			next = f.sequence + 1
			if f.sequence > mark {
				tail = append(tail, unconfirmed{f, bytes.Clone(payload)})
				return true
			}
			ref := Ref{Segment: uint32(s.seg.log), Offset: uint32(at), Length: uint32(f.length)}
			err = w.deliver(s.seg, f, ref, payload)
			return err == nil
		})
		if err != nil || ended {
			return tail, err
		}
	}
	if !guard.Check("wal.mark", next > mark) {
		last := scans[len(scans)-1].seg
		return nil, &CorruptionError{File: last.file.Name(), Reason: fmt.Sprintf("the log ends before frame %d, and frame %d was synced", next, mark)}
	}
	return tail, nil
}

// deliver gives one frame to the owner, and counts what is live.
func (w *WAL) deliver(seg *segment, f frame, ref Ref, payload []byte) error {
	if f.Kind == KindData || f.Kind == KindState {
		seg.live.Add(ref.frameBytes())
	}
	if err := w.o.Owner.Replay(f.Header, ref, payload); err != nil {
		return fmt.Errorf("replay frame %d of %s: %w", f.sequence, seg.file.Name(), err)
	}
	return nil
}

// rewriteTail puts the frames above the mark into a fresh segment, for nobody
// knows whether they are on disk, and only then writes the header that makes
// it count. There is always a fresh segment, so that none is appended to after
// a restart.
func (w *WAL) rewriteTail(scans []*scan, mark uint64, tail []unconfirmed) (*segment, []Ref, error) {
	if len(w.spares) == 0 {
		seg, err := w.newSpare()
		if err != nil {
			return nil, nil, err
		}
		w.opened = append(w.opened, seg)
		w.spares = append(w.spares, seg)
	}
	fresh := w.spares[0]
	w.spares = w.spares[1:]
	fresh.log, fresh.stamp, fresh.first, fresh.headed = 1, w.o.Rand(), mark+1, true
	if len(scans) > 0 {
		fresh.log = scans[len(scans)-1].header.log + 1
	}
	w.chunk = &chunk{segment: fresh, log: fresh.log, base: blockSize}
	refs, err := w.rewrite(fresh, mark, tail)
	if err != nil {
		return nil, nil, err
	}
	header := make([]byte, blockSize)
	segmentHeader{log: fresh.log, first: fresh.first, mark: mark, stamp: fresh.stamp}.encode(header)
	if err := fresh.file.WriteSync([][]byte{header}, 0); err != nil {
		return nil, nil, fmt.Errorf("write the header of %s: %w", fresh.file.Name(), err)
	}
	return fresh, refs, nil
}

// rewrite writes the tail as one group and syncs it.
func (w *WAL) rewrite(fresh *segment, mark uint64, tail []unconfirmed) ([]Ref, error) {
	if len(tail) == 0 {
		return nil, nil
	}
	size := groupHeaderReserve
	for _, f := range tail {
		size += frameSize(f.length)
	}
	if size > w.o.SegmentSize-2*blockSize {
		return nil, fmt.Errorf("recover %s: %d bytes were appended and not confirmed, more than a segment", w.o.Dir, size)
	}
	buf := make([]byte, alignBlock(size))
	refs := make([]Ref, len(tail))
	at := groupHeaderReserve
	for i, f := range tail {
		refs[i] = Ref{Segment: uint32(fresh.log), Offset: uint32(blockSize + at), Length: uint32(f.length)}
		encodeFrame(buf[at:at+frameSize(f.length)], &f.Header, fresh.stamp, f.sequence, f.payload)
		at += frameSize(f.length)
	}
	groupHeader{stamp: fresh.stamp, first: mark + 1, mark: mark, length: uint32(size), count: uint32(len(tail))}.encode(buf)
	if err := fresh.file.WriteSync([][]byte{buf}, blockSize); err != nil {
		return nil, fmt.Errorf("rewrite the tail into %s: %w", fresh.file.Name(), err)
	}
	w.chunk.used = len(buf)
	return refs, nil
}
