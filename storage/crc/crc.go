package crc

import "hash/crc32"

// Castagnoli is the table of CRC32C.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Worth is how many bytes a known checksum must stand for to be worth it: fewer are
// summed again in the time that combining two takes.
const Worth = 4 << 10

// most is one more than Combine's n may be.
const most = 1 << 24

// shifts has in row k, place n the polynomial x^(8·n·256^k) modulo the
// Castagnoli polynomial, bits reflected, as those of a CRC32C are: what n·256^k
// bytes behind a CRC multiply it by.
var shifts = func() (s [3][256]uint32) {
	const one = 1 << 31
	step := uint32(one >> 8) // x^8: one byte
	for k := range s {
		s[k][0] = one
		for n := 1; n < 256; n++ {
			s[k][n] = multiply(s[k][n-1], step)
		}
		step = multiply(s[k][255], step)
	}
	return s
}()

// multiply multiplies polynomials modulo the Castagnoli polynomial, bits
// reflected.
func multiply(a, b uint32) (p uint32) {
	for ; a != 0; a <<= 1 {
		p ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return p
}

// Combine returns the CRC32C of bytes of which the first have the CRC32C a, and
// the other n the CRC32C b.
func Combine(a, b uint32, n int) uint32 {
	for ; n >= most; n -= most - 1 {
		a = shift(a, most-1)
	}
	return shift(a, n) ^ b
}

// shift returns what is left of a behind n bytes, fewer than most.
func shift(a uint32, n int) uint32 {
	by := shifts[0][n&0xff]
	for k := 1; k < len(shifts); k++ {
		if digit := n >> (8 * k) & 0xff; digit != 0 {
			by = multiply(by, shifts[k][digit])
		}
	}
	return multiply(by, a)
}
