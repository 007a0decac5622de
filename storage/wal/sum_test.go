package wal

import (
	"fmt"
	"hash/crc32"
	"testing"
)

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
