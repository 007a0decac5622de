package batch

import (
	"fmt"
	"testing"
)

// TestFirstReadsTheFirstRecordAlone: what follows may expand to more than there is
// room for, and may be damaged.
func TestFirstReadsTheFirstRecordAlone(t *testing.T) {
	const limit = 1 << 20
	header := Header{Key: []byte("h"), Value: []byte("1")}
	built := func(c Codec, first, second int) Batch {
		w := NewBuilder(BuilderOptions{Codec: c, BaseOffset: 5})
		w.Add(7, []byte("k"), make([]byte, first), header)
		w.Add(8, nil, make([]byte, second))
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for c := None; c <= Zstd; c++ {
		for range 3 { // decoders are used again
			r, err := built(c, 300, 10).First(limit)
			if err != nil {
				t.Fatalf("%s: %v", c, err)
			}
			got := fmt.Sprintf("%d %d %s %d", r.Offset, r.Timestamp, r.Key, len(r.Value))
			r.Headers(func(h Header) bool { got += fmt.Sprintf(" %s=%s", h.Key, h.Value); return true })
			if got != "5 7 k 300 h=1" {
				t.Errorf("%s: %s", c, got)
			}
		}
		if c == None {
			continue
		}
		_, err := built(c, limit, 1).First(limit)
		wantCode(t, err, DecompressedTooLarge)
		if c == Snappy {
			continue // has no beginning of its own
		}
		large := built(c, 300, 4*limit)
		if r, err := large.First(limit); err != nil || len(r.Value) != 300 {
			t.Errorf("%s, a bomb follows: %+v, %v", c, r, err)
		}
		if it := large.Records(limit); it.Next() {
			t.Errorf("%s: all of it fits in %d bytes", c, limit)
		}
		cut := large[:len(large)-4]
		if r, err := cut.First(limit); err != nil || len(r.Value) != 300 {
			t.Errorf("%s, cut off behind it: %+v, %v", c, r, err)
		}
		_, err = large[:HeaderSize+3].First(limit)
		wantCode(t, err, CorruptMessage)
	}
}
