package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
)

var update = flag.Bool("update", false, "rewrite testdata/format.hex")

var sample = Header{
	Kind: KindData, Copy: true, Epoch: 7, Offset: 0x1122334455,
	Partition: storage.PartitionID{Topic: storage.TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Index: 3},
}

// sampleSegment is a segment of one group with two frames, and a mark.
func sampleSegment() []byte {
	b := make([]byte, 4*blockSize)
	s := &segment{log: 2, first: 41, stamp: 0xfeedfacecafebeef}
	copy(b, s.header(40, 9))
	at := blockSize + groupHeaderReserve
	for i, payload := range []string{"first payload", "second"} {
		h := sample
		h.Offset += storage.Offset(i)
		h.Copy = i == 0
		n := frameSize(len(payload))
		encodeFrame(b[at:at+n], &h, s.stamp, 41+uint64(i), []byte(payload), Sum{})
		at += n
	}
	groupHeader{stamp: s.stamp, first: 41, mark: 40, length: uint32(at - blockSize), count: 2, begin: 9}.encode(b[blockSize:])
	groupHeader{stamp: s.stamp, first: 43, mark: 42, length: groupHeaderReserve, begin: 9}.encode(b[2*blockSize:])
	return b
}

// TestFormatIsAsDrawn compares the bytes with the annotated ones in testdata.
func TestFormatIsAsDrawn(t *testing.T) {
	b := sampleSegment()
	var out strings.Builder
	out.WriteString("# A segment of log number 2: two data frames in one group, and a mark.\n# Made by: go test ./storage/wal -run TestFormatIsAsDrawn -update\n")
	row := func(what string, from, size int) {
		fmt.Fprintf(&out, "%06x  %-52s  %s\n", from, hex.EncodeToString(b[from:from+size]), what)
	}
	row("magic and version", 0, 8)
	row("log number", 8, 8)
	row("first sequence", 16, 8)
	row("mark", 24, 8)
	row("stamp", 32, 8)
	row("begin", 40, 8)
	row("crc32c", 48, 4)
	group := func(at int) {
		row("group magic", at, 4)
		row("crc32c", at+4, 4)
		row("stamp", at+8, 8)
		row("first sequence", at+16, 8)
		row("mark", at+24, 8)
		row("length", at+32, 4)
		row("count", at+36, 4)
		row("begin", at+40, 8)
		row("flags", at+48, 8)
	}
	frame := func(at, payload int) {
		row("frame crc32c", at, 4)
		row("payload length", at+4, 4)
		row("stamp", at+8, 8)
		row("sequence", at+16, 8)
		row("kind, flags, zero", at+24, 4)
		row("partition", at+28, 4)
		row("topic id", at+32, 16)
		row("leader epoch, zero", at+48, 8)
		row("offset", at+56, 8)
		row("payload", at+64, payload)
	}
	group(blockSize)
	frame(blockSize+groupHeaderReserve, 13)
	frame(blockSize+groupHeaderReserve+frameSize(13), 6)
	group(2 * blockSize)
	const file = "testdata/format.hex"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != out.String() {
		t.Errorf("the format changed; it is now\n%s", out.String())
	}
}

func TestDecodersGiveBackWhatWasEncoded(t *testing.T) {
	b := sampleSegment()
	h, err := decodeSegmentHeader(b[:blockSize])
	if want := (segmentHeader{log: 2, first: 41, mark: 40, stamp: 0xfeedfacecafebeef, begin: 9}); err != nil || h != want {
		t.Errorf("segment header %+v, %v", h, err)
	}
	g, ok := decodeGroupHeader(b[blockSize:], h.stamp)
	if want := (groupHeader{stamp: h.stamp, first: 41, mark: 40, length: g.length, count: 2, begin: 9}); !ok || g != want {
		t.Errorf("group header %+v, %v", g, ok)
	}
	var got []string
	end := walk(&segment{stamp: h.stamp}, b, func(f found) bool {
		if f.unknown != nil {
			t.Error(f.unknown)
		}
		got = append(got, fmt.Sprintf("%d %v %d %s", f.sequence, f.Copy, f.Offset, f.payload))
		return true
	}, func(at int, why error) { t.Errorf("at %d: %v", at, why) })
	if end != 3*blockSize {
		t.Errorf("it ends at %d", end)
	}
	if want := "[41 true 73588229205 first payload 42 false 73588229206 second]"; fmt.Sprint(got) != want {
		t.Errorf("frames %v", got)
	}
}

// TestEveryFlippedBitOfAFrameIsSeen: header and payload alike, and of the
// headers of groups and segments.
func TestEveryFlippedBitOfAFrameIsSeen(t *testing.T) {
	b := sampleSegment()
	h, _ := decodeSegmentHeader(b[:blockSize])
	each := func(from, size int, broken func() bool) {
		t.Helper()
		for i := from * 8; i < (from+size)*8; i++ {
			b[i/8] ^= 1 << (i % 8)
			if !broken() {
				t.Errorf("bit %d of byte %d was flipped and not seen", i%8, i/8)
			}
			b[i/8] ^= 1 << (i % 8)
		}
	}
	at := blockSize + groupHeaderReserve
	each(at, frameHeaderSize+13, func() bool {
		_, _, err := decodeFrame(b[at:2*blockSize], h.stamp)
		return err != nil
	})
	each(blockSize, groupHeaderSize, func() bool {
		_, ok := decodeGroupHeader(b[blockSize:], h.stamp)
		return !ok
	})
	each(0, segmentHeaderSize, func() bool {
		_, err := decodeSegmentHeader(b[:blockSize])
		return err != nil
	})
}

// TestAnotherLifeDoesNotCount: a stale frame or group is whole, and of another
// stamp.
func TestAnotherLifeDoesNotCount(t *testing.T) {
	b := sampleSegment()
	if _, _, err := decodeFrame(b[blockSize+groupHeaderReserve:], 1); err == nil {
		t.Error("a frame of another life was taken")
	}
	if _, ok := decodeGroupHeader(b[blockSize:], 1); ok {
		t.Error("a group of another life was taken")
	}
}

// TestUnknownIsNamed: what a newer rustmq wrote is whole, and not taken for
// damage.
func TestUnknownIsNamed(t *testing.T) {
	b := make([]byte, frameSize(0))
	for _, kind := range []Kind{0, KindDrop + 1, 255} {
		encodeFrame(b, &Header{Kind: kind}, 1, 1, nil, Sum{})
		if _, _, err := decodeFrame(b, 1); !errors.As(err, new(errUnknown)) || !strings.Contains(err.Error(), fmt.Sprint(uint8(kind))) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	content := sampleSegment()
	groupHeader{stamp: 0xfeedfacecafebeef, first: 41, mark: 40, length: groupHeaderReserve, flags: 4}.encode(content[blockSize:])
	var unknown error
	h, err := decodeSegmentHeader(content[:blockSize])
	if err != nil {
		t.Fatal(err)
	}
	walk(&segment{stamp: h.stamp}, content, func(f found) bool { unknown = f.unknown; return false }, nil)
	if !errors.As(unknown, new(errUnknown)) {
		t.Errorf("a group with a flag: %v", unknown)
	}
	content[7]++
	binary.LittleEndian.PutUint32(content[48:], crc32.Checksum(content[:48], castagnoli))
	if _, err := decodeSegmentHeader(content[:blockSize]); !errors.As(err, new(errUnknown)) {
		t.Errorf("a segment of the next version: %v", err)
	}
}

// FuzzWalk: no content of a segment makes the decoder panic, loop, or deliver a
// frame whose bytes are not those that were checked.
func FuzzWalk(f *testing.F) {
	valid := sampleSegment()
	f.Add(valid)
	f.Add(valid[:blockSize+200])
	f.Add([]byte{})
	for _, at := range []int{3, 48, blockSize + 5, blockSize + 33, blockSize + 35, blockSize + groupHeaderReserve + 4, blockSize + groupHeaderReserve + 7, blockSize + groupHeaderReserve + 66} {
		damaged := bytes.Clone(valid)
		damaged[at] ^= 0xff
		f.Add(damaged)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _ := decodeSegmentHeader(b[:min(len(b), blockSize)])
		stamp := h.stamp
		if stamp == 0 && len(b) > blockSize {
			stamp = groupStamp(b[blockSize:])
		}
		calls := 0
		end := walk(&segment{stamp: stamp}, b, func(f found) bool {
			if calls++; calls > len(b)/frameAlign+1 {
				t.Fatal("more frames than fit")
			}
			if f.unknown == nil && (f.at+frameSize(len(f.payload)) > len(b)+frameAlign || len(f.payload) != f.length) {
				t.Fatalf("frame at %d with %d bytes in a segment of %d", f.at, len(f.payload), len(b))
			}
			if f.behind > f.at {
				t.Fatalf("frame at %d, the one before ends at %d", f.at, f.behind)
			}
			return true
		}, func(at int, _ error) {
			if at+frameHeaderSize > len(b) {
				t.Fatalf("a damaged frame at %d of %d", at, len(b))
			}
		})
		if end > max(len(b)+frameAlign, blockSize) {
			t.Fatalf("a segment of %d bytes ends at %d", len(b), end)
		}
	})
}

// FuzzFrame: what decodes encodes to the same bytes.
func FuzzFrame(f *testing.F) {
	b := sampleSegment()[blockSize+groupHeaderReserve:]
	f.Add(b[:frameSize(13)], uint64(0xfeedfacecafebeef))
	f.Add(b[:frameHeaderSize], uint64(0))
	f.Add(b[:10], uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, stamp uint64) {
		fr, payload, err := decodeFrame(b, stamp)
		if err != nil {
			return
		}
		again := make([]byte, frameSize(len(payload)))
		encodeFrame(again, &fr.Header, fr.stamp, fr.sequence, payload, Sum{})
		if n := frameHeaderSize + len(payload); !bytes.Equal(again[4:n], b[4:n]) && bytes.Equal(b[26:28], []byte{0, 0}) && bytes.Equal(b[52:56], make([]byte, 4)) {
			t.Fatalf("%x encodes as %x", b[:n], again[:n])
		}
	})
}
