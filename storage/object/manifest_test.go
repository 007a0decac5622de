package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/tally"
)

// sampleManifest is a manifest of n ranges as they are in a cluster.
func sampleManifest(n int) *Manifest {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	m := &Manifest{
		Header:    Header{ID: 77, Cluster: "cluster", Incarnation: 2, Broker: 3},
		Partition: storage.PartitionID{Topic: topicA, Index: 5}, Topic: "orders",
	}
	at, id := storage.Offset(1_000_000), storage.ObjectID(1_000_000)
	for i := range n {
		id += storage.ObjectID(rng.IntN(50) + 1)
		f := Filed{
			Object: id, Base: at, End: at + 1 + storage.Offset(rng.IntN(100_000)),
			Bytes: 64<<20 + rng.Int64N(1<<20), MaxTimestamp: 1_800_000_000_000 + int64(i)*1000, Epoch: storage.Epoch(rng.IntN(9)),
			HasAborts: rng.IntN(2) == 0, OpenTransactions: rng.IntN(2) == 0,
		}
		f.Index = Extent{Position: f.Bytes + 96, Length: 4000, CRC: rng.Uint32()}
		f.Size = f.Index.End() + 144
		at = f.End
		m.Ranges = append(m.Ranges, f)
	}
	return m
}

func encodeManifest(t testing.TB, m *Manifest) ([]byte, ManifestRef) {
	t.Helper()
	b, ref, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if ref.Size() != int64(len(b)) {
		t.Fatalf("%d bytes, the reference says %d", len(b), ref.Size())
	}
	return b, ref
}

func TestManifestComesBack(t *testing.T) {
	for _, n := range []int{1, 2, 4096, MaxManifestRanges} {
		m := sampleManifest(n)
		b, ref := encodeManifest(t, m)
		got, err := DecodeManifest(b, m.ID, m.Partition, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got.Header != m.Header || got.Partition != m.Partition || got.Topic != m.Topic || !slices.Equal(got.Ranges, m.Ranges) {
			t.Fatalf("%d ranges: %+v came back", n, got)
		}
		t.Logf("%d ranges: %d bytes, %.1f each", n, len(b), float64(len(b)-ManifestHead)/float64(n))
	}
}

// TestEveryFlippedBitOfAManifestIsSeen before a range of it is used.
func TestEveryFlippedBitOfAManifestIsSeen(t *testing.T) {
	m := sampleManifest(20)
	b, ref := encodeManifest(t, m)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		_, err := DecodeManifest(b, m.ID, m.Partition, ref)
		if !errors.As(err, new(*CorruptionError)) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for _, cut := range []int{0, 7, 12, ManifestHead - 1, ManifestHead, len(b) - 1} {
		if _, err := DecodeManifest(b[:cut], m.ID, m.Partition, ref); !errors.As(err, new(*CorruptionError)) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(len(b) * 8)})
	if _, err := DecodeManifest(append(b, 0), m.ID, m.Partition, ref); !errors.As(err, new(*CorruptionError)) {
		t.Fatalf("a byte more: %v", err)
	}
}

// TestManifestAnswersOnlyForItself: a whole manifest is refused in the place of
// another.
func TestManifestAnswersOnlyForItself(t *testing.T) {
	m := sampleManifest(20)
	b, ref := encodeManifest(t, m)
	other := sampleManifest(20)
	other.Ranges[3].Index.CRC++
	_, otherRef := encodeManifest(t, other)
	partition := m.Partition
	partition.Index++
	for name, err := range map[string]error{
		"object":    errOf(DecodeManifest(b, m.ID+1, m.Partition, ref)),
		"partition": errOf(DecodeManifest(b, m.ID, partition, ref)),
		"content":   errOf(DecodeManifest(b, m.ID, m.Partition, otherRef)),
	} {
		if !errors.As(err, new(*CorruptionError)) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, _, err := ReadManifest([]byte("RMQOBJ\x00\x01 and so on")); !errors.Is(err, ErrNoManifest) {
		t.Errorf("an object: %v", err)
	}
	b[7]++
	seal(b[:ManifestHead])
	if _, err := DecodeManifest(b, m.ID, m.Partition, ref); !errors.As(err, new(*UnknownFormatError)) {
		t.Errorf("a later version: %v", err)
	}
}

func errOf(_ *Manifest, err error) error { return err }

// TestManifestIsNotWrittenWrong: what could not be read back is not written.
func TestManifestIsNotWrittenWrong(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"a gap":             func(m *Manifest) { m.Ranges[2].Base++ },
		"no ranges":         func(m *Manifest) { m.Ranges = nil },
		"too many":          func(m *Manifest) { m.Ranges = make([]Filed, MaxManifestRanges+1) },
		"no object":         func(m *Manifest) { m.Ranges[1].Object = 0 },
		"an epoch below 0":  func(m *Manifest) { m.Ranges[1].Epoch = -1 },
		"an index outside":  func(m *Manifest) { m.Ranges[1].Index.Position = m.Ranges[1].Size },
		"an object of none": func(m *Manifest) { m.ID = 0 },
		"no topic":          func(m *Manifest) { m.Topic = "" },
		"no cluster":        func(m *Manifest) { m.Cluster = "" },
	} {
		m := sampleManifest(5)
		change(m)
		if _, _, err := m.Encode(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestLyingManifestAllocatesNothing: a number of ranges that the bytes cannot hold is
// refused before anything is made for it.
func TestLyingManifestAllocatesNothing(t *testing.T) {
	b, _ := encodeManifest(t, sampleManifest(3))
	for _, n := range []uint32{0, 4, 100, MaxManifestRanges, 1 << 31, 1<<32 - 1} {
		binary.LittleEndian.PutUint32(b[64:], n)
		seal(b[:ManifestHead])
		var err error
		if bytes := allocated(func() { _, _, err = ReadManifest(b) }); err == nil || bytes > 16<<10 && !raceEnabled {
			t.Errorf("%d ranges: %d bytes allocated, %v", n, bytes, err)
		}
	}
	zeros := make([]byte, 1<<16)
	if bytes := allocated(func() { _, _ = DecodeFiled(zeros, 0, MaxManifestRanges) }); bytes > 16*uint64(len(zeros)) {
		t.Errorf("%d bytes allocated for %d", bytes, len(zeros))
	}
}

// FuzzManifest: no bytes make the decoder panic, also with checksums that are
// right; what it gives out is written the same again.
func FuzzManifest(f *testing.F) {
	for _, n := range []int{1, 3, 40} {
		b, _, _ := sampleManifest(n).Encode()
		f.Add(b, uint16(0), byte(0))
		f.Add(b, uint16(64), byte(0xff))
		f.Add(b, uint16(ManifestHead+9), byte(0x80))
		f.Add(b[:len(b)-5], uint16(3), byte(1))
	}
	f.Add([]byte{}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= flip
		}
		if len(b) >= ManifestHead {
			binary.LittleEndian.PutUint32(b[72:], AddFiledCRC(0, b[ManifestHead:]))
			seal(b[:ManifestHead])
		}
		m, ref, err := ReadManifest(b)
		if err != nil {
			return
		}
		again, same, err := m.Encode()
		// A number may be written in more bytes than it needs: the ranges are the same.
		if err != nil || same.Base != ref.Base || same.End != ref.End || same.Ranges != ref.Ranges || len(again) > len(b) {
			t.Fatalf("%v: %+v was read, %+v is written", err, ref, same)
		}
	})
}
