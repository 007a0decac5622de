package controller

import (
	"errors"
	"testing"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/test/tally"
)

// TestDamagedNonceIsNoOtherBucket: a store that flips a bit of its answer is ill; it
// is not another one, which a broker would have to refuse.
func TestDamagedNonceIsNoOtherBucket(t *testing.T) {
	want := [16]byte{0x12, 0xab, 15: 0xcd}
	m := bucket.NewMemory()
	read := func(text []byte) ([16]byte, error) {
		t.Helper()
		if err := m.Put(t.Context(), NonceKey("p", "c"), bucket.Bytes(text)); err != nil {
			t.Fatal(err)
		}
		return ReadNonce(t.Context(), m, "p", "c")
	}
	whole := nonceText(want)
	if got, err := read(whole); err != nil || got != want {
		t.Fatalf("%q: %x, %v", whole, got, err)
	}
	for bit := range 8 * len(whole) {
		text := append([]byte(nil), whole...)
		text[bit/8] ^= 1 << (bit % 8)
		// What changes no digit changes no nonce: upper case, or the end of the line.
		if got, err := read(text); err == nil && got != want || errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(8 * len(whole))})
	for n := range len(whole) - 1 {
		if n == 32 {
			continue // as it was written before there were sums
		}
		if got, err := read(whole[:n]); err == nil {
			t.Errorf("%q: %x", whole[:n], got)
		}
	}
}
