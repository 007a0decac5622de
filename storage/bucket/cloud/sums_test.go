//go:build suites

package cloud

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestReceiptsOfS3 reckons each form of S3's checksums by hand.
func TestReceiptsOfS3(t *testing.T) {
	data := make([]byte, 2500)
	for i := range data {
		data[i] = byte(i * 7)
	}
	text := func(sum uint32) *string {
		s := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
		return &s
	}
	suffixed := func(s *string, suffix string) *string { v := *s + suffix; return &v }
	var ofParts []byte
	for _, part := range [][]byte{data[:1000], data[1000:2000], data[2000:]} {
		ofParts = binary.BigEndian.AppendUint32(ofParts, crc32.ChecksumIEEE(part))
	}
	composite, whole := text(crc32.ChecksumIEEE(ofParts)), text(crc32.ChecksumIEEE(data))
	wholeC := text(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	for i, c := range []struct {
		r           receipt
		known, same bool
	}{
		{receipt{}, false, false},
		{receipt{crc32: whole}, true, true},
		{receipt{crc32: composite}, true, false},
		{receipt{crc32: composite, composite: true}, true, true},
		{receipt{crc32: suffixed(composite, "-3")}, true, true},
		{receipt{crc32: whole, composite: true}, true, false},
		{receipt{crc32c: wholeC}, true, true},
		{receipt{crc32c: whole}, true, false},
		{receipt{crc32c: wholeC, composite: true}, false, false},
	} {
		s := newSums(1000, sumCRC32|sumCRC32C)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), rand.IntN(700)+1)
			s.add(rest[:n])
			rest = rest[n:]
		}
		if known, same := c.r.compare(s); known != c.known || same != c.same {
			t.Errorf("%d: known %v, same %v", i, known, same)
		}
	}
}

// TestSumOfTheWhole: of less than a part, of exactly one and two, and of more.
func TestSumOfTheWhole(t *testing.T) {
	data := make([]byte, 2001)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, n := range []int{0, 1, 999, 1000, 1001, 2000, 2001} {
		s := newSums(1000, sumCRC32|sumCRC32C)
		for rest := data[:n]; len(rest) > 0; {
			n := min(len(rest), rand.IntN(700)+1)
			s.add(rest[:n])
			rest = rest[n:]
		}
		if want := crc32.ChecksumIEEE(data[:n]); s.whole() != want {
			t.Errorf("%d bytes: %08x, want %08x", n, s.whole(), want)
		}
	}
}

func TestRangeStart(t *testing.T) {
	for text, want := range map[string]int64{"bytes 5-9/20": 5, "bytes 0-0/*": 0, "bytes */20": -1, "5-9/20": -1, "": -1, "bytes 5": -1, "bytes -/": -1} {
		got, ok := rangeStart(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}
