package batch

import (
	"encoding/binary"

	"github.com/pierrec/lz4/v4"
)

// The frame of LZ4, as far as producers use it:
//
//	magic (4 bytes, little-endian)
//	flags: version 01, blocks independent, block checksums, content size,
//	       content checksum, reserved 0, dictionary
//	largest block: 0, 4 to 7 for 64 KiB, 256 KiB, 1 MiB, 4 MiB, 0 0 0 0
//	content size (8 bytes), where flagged; checksum of the header (1 byte)
//	blocks: length (4 bytes), bit 31 set of one that is not compressed; 0 ends them
//	checksum of the content (4 bytes), where flagged
const (
	lz4Magic       = 0x184D2204
	lz4FlagsMask   = 0b1111_0011 // all but the content's size and checksum
	lz4Usual       = 0b0110_0000 // version 1, independent blocks
	lz4HasSize     = 1 << 3
	lz4HasChecksum = 1 << 2
	lz4Stored      = 1 << 31 // a block that is not compressed
	lz4MostRatio   = 255     // bytes that a block makes of one, at most
	lz4LikelyRatio = 8       // for which memory is taken
	lz4LeastRatio  = 2       // with room for less it is not tried
)

// unlz4Plain expands one frame as producers make it: of blocks that stand alone, without
// checksums of their own. The checksum of the content is not looked at: the CRC of the batch
// is over the same bytes, and was. False: it is another frame, or one that is broken or
// expands beyond the limit, of which [lz4.Reader] says what it is.
func unlz4Plain(memory, src []byte, limit int64) ([]byte, bool) {
	const least = 4 + 1 + 1 + 1 + 4
	if len(src) < least || binary.LittleEndian.Uint32(src) != lz4Magic || src[4]&lz4FlagsMask != lz4Usual {
		return nil, false
	}
	flags, size := src[4], src[5]>>4
	if src[5]&0x8f != 0 || size < 4 {
		return nil, false
	}
	block := 1 << (8 + 2*size)
	src = src[6:]
	behind := 0
	if flags&lz4HasSize != 0 {
		behind += 8
	}
	if len(src) < behind+1 {
		return nil, false
	}
	src = src[behind+1:]
	dst := memory[:0:min(int64(cap(memory)), limit)]
	for {
		if len(src) < 4 {
			return nil, false
		}
		length := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if length == 0 {
			break
		}
		n, stored := int(length&^lz4Stored), length&lz4Stored != 0
		if n > len(src) || n > block {
			return nil, false
		}
		most := n
		if !stored {
			most = min(block, lz4MostRatio*n)
		}
		// Few blocks make as much as they could: what room there is, is tried first.
		if cap(dst)-len(dst) < min(most, lz4LeastRatio*n) {
			dst = roomFor(dst, min(most, lz4LikelyRatio*n), limit)
		}
		made, ok := expandBlock(dst, src[:n], most, stored)
		if !ok && cap(dst)-len(dst) < most {
			dst = roomFor(dst, most, limit)
			made, ok = expandBlock(dst, src[:n], most, stored)
		}
		if !ok {
			return nil, false
		}
		dst, src = dst[:len(dst)+made], src[n:]
	}
	behind = 0
	if flags&lz4HasChecksum != 0 {
		behind = 4
	}
	return dst, len(src) == behind
}

// expandBlock writes what a block makes, at most so many bytes, behind dst, where that has room
// for it.
func expandBlock(dst, block []byte, most int, stored bool) (made int, ok bool) {
	into := dst[len(dst):min(cap(dst), len(dst)+most)]
	if stored {
		return copy(into, block), len(into) >= len(block)
	}
	made, err := lz4.UncompressBlock(block, into)
	return made, err == nil
}

// roomFor is dst with room for n bytes more, unless that is beyond the limit.
func roomFor(dst []byte, n int, limit int64) []byte {
	size := min(int64(len(dst)+n), limit)
	if int64(cap(dst)) >= size {
		return dst
	}
	grown := make([]byte, len(dst), min(limit, max(size, 2*int64(cap(dst)))))
	copy(grown, dst)
	return grown
}
