package batch

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const fuzzLimit = 1 << 20

func seedBatches(f *testing.F) {
	f.Add([]byte(goldenBatch(f)))
	for c := None; c <= Zstd; c++ {
		f.Add([]byte(build(f, BuilderOptions{Codec: c, Producer: &Producer{ID: 1}}, "one", "two", "three")))
		if c != None {
			f.Add([]byte(bomb(f, c, 2*fuzzLimit)))
		}
	}
	f.Add([]byte{})
	f.Add([]byte(BuildMarker(5, 1, 2, Marker{Commit: true, CoordinatorEpoch: 3})))
	f.Add([]byte(append(build(f, BuilderOptions{}, "a"), build(f, BuilderOptions{BaseOffset: 1}, "b")...)))
}

// FuzzBatch feeds any bytes to everything that reads batches from outside.
// Whatever passes must hold what it promises.
func FuzzBatch(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		rest := bytes.Clone(in)
		for {
			b, after, err := Next(rest)
			if err != nil {
				break
			}
			if len(b)+len(after) != len(rest) || b.Length() != len(b) {
				t.Fatalf("%d + %d bytes of %d, declared %d", len(b), len(after), len(rest), b.Length())
			}
			readAny(t, b)
			// The same with a CRC that holds, to reach what lies behind it.
			b.stampCRC()
			readAny(t, b)
			rest = after
		}
	})
}

func readAny(t *testing.T, b Batch) {
	valid := Validate(b, &Limits{MaxDecompressed: fuzzLimit}) == nil
	it, n, last := b.Records(fuzzLimit), int32(0), b.BaseOffset()-1
	var first Record
	for it.Next() {
		r := it.Record()
		// Offsets may wrap in a batch nobody stamped; deltas may not.
		if valid && r.Offset-last <= 0 && b.BaseOffset() >= 0 && b.BaseOffset() < 1<<62 {
			t.Fatalf("offset %d after %d", r.Offset, last)
		}
		if last = r.Offset; n == 0 {
			first = *r
		}
		headers := 0
		r.Headers(func(Header) bool { headers++; return true })
		if headers != r.NumHeaders {
			t.Fatalf("%d headers of %d", headers, r.NumHeaders)
		}
		n++
	}
	alone, err := b.First(fuzzLimit)
	if n > 0 && (err != nil || !reflect.DeepEqual(*alone, first)) {
		t.Fatalf("the first of %d records is %+v, and alone %+v, %v", n, first, alone, err)
	}
	if it.Err() == nil && n != b.NumRecords() {
		t.Fatalf("%d records of %d", n, b.NumRecords())
	}
	if it.Err() == nil && valid {
		again, err := Recompress(b, LZ4, 0, fuzzLimit)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(again, &Limits{}); err != nil {
			t.Fatal(err)
		}
		var theirs kmsg.RecordBatch
		if err := theirs.ReadFrom(b); err != nil {
			t.Fatalf("kmsg refuses what we take: %v", err)
		}
	}
	if m, ok := ReadMarker(b); ok && (m.CoordinatorEpoch < 0 || !b.IsControl() || !b.IsTransactional()) {
		t.Fatalf("the marker %+v in a batch with attributes %x", m, b.Attributes())
	}
	_, _, _, _ = b.OffsetForTime(b.FirstTimestamp()+1, fuzzLimit)
}

// FuzzDecompress feeds any bytes to every codec.
func FuzzDecompress(f *testing.F) {
	for c := Gzip; c <= Zstd; c++ {
		packed, err := Compress(c, 0, []byte("some text, some text, some text"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(c), packed)
	}
	f.Add(byte(Snappy), append(append([]byte{}, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 'x'))
	f.Fuzz(func(t *testing.T, codec byte, in []byte) {
		out, err := Decompress(Codec(codec%5), in, fuzzLimit)
		if err == nil && codec%5 != 0 && len(out) > fuzzLimit {
			t.Fatalf("%d bytes came out, the bound is %d", len(out), fuzzLimit)
		}
	})
}
