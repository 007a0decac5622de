package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Loss is frames that were synced and cannot be read back. Whose they were is not known:
// what can be said of it is in Frame.
type Loss struct {
	From, To uint64           // the sequences of the first and the last of them
	Why      *CorruptionError // where they lay, or should have

	// Frame is what the only frame that is lost seems to have been, by bytes that are not
	// what was written; nil: nothing can be said. Payload, valid during the call, is what
	// seems to have been its payload.
	Frame   *Header
	Payload []byte
}

// span is a run of frames.
type span struct{ from, to uint64 }

// replaying is a recovery on its way through the segments.
type replaying struct {
	w     *WAL
	mark  uint64
	next  uint64 // the sequence that is due
	ended bool   // above the mark a frame is missing: the log ends there
	tail  []unconfirmed
	// Where the last frame that was taken ends, or the segment begins: in the segment that
	// is walked, and in the one before.
	here, before placeOf
	buf          []byte // of the segment that is walked
}

// take delivers a frame at or below the mark, or keeps it for the tail.
func (r *replaying) take(seg *segment, f found) error {
	if f.unknown != nil {
		return &UnknownFormatError{File: seg.file.Name(), Offset: int64(f.at), Feature: f.unknown.Error()}
	}
	r.next = f.sequence + 1
	if r.here.seg == seg {
		r.here.at = f.at + frameSize(f.length)
	}
	if f.sequence > r.mark {
		r.tail = append(r.tail, unconfirmed{f.frame, slices.Clone(f.payload)})
		return nil
	}
	ref := Ref{Segment: uint32(seg.log), Offset: uint32(f.at), Length: uint32(f.length)}
	return r.w.deliver(seg, f.frame, ref, f.payload)
}

// salvage goes on over a hole of frames that were synced, up to one with the sequence below:
// it delivers those that are whole, which only the damage of their group, or of one before
// them in it, hides, and tells the owner of the others. The hole ends at byte to of the
// segment that is walked.
func (r *replaying) salvage(below uint64, to int) error {
	below = min(below, r.mark+1)
	if first := r.here.seg.first; r.before.seg != nil && first > r.next {
		other := make([]byte, len(r.buf))
		if err := readWhole(r.before.seg.file, other); err != nil {
			return err
		}
		if err := r.search(r.before, other, len(other), min(below, first)); err != nil {
			return err
		}
	}
	return r.search(r.here, r.buf, to, below)
}

// search delivers the frames of a segment that are whole between two places, and whose
// sequences are due before below, and tells the owner of the others. A frame is known by
// the segment's stamp, which nobody can guess, and its CRC.
func (r *replaying) search(from placeOf, buf []byte, to int, below uint64) error {
	for at := alignFrame(from.at); at+frameHeaderSize <= to && r.next < below; {
		stamp, sequence := identityOf(buf[at:])
		if stamp != from.seg.stamp || sequence < r.next || sequence >= below {
			at += frameAlign
			continue
		}
		f, payload, err := decodeFrame(buf[at:to], stamp)
		if err != nil && !errors.As(err, new(errUnknown)) {
			at += frameAlign
			continue
		}
		if err := r.lost(from, buf[:at], sequence); err != nil {
			return err
		}
		if err := r.take(from.seg, found{frame: f, at: at, payload: payload, unknown: err}); err != nil {
			return err
		}
		at += frameSize(f.length)
		from.at = at
	}
	return r.lost(from, buf[:to], below)
}

func alignFrame(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// identityOf reads what tells a frame from others, checked by nothing.
func identityOf(b []byte) (stamp, sequence uint64) {
	return binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
}

// lost tells the owner of the frames that are due before below, if there are any: they lay
// between a place and the end of buf.
func (r *replaying) lost(at placeOf, buf []byte, below uint64) error {
	if r.next >= below {
		return nil
	}
	l := Loss{From: r.next, To: below - 1}
	r.next = below
	r.w.losses = append(r.w.losses, span{l.From, l.To})
	if guard.Check("wal.loss-told", r.w.knownLost(l.From, l.To)) {
		return nil
	}
	r.w.unsettled.Store(true)
	if l.From == l.To {
		l.Frame, l.Payload, at.at = guess(at, buf, l.From)
	}
	l.Why = at.corruption("frames %d to %d, which were synced, are missing or damaged", l.From, l.To)
	if err := r.w.o.Lost(l); err != nil {
		return fmt.Errorf("go on without what is lost of %s: %w", at.seg.file.Name(), err)
	}
	return nil
}

// mostWrongBits of the 64 of a stamp may be wrong in one that is taken for it.
const mostWrongBits = 8

// guess returns what a damaged frame seems to be, and where it lies: the first that has
// both the stamp and the sequence; or else the first that has one of them, and for the
// other almost the stamp, or the place of that sequence: there may be others of the segment,
// that come later.
func guess(p placeOf, buf []byte, sequence uint64) (h *Header, payload []byte, at int) {
	best := -1
	for at := alignFrame(p.at); at+frameHeaderSize <= len(buf); at += frameAlign {
		stamp, number := identityOf(buf[at:])
		if stamp != p.seg.stamp && number != sequence {
			continue
		}
		if _, isGroup := decodeGroupHeader(buf[at:], stamp); isGroup {
			continue
		}
		if stamp == p.seg.stamp && number == sequence {
			best = at
			break
		}
		near := bits.OnesCount64(stamp^p.seg.stamp) <= mostWrongBits && number == sequence
		if best < 0 && guard.Check("wal.guess-is-due", near || stamp == p.seg.stamp && isDue(p, buf, at, sequence)) {
			best = at
		}
	}
	if best < 0 {
		return nil, nil, p.at
	}
	b := buf[best:]
	length := min(uint64(binary.LittleEndian.Uint32(b[4:])), uint64(len(b)-frameHeaderSize))
	return guessed(b), b[frameHeaderSize : frameHeaderSize+length], best
}

// isDue reports whether a place is where a frame with the sequence should lie: right behind
// p, or first in a group that begins with it.
func isDue(p placeOf, buf []byte, at int, sequence uint64) bool {
	if at == alignFrame(p.at) {
		return true
	}
	if at < blockSize+groupHeaderReserve {
		return false
	}
	g, ok := decodeGroupHeader(buf[at-groupHeaderReserve:], p.seg.stamp)
	return ok && g.first == sequence
}

// guessed reads a frame's header, checked by nothing.
func guessed(b []byte) *Header {
	return &Header{
		Kind:      Kind(b[24]),
		Copy:      b[25]&flagCopy != 0,
		Partition: storage.PartitionID{Topic: storage.TopicID(b[32:48]), Index: int32(binary.LittleEndian.Uint32(b[28:]))},
		Epoch:     storage.Epoch(binary.LittleEndian.Uint32(b[48:])),
		Offset:    storage.Offset(binary.LittleEndian.Uint64(b[56:])),
	}
}

// broken is a file whose header is neither that of a segment nor blank.
type broken struct {
	seg  *segment
	size int64
	why  *CorruptionError
}

// rebuild finds out what the files with damaged headers are. A segment's first group, which
// is written with the header or before it, says what the header said. What was recycled, or
// never used, holds nothing: it is returned as void. Others refuse the start.
func (w *WAL) rebuild(scans []*scan, damaged []*broken) (_ []*scan, void []*segment, err error) {
	if len(damaged) == 0 {
		return scans, nil, nil
	}
	buf := make([]byte, w.o.SegmentSize)
	var begin uint64
	for _, s := range scans {
		if s.size != int64(len(buf)) {
			return nil, nil, damaged[0].why
		}
		if err := readWhole(s.seg.file, buf); err != nil {
			return nil, nil, err
		}
		_, b := marksOf(buf, s.seg.stamp)
		begin = max(begin, b, s.header.begin)
	}
	for _, d := range damaged {
		if d.size != int64(len(buf)) {
			return nil, nil, d.why
		}
		if err := readWhole(d.seg.file, buf); err != nil {
			return nil, nil, err
		}
		first, ok := decodeGroupHeader(buf[blockSize:], groupStamp(buf[blockSize:]))
		switch {
		case ok && first.first >= begin:
			s, free := rebuilt(scans, d, first)
			if !free {
				return nil, nil, d.why
			}
			w.o.Log.Warn("the header of a segment is damaged; its first group says what it said", "file", d.seg.file.Name(), "segment", s.header.log, "first", s.header.first)
			scans = append(scans, s)
		case !ok && holdsFrom(buf, begin):
			return nil, nil, d.why
		default:
			// If it was the newest segment it held nothing, or what is not to be seen any more.
			w.o.Log.Warn("the header of a file that holds nothing is damaged", "file", d.seg.file.Name())
			w.torn = w.torn || !ok
			void = append(void, d.seg)
		}
	}
	return scans, void, nil
}

// rebuilt makes a segment of a file by its first group; false: there is no place for it
// among the others.
func rebuilt(scans []*scan, d *broken, g groupHeader) (s *scan, ok bool) {
	lower, upper := uint64(0), uint64(0)
	for _, other := range scans {
		switch {
		case other.header.first == g.first:
			return nil, false
		case other.header.first < g.first:
			lower = max(lower, other.header.log)
		case upper == 0 || other.header.log < upper:
			upper = other.header.log
		}
	}
	log := lower + 1
	if lower == 0 && upper > 0 {
		log = upper - 1
	}
	if log == 0 || upper > 0 && log >= upper {
		return nil, false
	}
	h := segmentHeader{log: log, first: g.first, mark: g.mark, stamp: g.stamp, begin: g.begin}
	d.seg.log, d.seg.stamp, d.seg.first, d.seg.headed = h.log, h.stamp, h.first, true
	return &scan{seg: d.seg, header: h, size: d.size}, true
}

// holdsFrom reports whether there is a group, of whatever stamp, that begins with a frame
// from begin on.
func holdsFrom(buf []byte, begin uint64) bool {
	for at := blockSize; at+groupHeaderSize <= len(buf); at += blockSize {
		if g, ok := decodeGroupHeader(buf[at:], groupStamp(buf[at:])); ok && g.first >= begin {
			return true
		}
	}
	return false
}
