package object

import (
	"fmt"
	"io"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// manyRanges are n partitions with size bytes in batches of about batchSize.
func manyRanges(b *testing.B, n, size, batchSize int) (ranges []Range, bytes int64) {
	for p := range n {
		var batches []batch.Batch
		for at := 0; at < size; {
			one := build(b, storage.Offset(len(batches)), 1, string(make([]byte, batchSize-batch.HeaderSize-10)))
			batches = append(batches, one)
			at += len(one)
			bytes += int64(len(one))
		}
		ranges = append(ranges, Range{
			Partition: storage.PartitionID{Topic: topicA, Index: int32(p)}, Topic: "topic",
			Base: 0, End: storage.Offset(len(batches)), Epochs: []EpochStart{{3, 0}}, Batches: feed(batches...),
		})
	}
	return ranges, bytes
}

// BenchmarkWrite packs 16 MiB.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct{ partitions, batch int }{{1, 1 << 10}, {1, 16 << 10}, {1, 1 << 20}, {1000, 16 << 10}} {
		b.Run(fmt.Sprintf("partitions=%d/batch=%dKiB", c.partitions, c.batch>>10), func(b *testing.B) {
			ranges, n := manyRanges(b, c.partitions, 16<<20/c.partitions, c.batch)
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Write(io.Discard, header, ranges, WriteOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenBlock opens blocks of 256 KiB.
func BenchmarkOpenBlock(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("batch=%dKiB", size>>10), func(b *testing.B) {
			ranges, _ := manyRanges(b, 1, 256<<10-size, size)
			raw, s := pack(b, header, WriteOptions{}, ranges...)
			x, err := openIndex(raw, header.ID, s.Placements[0].Entry)
			if err != nil {
				b.Fatal(err)
			}
			k := x.Blocks[0]
			block := raw[k.Position : k.Position+int64(k.Length)]
			var opened []batch.Batch
			b.SetBytes(int64(k.Length))
			b.ReportAllocs()
			for b.Loop() {
				if opened, err = x.OpenBlock(0, block, opened[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeIndex reads the index of a range of one block, and of 64 MiB.
func BenchmarkDecodeIndex(b *testing.B) {
	for _, blocks := range []int{1, 256} {
		b.Run(fmt.Sprintf("blocks=%d", blocks), func(b *testing.B) {
			ranges, _ := manyRanges(b, 1, blocks<<10, 1<<10)
			raw, s := pack(b, header, WriteOptions{BlockSize: 1}, ranges...)
			e := s.Placements[0].Entry
			p := raw[e.Index.Position:e.Index.End()]
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeIndex(p, header.ID, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadDirectory reads one of 10,000 ranges.
func BenchmarkReadDirectory(b *testing.B) {
	ranges, _ := manyRanges(b, 10000, 1, 100)
	raw, s := pack(b, header, WriteOptions{}, ranges...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadDirectory(s.Size, readFrom(raw)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify walks 16 MiB.
func BenchmarkVerify(b *testing.B) {
	ranges, _ := manyRanges(b, 1, 16<<20, 16<<10)
	raw, s := pack(b, header, WriteOptions{}, ranges...)
	b.SetBytes(s.Size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(s.Size, readFrom(raw), func(err error) { b.Fatal(err) }); err != nil {
			b.Fatal(err)
		}
	}
}
