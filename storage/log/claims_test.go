package log

import (
	"encoding/binary"
	"math"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// resummed renews a batch's CRC after its header was changed.
func resummed(b batch.Batch) batch.Batch {
	binary.BigEndian.PutUint32(b[17:], b.ComputeCRC())
	return b
}

// counted makes a batch say that it has n records.
func counted(b batch.Batch, n int32) batch.Batch {
	binary.BigEndian.PutUint32(b[23:], uint32(n-1))
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	return resummed(b)
}

// A count is what offsets are given out by: one that a compressed batch only claims
// would take them for nothing.
func TestCompressedBatchDoesNotTakeMoreOffsetsThanItCanHold(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	noise := make([]byte, 4000)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	const fits = batch.DefaultMaxDecompressed / 7 // records of seven bytes each
	for _, codec := range []batch.Codec{batch.Gzip, batch.Snappy, batch.LZ4, batch.Zstd} {
		small := build(t, batch.BuilderOptions{Codec: codec}, "a")
		wantCode(t, send(t, l, counted(small, math.MaxInt32), anyEpoch).wait(t).Err, batch.InvalidRecord)
	}
	large := func(n int32) batch.Batch {
		b := values(t, string(noise))
		b[22] |= byte(batch.Zstd) // nobody decompresses it
		return counted(b, n)
	}
	wantCode(t, send(t, l, large(fits+1), anyEpoch).wait(t).Err, batch.InvalidRecord)
	if end := l.End(); end != 0 {
		t.Fatalf("the log ends at %d", end)
	}
	appendAll(t, l, large(fits))
}

// Some clients leave the largest timestamp of a batch at -1. Searches by time must
// find their records all the same.
func TestRecordsAreFoundByTimeThoughTheirBatchSaysNone(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	unsaid := func(b batch.Batch) batch.Batch {
		binary.BigEndian.PutUint64(b[35:], math.MaxUint64)
		return resummed(b)
	}
	appendAll(t, l, unsaid(values(t, "a", "b")))
	compressed := batch.NewBuilder(batch.BuilderOptions{Codec: batch.Gzip})
	compressed.Add(1_700_000_060_000, nil, []byte("c"))
	b, err := compressed.Build()
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, unsaid(b))
	for millis, want := range map[int64]storage.Offset{1_700_000_000_000: 0, 1_700_000_000_500: 1, 1_700_000_001_001: 2} {
		offset, _, ok, err := l.OffsetForTime(millis)
		if err != nil || !ok || offset != want {
			t.Errorf("%d: offset %d, %v, %v, want %d", millis, offset, ok, err, want)
		}
	}
	if millis, ok := l.TimestampAt(2); !ok || millis != 1_700_000_060_000 {
		t.Errorf("the last batch is of %d, %v", millis, ok)
	}
	l.SetConfig(Config{TimestampAfterMax: batch.Within(0)})
	wantCode(t, send(t, l, unsaid(values(t, "a", "ahead")), anyEpoch).wait(t).Err, batch.InvalidTimestamp)
}
