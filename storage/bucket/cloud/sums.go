package cloud

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumKind says by which checksums a store may say what it has: each is a pass over all
// that is written.
type sumKind uint8

const (
	sumCRC32C sumKind = 1 << iota
	sumCRC32          // and those of the parts
)

// sums are the checksums of what is written, in the ways that a store reckons them.
type sums struct {
	kind       sumKind
	size       int64
	castagnoli uint32
	ieee       uint32 // of all, once there is more than a part

	partSize int64
	part     uint32 // IEEE, of the part that is being written
	inPart   int64
	parts    []byte // the IEEE sums of the parts before it, big-endian as S3 has them
}

func newSums(partSize int, kind sumKind) *sums { return &sums{partSize: int64(partSize), kind: kind} }

func (s *sums) add(p []byte) {
	s.size += int64(len(p))
	if s.kind&sumCRC32C != 0 {
		s.castagnoli = crc32.Update(s.castagnoli, castagnoli, p)
	}
	for s.kind&sumCRC32 != 0 && len(p) > 0 {
		n := min(int64(len(p)), s.partSize-s.inPart)
		s.part = crc32.Update(s.part, crc32.IEEETable, p[:n])
		if len(s.parts) > 0 {
			s.ieee = crc32.Update(s.ieee, crc32.IEEETable, p[:n])
		}
		if s.inPart += n; s.inPart == s.partSize {
			s.endPart()
		}
		p = p[n:]
	}
}

// ofPart is the CRC32 of a part that was added to its end, counted from 0.
func (s *sums) ofPart(n int) uint32 {
	if at := 4 * n; at < len(s.parts) {
		return binary.BigEndian.Uint32(s.parts[at:])
	}
	return s.part
}

// again returns a hash for what is read back, and what it has to come to.
func (s *sums) again() (hash.Hash32, uint32) {
	if s.kind&sumCRC32C != 0 {
		return crc32.New(castagnoli), s.castagnoli
	}
	return crc32.NewIEEE(), s.whole()
}

func (s *sums) endPart() {
	if len(s.parts) == 0 {
		s.ieee = s.part
	}
	s.parts = binary.BigEndian.AppendUint32(s.parts, s.part)
	s.part, s.inPart = 0, 0
}

// whole is the checksum of all.
func (s *sums) whole() uint32 {
	if len(s.parts) == 0 {
		return s.part
	}
	return s.ieee
}

// composite is S3's checksum of the checksums of the parts.
func (s *sums) composite() uint32 {
	parts := s.parts
	if s.inPart > 0 {
		parts = binary.BigEndian.AppendUint32(parts[:len(parts):len(parts)], s.part)
	}
	return crc32.ChecksumIEEE(parts)
}

// summing sums and writes on, so that the writer knows the sums of what it was given, and
// remembers whether it was the writer that failed.
type summing struct {
	w    io.Writer
	sums *sums
	err  error
}

func (s *summing) Write(p []byte) (int, error) {
	s.sums.add(p)
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
