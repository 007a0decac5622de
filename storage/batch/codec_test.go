package batch

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// bomb is a batch whose records are n zero bytes once expanded, valid by all
// that Validate looks at.
func bomb(t testing.TB, c Codec, n int) Batch {
	t.Helper()
	b := build(t, BuilderOptions{}, "x")
	body, err := Compress(c, 0, make([]byte, n))
	if err != nil {
		t.Fatal(err)
	}
	b = append(b[:HeaderSize:HeaderSize], body...)
	b[atAttributes+1] |= byte(c)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthPrefix))
	b.stampCRC()
	if err := Validate(b, &Limits{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecompressionBombEndsInAnErrorWithinTheBound(t *testing.T) {
	for c := Gzip; c <= Zstd; c++ {
		t.Run(c.String(), func(t *testing.T) {
			const limit, expanded = 1 << 20, 64 << 20
			b := bomb(t, c, expanded)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			it := b.Records(limit)
			if it.Next() {
				t.Fatal("a record came out")
			}
			runtime.ReadMemStats(&after)
			wantCode(t, it.Err(), DecompressedTooLarge)
			// All that was ever taken: the buffer while it grew, and what the
			// decoders hold (up to a few windows).
			if got := after.TotalAlloc - before.TotalAlloc; got > 24<<20 {
				t.Fatalf("took %d bytes with a bound of %d", got, limit)
			}
		})
	}
}

func TestDecompressUpToTheBoundPasses(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		for _, n := range []int{0, 1, 4095, 4096, 4097, 100_000} {
			want := bytes.Repeat([]byte{'z'}, n)
			packed, err := Compress(c, 0, want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decompress(c, packed, max(1, int64(n)))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, %d bytes: got %d, %v", c, n, len(got), err)
			}
			if c == None || n < 2 {
				continue
			}
			_, err = Decompress(c, packed, int64(n-1))
			wantCode(t, err, DecompressedTooLarge)
		}
	}
}

func TestZstdWithoutASizeIsReadUpToTheBound(t *testing.T) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Decompress(Zstd, out.Bytes(), 3<<20); err != nil || len(got) != 3<<20 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	_, err = Decompress(Zstd, out.Bytes(), 3<<20-1)
	wantCode(t, err, DecompressedTooLarge)
}

func TestXerialFramingIsRead(t *testing.T) {
	framed := append([]byte{}, xerialMagic...)
	framed = binary.BigEndian.AppendUint32(framed, 1)
	framed = binary.BigEndian.AppendUint32(framed, 1)
	for _, block := range []string{"hello ", "", "world"} {
		packed := snappy.Encode(nil, []byte(block))
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(packed)))
		framed = append(framed, packed...)
	}
	got, err := Decompress(Snappy, framed, 11)
	if err != nil || string(got) != "hello world" {
		t.Fatalf("%q, %v", got, err)
	}
	_, err = Decompress(Snappy, framed, 10)
	wantCode(t, err, DecompressedTooLarge)
	for n := 1; n < len(framed); n++ {
		if got, err := Decompress(Snappy, framed[:n], 0); err == nil && len(got) >= 11 {
			t.Fatalf("cut at %d: %q", n, got)
		}
	}
}

func TestSnappyLengthThatLiesIsRefused(t *testing.T) {
	block := binary.AppendUvarint(nil, 60<<20)
	block = append(block, 0, 'x')
	_, err := Decompress(Snappy, block, 0)
	wantCode(t, err, CorruptMessage)
}

func TestGarbageIsCorrupt(t *testing.T) {
	for c := Gzip; c <= Zstd; c++ {
		_, err := Decompress(c, []byte("this is no frame of any codec at all"), 0)
		wantCode(t, err, CorruptMessage)
	}
	_, err := Decompress(7, nil, 0)
	wantCode(t, err, UnsupportedCompression)
}

func TestLevelsCompress(t *testing.T) {
	src := bytes.Repeat([]byte("some text, and more of it; "), 1000)
	for c := None; c <= Zstd; c++ {
		for level := range 23 {
			if c == Gzip && level > 9 {
				continue
			}
			packed, err := Compress(c, level, src)
			if err != nil {
				t.Fatalf("%v level %d: %v", c, level, err)
			}
			if got, err := Decompress(c, packed, 0); err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%v level %d: %v", c, level, err)
			}
		}
	}
	if _, err := Compress(Gzip, 42, src); err == nil {
		t.Error("gzip took level 42")
	}
}
