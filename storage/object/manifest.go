package object

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// ManifestHead is the size of a manifest before its first entry.
	ManifestHead = manifestNames + maxCluster + manifestTopic

	// MaxManifestRanges is how many ranges a manifest holds at most: they are read
	// as a whole, and one command of the metadata log names them all.
	MaxManifestRanges = 8192

	// MaxFiledSize is above the bytes of any entry.
	MaxFiledSize = 80

	manifestMagic    = "RMQMAN\x00\x01"
	manifestNames    = 80  // where the cluster id stands; the topic's name follows
	leastFiled       = 13  // bytes of an entry
	manifestTopic    = 256 // bytes that a topic's name has
	filedAborts      = 1
	filedOpen        = 2
	filedKnown       = filedAborts | filedOpen
	maxFiledObjectID = 1 << 62
)

// Filed is a range that a manifest names: the only one of its object.
type Filed struct {
	Object       storage.ObjectID
	Size         int64 // of the object, in bytes
	Base, End    storage.Offset
	Bytes        int64 // of its batches
	MaxTimestamp int64 // of its records, in milliseconds
	Index        Extent
	Epoch        storage.Epoch // leader epoch that it was committed under

	HasAborts        bool // its index lists aborted transactions
	OpenTransactions bool // some transaction is open at End
}

// Manifest is a list of ranges of one partition that follow one another.
type Manifest struct {
	Header
	Partition storage.PartitionID
	Topic     string // its name, when the manifest was made
	Ranges    []Filed
}

// ManifestRef is what the catalogue says of the content of a manifest.
type ManifestRef struct {
	Base, End storage.Offset
	Ranges    int
	Bytes     uint32 // of the entries
	CRC       uint32 // of the entries
}

// Size is that of the manifest, in bytes.
func (r *ManifestRef) Size() int64 { return ManifestHead + int64(r.Bytes) }

// ErrNoManifest says that what begins an object is no manifest.
var ErrNoManifest = errors.New("not a manifest")

// AppendFiled appends an entry to those of a manifest. It depends on nothing but
// the range: so the CRC of entries follows from that of those before, without
// having them.
func AppendFiled(b []byte, f *Filed) []byte {
	b = binary.AppendUvarint(b, uint64(f.Object))
	b = binary.AppendUvarint(b, uint64(f.Size))
	b = binary.AppendUvarint(b, uint64(f.End-f.Base))
	b = binary.AppendUvarint(b, uint64(f.Bytes))
	b = binary.AppendVarint(b, f.MaxTimestamp)
	b = binary.AppendUvarint(b, uint64(f.Index.Position))
	b = binary.AppendUvarint(b, uint64(f.Index.Length))
	b = binary.LittleEndian.AppendUint32(b, f.Index.CRC)
	b = binary.AppendUvarint(b, uint64(f.Epoch))
	var flags byte
	if f.HasAborts {
		flags |= filedAborts
	}
	if f.OpenTransactions {
		flags |= filedOpen
	}
	return append(b, flags)
}

// AddFiledCRC returns the CRC of entries with others behind them, by theirs.
func AddFiledCRC(crc uint32, more []byte) uint32 { return crc32.Update(crc, castagnoli, more) }

// CutFiledCRC returns the CRC of what is left of entries, rest bytes long, once
// the first of them are cut off.
func CutFiledCRC(crc uint32, first []byte, rest int) uint32 {
	// Of a CRC without its inversions, that of a and then b is that of a and then
	// zeros, xor that of b.
	shifted := crc32.Checksum(first, castagnoli)
	for zeros := make([]byte, 1<<10); rest > 0; {
		n := min(rest, len(zeros))
		shifted = ^crc32.Update(^shifted, castagnoli, zeros[:n])
		rest -= n
	}
	return crc ^ shifted
}

// DecodeFiled reads n entries, the first of which begins at base. The error says
// what is wrong with them.
func DecodeFiled(b []byte, base storage.Offset, n int) ([]Filed, error) {
	if n < 0 || n > MaxManifestRanges || n > len(b)/leastFiled || len(b) > n*MaxFiledSize {
		return nil, fmt.Errorf("%d entries in %d bytes", n, len(b))
	}
	c := cursor{b: b, ok: true}
	ranges := make([]Filed, n)
	for i := range ranges {
		f := &ranges[i]
		object, size, length, bytes := c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
		millis, position, index := c.varint(), c.uvarint(), c.uvarint()
		f.Index.CRC = c.uint32()
		epoch := c.uvarint()
		if !c.ok || c.at == len(b) {
			return nil, fmt.Errorf("entry %d is cut off", i)
		}
		flags := b[c.at]
		c.at++
		switch {
		case object < 1 || object > maxFiledObjectID:
			return nil, fmt.Errorf("entry %d: object %d", i, object)
		case size < 1 || size > 1<<62 || bytes > size || index > size || position > size-index:
			return nil, fmt.Errorf("entry %d: %d bytes and an index of %d at %d, in an object of %d", i, bytes, index, position, size)
		case length < 1 || length > uint64(1<<62-base):
			return nil, fmt.Errorf("entry %d: %d offsets from %d on", i, length, base)
		case index > 1<<32-1 || epoch > 1<<31-1:
			return nil, fmt.Errorf("entry %d: index of %d bytes, leader epoch %d", i, index, epoch)
		case flags&^filedKnown != 0:
			return nil, fmt.Errorf("entry %d: flags %#x", i, flags)
		}
		f.Object, f.Size, f.Bytes = storage.ObjectID(object), int64(size), int64(bytes)
		f.Base, f.End = base, base+storage.Offset(length)
		f.MaxTimestamp, f.Epoch = millis, storage.Epoch(epoch)
		f.Index.Position, f.Index.Length = int64(position), uint32(index)
		f.HasAborts, f.OpenTransactions = flags&filedAborts != 0, flags&filedOpen != 0
		base = f.End
	}
	if c.at != len(b) {
		return nil, fmt.Errorf("%d bytes behind the last of %d entries", len(b)-c.at, n)
	}
	return ranges, nil
}

// Encode returns the bytes of a manifest, and what the catalogue is to say of them.
func (m *Manifest) Encode() ([]byte, ManifestRef, error) {
	no := func(format string, args ...any) ([]byte, ManifestRef, error) {
		return nil, ManifestRef{}, fmt.Errorf("write manifest %s of %s: %w", m.ID, m.Partition, fmt.Errorf(format, args...))
	}
	n := len(m.Ranges)
	switch {
	case m.validate() != nil:
		return no("%w", m.validate())
	case n < 1 || n > MaxManifestRanges:
		return no("%d ranges: want 1 to %d", n, MaxManifestRanges)
	case m.Partition.Topic.IsZero() || m.Partition.Index < 0 || len(m.Topic) == 0 || len(m.Topic) > maxTopic:
		return no("topic %q", m.Topic)
	}
	r := ManifestRef{Base: m.Ranges[0].Base, End: m.Ranges[n-1].End, Ranges: n}
	b := make([]byte, ManifestHead, ManifestHead+n*MaxFiledSize/2)
	for i := range m.Ranges {
		b = AppendFiled(b, &m.Ranges[i])
	}
	entries := b[ManifestHead:]
	r.Bytes, r.CRC = uint32(len(entries)), crc32.Checksum(entries, castagnoli)
	// What is written is read back here: no other copy of it will exist.
	back, err := DecodeFiled(entries, r.Base, n)
	if err != nil {
		return no("%w", err)
	}
	for i := range back {
		if !guard.Check("object.manifest-written", back[i] == m.Ranges[i]) {
			return no("range %d, [%d, %d), does not follow on the one before, or cannot be written", i, m.Ranges[i].Base, m.Ranges[i].End)
		}
	}
	copy(b, manifestMagic)
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	put32(12, m.Incarnation)
	binary.LittleEndian.PutUint64(b[16:], uint64(m.ID))
	put32(24, uint32(m.Broker))
	put32(28, uint32(m.Partition.Index))
	copy(b[32:], m.Partition.Topic[:])
	binary.LittleEndian.PutUint64(b[48:], uint64(r.Base))
	binary.LittleEndian.PutUint64(b[56:], uint64(r.End))
	put32(64, uint32(n))
	put32(68, r.Bytes)
	put32(72, r.CRC)
	put32(76, uint32(len(m.Cluster))|uint32(len(m.Topic))<<16)
	copy(b[manifestNames:], m.Cluster)
	copy(b[manifestNames+maxCluster:], m.Topic)
	seal(b[:ManifestHead])
	return b, r, nil
}

// DecodeManifest reads a manifest that the catalogue names: it is of that object,
// partition and content, or the error says that it is not.
func DecodeManifest(b []byte, id storage.ObjectID, partition storage.PartitionID, want ManifestRef) (*Manifest, error) {
	m, r, err := ReadManifest(b)
	if errors.Is(err, ErrNoManifest) {
		return nil, corrupt(id, 0, "not a manifest")
	}
	if err != nil {
		return nil, err
	}
	if !guard.Check("object.manifest-identity", m.ID == id && m.Partition == partition && r == want) {
		return nil, corrupt(id, 12, "it is manifest %s of %s with %d ranges in [%d, %d), crc32c %08x; the catalogue says %s, %d in [%d, %d), %08x",
			m.ID, m.Partition, r.Ranges, r.Base, r.End, r.CRC, partition, want.Ranges, want.Base, want.End, want.CRC)
	}
	return m, nil
}

// ReadManifest reads a manifest of which nothing else is known; [ErrNoManifest]: b
// does not begin as one does.
func ReadManifest(b []byte) (*Manifest, ManifestRef, error) {
	no := func(id storage.ObjectID, at int64, format string, args ...any) (*Manifest, ManifestRef, error) {
		return nil, ManifestRef{}, corrupt(id, at, "manifest: "+format, args...)
	}
	if !hasMagic(b, manifestMagic) {
		return nil, ManifestRef{}, ErrNoManifest
	}
	if len(b) < ManifestHead {
		return no(0, 0, "%d bytes are none", len(b))
	}
	head, entries := b[:ManifestHead], b[ManifestHead:]
	if !guard.Check("object.manifest-head-crc", checksum(head) == sealed(head)) {
		return no(0, 0, "crc32c of its head is %08x, it says %08x", checksum(head), sealed(head))
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	m := &Manifest{
		Header:    Header{ID: storage.ObjectID(u64(16)), Incarnation: u32(12), Broker: int32(u32(24))},
		Partition: storage.PartitionID{Topic: storage.TopicID(b[32:48]), Index: int32(u32(28))},
	}
	if err := known(b, manifestMagic, "manifest", m.ID, 0); err != nil {
		return nil, ManifestRef{}, err
	}
	r := ManifestRef{Base: storage.Offset(u64(48)), End: storage.Offset(u64(56)), Ranges: int(u32(64)), Bytes: u32(68), CRC: u32(72)}
	if int(r.Bytes) != len(entries) {
		return no(m.ID, 68, "%d bytes of entries, there are %d", r.Bytes, len(entries))
	}
	if sum := crc32.Checksum(entries, castagnoli); !guard.Check("object.manifest-crc", sum == r.CRC) {
		return no(m.ID, ManifestHead, "crc32c of its entries is %08x, it says %08x", sum, r.CRC)
	}
	cluster, topic := u32(76)&0xffff, u32(76)>>16
	if cluster > maxCluster || topic < 1 || topic > maxTopic || m.Partition.Topic.IsZero() || m.Partition.Index < 0 || r.Base < 0 || r.Ranges < 1 {
		return no(m.ID, 12, "%d ranges from %d on, of partition %s; names of %d and %d bytes", r.Ranges, r.Base, m.Partition, cluster, topic)
	}
	m.Cluster = string(b[manifestNames:][:cluster])
	m.Topic = string(b[manifestNames+maxCluster:][:topic])
	if err := m.validate(); err != nil {
		return no(m.ID, manifestNames, "%v", err)
	}
	var err error
	if m.Ranges, err = DecodeFiled(entries, r.Base, r.Ranges); err != nil {
		return no(m.ID, ManifestHead, "%v", err)
	}
	if end := m.Ranges[r.Ranges-1].End; end != r.End {
		return no(m.ID, 56, "its ranges end at %d, it says %d", end, r.End)
	}
	return m, r, nil
}
