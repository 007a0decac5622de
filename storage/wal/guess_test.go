package wal

import (
	"testing"

	"rustmq.dev/rustmq/storage"
)

// A damaged frame is not taken for another of its segment, which names another topic.
func TestALostFrameIsNotTakenForAnother(t *testing.T) {
	const stamp, lost = 0xfeedfacecafebeef, 7
	seg := &segment{stamp: stamp}
	put := func(buf []byte, at int, sequence uint64, topic byte) {
		h := Header{Kind: KindData, Partition: storage.PartitionID{Topic: storage.TopicID{topic}}}
		encodeFrame(buf[at:at+frameSize(8)], &h, stamp, sequence, make([]byte, 8), Sum{})
	}
	const due, behind = 2*blockSize + groupHeaderReserve, 3*blockSize + groupHeaderReserve
	for what, c := range map[string]struct {
		change func(buf []byte)
		topic  byte // 0: nothing can be said
	}{
		"nothing is left of it":             {func(buf []byte) { clear(buf[due : due+frameSize(8)]) }, 0},
		"its stamp is another":              {func(buf []byte) { clear(buf[due+8 : due+16]) }, 0},
		"a bit of its stamp is wrong":       {func(buf []byte) { buf[due+8] ^= 4 }, 1},
		"a bit of its sequence is wrong":    {func(buf []byte) { buf[due+16] ^= 4 }, 1},
		"a bit of what it holds is wrong":   {func(buf []byte) { buf[due+frameHeaderSize] ^= 4 }, 1},
		"it and the header of its group go": {func(buf []byte) { clear(buf[2*blockSize : 3*blockSize]) }, 0},
	} {
		buf := make([]byte, 4*blockSize)
		for i, at := range []int{2 * blockSize, 3 * blockSize} {
			groupHeader{stamp: stamp, first: lost + uint64(i), mark: lost - 1, length: uint32(groupHeaderReserve + frameSize(8)), count: 1, begin: 1}.encode(buf[at:])
		}
		put(buf, due, lost, 1)
		put(buf, behind, lost+1, 2)
		buf[behind+frameHeaderSize] ^= 1 // torn: above the mark
		c.change(buf)
		h, _, at := guess(placeOf{seg, blockSize}, buf, lost)
		switch {
		case c.topic == 0 && h != nil:
			t.Errorf("%s: taken for %+v at %d", what, h, at)
		case c.topic != 0 && (h == nil || h.Partition.Topic != storage.TopicID{c.topic} || at != due):
			t.Errorf("%s: %+v at %d", what, h, at)
		}
	}
}
