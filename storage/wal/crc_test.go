package wal

import (
	"fmt"
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
		got := combine(crc32.Checksum(whole[:at], castagnoli), crc32.Checksum(whole[at:], castagnoli), len(whole)-at)
		if want := crc32.Checksum(whole, castagnoli); got != want {
			t.Fatalf("%d bytes, cut at %d: %08x, want %08x", len(whole), at, got, want)
		}
	}
	large := make([]byte, 1<<24-1)
	if got, want := combine(crc32.Checksum(b, castagnoli), crc32.Checksum(large, castagnoli), len(large)), crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, large); got != want {
		t.Fatalf("16 MiB behind: %08x, want %08x", got, want)
	}
}

// BenchmarkSum compares what a frame's CRC costs with a sum of its payload and
// without.
func BenchmarkSum(b *testing.B) {
	for _, n := range []int{1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		buf := make([]byte, frameSize(n))
		payload := make([]byte, n)
		h := &Header{Kind: KindData}
		sum := Sum{From: 21, CRC: crc32.Checksum(payload[21:], castagnoli)}
		b.Run(fmt.Sprintf("summed/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				encodeFrame(buf, h, 1, 1, payload, sum)
			}
		})
		b.Run(fmt.Sprintf("not/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				encodeFrame(buf, h, 1, 1, payload, Sum{})
			}
		})
	}
}
