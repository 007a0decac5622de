package wal

import (
	"errors"
	"fmt"
	"io"
	"math"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Limits of one read from a file.
const (
	maxReadGap  = 64 << 10 // bytes of other partitions that are read along
	maxReadSize = 1 << 20  // bytes of one pread, unless one frame is larger
)

// Read returns the payloads of frames of one partition from the files. The
// refs are in order; those that lie close together are read at once. Each frame
// is checked: its CRC, and that it is the partition's. buf is reused when it is
// large enough; the payloads lie in it or in what was made in its place, which
// is returned. Errors: ErrGone, *CorruptionError.
func (w *WAL) Read(partition storage.PartitionID, kind Kind, refs []Ref, buf []byte) (payloads [][]byte, memory []byte, err error) {
	total := 0
	for from := 0; from < len(refs); {
		to := extent(refs, from)
		total += int(refs[to-1].Offset-refs[from].Offset) + frameSize(int(refs[to-1].Length))
		from = to
	}
	if cap(buf) < total {
		buf = make([]byte, total)
	}
	memory = buf[:0]
	for from := 0; from < len(refs); {
		to := extent(refs, from)
		at := len(memory)
		n := int(refs[to-1].Offset-refs[from].Offset) + frameSize(int(refs[to-1].Length))
		memory = memory[:at+n]
		if payloads, err = w.readExtent(partition, kind, refs[from:to], memory[at:], payloads); err != nil {
			return nil, memory, err
		}
		from = to
	}
	return payloads, memory, nil
}

// extent returns the end of the refs from from that one pread serves.
func extent(refs []Ref, from int) int {
	to := from + 1
	for to < len(refs) && refs[to].Segment == refs[from].Segment && refs[to].Offset > refs[to-1].Offset {
		gap := int64(refs[to].Offset) - int64(refs[to-1].Offset) - refs[to-1].frameBytes()
		if gap > maxReadGap || int64(refs[to].Offset)+refs[to].frameBytes()-int64(refs[from].Offset) > maxReadSize {
			break
		}
		to++
	}
	return to
}

func (w *WAL) readExtent(partition storage.PartitionID, kind Kind, refs []Ref, b []byte, payloads [][]byte) ([][]byte, error) {
	seg := w.segmentOf(refs[0].Segment)
	if seg == nil || !seg.use() {
		return nil, fmt.Errorf("read segment %d: %w", refs[0].Segment, ErrGone)
	}
	defer w.endUse(seg)
	if n, err := seg.file.ReadAt(b, int64(refs[0].Offset)); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return nil, fmt.Errorf("read %d bytes of %s at %d: %w", len(b), seg.file.Name(), refs[0].Offset, err)
	}
	for _, ref := range refs {
		at := int(ref.Offset - refs[0].Offset)
		b := b[at : at+int(ref.frameBytes())]
		f, payload, err := decodeFrame(b, seg.stamp)
		if err != nil && w.reread(seg, ref, b) {
			f, payload, err = decodeFrame(b, seg.stamp)
		}
		if err == nil && !guard.Check("wal.frame-identity", f.Partition == partition && f.Kind == kind && f.length == int(ref.Length)) {
			err = fmt.Errorf("frame of %s, kind %s, where one of %s was expected", f.Partition, f.Kind, partition)
		}
		if err != nil {
			return nil, &CorruptionError{File: seg.file.Name(), Offset: int64(ref.Offset), Reason: err.Error()}
		}
		payloads = append(payloads, payload)
	}
	return payloads, nil
}

// reread gets a frame again that was not whole in the file: it may have been
// appended and not written yet, as a copy that was moved forward, and then it is
// in memory, or was written meanwhile.
func (w *WAL) reread(seg *segment, ref Ref, b []byte) bool {
	if c := w.find(ref); c != nil && w.pin(c, math.MaxInt64) { // for the time of a copy
		at := int64(ref.Offset) - c.base
		copy(b, c.buf[at:at+int64(len(b))])
		w.unpin(c)
		return true
	}
	n, _ := seg.file.ReadAt(b, int64(ref.Offset))
	return n == len(b)
}
