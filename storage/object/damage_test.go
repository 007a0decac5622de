package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/tally"
)

// TestEveryFlippedBitIsSeen: by Verify wherever it is, and by who reads a range
// before a byte of it is served.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	b, s := sample(t)
	var want [][]batch.Batch
	for _, p := range s.Placements {
		got, err := serve(bytes.Clone(b), header.ID, p.Entry)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, got)
	}
	p := s.Placements[0]
	directory := s.Placements[1].Index.End()
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		at := int64(i / 8)
		if _, found := verify(t, b); len(found) == 0 {
			t.Errorf("bit %d of byte %d was flipped, and Verify did not see it", i%8, at)
		}
		if _, err := ReadDirectory(s.Size, readFrom(b)); (err != nil) != (at >= directory) {
			t.Errorf("bit %d of byte %d was flipped, and the directory is read with %v", i%8, at, err)
		}
		for n := range s.Placements {
			e := s.Placements[n].Entry
			got, err := serve(b, header.ID, e)
			ofIndex := at >= e.Index.Position && at < e.Index.End()
			ofData := n == 0 && at >= HeaderSize && at < HeaderSize+p.Bytes
			if (err != nil) != (ofIndex || ofData) || err == nil && fmt.Sprint(got) != fmt.Sprint(want[n]) {
				t.Errorf("bit %d of byte %d was flipped, and range %d is served with %v", i%8, at, n, err)
			}
			if err != nil && !errors.As(err, new(*CorruptionError)) {
				t.Errorf("damage is told as %v", err)
			}
		}
		b[i/8] ^= 1 << (i % 8)
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(len(b) * 8)})
}

// TestCutAndGrownObjectsAreNotRead, at any byte.
func TestCutAndGrownObjectsAreNotRead(t *testing.T) {
	b, _ := sample(t)
	for n := range len(b) {
		if _, found := verify(t, b[:n]); len(found) == 0 {
			t.Errorf("the first %d bytes of %d are an object", n, len(b))
		}
	}
	grown := append(bytes.Clone(b[:HeaderSize]), 0)
	grown = append(grown, b[HeaderSize:]...)
	if _, found := verify(t, grown); len(found) == 0 {
		t.Error("a byte more in the data was not seen")
	}
}

// TestIndexAnswersOnlyForItsRange: what lies at the right place, with the right
// checksum, is not taken for another object, partition or range.
func TestIndexAnswersOnlyForItsRange(t *testing.T) {
	b, s := sample(t)
	e := s.Placements[0].Entry
	for _, change := range []func(id *storage.ObjectID, e *Entry){
		func(id *storage.ObjectID, _ *Entry) { *id++ },
		func(_ *storage.ObjectID, e *Entry) { e.Partition.Index++ },
		func(_ *storage.ObjectID, e *Entry) { e.Partition.Topic = topicB },
		func(_ *storage.ObjectID, e *Entry) { e.Base-- },
		func(_ *storage.ObjectID, e *Entry) { e.End++ },
	} {
		id, other := header.ID, e
		change(&id, &other)
		var damage *CorruptionError
		if _, err := openIndex(b, id, other); !errors.As(err, &damage) || damage.Object != id || damage.Position != e.Index.Position+12 {
			t.Errorf("the index of %+v was read as that of %+v in %s: %v", e, other, id, err)
		}
	}
	// The checksum of another index is not that of this one.
	e.Index.CRC++
	if _, err := openIndex(b, header.ID, e); err == nil {
		t.Error("an index with another checksum than the catalogue's was read")
	}
}

// resealed changes a structure of b and makes its checksum right again.
func resealed(b []byte, from, to int64, change func(p []byte)) []byte {
	b = bytes.Clone(b)
	change(b[from:to])
	seal(b[from:to])
	return b
}

// TestDirectoryHoldsTogether: what has its checksum, but was put together wrong,
// is not read.
func TestDirectoryHoldsTogether(t *testing.T) {
	b, s := sample(t)
	size := int64(len(b))
	at, end := s.Placements[1].Index.End(), size-FooterSize
	// directory changes it, and the footer with it.
	directory := func(change func(p []byte)) []byte {
		c := resealed(b, at, end, change)
		return resealed(c, end, size, func(p []byte) { binary.LittleEndian.PutUint32(p[44:], sealed(c[at:end])) })
	}
	footer := func(change func(p []byte)) []byte { return resealed(b, end, size, change) }
	for name, damaged := range map[string][]byte{
		"of another object": directory(func(p []byte) { p[16]++ }),
		"another number":    directory(func(p []byte) { p[12]++ }),
		"order": directory(func(p []byte) {
			first := bytes.Clone(p[directoryHead : directoryHead+20])
			copy(p[directoryHead:], p[directoryHead+directoryEntry:][:20])
			copy(p[directoryHead+directoryEntry:], first)
		}),
		"same partition twice": directory(func(p []byte) { copy(p[directoryHead+directoryEntry:], p[directoryHead:][:20]) }),
		"no offsets":           directory(func(p []byte) { copy(p[directoryHead+32:], p[directoryHead+24:][:8]) }),
		"negative base":        directory(func(p []byte) { p[directoryHead+31] = 0x80 }),
		"gap between indexes":  directory(func(p []byte) { p[directoryHead+directoryEntry+40]++ }),
		"index in the header":  directory(func(p []byte) { binary.LittleEndian.PutUint64(p[directoryHead+40:], 3) }),
		"long index":           directory(func(p []byte) { p[directoryHead+23] = 0xff }),
		"of another size":      footer(func(p []byte) { p[24]++ }),
		"many ranges":          footer(func(p []byte) { p[12]++ }),
		"short directory":      footer(func(p []byte) { p[12]--; p[40] -= directoryEntry }),
		"directory elsewhere":  footer(func(p []byte) { p[32]-- }),
		"directory beyond":     footer(func(p []byte) { p[39] = 0x7f }),
		"negative directory":   footer(func(p []byte) { p[39] = 0x80 }),
	} {
		if d, err := ReadDirectory(size, readFrom(damaged)); !errors.As(err, new(*CorruptionError)) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// TestIndexHoldsTogether: likewise for an index.
func TestIndexHoldsTogether(t *testing.T) {
	b, s := sample(t)
	e := s.Placements[0].Entry
	x, err := openIndex(b, header.ID, e)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(x *Index, position *int64){
		"no topic":                func(x *Index, _ *int64) { x.Topic = "" },
		"long topic":              func(x *Index, _ *int64) { x.Topic = strings.Repeat("x", 250) },
		"last stable":             func(x *Index, _ *int64) { x.LastStable = -1 },
		"epoch too early":         func(x *Index, _ *int64) { x.Epochs[0].Start = 9 },
		"epoch too late":          func(x *Index, _ *int64) { x.Epochs[1].Start = 20 },
		"epochs start together":   func(x *Index, _ *int64) { x.Epochs[1].Start = 10 },
		"epochs fall":             func(x *Index, _ *int64) { x.Epochs[1].Epoch = 3 },
		"abort too late":          func(x *Index, _ *int64) { x.Aborted[0].Last = 20 },
		"abort before the start":  func(x *Index, _ *int64) { x.Aborted[0].First = -1 },
		"aborts twice":            func(x *Index, _ *int64) { x.Aborted = append(x.Aborted, x.Aborted[0]) },
		"producer":                func(x *Index, _ *int64) { x.Aborted[0].ProducerID = -1 },
		"data in the header":      func(_ *Index, position *int64) { *position = 3 },
		"data beyond":             func(_ *Index, position *int64) { *position = 1 << 40 },
		"negative data":           func(x *Index, _ *int64) { x.Bytes = -1 },
		"data of no block":        func(x *Index, position *int64) { x.Bytes++ },
		"block beyond the data":   func(x *Index, _ *int64) { x.Blocks[1].Length++ },
		"block without a batch":   func(x *Index, _ *int64) { x.Blocks[0].Length = 60 },
		"block without offsets":   func(x *Index, _ *int64) { x.Blocks[0].Next = x.Blocks[0].First },
		"block beyond the range":  func(x *Index, _ *int64) { x.Blocks[1].Next = x.End + 1 },
		"block before its turn":   func(x *Index, _ *int64) { x.Blocks[1].First = x.Blocks[0].Next - 1 },
		"far block":               func(x *Index, _ *int64) { x.Blocks[0].First = 1 << 62 },
		"another max timestamp":   func(x *Index, _ *int64) { x.MaxTimestamp++ },
		"more batches than bytes": func(x *Index, _ *int64) { x.Batches = 1000 },
		"fewer batches":           func(x *Index, _ *int64) { x.Batches = 1 },
		"negative records":        func(x *Index, _ *int64) { x.Records = -1 },
	} {
		y, position := *x, x.Blocks[0].Position
		y.Epochs, y.Aborted, y.Blocks = append([]EpochStart(nil), x.Epochs...), append([]Aborted(nil), x.Aborted...), append([]Block(nil), x.Blocks...)
		change(&y, &position)
		p := y.append(nil, position)
		want := e
		want.Index.CRC = sealed(p)
		if _, err := DecodeIndex(p, header.ID, want); !errors.As(err, new(*CorruptionError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := append(x.append(nil, x.Blocks[0].Position), 0)
	e.Index.CRC = seal(p)
	if _, err := DecodeIndex(p, header.ID, e); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("a byte behind the index: %v", err)
	}
}

// TestBlockHoldsItsBatchesInOrder: bytes with the checksum that the index wants
// are whole batches, each at its place, else none is given out.
func TestBlockHoldsItsBatchesInOrder(t *testing.T) {
	x := &Index{Object: 1, Partition: storage.PartitionID{Topic: topicA}, Base: 8, End: 30}
	join := func(batches ...batch.Batch) (b []byte) {
		for _, one := range batches {
			b = append(b, one...)
		}
		return b
	}
	ten, eleven, twelve := build(t, 10, 1, "a"), build(t, 11, 1, "b"), build(t, 12, 1, "c")
	backwards := build(t, 11, 1, "b", "c")
	binary.BigEndian.PutUint32(backwards[23:], ^uint32(1)) // last offset delta -2
	open := func(first, next storage.Offset, b []byte) ([]batch.Batch, error) {
		x.Blocks = []Block{{First: first, Next: next, Position: 96, Length: uint32(len(b)), CRC: checksumOf(b)}}
		into := []batch.Batch{twelve}
		got, err := x.OpenBlock(0, b, into)
		if len(got) < 1 || err != nil && len(got) != 1 {
			t.Fatalf("%d batches with %v", len(got), err)
		}
		return got[1:], err
	}
	for name, bad := range map[string]struct {
		first, next storage.Offset
		b           []byte
	}{
		"begins late":   {9, 13, join(ten, eleven, twelve)},
		"begins early":  {11, 13, join(ten, eleven, twelve)},
		"ends late":     {10, 12, join(ten, eleven, twelve)},
		"ends early":    {10, 14, join(ten, eleven, twelve)},
		"order":         {10, 13, join(ten, twelve, eleven)},
		"twice":         {10, 12, join(ten, ten, eleven)},
		"cut off":       {10, 12, join(ten, eleven)[:len(ten)+len(eleven)-1]},
		"cut in header": {10, 12, join(ten, eleven[:20])},
		"no batch":      {10, 12, bytes.Repeat([]byte{1}, 100)},
		"backwards":     {10, 10, join(ten, backwards)},
		"nothing":       {10, 11, nil},
	} {
		if got, err := open(bad.first, bad.next, bad.b); !errors.As(err, new(*CorruptionError)) {
			t.Errorf("%s: %d batches, %v", name, len(got), err)
		}
	}
	if got, err := open(10, 13, join(ten, twelve)); err != nil || len(got) != 2 {
		t.Errorf("a block with a hole: %d batches, %v", len(got), err)
	}
	// Damage is told with its place.
	b := join(ten, twelve, eleven)
	_, err := open(10, 13, b)
	var damage *CorruptionError
	if !errors.As(err, &damage) || damage.Position != 96+int64(len(ten)+len(twelve)) || damage.Object != 1 {
		t.Errorf("damage at %+v", damage)
	}
	if _, err := x.OpenBlock(0, b[1:], nil); err == nil {
		t.Error("a block of another length was opened")
	}
}

// TestNewerVersionsAreNamed, and not taken for damage.
func TestNewerVersionsAreNamed(t *testing.T) {
	b, s := sample(t)
	size := int64(len(b))
	next := func(p []byte) { p[7]++ }
	e := s.Placements[0].Entry
	at, end := s.Placements[1].Index.End(), size-FooterSize
	index := resealed(b, e.Index.Position, e.Index.End(), next)
	e.Index.CRC = sealed(index[e.Index.Position:])
	_, ofIndex := openIndex(index, header.ID, e)
	_, ofHeader := DecodeHeader(resealed(b, 0, HeaderSize, next))
	_, ofFooter := ReadDirectory(size, readFrom(resealed(b, end, size, next)))
	directory := resealed(b, at, end, next)
	_, ofDirectory := ReadDirectory(size, readFrom(resealed(directory, end, size, func(p []byte) { binary.LittleEndian.PutUint32(p[44:], sealed(directory[at:])) })))
	for part, err := range map[string]error{"index": ofIndex, "header": ofHeader, "footer": ofFooter, "directory": ofDirectory} {
		var unknown *UnknownFormatError
		if !errors.As(err, &unknown) || unknown.Part != part || unknown.Version != 2 || unknown.Object != header.ID {
			t.Errorf("%s of the next version: %v", part, err)
		}
	}
}

// TestVerifyTellsAllDamage, and goes on behind each.
func TestVerifyTellsAllDamage(t *testing.T) {
	ranges := sampleRanges(t)
	ranges[1].Batches, ranges[1].Holes, ranges[1].End = feed(build(t, 0, 1, "x")), false, 1
	b, s := pack(t, header, WriteOptions{BlockSize: 160}, ranges...)
	damage := func(positions ...int64) (where []int64) {
		c := bytes.Clone(b)
		for _, at := range positions {
			c[at] ^= 1
		}
		_, found := verify(t, c)
		for _, err := range found {
			var e *CorruptionError
			if !errors.As(err, &e) {
				t.Fatalf("damage is told as %v", err)
			}
			where = append(where, e.Position)
		}
		return where
	}
	x, err := openIndex(b, header.ID, s.Placements[0].Entry)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := x.Blocks[0].Position, x.Blocks[1].Position, x.Blocks[1].Position+int64(x.Blocks[1].Length)
	index := s.Placements[0].Index.Position
	for _, c := range []struct{ at, want []int64 }{
		{[]int64{40}, []int64{0}},
		{[]int64{first + 70, third + 3}, []int64{first, third}},
		{[]int64{second, index + 50, third}, []int64{index, third}}, // nobody knows what second was
	} {
		if got := damage(c.at...); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("damage at %d is told at %d, want %d", c.at, got, c.want)
		}
	}
	// A store that answers with an error is no damage.
	broken := errors.New("no route")
	calls := 0
	_, err = Verify(s.Size, func(p []byte, off int64) error {
		if calls++; calls > 1 {
			return broken
		}
		return readFrom(b)(p, off)
	}, func(err error) { t.Errorf("reported %v", err) })
	if !errors.Is(err, broken) {
		t.Errorf("Verify returns %v", err)
	}
}

// TestVerifyComparesWhatTheIndexSays: what was damaged before it was packed
// has a block that is right.
func TestVerifyComparesWhatTheIndexSays(t *testing.T) {
	b, s := sample(t)
	e := s.Placements[0].Entry
	x, err := openIndex(b, header.ID, e)
	if err != nil {
		t.Fatal(err)
	}
	// repacked puts another index in its place, and all checksums right.
	repacked := func(data func(b []byte), change func(x *Index)) []byte {
		c, y := bytes.Clone(b), *x
		y.Blocks = append([]Block(nil), x.Blocks...)
		data(c)
		for i := range y.Blocks {
			k := &y.Blocks[i]
			k.CRC = checksumOf(c[k.Position : k.Position+int64(k.Length)])
		}
		change(&y)
		p := y.append(nil, HeaderSize)
		if len(p) != int(e.Index.Length) {
			t.Fatalf("the index has %d bytes, had %d", len(p), e.Index.Length)
		}
		copy(c[e.Index.Position:], p)
		at, end := s.Placements[1].Index.End(), s.Size-FooterSize
		c = resealed(c, at, end, func(d []byte) { binary.LittleEndian.PutUint32(d[directoryHead+48:], sealed(p)) })
		return resealed(c, end, s.Size, func(f []byte) { binary.LittleEndian.PutUint32(f[44:], sealed(c[at:])) })
	}
	same, none := func([]byte) {}, func(*Index) {}
	if _, found := verify(t, repacked(same, none)); found != nil {
		t.Fatalf("unchanged: %v", found)
	}
	for name, c := range map[string][]byte{
		"batch":     repacked(func(b []byte) { b[HeaderSize+batch.HeaderSize] ^= 1 }, none),
		"batches":   repacked(same, func(x *Index) { x.Batches-- }),
		"records":   repacked(same, func(x *Index) { x.Records++ }),
		"timestamp": repacked(same, func(x *Index) { x.Blocks[1].MaxTimestamp++ }),
		"footer":    resealed(b, s.Size-FooterSize, s.Size, func(f []byte) { f[56]++ }),
		"header":    resealed(b, 0, HeaderSize, func(h []byte) { h[16]++ }),
	} {
		if _, found := verify(t, c); len(found) == 0 {
			t.Errorf("%s: Verify found nothing", name)
		}
	}
}
