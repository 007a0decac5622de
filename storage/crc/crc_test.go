package crc

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestCombinedSumsAreThoseOfTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 200_000)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for range 500 {
		whole := b[:rng.IntN(len(b)+1)]
		at := rng.IntN(len(whole) + 1)
		got := Combine(crc32.Checksum(whole[:at], Castagnoli), crc32.Checksum(whole[at:], Castagnoli), len(whole)-at)
		if want := crc32.Checksum(whole, Castagnoli); got != want {
			t.Fatalf("%d bytes, cut at %d: %08x, want %08x", len(whole), at, got, want)
		}
	}
	large := make([]byte, 1<<24+5)
	if got, want := Combine(crc32.Checksum(b, Castagnoli), crc32.Checksum(large, Castagnoli), len(large)), crc32.Update(crc32.Checksum(b, Castagnoli), Castagnoli, large); got != want {
		t.Fatalf("more than 16 MiB behind: %08x, want %08x", got, want)
	}
}
