package object

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

var update = flag.Bool("update", false, "rewrite testdata/object.hex")

var (
	topicA = storage.TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	topicB = storage.TopicID{0xb}
	header = Header{ID: 0x2a, Cluster: "test-cluster", Incarnation: 1, Broker: 7}
)

// build makes a batch at base of one record for each value, at one time.
func build(t testing.TB, base storage.Offset, millis int64, values ...string) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{BaseOffset: base, LeaderEpoch: 3})
	for _, v := range values {
		w.Add(millis, nil, []byte(v))
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// feed is a Range's Batches.
func feed(batches ...batch.Batch) func(func(batch.Batch) error) error {
	return func(yield func(batch.Batch) error) error {
		for _, b := range batches {
			if err := yield(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// pack writes an object, or fails the test.
func pack(t testing.TB, h Header, o WriteOptions, ranges ...Range) ([]byte, *Summary) {
	t.Helper()
	var out bytes.Buffer
	s, err := Write(&out, h, ranges, o)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s
}

// readFrom is a ReadAt over bytes in memory.
func readFrom(b []byte) ReadAt {
	return func(p []byte, off int64) error {
		if off < 0 || off+int64(len(p)) > int64(len(b)) {
			return fmt.Errorf("read of %d bytes at %d of %d: %w", len(p), off, len(b), io.ErrUnexpectedEOF)
		}
		copy(p, b[off:])
		return nil
	}
}

// openIndex reads the index that e names.
func openIndex(b []byte, id storage.ObjectID, e Entry) (*Index, error) {
	return DecodeIndex(b[e.Index.Position:e.Index.End()], id, e)
}

// serve reads a range as a consumer does that starts at the catalogue.
func serve(b []byte, id storage.ObjectID, e Entry) (out []batch.Batch, err error) {
	x, err := openIndex(b, id, e)
	if err != nil {
		return nil, err
	}
	for i, k := range x.Blocks {
		if out, err = x.OpenBlock(i, b[k.Position:k.Position+int64(k.Length)], out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// verify returns all that Verify reports.
func verify(t testing.TB, b []byte) (Header, []error) {
	t.Helper()
	var found []error
	h, err := Verify(int64(len(b)), readFrom(b), func(err error) { found = append(found, err) })
	if (err == nil) != (len(found) == 0) || err != nil && err != found[0] {
		t.Fatalf("Verify returns %v and reports %v", err, found)
	}
	return h, found
}

// sampleRanges are two partitions: one with all that a range can have, in two
// blocks of WriteOptions{BlockSize: 160}, and one that compaction emptied.
func sampleRanges(t testing.TB) []Range {
	return []Range{
		{
			Partition: storage.PartitionID{Topic: topicA, Index: 3}, Topic: "orders", Base: 10, End: 20, LastStable: 18,
			Epochs:    []EpochStart{{3, 10}, {5, 12}},
			Aborted:   []Aborted{{ProducerID: 4711, First: 7, Last: 15}},
			Producers: []byte("producers"),
			Holes:     true,
			Batches:   feed(build(t, 10, 1000, "a", "b"), build(t, 12, 3000, "c"), build(t, 15, 2000, "d")),
		},
		{Partition: storage.PartitionID{Topic: topicB}, Topic: "b", Base: 0, End: 5, LastStable: 5, Holes: true},
	}
}

func sample(t testing.TB) ([]byte, *Summary) {
	return pack(t, header, WriteOptions{BlockSize: 160}, sampleRanges(t)...)
}

// TestFormatIsAsDrawn compares the bytes with the annotated ones in testdata.
func TestFormatIsAsDrawn(t *testing.T) {
	b, s := sample(t)
	var out strings.Builder
	out.WriteString("# An object of two ranges; see sampleRanges.\n# Made by: go test ./storage/object -run TestFormatIsAsDrawn -update\n")
	at := 0
	row := func(what string, size int) {
		// Long fields are rows of 32 bytes.
		for size > 32 {
			fmt.Fprintf(&out, "%06x  %x  # %s\n", at, b[at:at+32], what)
			at, size, what = at+32, size-32, "…"
		}
		fmt.Fprintf(&out, "%06x  %-64s  # %s\n", at, hex.EncodeToString(b[at:at+size]), what)
		at += size
	}
	seal := func(what string) {
		row(what+" magic and version", 8)
		row("crc32c", 4)
	}
	varint := func(what string) (v uint64) {
		v, n := binary.Uvarint(b[at:])
		row(what, n)
		return v
	}
	seal("header")
	row("incarnation", 4)
	row("object id", 8)
	row("broker", 4)
	row("length of the cluster id", 4)
	row("cluster id", 64)
	for at < int(s.Placements[0].Index.Position) {
		one, _, err := batch.Next(b[at:])
		if err != nil {
			t.Fatal(err)
		}
		row(fmt.Sprintf("batch at %d", one.BaseOffset()), len(one))
	}
	for range s.Placements {
		seal("index")
		row("partition", 4)
		row("topic id", 16)
		for _, what := range []string{"object id", "base", "end", "last stable offset", "max timestamp", "batches", "records", "position", "bytes"} {
			row(what, 8)
		}
		row("topic", int(varint("length of topic")))
		for range varint("number of epochs") {
			varint("epoch, from the one before")
			varint("start, from the one before")
		}
		for range varint("number of aborted") {
			varint("last offset, from the one before")
			varint("last - first offset")
			varint("producer id")
		}
		if n := varint("length of producers"); n > 0 {
			row("producers", int(n))
		}
		for range varint("number of blocks") {
			varint("first offset, from the next of the one before")
			varint("next - first offset")
			varint("length")
			row("crc32c", 4)
			varint("max timestamp, from the one before")
		}
	}
	seal("directory")
	row("number of ranges", 4)
	row("object id", 8)
	for range s.Placements {
		row("topic id", 16)
		row("partition", 4)
		row("index length", 4)
		row("base", 8)
		row("end", 8)
		row("index position", 8)
		row("index crc32c", 4)
		row("zero", 4)
	}
	seal("footer")
	row("number of ranges", 4)
	row("object id", 8)
	row("size", 8)
	row("directory position", 8)
	row("directory length", 4)
	row("directory crc32c", 4)
	row("batches", 8)
	row("records", 8)
	if at != len(b) {
		t.Fatalf("%d bytes are drawn, there are %d", at, len(b))
	}
	const file = "testdata/object.hex"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != out.String() {
		t.Errorf("the format changed; it is now\n%s", out.String())
	}
}

// TestReadersGiveBackWhatWasPacked: header, directory, index, batches.
func TestReadersGiveBackWhatWasPacked(t *testing.T) {
	b, s := sample(t)
	if s.Size != int64(len(b)) {
		t.Errorf("size %d, there are %d bytes", s.Size, len(b))
	}
	if h, found := verify(t, b); h != header || found != nil {
		t.Errorf("header %+v, found %v", h, found)
	}
	d, err := ReadDirectory(s.Size, readFrom(b))
	if err != nil {
		t.Fatal(err)
	}
	if d.Object != header.ID || d.Size != s.Size || d.Batches != 3 || d.Records != 4 || len(d.Entries) != 2 {
		t.Errorf("directory %+v", d)
	}
	ranges := sampleRanges(t)
	for i, p := range s.Placements {
		if e, ok := d.Find(p.Partition); !ok || e != p.Entry {
			t.Errorf("the directory has %+v, the summary %+v", e, p.Entry)
		}
		x, err := openIndex(b, header.ID, p.Entry)
		if err != nil {
			t.Fatal(err)
		}
		r := ranges[i]
		if x.Topic != r.Topic || x.LastStable != r.LastStable || p.LastStable != r.LastStable || fmt.Sprint(x.Epochs, x.Aborted) != fmt.Sprint(r.Epochs, r.Aborted) ||
			!bytes.Equal(x.Producers, r.Producers) || p.Aborted != len(r.Aborted) || p.Bytes != x.Bytes || p.MaxTimestamp != x.MaxTimestamp || p.Batches != x.Batches || p.Records != x.Records {
			t.Errorf("index %+v of %+v, placed %+v", x, r, p)
		}
	}
	if _, ok := d.Find(storage.PartitionID{Topic: topicA, Index: 4}); ok {
		t.Error("a partition that is not there was found")
	}
	p := s.Placements[0]
	if p.Batches != 3 || p.Records != 4 || p.MaxTimestamp != 3000 {
		t.Errorf("placed %+v", p)
	}
	got, err := serve(b, header.ID, p.Entry)
	if err != nil || len(got) != 3 || !bytes.Equal(bytes.Join([][]byte{got[0], got[1], got[2]}, nil), b[HeaderSize:HeaderSize+p.Bytes]) {
		t.Errorf("%d batches, %v", len(got), err)
	}
	x, err := openIndex(b, header.ID, p.Entry)
	if err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[storage.Offset]int{0: 0, 10: 0, 12: 0, 13: 1, 15: 1, 16: 2, 19: 2} {
		if got := x.Find(offset); got != want {
			t.Errorf("offset %d is looked for in block %d, want %d", offset, got, want)
		}
	}
	for millis, want := range map[int64]int{0: 0, 1500: 0, 3000: 0, 3001: 2} {
		if got := x.FindTime(millis); got != want {
			t.Errorf("time %d is looked for in block %d, want %d", millis, got, want)
		}
	}
	if x.Memory() < len(x.Blocks)*40 {
		t.Errorf("%d bytes of memory", x.Memory())
	}
}

// TestARetryWritesTheSameBytes, and another object does not have their checksum:
// a store's answer for the whole tells them apart.
func TestARetryWritesTheSameBytes(t *testing.T) {
	b, _ := sample(t)
	again, _ := sample(t)
	if !bytes.Equal(b, again) {
		t.Error("the same ranges were packed in two ways")
	}
	h := header
	h.ID++
	if other, _ := pack(t, h, WriteOptions{BlockSize: 160}, sampleRanges(t)...); checksumOf(other) == checksumOf(b) {
		t.Error("objects of two ids have the same checksum")
	}
}

// checksumOf is the CRC32C of a block.
func checksumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
