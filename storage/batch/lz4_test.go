package batch

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/pierrec/lz4/v4"

	"rustmq.dev/rustmq/test/seeded"
)

// framed is src as a frame of the library, in the way that options say.
func framed(t *testing.T, src []byte, options ...lz4.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := w.Apply(options...); err != nil {
		t.Fatal(err)
	}
	if err := writeAll(w, src); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLZ4FramesOfProducersAreExpandedAsTheLibraryDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 4))
	noise := make([]byte, 100_000) // is stored
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	text := bytes.Repeat([]byte("some text, and more of it; "), 4_000)
	mixed := append(append(append([]byte{}, text...), noise...), text...)
	for _, f := range []struct {
		name    string
		plain   bool // ours, without the library
		options []lz4.Option
	}{
		{"small blocks", true, []lz4.Option{lz4.BlockSizeOption(lz4.Block64Kb)}},
		{"large blocks, without a checksum", true, []lz4.Option{lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(false)}},
		{"size of the content", true, []lz4.Option{lz4.BlockSizeOption(lz4.Block256Kb), lz4.SizeOption(uint64(len(mixed)))}},
		{"checksums of blocks", false, []lz4.Option{lz4.BlockChecksumOption(true)}},
	} {
		frame := framed(t, mixed, f.options...)
		got, plain := unlz4Plain(nil, frame, DefaultMaxDecompressed)
		if plain != f.plain || plain && !bytes.Equal(got, mixed) {
			t.Errorf("%s: %v, %d bytes of %d", f.name, plain, len(got), len(mixed))
		}
		for _, limit := range []int64{int64(len(mixed)), int64(len(mixed)) - 1} {
			got, err := Decompress(LZ4, frame, limit)
			if limit < int64(len(mixed)) {
				wantCode(t, err, DecompressedTooLarge)
			} else if err != nil || !bytes.Equal(got, mixed) {
				t.Errorf("%s: %d bytes of %d, %v", f.name, len(got), len(mixed), err)
			}
		}
		for range 20 {
			cut := frame[:random.IntN(len(frame))]
			if got, err := Decompress(LZ4, cut, 0); err == nil && len(got) > 0 {
				t.Fatalf("%s: cut to %d of %d bytes it is read", f.name, len(cut), len(frame))
			}
		}
		twice := append(bytes.Clone(frame), frame...)
		if got, err := Decompress(LZ4, twice, 0); err != nil || len(got) != 2*len(mixed) {
			t.Errorf("%s: two frames: %d bytes, %v", f.name, len(got), err)
		}
	}
}

// TestLargeBlocksNeedNoMoreMemoryThanTheyMake: franz-go and others say 4 MiB of blocks whose
// batch is far smaller.
func TestLargeBlocksNeedNoMoreMemoryThanTheyMake(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded.Seed(t), 5))
	var text []byte
	for range 2_000 {
		text = strconv.AppendUint(append(text, "some text, and a number behind it that is another each time: "...), random.Uint64(), 10)
	}
	frame := framed(t, text, lz4.BlockSizeOption(lz4.Block4Mb))
	memory := make([]byte, max(len(text), lz4LeastRatio*len(frame)))
	got, plain := unlz4Plain(memory, frame, DefaultMaxDecompressed)
	if !plain || !bytes.Equal(got, text) {
		t.Fatalf("%v, %d bytes of %d", plain, len(got), len(text))
	}
	if &got[0] != &memory[0] {
		t.Error("it took memory, though it was given more than enough")
	}
	if got, plain = unlz4Plain(memory[:0:len(text)-1], frame, DefaultMaxDecompressed); !plain || !bytes.Equal(got, text) {
		t.Errorf("with too little memory: %v, %d bytes of %d", plain, len(got), len(text))
	}
}

func TestRecordsExpandIntoMemoryThatIsGiven(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		b := build(t, BuilderOptions{Codec: c}, "one", "two", "three")
		memory := make([]byte, 16<<10)
		for range 2 {
			it, got := b.RecordsIn(memory[:7], 1<<20), ""
			for it.Next() {
				got += string(it.Record().Value)
			}
			if it.Err() != nil || got != "onetwothree" {
				t.Fatalf("%v: %q, %v", c, got, it.Err())
			}
			if c != None && !bytes.Contains(memory[:it.Expanded()], []byte("three")) {
				t.Errorf("%v: the records lie elsewhere", c)
			}
		}
		it := b.RecordsIn(memory[:0:1], 1<<20)
		for it.Next() {
		}
		if it.Err() != nil {
			t.Errorf("%v: %v with memory that is too small", c, it.Err())
		}
	}
}
