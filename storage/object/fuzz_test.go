package object

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLyingCountsAllocateNothing: a count or length that the bytes cannot hold
// is refused before anything is made for it.
func TestLyingCountsAllocateNothing(t *testing.T) {
	x := &Index{Object: 1, Partition: storage.PartitionID{Topic: topicA}, Topic: "a", Base: 0, End: 1, MaxTimestamp: batch.NoTimestamp}
	empty := x.append(nil, HeaderSize)
	// The lists' counts stand behind the topic: five bytes of zero.
	lists := indexHead + 2
	e := Entry{Partition: x.Partition, End: 1, Index: Extent{Position: 1 << 40}}
	for list := lists - 2; list < len(empty); list++ {
		if list == lists-1 {
			continue // the topic's name
		}
		for _, count := range []uint64{100, 1 << 31, 1 << 40, math.MaxUint64} {
			b := binary.AppendUvarint(bytes.Clone(empty[:list]), count)
			b = append(b, make([]byte, 90)...)
			e.Index.CRC = seal(b)
			var err error
			if n := allocated(func() { _, err = DecodeIndex(b, 1, e) }); err == nil || n > 16<<10 && !raceEnabled {
				t.Errorf("count %d at byte %d: %d bytes allocated, %v", count, list, n, err)
			}
		}
	}
	// As large as the input allows: every list is all of it.
	for list := lists; list < len(empty); list++ {
		b := bytes.Clone(empty[:list])
		b = binary.AppendUvarint(b, 1<<20/8)
		b = append(b, make([]byte, 1<<20)...)
		e.Index.CRC = seal(b)
		if n := allocated(func() { _, _ = DecodeIndex(b, 1, e) }); n > 16*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d of input", n, len(b))
		}
	}
	// A footer that lies of its directory, in an object of little size.
	f := footer{id: 1, ranges: math.MaxUint32, size: 1000, directory: Extent{Position: 100, Length: math.MaxUint32}}
	b := append(make([]byte, 1000-FooterSize), f.append(nil)...)
	var err error
	if n := allocated(func() { _, err = ReadDirectory(1000, readFrom(b)) }); err == nil || n > 16<<10 && !raceEnabled {
		t.Errorf("%d bytes allocated, %v", n, err)
	}
}

// FuzzObject: no bytes make a reader panic, also with checksums that are right;
// what is served has been checked.
func FuzzObject(f *testing.F) {
	b, s := sample(f)
	f.Add(b, uint16(0), byte(0))
	for _, at := range []int64{12, HeaderSize + 8, s.Placements[0].Index.Position + 40, s.Placements[1].Index.Position + 104, s.Placements[1].Index.End() + 12, s.Size - 40} {
		f.Add(b, uint16(at), byte(0x80))
	}
	f.Add(b[:300], uint16(1), byte(1))
	f.Add([]byte{}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= flip
		}
		_, _ = Verify(int64(len(b)), readFrom(b), func(error) {})
		resealAll(b)
		h, err := Verify(int64(len(b)), readFrom(b), func(error) {})
		d, derr := ReadDirectory(int64(len(b)), readFrom(b))
		if err == nil && (derr != nil || h.ID != d.Object) {
			t.Fatalf("verified, and the directory is %v", derr)
		}
		if derr != nil {
			return
		}
		for _, e := range d.Entries {
			if got, serr := serve(b, d.Object, e); err == nil && serr != nil {
				t.Fatalf("verified, and %d batches are served with %v", len(got), serr)
			}
		}
	})
}

// resealAll makes every checksum right, as far as the structures can be found,
// so that what lies behind the checks of checksums is reached.
func resealAll(b []byte) {
	if len(b) < HeaderSize+FooterSize {
		return
	}
	seal(b[:HeaderSize])
	end := int64(len(b) - FooterSize)
	f := b[end:]
	binary.LittleEndian.PutUint64(f[24:], uint64(len(b)))
	at, n := int64(binary.LittleEndian.Uint64(f[32:])), int64(binary.LittleEndian.Uint32(f[40:]))
	if at >= HeaderSize && at < end && at+n == end && n >= directoryHead {
		d := b[at:end]
		for r := d[directoryHead:]; len(r) >= directoryEntry; r = r[directoryEntry:] {
			from, n := int64(binary.LittleEndian.Uint64(r[40:])), int64(binary.LittleEndian.Uint32(r[20:]))
			if from >= HeaderSize && from < at && from+n <= at && n > indexHead {
				binary.LittleEndian.PutUint32(r[48:], seal(b[from:from+n]))
			}
		}
		binary.LittleEndian.PutUint32(f[44:], seal(d))
	}
	seal(f)
}

// FuzzFooter reads any bytes as the end of an object.
func FuzzFooter(f *testing.F) {
	b, s := sample(f)
	f.Add(b[s.Size-FooterSize:], s.Size)
	f.Add(b[s.Size-FooterSize:], int64(1))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		b = bytes.Clone(b)
		if len(b) == FooterSize {
			seal(b)
		}
		if got, err := decodeFooter(b, size); err == nil && !bytes.Equal(got.append(nil), b) {
			t.Fatalf("%x is read as %+v", b, got)
		}
	})
}

// FuzzDirectory reads any bytes as a directory.
func FuzzDirectory(f *testing.F) {
	b, s := sample(f)
	at := s.Placements[1].Index.End()
	f.Add(b[at:s.Size-FooterSize], at)
	f.Add(b[at:at+directoryHead], at)
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		if len(b) < directoryHead || at < 0 || at > 1<<40 {
			return
		}
		b = bytes.Clone(b)
		ft := footer{id: header.ID, ranges: binary.LittleEndian.Uint32(b[12:]), directory: Extent{at, uint32(len(b)), seal(b)}}
		if int64(ft.ranges)*directoryEntry+directoryHead != int64(len(b)) {
			return // the footer is refused already
		}
		d, err := decodeDirectory(b, &ft)
		if err != nil {
			return
		}
		for i, e := range d.Entries {
			if e.Index.End() > at || e.End <= e.Base || i > 0 && ComparePartitions(d.Entries[i-1].Partition, e.Partition) >= 0 {
				t.Fatalf("directory %+v at %d", d, at)
			}
		}
	})
}

// FuzzIndex reads any bytes as the index they say they are. What is read
// encodes to what reads the same.
func FuzzIndex(f *testing.F) {
	b, s := sample(f)
	for _, p := range s.Placements {
		f.Add(b[p.Index.Position:p.Index.End()], p.Index.Position)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		if len(b) < indexHead {
			return
		}
		b = bytes.Clone(b)
		e := Entry{
			Partition: storage.PartitionID{Topic: storage.TopicID(b[16:32]), Index: int32(binary.LittleEndian.Uint32(b[12:]))},
			Base:      storage.Offset(binary.LittleEndian.Uint64(b[40:])), End: storage.Offset(binary.LittleEndian.Uint64(b[48:])),
			Index: Extent{at, uint32(len(b)), seal(b)},
		}
		id := storage.ObjectID(binary.LittleEndian.Uint64(b[32:]))
		x, err := DecodeIndex(b, id, e)
		if err != nil {
			return
		}
		if x.Memory() > 16*len(b)+512 {
			t.Fatalf("%d bytes of memory for %d of input", x.Memory(), len(b))
		}
		next, position := x.Base, int64(binary.LittleEndian.Uint64(b[88:]))
		for _, k := range x.Blocks {
			if k.First < next || k.Next <= k.First || k.Next > x.End || k.Position != position {
				t.Fatalf("index %+v", x)
			}
			next, position = k.Next, position+int64(k.Length)
		}
		if position > at {
			t.Fatalf("data to byte %d, the index is at %d", position, at)
		}
		again := x.append(nil, position-x.Bytes)
		e.Index.CRC = sealed(again)
		y, err := DecodeIndex(again, id, e)
		if err != nil {
			t.Fatal(err)
		}
		if third := y.append(nil, position-x.Bytes); !bytes.Equal(again, third) {
			t.Fatalf("%x and %x are one index", again, third)
		}
	})
}

// FuzzBlock opens any bytes as a block that has the right checksum.
func FuzzBlock(f *testing.F) {
	b, s := sample(f)
	x, err := openIndex(b, header.ID, s.Placements[0].Entry)
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range x.Blocks {
		f.Add(b[k.Position:k.Position+int64(k.Length)], int64(k.First), int64(k.Next))
	}
	f.Add([]byte{1}, int64(0), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, first, next int64) {
		x := &Index{Base: 10, End: 100, Blocks: []Block{{First: storage.Offset(first), Next: storage.Offset(next), Length: uint32(len(b)), CRC: checksumOf(b)}}}
		got, err := x.OpenBlock(0, b, nil)
		if err != nil {
			return
		}
		n, at := 0, storage.Offset(math.MinInt64)
		for _, one := range got {
			if n += len(one); one.BaseOffset() < at {
				t.Fatalf("%d behind %d", one.BaseOffset(), at)
			}
			at = one.NextOffset()
		}
		if n != len(b) || len(got) > 0 && at != storage.Offset(next) {
			t.Fatalf("%d bytes of %d, to %d of %d", n, len(b), at, next)
		}
	})
}
