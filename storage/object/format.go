package object

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/crc"
	"rustmq.dev/rustmq/storage/guard"
)

// Sizes of the layout, see doc.go.
const (
	HeaderSize = 96 // of the header at the start of an object
	FooterSize = 64 // of the footer at its end

	indexHead      = 104 // of an index block before the topic's name
	directoryHead  = 24
	directoryEntry = 56
	sealAt         = 8 // where the CRC of each structure stands
)

// The first bytes of each structure; the last one is the version.
const (
	headerMagic    = "RMQOBJ\x00\x01"
	indexMagic     = "RMQIDX\x00\x01"
	directoryMagic = "RMQDIR\x00\x01"
	footerMagic    = "RMQFTR\x00\x01"
)

var castagnoli = crc.Castagnoli

// Header is what an object says of itself.
type Header struct {
	ID          storage.ObjectID
	Cluster     string // see CheckCluster
	Incarnation uint32
	Broker      int32 // that made it
}

// Extent is a piece of an object with the CRC32C that it carries.
type Extent struct {
	Position int64
	Length   uint32
	CRC      uint32
}

// End is the position after the last byte.
func (e Extent) End() int64 { return e.Position + int64(e.Length) }

// Entry names one range of an object, and its index block.
type Entry struct {
	Partition storage.PartitionID
	Base, End storage.Offset
	Index     Extent
}

// ComparePartitions orders ranges in an object: by topic id, then by index.
func ComparePartitions(a, b storage.PartitionID) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
}

// CorruptionError says where an object is damaged.
type CorruptionError struct {
	Object   storage.ObjectID // 0 where that is not known
	Position int64            // byte of the object
	Reason   string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s is corrupt at byte %d: %s", objectName(e.Object), e.Position, e.Reason)
}

// objectName is how errors name an object.
func objectName(id storage.ObjectID) string {
	if id == 0 {
		return "the object"
	}
	return "object " + id.String()
}

func corrupt(id storage.ObjectID, position int64, format string, args ...any) *CorruptionError {
	return &CorruptionError{Object: id, Position: position, Reason: fmt.Sprintf(format, args...)}
}

// UnknownFormatError says that a part of an object is whole, and of a version
// that this rustmq does not know: a newer one wrote it, and has to read it.
type UnknownFormatError struct {
	Object   storage.ObjectID // 0 where that is not known
	Position int64
	Part     string
	Version  uint8
}

func (e *UnknownFormatError) Error() string {
	return fmt.Sprintf("%s, byte %d: version %d of the %s is not known to this version of rustmq; a newer one wrote it", objectName(e.Object), e.Position, e.Version, e.Part)
}

// checksum is the CRC32C of a structure but for the CRC in it.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:sealAt], castagnoli), castagnoli, b[sealAt+4:])
}

// seal writes the CRC of a structure into it, and returns it.
func seal(b []byte) uint32 {
	sum := checksum(b)
	binary.LittleEndian.PutUint32(b[sealAt:], sum)
	return sum
}

// sealed is the CRC that a structure carries.
func sealed(b []byte) uint32 { return binary.LittleEndian.Uint32(b[sealAt:]) }

// hasMagic reports whether b begins as a structure of some version does.
func hasMagic(b []byte, magic string) bool {
	return len(b) > sealAt+4 && string(b[:7]) == magic[:7]
}

// known returns an error unless b, which is whole, is of the version of magic.
func known(b []byte, magic, part string, id storage.ObjectID, position int64) error {
	if !guard.Check("object.version", b[7] == magic[7]) {
		return &UnknownFormatError{Object: id, Position: position, Part: part, Version: b[7]}
	}
	return nil
}

func (h *Header) validate() error {
	if h.ID == 0 {
		return errors.New("object id 0 names no object")
	}
	return CheckCluster(h.Cluster)
}

func (h *Header) encode() []byte {
	b := make([]byte, HeaderSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[12:], h.Incarnation)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.ID))
	binary.LittleEndian.PutUint32(b[24:], uint32(h.Broker))
	binary.LittleEndian.PutUint32(b[28:], uint32(len(h.Cluster)))
	copy(b[32:], h.Cluster)
	seal(b)
	return b
}

// DecodeHeader reads the first [HeaderSize] bytes of an object.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || !hasMagic(b, headerMagic) {
		return Header{}, corrupt(0, 0, "not the header of an object")
	}
	b = b[:HeaderSize]
	if !guard.Check("object.header-crc", checksum(b) == sealed(b)) {
		return Header{}, corrupt(0, 0, "header: crc32c is %08x, it says %08x", checksum(b), sealed(b))
	}
	h := Header{
		ID:          storage.ObjectID(binary.LittleEndian.Uint64(b[16:])),
		Incarnation: binary.LittleEndian.Uint32(b[12:]),
		Broker:      int32(binary.LittleEndian.Uint32(b[24:])),
	}
	if err := known(b, headerMagic, "header", h.ID, 0); err != nil {
		return Header{}, err
	}
	n := binary.LittleEndian.Uint32(b[28:])
	if n > maxCluster {
		return Header{}, corrupt(h.ID, 28, "header: cluster id of %d bytes", n)
	}
	h.Cluster = string(b[32 : 32+n])
	if err := h.validate(); err != nil {
		return Header{}, corrupt(h.ID, 28, "header: %v", err)
	}
	return h, nil
}
