package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/crc"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	blockSize         = 4096 // of groups; no block is shared by two commits
	segmentHeaderSize = 52
	groupHeaderSize   = 56
	frameHeaderSize   = 64
	frameAlign        = 8

	segmentMagic = "RMQWAL\x00\x01"
	groupMagic   = 0x47514d52
)

var castagnoli = crc.Castagnoli

// Kind says what a frame is.
type Kind uint8

// Kinds of frames.
const (
	KindData     Kind = 1 // a record batch, or a raft entry
	KindState    Kind = 2 // the owner's state of a partition, which replaces the one before
	KindTruncate Kind = 3 // frames of the partition at or above Offset are void
	KindTrim     Kind = 4 // frames of the partition below Offset are not needed
	KindDrop     Kind = 5 // the partition is gone; index -1: the whole topic
)

const flagCopy = 1

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindState:
		return "state"
	case KindTruncate:
		return "truncate"
	case KindTrim:
		return "trim"
	case KindDrop:
		return "drop"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Header is what a frame says of its payload.
type Header struct {
	Kind      Kind
	Copy      bool // a copy of an older frame, moved so that its segment can be recycled
	Partition storage.PartitionID
	Epoch     storage.Epoch
	Offset    storage.Offset
}

// Ref is where a frame's payload lies. It holds no memory.
type Ref struct {
	Segment uint32 // log number
	Offset  uint32 // of the frame header in the segment
	Length  uint32 // of the payload
}

// frameBytes is what the frame takes in a group.
func (r Ref) frameBytes() int64 { return int64(frameSize(int(r.Length))) }

func frameSize(payload int) int {
	return (frameHeaderSize + payload + frameAlign - 1) &^ (frameAlign - 1)
}

func alignBlock(n int) int { return (n + blockSize - 1) &^ (blockSize - 1) }

// CorruptionError says where the log is damaged.
type CorruptionError struct {
	File   string
	Offset int64
	Reason string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s is corrupt at byte %d: %s", e.File, e.Offset, e.Reason)
}

// SegmentSizeError says that the log was made with segments of another size than it is
// opened with. Nothing is damaged.
type SegmentSizeError struct {
	File       string
	Size, Want int64 // bytes: of the file, and configured
}

func (e *SegmentSizeError) Error() string {
	return fmt.Sprintf("%s is a segment of %d bytes, and wal.segment_size is %d: it cannot change once there is a log, set it back to %d (or, if it is as it was, put the file back whole)",
		e.File, e.Size, e.Want, e.Size)
}

// segmentHeader is the first block of a segment. stamp is random: a log number
// is given anew when the header of its segment was lost in a power cut, and the
// groups of that segment must not count then.
type segmentHeader struct {
	log, first, mark, stamp, begin uint64
}

func (h segmentHeader) encode(b []byte) {
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], h.log)
	binary.LittleEndian.PutUint64(b[16:], h.first)
	binary.LittleEndian.PutUint64(b[24:], h.mark)
	binary.LittleEndian.PutUint64(b[32:], h.stamp)
	binary.LittleEndian.PutUint64(b[40:], h.begin)
	binary.LittleEndian.PutUint32(b[48:], crc32.Checksum(b[:48], castagnoli))
}

// errBlank says that a header block is all zero: the segment was never in use,
// or the header of its first life was lost with the groups behind it.
var errBlank = errors.New("blank segment header")

func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	if len(b) == 0 || bytes.Count(b, []byte{0}) == len(b) {
		return segmentHeader{}, errBlank
	}
	if len(b) < segmentHeaderSize || string(b[:7]) != segmentMagic[:7] {
		return segmentHeader{}, errors.New("not a segment header")
	}
	if got := crc32.Checksum(b[:48], castagnoli); !guard.Check("wal.segment-crc", got == binary.LittleEndian.Uint32(b[48:])) {
		return segmentHeader{}, errors.New("segment header: CRC mismatch")
	}
	if !guard.Check("wal.segment-version", b[7] == segmentMagic[7]) {
		return segmentHeader{}, errUnknown(fmt.Sprintf("segment format version %d", b[7]))
	}
	return segmentHeader{
		log:   binary.LittleEndian.Uint64(b[8:]),
		first: binary.LittleEndian.Uint64(b[16:]),
		mark:  binary.LittleEndian.Uint64(b[24:]),
		stamp: binary.LittleEndian.Uint64(b[32:]),
		begin: binary.LittleEndian.Uint64(b[40:]),
	}, nil
}

// groupHeader precedes the frames of one commit.
type groupHeader struct {
	stamp, first, mark uint64
	length, count      uint32
	begin, flags       uint64
}

func (h groupHeader) encode(b []byte) {
	binary.LittleEndian.PutUint32(b, groupMagic)
	binary.LittleEndian.PutUint64(b[8:], h.stamp)
	binary.LittleEndian.PutUint64(b[16:], h.first)
	binary.LittleEndian.PutUint64(b[24:], h.mark)
	binary.LittleEndian.PutUint32(b[32:], h.length)
	binary.LittleEndian.PutUint32(b[36:], h.count)
	binary.LittleEndian.PutUint64(b[40:], h.begin)
	binary.LittleEndian.PutUint64(b[48:], h.flags)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:groupHeaderSize], castagnoli))
}

// decodeGroupHeader reads a group header of the segment with that stamp.
// ok is false for anything else: stale, torn, damaged, or no header at all.
func decodeGroupHeader(b []byte, stamp uint64) (h groupHeader, ok bool) {
	if len(b) < groupHeaderSize || binary.LittleEndian.Uint32(b) != groupMagic {
		return h, false
	}
	if got := crc32.Checksum(b[8:groupHeaderSize], castagnoli); !guard.Check("wal.group-crc", got == binary.LittleEndian.Uint32(b[4:])) {
		return h, false
	}
	h = groupHeader{
		stamp:  binary.LittleEndian.Uint64(b[8:]),
		first:  binary.LittleEndian.Uint64(b[16:]),
		mark:   binary.LittleEndian.Uint64(b[24:]),
		length: binary.LittleEndian.Uint32(b[32:]),
		count:  binary.LittleEndian.Uint32(b[36:]),
		begin:  binary.LittleEndian.Uint64(b[40:]),
		flags:  binary.LittleEndian.Uint64(b[48:]),
	}
	return h, guard.Check("wal.group-stamp", h.stamp == stamp) && h.length >= groupHeaderSize
}

// groupStamp returns the stamp of what may be a group header.
func groupStamp(b []byte) uint64 {
	if len(b) < groupHeaderSize {
		return 0
	}
	return binary.LittleEndian.Uint64(b[8:])
}

// frame is a decoded frame header.
type frame struct {
	Header
	stamp, sequence uint64
	length          int
}

// encodeFrame writes header, payload and padding to b, which has frameSize
// bytes. The zero sum knows nothing of the payload.
func encodeFrame(b []byte, h *Header, stamp, sequence uint64, payload []byte, sum Sum) {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[8:], stamp)
	binary.LittleEndian.PutUint64(b[16:], sequence)
	b[24] = byte(h.Kind)
	b[25] = 0
	if h.Copy {
		b[25] = flagCopy
	}
	b[26], b[27] = 0, 0
	binary.LittleEndian.PutUint32(b[28:], uint32(h.Partition.Index))
	copy(b[32:48], h.Partition.Topic[:])
	binary.LittleEndian.PutUint32(b[48:], uint32(h.Epoch))
	binary.LittleEndian.PutUint32(b[52:], 0)
	binary.LittleEndian.PutUint64(b[56:], uint64(h.Offset))
	n := frameHeaderSize + copy(b[frameHeaderSize:], payload)
	clear(b[n:])
	summed := len(payload) - sum.From
	if sum.From == 0 || summed < crc.Worth {
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:n], castagnoli))
		return
	}
	binary.LittleEndian.PutUint32(b, crc.Combine(crc32.Checksum(b[4:n-summed], castagnoli), sum.CRC, summed))
}

// UnknownFormatError says that a part of the log is whole, and of a kind that
// this rustmq does not know: a newer one wrote it, and has to read it.
type UnknownFormatError struct {
	File    string
	Offset  int64
	Feature string
}

func (e *UnknownFormatError) Error() string {
	return fmt.Sprintf("%s, byte %d: %s is not known to this version of rustmq; a newer one wrote it", e.File, e.Offset, e.Feature)
}

// errUnknown is a frame or group that is whole, but not known.
type errUnknown string

func (e errUnknown) Error() string { return string(e) + " is not known" }

// decodeFrame reads the frame at the start of b, checks it against the
// stamp, and returns its payload, which aliases b.
func decodeFrame(b []byte, stamp uint64) (f frame, payload []byte, err error) {
	if len(b) < frameHeaderSize {
		return f, nil, errors.New("frame header is cut off")
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if uint64(length) > uint64(len(b)-frameHeaderSize) {
		return f, nil, fmt.Errorf("frame of %d bytes is cut off", length)
	}
	end := frameHeaderSize + int(length)
	if got := crc32.Checksum(b[4:end], castagnoli); !guard.Check("wal.frame-crc", got == binary.LittleEndian.Uint32(b)) {
		return f, nil, errors.New("frame: CRC mismatch")
	}
	f = frame{
		Header: Header{
			Kind:      Kind(b[24]),
			Copy:      b[25]&flagCopy != 0,
			Partition: storage.PartitionID{Topic: storage.TopicID(b[32:48]), Index: int32(binary.LittleEndian.Uint32(b[28:]))},
			Epoch:     storage.Epoch(binary.LittleEndian.Uint32(b[48:])),
			Offset:    storage.Offset(binary.LittleEndian.Uint64(b[56:])),
		},
		stamp:    binary.LittleEndian.Uint64(b[8:]),
		sequence: binary.LittleEndian.Uint64(b[16:]),
		length:   int(length),
	}
	if !guard.Check("wal.frame-stamp", f.stamp == stamp) {
		return f, nil, errors.New("frame of another life of the segment")
	}
	if !guard.Check("wal.frame-known", f.Kind >= KindData && f.Kind <= KindDrop && b[25]&^flagCopy == 0) {
		return f, nil, errUnknown(fmt.Sprintf("frame kind %d with flags %#x", b[24], b[25]))
	}
	return f, b[frameHeaderSize:end], nil
}
