package object

import (
	"encoding/binary"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// ReadAt fills p with the bytes of an object from off on. It is given by the
// caller, and bounds the waiting.
type ReadAt func(p []byte, off int64) error

// Directory is what an object holds.
type Directory struct {
	Object  storage.ObjectID
	Size    int64 // of the object, in bytes
	Batches int64
	Records int64
	Entries []Entry // in the order of ComparePartitions
}

// Find returns the range of a partition.
func (d *Directory) Find(p storage.PartitionID) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(d.Entries, p, func(e Entry, p storage.PartitionID) int { return ComparePartitions(e.Partition, p) })
	if !ok {
		return Entry{}, false
	}
	return d.Entries[i], true
}

// footer is the last piece of an object.
type footer struct {
	id               storage.ObjectID
	ranges           uint32
	size             int64
	directory        Extent
	batches, records int64
}

func (f *footer) append(b []byte) []byte {
	from := len(b)
	b = append(b, footerMagic...)
	b = binary.LittleEndian.AppendUint32(b, 0) // sealed below
	b = binary.LittleEndian.AppendUint32(b, f.ranges)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.id))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.directory.Position))
	b = binary.LittleEndian.AppendUint32(b, f.directory.Length)
	b = binary.LittleEndian.AppendUint32(b, f.directory.CRC)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.batches))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.records))
	seal(b[from:])
	return b
}

// decodeFooter reads the last bytes of an object of that size.
func decodeFooter(b []byte, size int64) (f footer, err error) {
	at := size - FooterSize
	if len(b) != FooterSize || !hasMagic(b, footerMagic) {
		return f, corrupt(0, at, "no footer: the object is cut off, or none")
	}
	if !guard.Check("object.footer-crc", checksum(b) == sealed(b)) {
		return f, corrupt(0, at, "footer: crc32c is %08x, it says %08x", checksum(b), sealed(b))
	}
	u64 := func(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) }
	f = footer{
		id: storage.ObjectID(u64(16)), ranges: binary.LittleEndian.Uint32(b[12:]), size: u64(24),
		directory: Extent{u64(32), binary.LittleEndian.Uint32(b[40:]), binary.LittleEndian.Uint32(b[44:])},
		batches:   u64(48), records: u64(56),
	}
	if err := known(b, footerMagic, "footer", f.id, at); err != nil {
		return f, err
	}
	if !guard.Check("object.size", f.size == size) {
		return f, corrupt(f.id, at, "footer: of an object of %d bytes, this one has %d", f.size, size)
	}
	if want := directoryHead + int64(f.ranges)*directoryEntry; int64(f.directory.Length) != want {
		return f, corrupt(f.id, at, "footer: directory of %d bytes for %d ranges", f.directory.Length, f.ranges)
	}
	if f.directory.Position < HeaderSize || f.directory.Position > at || f.directory.End() != at {
		return f, corrupt(f.id, at, "footer: directory of %d bytes at byte %d", f.directory.Length, f.directory.Position)
	}
	return f, nil
}

func appendDirectory(b []byte, id storage.ObjectID, placements []Placement) []byte {
	from := len(b)
	b = append(b, directoryMagic...)
	b = binary.LittleEndian.AppendUint32(b, 0) // sealed below
	b = binary.LittleEndian.AppendUint32(b, uint32(len(placements)))
	b = binary.LittleEndian.AppendUint64(b, uint64(id))
	for i := range placements {
		e := &placements[i].Entry
		b = append(b, e.Partition.Topic[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Partition.Index))
		b = binary.LittleEndian.AppendUint32(b, e.Index.Length)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Base))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.End))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Index.Position))
		b = binary.LittleEndian.AppendUint32(b, e.Index.CRC)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	seal(b[from:])
	return b
}

// decodeDirectory reads the directory that f names.
func decodeDirectory(b []byte, f *footer) (*Directory, error) {
	bad := func(at int, format string, args ...any) (*Directory, error) {
		return nil, corrupt(f.id, f.directory.Position+int64(at), "directory: "+format, args...)
	}
	if len(b) != int(f.directory.Length) || !hasMagic(b, directoryMagic) {
		return bad(0, "it is not there")
	}
	if sum := checksum(b); !guard.Check("object.directory-crc", sum == sealed(b) && sum == f.directory.CRC) {
		return bad(0, "crc32c is %08x, it says %08x, the footer %08x", sum, sealed(b), f.directory.CRC)
	}
	if err := known(b, directoryMagic, "directory", f.id, f.directory.Position); err != nil {
		return nil, err
	}
	ranges, id := binary.LittleEndian.Uint32(b[12:]), storage.ObjectID(binary.LittleEndian.Uint64(b[16:]))
	if !guard.Check("object.directory-identity", id == f.id && ranges == f.ranges) {
		return bad(12, "it is of object %s with %d ranges, want %d", id, ranges, f.ranges)
	}
	d := &Directory{Object: f.id, Size: f.size, Batches: f.batches, Records: f.records, Entries: make([]Entry, ranges)}
	next := int64(-1) // where the next index block must lie
	for i := range d.Entries {
		at := directoryHead + i*directoryEntry
		r := b[at : at+directoryEntry]
		u64 := func(at int) int64 { return int64(binary.LittleEndian.Uint64(r[at:])) }
		e := Entry{
			Partition: storage.PartitionID{Topic: storage.TopicID(r[:16]), Index: int32(binary.LittleEndian.Uint32(r[16:]))},
			Base:      storage.Offset(u64(24)), End: storage.Offset(u64(32)),
			Index: Extent{u64(40), binary.LittleEndian.Uint32(r[20:]), binary.LittleEndian.Uint32(r[48:])},
		}
		if e.Base < 0 || e.End <= e.Base {
			return bad(at, "range [%d, %d)", e.Base, e.End)
		}
		if i > 0 && !guard.Check("object.directory-order", ComparePartitions(d.Entries[i-1].Partition, e.Partition) < 0) {
			return bad(at, "%s stands behind %s", e.Partition, d.Entries[i-1].Partition)
		}
		if next < 0 {
			next = e.Index.Position
		}
		if e.Index.Position < HeaderSize || e.Index.Position != next || int64(e.Index.Length) > f.directory.Position-next {
			return bad(at, "index block of %d bytes at byte %d", e.Index.Length, e.Index.Position)
		}
		next = e.Index.End()
		d.Entries[i] = e
	}
	if next >= 0 && next != f.directory.Position {
		return bad(0, "index blocks end at byte %d", next)
	}
	return d, nil
}

// tailRead is read at first of the end of an object: footer and directory of
// some 1,100 ranges, so that most objects need one request.
const tailRead = 64 << 10

// ReadDirectory reads footer and directory of an object of size bytes.
func ReadDirectory(size int64, readAt ReadAt) (*Directory, error) {
	if size < HeaderSize+directoryHead+FooterSize {
		return nil, corrupt(0, 0, "%d bytes are no object", size)
	}
	tail := make([]byte, min(size, tailRead))
	at := size - int64(len(tail))
	if err := readAt(tail, at); err != nil {
		return nil, fmt.Errorf("read the end of an object: %w", err)
	}
	f, err := decodeFooter(tail[len(tail)-FooterSize:], size)
	if err != nil {
		return nil, err
	}
	if f.directory.Position >= at {
		return decodeDirectory(tail[f.directory.Position-at:len(tail)-FooterSize], &f)
	}
	b := make([]byte, f.directory.Length)
	if err := readAt(b, f.directory.Position); err != nil {
		return nil, fmt.Errorf("read the directory of object %s: %w", f.id, err)
	}
	return decodeDirectory(b, &f)
}
